//! Values that must not be printed.
//!
//! A `Secret` shows `<redacted>` in every formatter and is wiped when dropped; `expose` is the only way to
//! its text. `mask` makes the hint that records keep of a credential; `scrubbed` takes credentials out of what others
//! say; `write_private` keeps a secret on disk.

use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// Writes `text` as the one line of a new file that only its owner may read, down to the disk.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

/// A hint of a credential that identifies it to its owner and helps nobody else: `sk-a...wxyz`.
///
/// At most four characters of either end, fewer when the text is short, none below five.
pub fn mask(text: &str) -> String {
    let count = text.chars().count();
    let shown = match count {
        0 => return String::new(),
        20.. => 4,
        10..20 => 2,
        5..10 => 1,
        _ => 0,
    };
    let head: String = text.chars().take(shown).collect();
    let tail: String = text.chars().skip(count - shown).collect();
    format!("{head}...{tail}")
}

/// How the credentials of providers and of this gateway begin: keys, GitHub's tokens, web tokens.
const BEGINNINGS: [&str; 18] = [
    "sk-",
    "sk_",
    "pk-",
    "rk-",
    "key-",
    "cw_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "eyJ",
    "AIza",
    "xai-",
    "gsk_",
    "hf_",
    "glpat-",
];
/// No credential is shorter, in bytes.
const SHORTEST: usize = 16;

/// A text of others as it may be told: credentials in it are masked, and what stands before the `@` of a URL is gone.
///
/// Providers repeat a key that they refuse, and people put keys where something else belongs.
pub fn scrubbed(text: &str) -> Cow<'_, str> {
    let text = without_user_info(text);
    if !BEGINNINGS.iter().any(|beginning| text.contains(beginning)) {
        return text;
    }
    let is_apart = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let mut clean = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_apart) {
        let word = piece.trim_end_matches(is_apart).trim_end_matches('.');
        let is_credential =
            word.len() >= SHORTEST && BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
        if is_credential {
            clean.push_str(&mask(word));
            clean.push_str(piece.strip_prefix(word).unwrap_or_default());
        } else {
            clean.push_str(piece);
        }
    }
    Cow::Owned(clean)
}

fn without_user_info(text: &str) -> Cow<'_, str> {
    const SCHEME: &str = "://";
    if !text.contains(SCHEME) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(SCHEME);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str(SCHEME);
        // A password may hold a slash by mistake; what follows a blank or a quote is no URL any more.
        let end = part.find([' ', '\n', '`', '"', '\'']).unwrap_or(part.len());
        let (url, after) = part.split_at(end);
        match url.rsplit_once('@') {
            Some((_, place)) => {
                clean.push_str("...@");
                clean.push_str(place);
            }
            None => clean.push_str(url),
        }
        clean.push_str(after);
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_the_texts_of_others_are_masked() {
        for (text, want) in [
            ("nothing to see", "nothing to see"),
            ("sk-short stays", "sk-short stays"),
            (
                "Incorrect API key provided: sk-proj-0123456789abcdef. You can",
                "Incorrect API key provided: sk-p...cdef. You can",
            ),
            ("`Bearer cw_0123456789abcdef0123`", "`Bearer cw_0...0123`"),
            ("got \"eyJhbGciOi.eyJzdWIi.c2ln-_9\"", "got \"eyJh...n-_9\""),
            ("`http://u:p/w@proxy:1` is no", "`http://...@proxy:1` is no"),
            ("https://a.test/v1 and x@y", "https://a.test/v1 and x@y"),
            ("the task-sk-0123456789abcdef", "the task-sk-0123456789abcdef"),
        ] {
            assert_eq!(scrubbed(text), want, "{text}");
        }
    }

    #[test]
    fn masks_leave_little_to_read() {
        for (text, want) in [
            ("", ""),
            ("abcd", "..."),
            ("short", "s...t"),
            ("thisisquitelong", "th...ng"),
            ("sk-ant-api03-abcdefgh", "sk-a...efgh"),
        ] {
            assert_eq!(mask(text), want, "{text}");
        }
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "<redacted>");
        assert_eq!(secret.expose(), "hunter2");
    }
}
