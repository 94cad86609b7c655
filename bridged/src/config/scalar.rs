//! Values that are written as text with a unit: `30s`, `64MiB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// A length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// Reads `30s`; `None` when the text is something else.
    pub fn parse(text: &str) -> Option<Span> {
        let (number, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(|total| Span(Duration::from_millis(total)))
    }

    /// The length.
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// A number of bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(usize);

impl ByteSize {
    /// Reads `64MiB`; `None` when the text is something else.
    pub fn parse(text: &str) -> Option<ByteSize> {
        let (number, unit) = split(text)?;
        let shift = match unit {
            "B" | "" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        let bytes = number.checked_mul(1 << shift)?;
        usize::try_from(bytes).ok().map(ByteSize)
    }

    /// The number.
    pub fn bytes(self) -> usize {
        self.0
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a length of time: write e.g. \"30s\"")))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        ByteSize::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size: write e.g. \"64MiB\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_checked() {
        assert_eq!(Span::parse("30s").map(Span::duration), Some(Duration::from_secs(30)));
        assert_eq!(Span::parse("2d").map(Span::duration), Some(Duration::from_secs(172_800)));
        assert_eq!(ByteSize::parse("64MiB").map(ByteSize::bytes), Some(64 << 20));
        for wrong in ["", "s", "30", "30 parsecs", "-1s", "99999999999999999999s"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
        for wrong in ["MiB", "1MB", "99999999999999GiB"] {
            assert_eq!(ByteSize::parse(wrong), None, "{wrong}");
        }
    }
}
