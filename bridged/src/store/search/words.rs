//! What counts as a word of a prompt. Pure.
//!
//! A word is a run of letters and digits, folded so that case and the ways to write a letter do not matter. Scripts
//! that put no spaces between words give a word a character (UAX 29), so that `配置` is found as two words in a row.
//! `_`, `.`, `/` and all other punctuation part words, so that a path or a `snake_case` name is found by its parts
//! and, as words in a row, whole. A `camelCase` name is one word, and its parts are found too. Texts and questions go
//! through the same function: what differs here between two releases needs the index to be built anew.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation as _;

/// Longest word in bytes; longer ones are known by their beginning.
pub(super) const LONGEST: usize = 64;

/// A word, folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'w> {
    pub(super) text: &'w str,
    pub(super) place: Place,
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// First after white space.
    Apart,
    /// After another word, with no white space between them.
    Joined,
    /// Within the `camelCase` word before it.
    Within,
}

/// Gives every word of `text` in the order of the text.
pub(super) fn words(text: &str, mut take: impl FnMut(Word<'_>)) {
    let mut folded = String::new();
    each(text, &mut folded, |word, _| take(word));
}

/// Gives every word of `text` in the order of the text, and after a `camelCase` word its parts.
pub(super) fn words_and_parts(text: &str, mut take: impl FnMut(Word<'_>)) {
    let (mut folded, mut folded_part) = (String::new(), String::new());
    each(text, &mut folded, |word, written| {
        take(word);
        let may_begin_a_part = |byte: u8| byte.is_ascii_uppercase() || !byte.is_ascii();
        // What is longer is no name but data.
        if written.len() <= LONGEST && written.bytes().skip(1).any(may_begin_a_part) {
            parts(written, |part| {
                fold(part, &mut folded_part);
                if !folded_part.is_empty() {
                    take(Word {
                        text: &folded_part,
                        place: Place::Within,
                    });
                }
            });
        }
    });
}

/// Gives every word, folded and as it is written.
fn each(text: &str, folded: &mut String, mut take: impl FnMut(Word<'_>, &str)) {
    for name in text.split_whitespace() {
        if name.is_ascii() {
            each_of_ascii(name, folded, &mut take);
        } else {
            each_of(name, folded, &mut take);
        }
    }
}

/// The words of a text without white space.
fn each_of(name: &str, folded: &mut String, take: &mut impl FnMut(Word<'_>, &str)) {
    let mut place = Place::Apart;
    let pieces = name.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric());
    for written in pieces.flat_map(|piece| piece.unicode_words()) {
        for written in written.split(|c: char| !belongs(c)) {
            fold(written, folded);
            if !folded.is_empty() {
                take(Word { text: folded, place }, written);
                place = Place::Joined;
            }
        }
    }
}

/// The same of a text that is ASCII, as most are, without a look at each character's properties.
fn each_of_ascii(name: &str, folded: &mut String, take: &mut impl FnMut(Word<'_>, &str)) {
    folded.clear();
    folded.push_str(name);
    folded.make_ascii_lowercase();
    let mut place = Place::Apart;
    let mut from = 0;
    let ends = name
        .bytes()
        .enumerate()
        .filter(|(_, byte)| !byte.is_ascii_alphanumeric());
    for end in ends.map(|(end, _)| end).chain([name.len()]) {
        if from < end {
            let text = folded.get(from..end.min(from + LONGEST)).unwrap_or_default();
            take(Word { text, place }, name.get(from..end).unwrap_or_default());
            place = Place::Joined;
        }
        from = end + 1;
    }
}

fn belongs(c: char) -> bool {
    // Joiners and soft hyphens stand inside words and mean nothing.
    c.is_alphanumeric() || is_combining_mark(c) || matches!(c, '\u{ad}' | '\u{200c}' | '\u{200d}')
}

fn fold(word: &str, folded: &mut String) {
    folded.clear();
    if word.is_ascii() {
        folded.push_str(word.get(..LONGEST).unwrap_or(word));
        folded.make_ascii_lowercase();
        return;
    }
    let is_kept = |c: &char| c.is_alphanumeric() || is_combining_mark(*c);
    let letters = word.nfkc().flat_map(char::to_lowercase).nfkc().filter(is_kept);
    for letter in letters {
        if folded.len() + letter.len_utf8() > LONGEST {
            break;
        }
        folded.push(letter);
    }
}

/// The parts of a `camelCase` word; nothing where it has only one.
fn parts(word: &str, mut take: impl FnMut(&str)) {
    let mut begin = 0;
    let (mut before, mut letters) = (None, word.char_indices().peekable());
    while let Some((place, letter)) = letters.next() {
        let next_is_small = letters.peek().is_some_and(|(_, next)| next.is_lowercase());
        // `fooBar`, and `HTTPServer` before its `Server`.
        let begins = match before {
            Some(before) if letter.is_uppercase() => !char::is_uppercase(before) || next_is_small,
            _ => false,
        };
        if begins {
            take(word.get(begin..place).unwrap_or_default());
            begin = place;
        }
        before = Some(letter);
    }
    if begin > 0 {
        take(word.get(begin..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words(text, |word| found.push(word.text.to_owned()));
        found
    }

    #[test]
    fn words_are_what_people_look_for() {
        for (text, want) in [
            ("The Quick, brown-fox!", "the quick brown fox"),
            ("src/store/mod.rs:12", "src store mod rs 12"),
            ("read_file(path)", "read file path"),
            ("don't", "don t"),
            ("naïve Straße ÉTÉ", "naïve straße été"),
            ("e\u{301}te\u{301}", "été"),
            ("ｆｕｌｌ ﬁne", "full fine"),
            ("配置文件", "配 置 文 件"),
            ("サーバーを起動", "サーバー を 起 動"),
            ("설정 파일", "설정 파일"),
            ("foo\u{2019}s a\u{ad}b", "foo s ab"),
            ("🦊 …", ""),
        ] {
            assert_eq!(whole(text).join(" "), want, "{text}");
        }
        assert_eq!(whole(&"x".repeat(1_000))[0].len(), LONGEST);
        assert!(whole(&"ö".repeat(1_000))[0].len() <= LONGEST);
    }

    #[test]
    fn white_space_tells_names_apart() {
        for (text, want) in [
            ("src/main.rs  and", "src+main+rs and"),
            ("- (a) b.\nc", "a b c"),
            ("配置\u{3000}文件", "配+置 文+件"),
            ("userName=x", "username(user)(name)+x"),
        ] {
            let mut found = String::new();
            words_and_parts(text, |word| match word.place {
                Place::Apart => found.push_str(&format!(" {}", word.text)),
                Place::Joined => found.push_str(&format!("+{}", word.text)),
                Place::Within => found.push_str(&format!("({})", word.text)),
            });
            assert_eq!(found.trim_start(), want, "{text}");
        }
    }

    #[test]
    fn parts_of_names_are_words_too() {
        for (text, want) in [
            ("userName", "username user name"),
            ("HTTPServer", "httpserver http server"),
            ("plain", "plain"),
            ("UPPER", "upper"),
            ("aB", "ab a b"),
        ] {
            let mut found = Vec::new();
            words_and_parts(text, |word| found.push(word.text.to_owned()));
            assert_eq!(found.join(" "), want, "{text}");
        }
    }
}
