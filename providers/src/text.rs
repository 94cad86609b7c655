//! Texts with a bound: what is kept of a prompt, an argument or an answer.

/// The longest prefix of at most `max` bytes that ends at a character.
pub(crate) fn prefix(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// Appends what still fits below `max` bytes; tells whether all of it did.
pub(crate) fn append(text: &mut String, more: &str, max: usize) -> bool {
    let kept = prefix(more, max.saturating_sub(text.len()));
    text.push_str(kept);
    kept.len() == more.len()
}

/// The longest model name, id or similar short text that is kept, in bytes.
pub(crate) const SHORT: usize = 256;

/// A short text, cut to [`SHORT`].
pub(crate) fn short(text: &str) -> String {
    prefix(text, SHORT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_end_at_characters() {
        assert_eq!(prefix("aé€", 0), "");
        assert_eq!(prefix("aé€", 2), "a");
        assert_eq!(prefix("aé€", 3), "aé");
        assert_eq!(prefix("aé€", 5), "aé");
        assert_eq!(prefix("aé€", 99), "aé€");
        let mut text = "ab".to_owned();
        assert!(append(&mut text, "c", 4));
        assert!(!append(&mut text, "€", 4));
        assert!(!append(&mut text, "xyz", 4));
        assert_eq!(text, "abcx");
    }
}
