//! Reading prompts for what is looked for: what `Query::fits` says, of most prompts at a glance. Pure.

use memchr::memmem::Finder;

use super::query::{Query, Term, Wanted};
use super::words::LONGEST;

/// Reads one prompt after the other.
pub(super) struct Scan<'q> {
    query: &'q Query,
    /// The terms that can be looked for in bytes.
    rows: Vec<Words<'q>>,
}

impl<'q> Scan<'q> {
    pub(super) fn new(query: &'q Query) -> Scan<'q> {
        let rows = query.terms.iter().filter_map(Words::of).collect();
        Scan { query, rows }
    }

    /// Whether a prompt is one of those looked for.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.may_fit(text) && self.query.fits(text)
    }

    /// False only where the prompt does not fit.
    fn may_fit(&self, text: &str) -> bool {
        if !text.is_ascii() {
            return true;
        }
        let text = text.to_ascii_lowercase();
        self.rows.iter().all(|row| row.may_be_in(text.as_bytes()))
    }
}

/// Words in a row, of ASCII letters and digits.
struct Words<'q> {
    first: Finder<'q>,
    others: &'q [Wanted],
}

impl<'q> Words<'q> {
    /// Nothing where a word may be written in other ways than in small letters.
    fn of(term: &'q Term) -> Option<Words<'q>> {
        let is_as_written = |word: &Wanted| word.text.is_ascii() && word.text.len() < LONGEST;
        let (first, others) = term.words.split_first()?;
        term.words.iter().all(is_as_written).then(|| Words {
            first: Finder::new(first.text.as_bytes()),
            others,
        })
    }

    /// Whether they follow each other somewhere, perhaps as parts of longer words.
    fn may_be_in(&self, text: &[u8]) -> bool {
        let length = self.first.needle().len();
        self.first
            .find_iter(text)
            .any(|at| self.follow(text.get(at + length..).unwrap_or_default()))
    }

    fn follow(&self, mut rest: &[u8]) -> bool {
        self.others.iter().all(|word| {
            let next = rest.iter().position(u8::is_ascii_alphanumeric);
            let after = next
                .and_then(|next| rest.get(next..))
                .and_then(|rest| rest.strip_prefix(word.text.as_bytes()));
            rest = after.unwrap_or_default();
            after.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn a_scan_says_what_the_query_says(
            text in "([aAbBéß0]{1,3}[ ._/-]{1,2}){0,12}",
            query in "[aé0]{1,2}\\*?|\"([ab0]{1,2}[ .]){1,3}\"|[ab]{1,2}[._][ab]{1,2}( [ab])?",
        ) {
            if let Ok(query) = Query::parse(&query) {
                prop_assert_eq!(Scan::new(&query).fits(&text), query.fits(&text));
            }
        }
    }

    #[test]
    fn most_prompts_are_seen_not_to_fit_at_a_glance() {
        let query = Query::parse("\"words in a row\" main.rs").unwrap();
        let scan = Scan::new(&query);
        for (text, want) in [
            ("Words -- in a ROW: Main.rs", true),
            ("keywords in a rowing main.rs", true),
            ("words in the row, main.rs", false),
            ("words in a row", false),
            ("wörds in a row", true),
        ] {
            assert_eq!(scan.may_fit(text), want, "{text}");
        }
        let long = "x".repeat(LONGEST + 9);
        let query = Query::parse(&format!("\"{long} a\"")).unwrap();
        assert!(
            Scan::new(&query).fits(&format!("{long}yy a")),
            "known by its beginning"
        );
    }
}
