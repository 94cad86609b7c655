//! The text of JSON strings: escapes undone, ill-formed parts replaced, lengths bounded.

use std::borrow::Cow;

use memchr::memchr;

use super::find;
use crate::text;

/// The text between two quotes, borrowed where it can be.
pub(super) fn text(raw: &[u8]) -> Cow<'_, str> {
    if memchr(b'\\', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    Cow::Owned(unescape(raw, usize::MAX).0)
}

/// The beginning of the text between two quotes, at most `max` bytes, and whether more follows.
pub(super) fn unescape(raw: &[u8], max: usize) -> (String, bool) {
    // A few bytes more than fit show that there is more, and keep a character cut in two out of reach.
    let enough = max.saturating_add(4);
    let mut out = Vec::with_capacity(raw.len().min(enough));
    let mut rest = raw;
    while out.len() <= max && !rest.is_empty() {
        let at = find::either(rest, b'\\', b'\\').unwrap_or(rest.len());
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain.get(..enough.saturating_sub(out.len())).unwrap_or(plain));
        rest = match tail {
            [] => &[],
            _ => unescape_one(tail, &mut out),
        };
    }
    let text = String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    let more = text.len() > max;
    if !more {
        return (text, false);
    }
    (text::prefix(&text, max).to_owned(), true)
}

/// Undoes the escape that `bytes` begins with and returns what follows it.
fn unescape_one<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (character, tail) = escape(bytes);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    tail
}

/// Reads one escape, of which `bytes` begins with the backslash.
fn escape(bytes: &[u8]) -> (char, &[u8]) {
    match bytes {
        [_, b'u', tail @ ..] => unicode(tail),
        [_, letter, tail @ ..] => (simple(*letter), tail),
        _ => (char::REPLACEMENT_CHARACTER, &[]),
    }
}

fn simple(letter: u8) -> char {
    match letter {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'"' | b'\\' | b'/' => char::from(letter),
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Reads what follows `\u`, joining surrogates; a lone one is replaced.
fn unicode(bytes: &[u8]) -> (char, &[u8]) {
    let Some((high, tail)) = hex4(bytes) else {
        return (char::REPLACEMENT_CHARACTER, bytes);
    };
    if let Some(character) = char::from_u32(high) {
        return (character, tail);
    }
    let low = tail.strip_prefix(b"\\u").and_then(hex4);
    match low {
        Some((low @ 0xdc00..=0xdfff, after)) if high < 0xdc00 => {
            let joined = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (
                char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
                after,
            )
        }
        _ => (char::REPLACEMENT_CHARACTER, tail),
    }
}

fn hex4(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, tail) = bytes.split_at_checked(4)?;
    let value = digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })?;
    Some((value, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            (br#"a\n\t\r\b\f\"\\\/z"#, "a\n\t\r\u{8}\u{c}\"\\/z"),
            (br"\u00e9\u20AC", "é€"),
            (br"\ud83d\ude00!", "😀!"),
            (br"\ud83d!", "\u{fffd}!"),
            (br"\ude00\ud83dx", "\u{fffd}\u{fffd}x"),
            (br"\ud83d\u0041", "\u{fffd}A"),
            (br"\u12", "\u{fffd}12"),
            (br"\x", "\u{fffd}"),
            (b"\\", "\u{fffd}"),
            (b"\xff-\xc3\xa9", "\u{fffd}-é"),
        ];
        for (raw, want) in cases {
            assert_eq!(text(raw), *want, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn bounded_texts_end_at_characters() {
        let cases: &[(&[u8], usize, &str, bool)] = &[
            (b"abc", 3, "abc", false),
            (b"abc", 2, "ab", true),
            (b"abc", 0, "", true),
            (b"", 0, "", false),
            (br"a\nb", 3, "a\nb", false),
            (br"a\nb", 2, "a\n", true),
            (br"a\nb", 1, "a", true),
            (br"a\u20acb", 3, "a", true),
            ("a€b".as_bytes(), 3, "a", true),
            ("aé€é€é€é€".as_bytes(), 5, "aé", true),
        ];
        for (raw, max, want, more) in cases {
            assert_eq!(
                unescape(raw, *max),
                ((*want).to_owned(), *more),
                "{} in {max}",
                String::from_utf8_lossy(raw)
            );
        }
    }
}
