//! The pages of a segment: terms in order, each with the documents that have it, packed. Pure.
//!
//! A page is a row of the database that is found by its key: the first term on it and, where the list of that term
//! began on an earlier page, the document it goes on with. On a page each entry is what its term does not share with
//! the one before, and a `run` of documents. Pages are of a size that both databases keep in one piece: four on a page
//! of PostgreSQL, two on one of SQLite.

use super::run::{Run, number, slice, small, take};
use crate::store::StoreError;

/// Longest page, in bytes.
const PAGE: usize = 1_900;
/// Room that is filled with part of a list.
const LEAST: usize = 256;

/// Where a term's list begins among the keys of pages, or goes on with `doc`.
pub(super) fn key(term: &[u8], doc: Option<u32>) -> Vec<u8> {
    let mut key = Vec::with_capacity(term.len() + 5);
    key.extend_from_slice(term);
    // No term has a zero, so a longer term never comes between the parts of a shorter one's list.
    key.push(0);
    if let Some(doc) = doc {
        key.extend_from_slice(&doc.to_be_bytes());
    }
    key
}

/// A page: its key and its body.
pub(super) type Page = (Vec<u8>, Vec<u8>);

/// Packs terms into pages.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// The finished pages.
    pub(super) full: Vec<Page>,
    key: Vec<u8>,
    body: Vec<u8>,
    last: Vec<u8>,
}

impl Packer {
    /// Adds a term, which comes after all before it, and its documents in their order.
    pub(super) fn add(&mut self, term: &[u8], mut docs: &[u32]) {
        let mut begins = true;
        while !docs.is_empty() {
            // A page that has much room left gets part of a list, one that has little only what fits.
            let room = self.room(term);
            let most = if room < LEAST { PAGE } else { room };
            let Some((run, count)) = Run::pack(docs, most) else {
                return;
            };
            if run.size() > room {
                self.close();
            }
            self.entry(term, (!begins).then_some(run.first()), &run);
            docs = docs.get(count..).unwrap_or_default();
            begins = false;
        }
    }

    /// How many bytes of a run there is room for.
    fn room(&self, term: &[u8]) -> usize {
        PAGE.saturating_sub(self.body.len() + term.len() + 2 * 5)
    }

    fn entry(&mut self, term: &[u8], goes_on: Option<u32>, run: &Run) {
        if self.body.is_empty() {
            self.key = key(term, goes_on);
        }
        let shared = self.last.iter().zip(term).take_while(|(a, b)| a == b).count();
        let own = term.get(shared..).unwrap_or_default();
        number(&mut self.body, small(shared));
        number(&mut self.body, small(own.len()));
        self.body.extend_from_slice(own);
        run.write(&mut self.body);
        self.last.truncate(shared);
        self.last.extend_from_slice(own);
    }

    /// Ends the page.
    pub(super) fn close(&mut self) {
        if !self.body.is_empty() {
            let page = (std::mem::take(&mut self.key), std::mem::take(&mut self.body));
            self.full.push(page);
        }
        self.last.clear();
    }
}

/// Part of a term's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) term: Vec<u8>,
    pub(super) run: Run,
}

/// Reads the entries of a page for which `wanted` says yes, which follow each other; also whether the page ends with
/// such a one, so that more of them may be on the next.
pub(super) fn read(body: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<(Vec<Entry>, bool), StoreError> {
    let mut rest = body;
    let mut term = Vec::new();
    let (mut found, mut goes_on) = (Vec::new(), false);
    while !rest.is_empty() {
        let shared = take(&mut rest)? as usize;
        let own = take(&mut rest)? as usize;
        term.truncate(shared);
        term.extend_from_slice(slice(&mut rest, own)?);
        goes_on = wanted(&term);
        if !goes_on && !found.is_empty() {
            break;
        }
        let run = Run::read(&mut rest, goes_on)?;
        found.extend(run.map(|run| Entry {
            term: term.clone(),
            run,
        }));
    }
    Ok((found, goes_on))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::run::Seeker;
    use super::*;

    fn pages(terms: &BTreeMap<Vec<u8>, BTreeSet<u32>>) -> Vec<Page> {
        let mut packer = Packer::default();
        for (term, docs) in terms {
            packer.add(term, &docs.iter().copied().collect::<Vec<_>>());
        }
        packer.close();
        packer.full
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_again(terms in prop::collection::btree_map(
            prop::collection::vec(1..=255_u8, 1..70),
            prop::collection::btree_set(any::<u32>(), 1..3_000), 1..20,
        )) {
            let pages = pages(&terms);
            prop_assert!(pages.iter().all(|(_, body)| body.len() <= PAGE));
            prop_assert!(pages.is_sorted_by(|a, b| a.0 < b.0));
            let mut found: BTreeMap<Vec<u8>, BTreeSet<u32>> = BTreeMap::new();
            for (key, body) in &pages {
                let (entries, _) = read(body, |_| true).unwrap();
                prop_assert!(key.starts_with(&entries[0].term));
                for entry in entries {
                    found.entry(entry.term).or_default().extend(entry.run.docs());
                }
            }
            prop_assert_eq!(found, terms);
        }

        #[test]
        fn nonsense_is_refused_and_harmless(body in prop::collection::vec(any::<u8>(), 0..300)) {
            for entry in read(&body, |_| true).map_or_else(|_| Vec::new(), |read| read.0) {
                let _ = (entry.run.docs(), entry.run.count(), entry.run.last());
                let mut seeker = Seeker::new(entry.run);
                for doc in [0, 1_000, u32::MAX] {
                    let _ = seeker.seek(doc);
                }
            }
        }
    }
}
