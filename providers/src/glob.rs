//! Patterns with `*` (any run of characters) and `?` (any one), as operators write them for models, users and instances.
//!
//! The case of ASCII letters does not matter: some providers take a model's name in any, and a rule must hold for all.

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Vec<u8>);

impl Glob {
    /// Every text is a pattern.
    pub fn new(text: &str) -> Glob {
        Glob(text.to_ascii_lowercase().into_bytes())
    }

    /// Whether it matches every text.
    pub fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|byte| *byte == b'*')
    }

    /// Whether it matches the whole of `text`. Takes time in the product of both lengths at most.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_slice(), text.as_bytes());
        // After the last `*`: the pattern that follows it, and where in the text that was tried last.
        let mut again: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern.split_first(), rest.split_first()) {
                (Some((b'*', after)), _) => {
                    again = Some((after, rest));
                    pattern = after;
                }
                (Some((want, after)), Some((byte, behind)))
                    if *want == b'?' || *want == byte.to_ascii_lowercase() =>
                {
                    (pattern, rest) = (after, behind);
                }
                (None, None) => return true,
                _ => {
                    let Some((after, [_, behind @ ..])) = again else {
                        return false;
                    };
                    (pattern, rest) = (after, behind);
                    again = Some((after, behind));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, text, want) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "GPT-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gpt-5*", "gpt-5-mini", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("?", "", false),
            ("claude-*-4?", "claude-sonnet-45", true),
            ("claude-*-4?", "claude-sonnet-4", false),
            ("*-mini", "gpt-5-mini-2", false),
            ("gpt-*-mini", "gpt-mini", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
            ("**mini**", "o4-mini-high", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let glob = Glob::new(&"*a".repeat(64));
        assert!(!glob.matches(&"a".repeat(63)));
        assert!(!glob.matches(&format!("{}b", "a".repeat(4_096))));
    }
}
