//! What several lists of one segment have in common, found without a look at most of what they hold. Pure, but for the
//! pages, which who calls has to fetch when they are wanted.

use super::list::{List, Seek};
use super::order::{Order, Shares};
use super::plan::Plan;

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
    pub(super) fn new(plan: &Plan, order: &Order, segment: i64, (from, end): (u32, u32)) -> Walk {
        let is_over = from >= end;
        let places = order.numbers.iter().enumerate();
        let sides = places.map(|(place, number)| {
            let from = (place < order.at_once).then_some(from);
            let list = |term: &Vec<u8>| List::new(segment, term.clone(), from);
            let lists = plan.terms(*number).iter().map(list).collect();
            Side::Lists(*number, lists)
        });
        Walk {
            sides: if is_over { Vec::new() } else { sides.collect() },
            doc: from,
            end,
            is_over,
            taken: Vec::new(),
        }
    }

    /// Puts the shortest lists first, as far as is known from their pages that were fetched; tells how long each is.
    pub(super) fn arrange(&mut self, shares: &mut Shares) {
        let counted = self.sides.drain(..);
        let mut counted: Vec<_> = counted
            .map(|side| (side.is_unread(), side.count(self.end), side))
            .collect();
        counted.sort_by_key(|(is_unread, count, _)| (*is_unread, *count));
        for (is_unread, count, side) in counted {
            if !is_unread {
                if let Side::Lists(number, _) = side {
                    shares.learn(number, count, u64::from(self.end - self.doc));
                }
                self.is_over |= count == 0;
            }
            self.sides.push(side);
        }
    }

    /// Requires one of these documents, too.
    pub(super) fn require(&mut self, docs: Vec<u32>) {
        self.sides.insert(0, Side::Gathered(docs, 0));
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
                Seek::Wanting => {
                    self.begin_others();
                    return false;
                }
            }
        }
        true
    }

    /// Where one list that was not asked for is needed, all of them are, so that they are fetched at once.
    fn begin_others(&mut self) {
        let doc = self.doc;
        if self.lists().any(|list| list.is_unread() && list.is_wanting()) {
            self.lists().for_each(|list| list.begin_at(doc));
        }
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
    /// To be in one of some lists: its number among what is required, and the lists.
    Lists(usize, Vec<List>),
    /// Documents in order, and how many are behind.
    Gathered(Vec<u32>, usize),
}

impl Side {
    /// About how many documents have it.
    fn count(&self, end: u32) -> u64 {
        match self {
            Side::Lists(_, lists) => lists.iter().map(|list| list.count(end)).sum(),
            Side::Gathered(docs, _) => docs.len() as u64,
        }
    }

    fn is_unread(&self) -> bool {
        matches!(self, Side::Lists(_, lists) if lists.iter().any(List::is_unread))
    }

    fn lists(&mut self) -> &mut [List] {
        match self {
            Side::Lists(_, lists) => lists,
            Side::Gathered(..) => &mut [],
        }
    }

    fn seek(&mut self, doc: u32) -> Seek {
        match self {
            Side::Lists(_, lists) => {
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
