//! The documents of a term, packed. Pure.
//!
//! A run is its first document and, whichever is shortest, the distances from one document to the next, a bit for each
//! number after the first, or the distances between the documents that are not in it: a word of every prompt then
//! takes hardly anything. Runs are short, so that who looks for a document reads few others, and are sought through as
//! they are.

use crate::store::StoreError;

/// Longest distances or bits of a run, in bytes.
const LONGEST: usize = 900;
/// Most bytes of a run beside these.
const HEAD: usize = 15;
/// Most documents after the first of a run of nearly all; what is read is not trusted to be no more.
const WIDEST: u32 = 1 << 20;

/// Documents in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    first: u32,
    rest: Rest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    /// How many there are, and each as a number of bytes.
    Distances(u32, Vec<u8>),
    Bits(Vec<u8>),
    /// How many numbers there are after the first, the last of which is in it, and the distances between those that are
    /// not.
    Gaps(u32, Vec<u8>),
}

impl Run {
    /// As many of some documents, which are in order, as fit into so many bytes; also how many these are.
    pub(super) fn pack(docs: &[u32], room: usize) -> Option<(Run, usize)> {
        let (first, rest) = docs.split_first()?;
        let room = room.saturating_sub(HEAD).min(LONGEST);
        let all = [
            gaps(*first, rest, room),
            bits(*first, rest, room),
            distances(*first, rest, room),
        ];
        // The one with the most documents, or the shortest of those, or the last.
        let (rest, count) = all
            .into_iter()
            .max_by_key(|(rest, count)| (*count, std::cmp::Reverse(rest.bytes().len())))?;
        Some((Run { first: *first, rest }, count + 1))
    }

    /// Adds the run to a page.
    pub(super) fn write(&self, page: &mut Vec<u8>) {
        number(page, self.first);
        match &self.rest {
            Rest::Distances(count, bytes) => {
                number(page, count + 1);
                if *count == 0 {
                    return;
                }
                number(page, small(bytes.len()));
            }
            // There is no run of no documents.
            Rest::Bits(bytes) => {
                number(page, 0);
                number(page, small(bytes.len()));
            }
            // Nor are there no bits.
            Rest::Gaps(width, bytes) => {
                number(page, 0);
                number(page, 0);
                number(page, *width);
                number(page, small(bytes.len()));
            }
        }
        page.extend_from_slice(self.rest.bytes());
    }

    /// Takes a run from the rest of a page; nothing where it is not wanted.
    pub(super) fn read(page: &mut &[u8], is_wanted: bool) -> Result<Option<Run>, StoreError> {
        let (first, count) = (take(page)?, take(page)?);
        let mut length = if count == 1 { 0 } else { take(page)? };
        let mut width = None;
        if count == 0 && length == 0 {
            width = Some(take(page)?);
            length = take(page)?;
        }
        let bytes = slice(page, length as usize)?;
        if !is_wanted {
            return Ok(None);
        }
        let bytes = bytes.to_vec();
        let rest = match (width, count.checked_sub(1)) {
            (Some(width), _) if width > WIDEST => return Err(StoreError::Unreadable),
            (Some(width), _) => Rest::Gaps(width, bytes),
            (None, None) => Rest::Bits(bytes),
            // A count is no promise: there is a byte a document at least.
            (None, Some(count)) => Rest::Distances(count.min(length), bytes),
        };
        Ok(Some(Run { first, rest }))
    }

    /// Most bytes that it takes on a page.
    pub(super) fn size(&self) -> usize {
        self.rest.bytes().len() + HEAD
    }

    /// The first document.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// The last document.
    pub(super) fn last(&self) -> u32 {
        let mut last = self.first;
        match &self.rest {
            Rest::Distances(_, bytes) => {
                let mut bytes = bytes.as_slice();
                while let Some(distance) = next(&mut bytes) {
                    last = last.saturating_add(distance);
                }
            }
            Rest::Bits(bytes) => {
                let byte = bytes.iter().rposition(|byte| *byte != 0);
                let bits = |at: usize| bytes.get(at).map_or(0, |byte| 8 - byte.leading_zeros() as usize);
                last = last.saturating_add(byte.map_or(0, |at| small(at * 8 + bits(at))));
            }
            Rest::Gaps(width, _) => last = last.saturating_add(*width),
        }
        last
    }

    /// How many documents there are.
    pub(super) fn count(&self) -> u64 {
        1 + match &self.rest {
            Rest::Distances(count, _) => u64::from(*count),
            Rest::Bits(bytes) => ones(bytes),
            Rest::Gaps(width, bytes) => {
                let gaps = bytes.iter().filter(|byte| **byte < 0x80).count();
                u64::from(*width).saturating_sub(gaps as u64)
            }
        }
    }

