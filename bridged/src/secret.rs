//! Values that must not be printed.
//!
//! A `Secret` shows `<redacted>` in every formatter and is wiped when dropped; `expose` is the only way to
//! its text. `mask` makes the hint that records keep of a credential; `write_private` keeps a secret on disk.

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

#[cfg(test)]
mod tests {
    use super::*;

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
