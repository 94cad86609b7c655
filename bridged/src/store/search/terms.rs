//! The terms of a segment in the making, and which documents have each. Pure.
//!
//! Most of the work of the index is done here, for each word of each prompt: terms lie one behind the other in one
//! piece of memory, and so do the lists, whose links point to the one before.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::page::{Packer, Page};

/// The end of a list.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Terms {
    hasher: DefaultHashBuilder,
    /// The places of terms in `all` by what they are.
    places: HashTable<u32>,
    all: Vec<Term>,
    /// The bytes of all terms.
    bytes: Vec<u8>,
    /// A document, and the link before.
    links: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    from: u32,
    length: u32,
    last: u32,
    /// The last document again, so that a word that repeats ends here.
    doc: u32,
}

impl Terms {
    /// Notes that a document has a term. Documents come in order.
    pub(super) fn add(&mut self, term: &[u8], doc: u32) {
        let hash = self.hasher.hash_one(term);
        let (all, bytes) = (&mut self.all, &mut self.bytes);
        let found = self
            .places
            .find(hash, |place| {
                all.get(*place as usize)
                    .is_some_and(|known| bytes_of(known, bytes) == term)
            })
            .copied();
        let link = small(self.links.len());
        if let Some(known) = found.and_then(|place| all.get_mut(place as usize)) {
            if known.doc != doc {
                self.links.push((doc, known.last));
                (known.last, known.doc) = (link, doc);
            }
            return;
        }
        self.links.push((doc, NONE));
        let fresh = Term {
            from: small(bytes.len()),
            length: small(term.len()),
            last: link,
            doc,
        };
        bytes.extend_from_slice(term);
        all.push(fresh);
        let hasher = &self.hasher;
        self.places.insert_unique(hash, small(all.len() - 1), |place| {
            let known = all.get(*place as usize);
            known.map_or(0, |known| hasher.hash_one(bytes_of(known, bytes)))
        });
    }

    /// The pages of all terms in order.
    pub(super) fn pages(mut self) -> Vec<Page> {
        let bytes = &self.bytes;
        self.all
            .sort_unstable_by(|a, b| bytes_of(a, bytes).cmp(bytes_of(b, bytes)));
        let mut packer = Packer::default();
        let mut docs = Vec::new();
        for term in &self.all {
            docs.clear();
            let mut next = term.last;
            while let Some((doc, before)) = self.links.get(next as usize) {
                docs.push(*doc);
                next = *before;
            }
            docs.reverse();
            packer.add(bytes_of(term, bytes), &docs);
        }
        packer.close();
        packer.full
    }
}

fn bytes_of<'b>(term: &Term, bytes: &'b [u8]) -> &'b [u8] {
    let from = term.from as usize;
    bytes.get(from..from + term.length as usize).unwrap_or_default()
}

/// A segment in the making is far smaller than 2^32.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::page;
    use super::*;

    proptest! {
        #[test]
        fn every_document_of_every_term_is_packed(docs in prop::collection::vec(
            prop::collection::vec("[a-d]{1,3}", 0..30), 0..40,
        )) {
            let mut terms = Terms::default();
            let mut want: BTreeMap<Vec<u8>, BTreeSet<u32>> = BTreeMap::new();
            for (doc, words) in (0..).zip(&docs) {
                for word in words {
                    terms.add(word.as_bytes(), doc);
                    want.entry(word.clone().into_bytes()).or_default().insert(doc);
                }
            }
            let mut found: BTreeMap<Vec<u8>, BTreeSet<u32>> = BTreeMap::new();
            for (_, body) in terms.pages() {
                for entry in page::read(&body, |_| true).unwrap().0 {
                    found.entry(entry.term).or_default().extend(entry.run.docs());
                }
            }
            prop_assert_eq!(found, want);
        }
    }
}