    /// All documents.
    pub(super) fn docs(&self) -> Vec<u32> {
        let mut docs = vec![self.first];
        match &self.rest {
            Rest::Distances(_, bytes) => {
                let (mut bytes, mut doc) = (bytes.as_slice(), self.first);
                while let Some(distance) = next(&mut bytes) {
                    doc = doc.wrapping_add(distance);
                    docs.push(doc);
                }
            }
            Rest::Bits(bytes) => {
                let mut bit = 0;
                while let Some(next) = next_bit(bytes, bit) {
                    docs.push(self.first.wrapping_add(small(next) + 1));
                    bit = next + 1;
                }
            }
            Rest::Gaps(width, bytes) => {
                let (mut bytes, mut doc) = (bytes.as_slice(), self.first);
                while let Some(distance) = next(&mut bytes) {
                    let gap = doc.saturating_add(distance).min(self.last());
                    docs.extend(doc.saturating_add(1)..gap);
                    doc = gap;
                }
                docs.extend(doc.saturating_add(1)..=self.first.saturating_add(*width));
            }
        }
        docs
    }
}

impl Rest {
    fn bytes(&self) -> &[u8] {
        match self {
            Rest::Distances(_, bytes) | Rest::Bits(bytes) | Rest::Gaps(_, bytes) => bytes,
        }
    }
}

/// Reads a run forwards.
#[derive(Debug)]
pub(super) struct Seeker {
    run: Run,
    /// The document that was found last.
    doc: u32,
    /// The distances that were read, in bytes, and the gap up to which these lead.
    read: usize,
    gap: u32,
}

impl Seeker {
    pub(super) fn new(run: Run) -> Seeker {
        Seeker {
            doc: run.first,
            read: 0,
            gap: run.first,
            run,
        }
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// The first document from `doc` on; what is asked for never goes back.
    pub(super) fn seek(&mut self, doc: u32) -> Option<u32> {
        if doc <= self.doc {
            return Some(self.doc);
        }
        match &self.run.rest {
            Rest::Distances(_, bytes) => {
                let mut rest = bytes.get(self.read..).unwrap_or_default();
                while self.doc < doc {
                    self.doc = self.doc.saturating_add(next(&mut rest)?);
                    self.read = bytes.len() - rest.len();
                }
            }
            Rest::Bits(bytes) => {
                let bit = next_bit(bytes, (doc - self.run.first - 1) as usize)?;
                self.doc = self.run.first.checked_add(small(bit) + 1)?;
            }
            Rest::Gaps(width, bytes) => {
                let last = self.run.first.saturating_add(*width);
                let mut rest = bytes.get(self.read..).unwrap_or_default();
                let mut doc = doc;
                while self.gap <= doc {
                    if self.gap == doc {
                        doc = doc.checked_add(1)?;
                    }
                    // Behind the last gap is none.
                    let distance = next(&mut rest).unwrap_or(u32::MAX);
                    self.gap = self.gap.saturating_add(distance);
                    self.read = bytes.len() - rest.len();
                }
                if doc > last {
                    return None;
                }
                self.doc = doc;
            }
        }
        Some(self.doc)
    }
}

/// The documents behind the first that fit into so many bytes as bits; also how many these are.
fn bits(first: u32, docs: &[u32], room: usize) -> (Rest, usize) {
    let reach = first.saturating_add(small(room * 8));
    let docs = docs
        .get(..docs.partition_point(|doc| *doc <= reach))
        .unwrap_or_default();
    let width = docs.last().map_or(0, |last| (last - first).div_ceil(8) as usize);
    let mut bytes = vec![0; width];
    for doc in docs {
        let bit = doc - first - 1;
        if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
            *byte |= 1 << (bit % 8);
        }
    }
    (Rest::Bits(bytes), docs.len())
}

/// The same as distances between those that are missing.
fn gaps(first: u32, docs: &[u32], room: usize) -> (Rest, usize) {
    let (mut bytes, mut last, mut gap, mut count) = (Vec::new(), first, first, 0);
    for doc in docs {
        let whole = bytes.len();
        if doc - first > WIDEST || (doc - last) as usize > room {
            break;
        }
        for missing in last + 1..*doc {
            number(&mut bytes, missing - gap);
            gap = missing;
        }
        if bytes.len() > room {
            bytes.truncate(whole);
            break;
        }
        (last, count) = (*doc, count + 1);
    }
    (Rest::Gaps(last - first, bytes), count)
}

fn distances(first: u32, docs: &[u32], room: usize) -> (Rest, usize) {
    let (mut bytes, mut last, mut count) = (Vec::new(), first, 0);
    for doc in docs {
        if bytes.len() + 5 > room {
            break;
        }
        number(&mut bytes, doc.wrapping_sub(last));
        (last, count) = (*doc, count + 1);
    }
    (Rest::Distances(count, bytes), count as usize)
}

