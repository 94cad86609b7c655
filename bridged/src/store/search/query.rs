//! What is looked for: words, "words in a row" and beginnings of words*. Pure.
//!
//! Nothing else has a meaning: operators do not exist, so there are none to inject. What a question finds is
//! defined by `Query::fits` alone; the index only makes it fast.

use super::words::{Place, Word, words, words_and_parts};

/// Longest question, in characters.
const LONGEST_QUERY: usize = 1_000;
/// Most terms of a question.
pub(super) const MOST_TERMS: usize = 16;

/// Texts that are looked for. All of its terms are to be in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub(super) terms: Vec<Term>,
}

/// Words in a row, mostly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// Never empty.
    pub(super) words: Vec<Wanted>,
    /// Whether the last word may go on.
    pub(super) is_open: bool,
}

/// A word of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Folded.
    pub(super) text: String,
    /// Whether no white space may be between it and the word before.
    pub(super) is_joined: bool,
}

/// Why a question cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is nothing to look for.
    #[error("at least one word")]
    Empty,
    /// It is too long.
    #[error("at most {LONGEST_QUERY} characters")]
    TooLong,
    /// It has too many terms.
    #[error("at most {MOST_TERMS} words or phrases")]
    TooMany,
}

impl Query {
    /// Reads a question: words, of which all are required; `"words in a row"`; `begin*`. A name of several words,
    /// such as `src/main.rs`, is words in a row with no white space between them.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        if text.chars().nth(LONGEST_QUERY).is_some() {
            return Err(QueryError::TooLong);
        }
        let mut terms = Vec::new();
        // Every other piece is in quotation marks.
        for (place, piece) in text.split('"').enumerate() {
            if place % 2 == 1 {
                terms.extend(Term::of(piece, false));
                continue;
            }
            for word in piece.split_whitespace() {
                terms.extend(Term::of(word, word.ends_with('*')));
            }
        }
        Query::of(terms)
    }

    /// Both questions in one.
    ///
    /// # Errors
    /// It becomes too long.
    pub fn and(self, other: Query) -> Result<Query, QueryError> {
        let mut terms = self.terms;
        terms.extend(other.terms);
        Query::of(terms)
    }

    fn of(terms: Vec<Term>) -> Result<Query, QueryError> {
        match terms.len() {
            0 => Err(QueryError::Empty),
            1..=MOST_TERMS => Ok(Query { terms }),
            _ => Err(QueryError::TooMany),
        }
    }

    /// Whether a prompt is one of those looked for.
    pub(in crate::store) fn fits(&self, text: &str) -> bool {
        let mut terms: Vec<Seen<'_>> = self.terms.iter().map(Seen::new).collect();
        words_and_parts(text, |word| {
            for seen in &mut terms {
                seen.see(word);
            }
        });
        terms.iter().all(|seen| seen.is_found)
    }
}

impl Term {
    fn of(text: &str, is_open: bool) -> Option<Term> {
        let mut found = Vec::new();
        words(text, |word| {
            found.push(Wanted {
                text: word.text.to_owned(),
                is_joined: word.place == Place::Joined,
            });
        });
        (!found.is_empty()).then_some(Term {
            words: found,
            is_open,
        })
    }

    /// Whether `word` can be the one at this place.
    fn has_at(&self, place: usize, word: Word<'_>) -> bool {
        let is_open = self.is_open && place + 1 == self.words.len();
        self.words.get(place).is_some_and(|wanted| {
            let fits = if is_open {
                word.text.starts_with(&wanted.text)
            } else {
                word.text == wanted.text
            };
            fits && (!wanted.is_joined || word.place == Place::Joined)
        })
    }
}

/// How much of a term was seen in a text so far.
struct Seen<'q> {
    term: &'q Term,
    /// How many of its words the last words of the text are, for each beginning that may still become all of it.
    begun: Vec<usize>,
    is_found: bool,
}

impl<'q> Seen<'q> {
    fn new(term: &'q Term) -> Seen<'q> {
        Seen {
            term,
            begun: Vec::new(),
            is_found: false,
        }
    }

    fn see(&mut self, word: Word<'_>) {
        if self.is_found {
            return;
        }
        let (all, begins) = (self.term.words.len(), self.term.has_at(0, word));
        if all == 1 {
            self.is_found = begins;
        } else if word.place != Place::Within {
            self.begun.retain_mut(|seen| {
                *seen += 1;
                self.term.has_at(*seen - 1, word)
            });
            if begins {
                self.begun.push(1);
            }
            self.is_found = self.begun.contains(&all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_find_what_they_say() {
        for (query, text, want) in [
            ("error", "An ERROR.", true),
            ("error", "errors", false),
            ("err*", "errors", true),
            ("parse error", "error in parse", true),
            ("\"parse error\"", "error in parse", false),
            ("\"parse error\"", "a parse, error", true),
            ("\"parse error", "a parse error", true),
            ("src/main.rs", "open src/main.rs now", true),
            ("src/main.rs", "main src rs", false),
            ("src/main.rs", "src main rs", false),
            ("src/main.rs", "my.src::main(rs)", true),
            ("\"src main rs\"", "src/main.rs", true),
            ("\"in src/main.rs\"", "in src/main.rs", true),
            ("\"in src/main.rs\"", "in src main.rs", false),
            ("read_fi*", "read_file", true),
            ("username", "let userName = 1", true),
            ("name", "let userName = 1", true),
            ("userName", "USERNAME", true),
            ("置文", "配置文件", true),
            ("文置", "配置文件", false),
            ("a OR b", "a b", false),
            ("NEAR(a b)", "a b", false),
            ("NEAR(a b)", "b near(a", true),
            ("x:y* -z", "x.yz z", true),
        ] {
            assert_eq!(Query::parse(query).unwrap().fits(text), want, "{query} in {text}");
        }
    }

    #[test]
    fn empty_and_endless_questions_are_refused() {
        for (query, want) in [
            ("", QueryError::Empty),
            ("\" ' * -- \"", QueryError::Empty),
            (&"x".repeat(1_001), QueryError::TooLong),
            (&"x ".repeat(17), QueryError::TooMany),
        ] {
            assert_eq!(Query::parse(query), Err(want));
        }
        let most = Query::parse(&"x ".repeat(16)).unwrap();
        assert_eq!(most.clone().and(most), Err(QueryError::TooMany));
    }
}
