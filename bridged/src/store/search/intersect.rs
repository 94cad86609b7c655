//! What several lists of one segment have in common, found without a look at most of what they hold. Pure, but for the
//! pages, which who calls has to fetch when they are wanted.

use super::list::{List, Seek};
use super::walk::Plan;

/// The documents of one segment that have all that is required.
#[derive(Debug)]
pub(super) struct Walk {
    /// The shortest first, so that the others are mostly skipped.
    sides: Vec<Side>,
    /// The next document to look at.
    doc: u32,
    end: u32,
    /// Whether no more documents come.
    pub(super) is_over: bool,
    /// The documents that were found and not fetched from here.
    pub(super) taken: Vec<u32>,
}

impl Walk {
    /// Begins at one document of a segment and ends before another.
    pub(super) fn new(plan: &Plan, segment: i64, (from, end): (u32, u32)) -> Walk {
        let list = |term: &Vec<u8>| List::new(segment, term.clone(), from);
        let words = plan.words.iter().map(|word| Side::One(list(word)));
        let traits = plan.traits.iter();
        let traits = traits.map(|group| Side::Any(group.iter().map(list).collect()));
        let is_over = from >= end;
        Walk {
            sides: if is_over {
                Vec::new()
            } else {
                words.chain(traits).collect()
            },
            doc: from,
            end,
            is_over,
            taken: Vec::new(),
        }
    }

    /// Puts the shortest lists first, as far as is known from their first pages, which were fetched.
    pub(super) fn arrange(&mut self) {
        self.sides.sort_by_cached_key(|side| side.count(self.end));
        self.is_over |= self.sides.first().is_some_and(|side| side.count(self.end) == 0);
    }

    /// Requires one of these documents, too.
    pub(super) fn require(&mut self, docs: Vec<u32>) {
        self.sides.push(Side::Gathered(docs, 0));
    }

    /// The lists of all that is required.
    pub(super) fn lists(&mut self) -> impl Iterator<Item = &mut List> {
        self.sides.iter_mut().flat_map(Side::lists)
    }

    /// Takes documents up to `most`; false if pages are wanted first.
    pub(super) fn go_on(&mut self, most: usize) -> bool {
        while !self.is_over && self.taken.len() < most {
            match self.next() {
                Seek::Found(doc) => {
                    self.taken.push(doc);
                    self.doc = doc + 1;
                }
                Seek::End => self.is_over = true,
                Seek::Wanting => return false,
            }
        }
        true
    }

    fn next(&mut self) -> Seek {
        loop {
            if self.doc >= self.end {
                return Seek::End;
            }
            let asked = self.doc;
            for side in &mut self.sides {
                match side.seek(asked) {
                    Seek::Found(found) => self.doc = found,
                    other => return other,
                }
                if self.doc > asked {
                    break;
                }
            }
            if self.doc == asked {
                return Seek::Found(asked);
            }
        }
    }
}

/// One thing that is required.
#[derive(Debug)]
enum Side {
    One(List),
    Any(Vec<List>),
    /// Documents in order, and how many are behind.
    Gathered(Vec<u32>, usize),
}

impl Side {
    /// About how many documents have it.
    fn count(&self, end: u32) -> u64 {
        match self {
            Side::One(list) => list.count(end),
            Side::Any(lists) => lists.iter().map(|list| list.count(end)).sum(),
            Side::Gathered(docs, _) => docs.len() as u64,
        }
    }

    fn lists(&mut self) -> &mut [List] {
        match self {
            Side::One(list) => std::slice::from_mut(list),
            Side::Any(lists) => lists,
            Side::Gathered(..) => &mut [],
        }
    }

    fn seek(&mut self, doc: u32) -> Seek {
        match self {
            Side::One(list) => list.seek(doc),
            Side::Any(lists) => {
                let mut first = Seek::End;
                for list in lists {
                    first = match (first, list.seek(doc)) {
                        (Seek::Wanting, _) | (_, Seek::Wanting) => Seek::Wanting,
                        (Seek::Found(a), Seek::Found(b)) => Seek::Found(a.min(b)),
                        (Seek::End, other) | (other, Seek::End) => other,
                    };
                }
                first
            }
            Side::Gathered(docs, at) => {
                *at += docs
                    .get(*at..)
                    .unwrap_or_default()
                    .partition_point(|found| *found < doc);
                docs.get(*at).map_or(Seek::End, |found| Seek::Found(*found))
            }
        }
    }
}