/// How many bits are set.
fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    words.chain(rest).map(u64::from).sum()
}

/// The first bit that is set, from one on.
fn next_bit(bytes: &[u8], bit: usize) -> Option<usize> {
    let mut at = bit / 8;
    let mut byte = bytes.get(at)? & (0xff << (bit % 8));
    while byte == 0 {
        at += 1;
        byte = *bytes.get(at)?;
    }
    Some(at * 8 + byte.trailing_zeros() as usize)
}

pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Writes a number, seven bits a byte.
pub(super) fn number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Takes a number; nothing where there is none.
fn next(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a number, which has to be there.
pub(super) fn take(rest: &mut &[u8]) -> Result<u32, StoreError> {
    next(rest).ok_or(StoreError::Unreadable)
}

/// Takes some bytes.
pub(super) fn slice<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], StoreError> {
    let (taken, after) = rest.split_at_checked(count).ok_or(StoreError::Unreadable)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn runs(docs: &[u32], room: usize) -> Vec<Run> {
        let (mut rest, mut runs) = (docs, Vec::new());
        while let Some((run, count)) = Run::pack(rest, room) {
            let mut page = Vec::new();
            run.write(&mut page);
            assert!(page.len() <= run.size() && run.size() <= room.clamp(HEAD, LONGEST + HEAD));
            let mut page = page.as_slice();
            assert_eq!(Run::read(&mut page, true).unwrap().as_ref(), Some(&run));
            assert!(page.is_empty());
            assert_eq!((run.count(), run.last()), (count as u64, rest[count - 1]));
            runs.push(run);
            rest = &rest[count..];
        }
        runs
    }

    proptest! {
        #[test]
        fn what_is_packed_is_found(
            // Lists of all densities, from every document to one of a million.
            gaps in prop::collection::vec((0_u32..20).prop_map(|power| 1 << power), 1..4_000),
            many in prop::collection::vec(1_u32..4, 0..20_000),
            nearly_all in prop::collection::vec(prop_oneof![100 => Just(1_u32), 1 => 2_u32..200], 0..20_000),
            step in 1_u32..5_000,
            room in 0_usize..2_000,
        ) {
            let mut last = 0_u32;
            let docs: Vec<u32> = gaps.iter().chain(&many).chain(&nearly_all).map(|gap| { last = last.saturating_add(*gap); last }).collect();
            let docs: Vec<u32> = docs.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            let runs = runs(&docs, room);
            prop_assert_eq!(runs.iter().flat_map(Run::docs).collect::<Vec<_>>(), docs.clone());
            for run in runs {
                let docs = run.docs();
                let mut seeker = Seeker::new(run);
                let mut doc = docs[0].saturating_sub(1);
                loop {
                    let want = docs.get(docs.partition_point(|known| *known < doc)).copied();
                    prop_assert_eq!(seeker.seek(doc), want);
                    prop_assert_eq!(seeker.seek(doc), want, "asked again");
                    let Some(found) = want else { break };
                    doc = found.saturating_add(step);
                }
            }
        }
    }

    #[test]
    fn no_more_is_read_than_was_written() {
        let all: Vec<u32> = (0..=WIDEST + 10).collect();
        let (run, count) = Run::pack(&all, 2_000).unwrap();
        assert_eq!(count, WIDEST as usize + 1);
        let mut page = Vec::new();
        run.write(&mut page);
        assert!(Run::read(&mut page.as_slice(), true).unwrap().is_some());
        let mut more = vec![0, 0, 0];
        number(&mut more, WIDEST + 1);
        more.push(0);
        assert!(Run::read(&mut more.as_slice(), true).is_err());
    }

    #[test]
    fn what_most_have_takes_a_bit_and_what_all_have_nothing() {
        let all: Vec<u32> = (0..7_000).collect();
        let (run, count) = Run::pack(&all, 2_000).unwrap();
        assert_eq!((count, run.size()), (7_000, HEAD));
        let most: Vec<u32> = (0..7_000).filter(|doc| doc % 50 != 9).collect();
        let (run, count) = Run::pack(&most, 2_000).unwrap();
        assert_eq!((count, run.size()), (6_860, 140 + HEAD));
        let half: Vec<u32> = (0..7_000).filter(|doc| doc / 3 % 2 == 0).collect();
        let (run, count) = Run::pack(&half, 2_000).unwrap();
        assert_eq!((count, run.size()), (3_501, 875 + HEAD));
        let every_twentieth: Vec<u32> = (0..7_000).step_by(20).collect();
        let (run, count) = Run::pack(&every_twentieth, 2_000).unwrap();
        assert_eq!((count, run.size()), (350, 349 + HEAD));
    }
}
