//! The keys of a `[[provider]]` that say how its AI calls are read: usage, costs of leaving early, content.

use std::time::Duration;

use providers::Kind;
use serde::Deserialize;

use super::provider::ProviderFile;
use super::source::Problems;
use super::{ByteSize, Content, Span};

/// What becomes of an upstream's reply when its client leaves, as it stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnAbortFile {
    /// The upstream is left too.
    Cancel,
    /// The reply is read to its end, for its usage.
    Drain,
}

/// What becomes of an upstream's reply when its client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAbort {
    /// The upstream is left too.
    Cancel,
    /// The reply is read on, for its usage, within these bounds.
    Drain {
        /// Longest time that this may take.
        timeout: Duration,
        /// Most bytes that are read.
        max_bytes: u64,
    },
}

/// How an instance's AI calls are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallConfig {
    /// Whether streams are asked for usage that their clients did not ask for.
    pub include_usage: bool,
    /// What becomes of a reply whose client leaves.
    pub on_abort: OnAbort,
    /// How much text is recorded.
    pub content: Content,
}

/// Long enough for what is left of most streams.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Far more than the longest stream of text.
const DRAIN_MAX_BYTES: u64 = 16 << 20;

impl CallConfig {
    /// What an instance of `kind` does when nothing is said.
    pub(super) fn default_of(kind: &dyn Kind, content: Content) -> CallConfig {
        CallConfig {
            include_usage: kind.takes_include_usage(),
            on_abort: OnAbort::Cancel,
            content,
        }
    }

    /// Lays an entry over what its kind does; `key` is the entry's.
    pub(super) fn overlaid(
        entry: &ProviderFile,
        kind: &dyn Kind,
        content: Content,
        (key, problems): (&str, &mut Problems),
    ) -> CallConfig {
        let default = CallConfig::default_of(kind, content);
        CallConfig {
            include_usage: entry.include_usage.unwrap_or(default.include_usage),
            on_abort: on_abort(entry, key, problems),
            content: entry.record_content.unwrap_or(content),
        }
    }
}

fn on_abort(entry: &ProviderFile, key: &str, problems: &mut Problems) -> OnAbort {
    if entry.on_abort != Some(OnAbortFile::Drain) {
        for (name, given) in [
            ("drain-timeout", entry.drain_timeout.is_some()),
            ("drain-max-bytes", entry.drain_max_bytes.is_some()),
        ] {
            if given {
                problems.add(
                    &format!("{key}.{name}"),
                    "means nothing without `on-abort = \"drain\"`",
                );
            }
        }
        return OnAbort::Cancel;
    }
    OnAbort::Drain {
        timeout: entry.drain_timeout.map_or(DRAIN_TIMEOUT, Span::duration),
        max_bytes: entry
            .drain_max_bytes
            .map_or(DRAIN_MAX_BYTES, |size| ByteSize::bytes(size) as u64),
    }
}
