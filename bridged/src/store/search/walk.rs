//! Finding ids by the index, the newest first, without looking at more than the page needs.
//!
//! In each segment the lists of all that is required are walked side by side, each skipping to where the others are.
//! Segments are opened from the newest on, a few at a time; an id is given away when no segment can still come
//! with a newer one. What comes out fits as far as the index knows: outcomes and erasures may have changed since, and
//! words in a row are not looked at, so `find` has the last word.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::list::{self, List};
use super::segment::{self, CHUNK, Segment};
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort};

/// Segments that are opened at once, at first and at most.
const FIRST_GROUP: usize = 2;
const MOST_GROUP: usize = 64;
/// Documents that are taken from a segment at once.
const MOST_TAKEN: usize = 1_024;

/// What is required of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// All of these terms.
    pub(super) words: Vec<Vec<u8>>,
    /// Of each a word that begins so.
    pub(super) beginnings: Vec<Vec<u8>>,
    /// Of each group one.
    pub(super) traits: Vec<Vec<Vec<u8>>>,
    /// Begun at or after, and before; about.
    pub(super) after: Option<i64>,
    pub(super) before: Option<i64>,
}

/// A walk through the index.
#[derive(Debug)]
pub(super) struct Search {
    plan: Plan,
    sources: Vec<Source>,
    /// Ids found and not given away.
    pool: BTreeSet<Uuid>,
    /// Ids from this one on were given away, or are not wanted.
    below: Option<Uuid>,
    group: usize,
}

#[derive(Debug)]
struct Source {
    segment: Segment,
    /// Nothing newer will come.
    bound: Uuid,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Walk),
    Done,
}

impl Search {
    /// Begins below an id.
    pub(super) fn begin(
        database: &mut dyn Database,
        plan: Plan,
        below: Option<Uuid>,
    ) -> Result<Search, StoreError> {
        let can_fit = |segment: &Segment| {
            plan.after.is_none_or(|after| segment.latest >= after)
                && plan.before.is_none_or(|before| segment.earliest < before)
                && below.is_none_or(|below| segment.oldest < below)
        };
        let segments = Segment::all(database)?.into_iter().filter(can_fit);
        let source = |segment: Segment| Source {
            bound: below.map_or(segment.newest, |below| below.min(segment.newest)),
            segment,
            state: State::Closed,
        };
        Ok(Search {
            sources: segments.map(source).collect(),
            plan,
            pool: BTreeSet::new(),
            below,
            group: FIRST_GROUP,
        })
    }

    /// The next ids, at most `want`; none where there are no more.
    pub(super) fn next(&mut self, database: &mut dyn Database, want: usize) -> Result<Vec<Uuid>, StoreError> {
        let mut given = Vec::new();
        loop {
            let top = self.sources.iter().map(|source| source.bound).max();
            while given.len() < want
                && let Some(id) = self.pool.last().copied()
                && top.is_none_or(|top| id >= top)
            {
                self.pool.pop_last();
                self.below = Some(id);
                given.push(id);
            }
            if given.len() >= want || top.is_none() {
                return Ok(given);
            }
            self.advance(database, want - given.len())?;
            self.sources.retain(|source| !matches!(source.state, State::Done));
        }
    }

    /// Goes on in the segments from which something newer than what is in the pool may come, and opens some more.
    fn advance(&mut self, database: &mut dyn Database, want: usize) -> Result<(), StoreError> {
        let newest = self.pool.last().copied();
        self.sources.sort_by_key(|source| std::cmp::Reverse(source.bound));
        let mut chosen: Vec<&mut Source> = self.sources.iter_mut().take(self.group).collect();
        self.group = MOST_GROUP.min(self.group * 4);
        chosen.retain(|source| {
            matches!(source.state, State::Closed) || newest.is_none_or(|newest| source.bound > newest)
        });
        open(database, &self.plan, &mut chosen)?;
        let mut taken = Vec::new();
        for (place, source) in chosen.iter_mut().enumerate() {
            let State::Open(walk) = &mut source.state else {
                continue;
            };
            let docs = walk.take(database, want.min(MOST_TAKEN))?;
            taken.extend(docs.into_iter().map(|doc| (place, doc)));
        }
        let ids = ids(database, &chosen, &taken)?;
        for ((place, _), id) in taken.into_iter().zip(ids) {
            if let Some(source) = chosen.get_mut(place) {
                source.bound = source.bound.min(id);
            }
            if self.below.is_none_or(|below| id < below) {
                self.pool.insert(id);
            }
        }
        for source in chosen {
            if matches!(&source.state, State::Open(walk) if walk.is_over) {
                source.state = State::Done;
            }
        }
        Ok(())
    }
}

/// Opens the closed ones among these segments.
fn open(database: &mut dyn Database, plan: &Plan, sources: &mut [&mut Source]) -> Result<(), StoreError> {
    let mut wanted = Vec::new();
    let mut ranges = Vec::new();
    for source in sources.iter() {
        let range = match source.state {
            State::Closed => Some(range(database, plan, source)?),
            _ => None,
        };
        if let Some((from, _)) = range {
            let terms = plan.words.iter().chain(plan.traits.iter().flatten());
            wanted.extend(terms.map(|term| (source.segment.id, term.clone(), from)));
        }
        ranges.push(range);
    }
    let mut lists = List::open(database, wanted)?.into_iter();
    for (source, range) in sources.iter_mut().zip(ranges) {
        let Some((from, end)) = range else { continue };
        let mut sides: Vec<Side> = lists.by_ref().take(plan.words.len()).map(Side::One).collect();
        for group in &plan.traits {
            sides.push(Side::Any(lists.by_ref().take(group.len()).collect()));
        }
        sides.sort_by_key(Side::count);
        let is_empty = sides.first().is_some_and(|side| side.count() == 0);
        if !is_empty {
            for beginning in &plan.beginnings {
                let docs = list::with_beginning(database, &source.segment, beginning)?;
                sides.extend(docs.map(|docs| Side::Gathered(docs, 0)));
            }
        }
        source.state = State::Open(Walk {
            sides,
            doc: from,
            end,
            is_over: is_empty,
        });
    }
    Ok(())
}

/// The documents of a segment among which are all that can fit.
fn range(database: &mut dyn Database, plan: &Plan, source: &Source) -> Result<(u32, u32), StoreError> {
    let segment = &source.segment;
    let is_all = source.bound == segment.newest
        && plan.after.is_none_or(|after| segment.earliest >= after)
        && plan.before.is_none_or(|before| segment.latest < before);
    if is_all {
        return Ok((0, segment.docs));
    }
    let marks = segment.guide(database)?;
    // The first id wanted is in the chunk before the first that begins below it.
    let by_id = marks
        .partition_point(|mark| mark.newest >= source.bound)
        .saturating_sub(1);
    let by_date = plan.before.map_or(Some(0), |before| {
        marks.iter().position(|mark| mark.earliest < before)
    });
    let last = marks
        .iter()
        .rposition(|mark| plan.after.is_none_or(|after| mark.latest >= after));
    let (Some(by_date), Some(last)) = (by_date, last) else {
        return Ok((0, 0));
    };
    let doc = |chunk: usize| u32::try_from(chunk * CHUNK).unwrap_or(u32::MAX);
    Ok((doc(by_id.max(by_date)), doc(last + 1).min(segment.docs)))
}

const IDS: Batch = Batch {
    columns: &[("place", Sort::Int), ("segment", Sort::Int), ("chunk", Sort::Int)],
    body: "SELECT batch.place, s.ids FROM batch CROSS JOIN search_ids s
        WHERE s.segment = batch.segment AND s.chunk = batch.chunk",
};

/// The ids of documents, each of the source at the place beside it.
fn ids(
    database: &mut dyn Database,
    sources: &[&mut Source],
    docs: &[(usize, u32)],
) -> Result<Vec<Uuid>, StoreError> {
    let chunk_of = |doc: u32| doc as usize / CHUNK;
    let mut chunks: HashMap<(usize, usize), Vec<u8>> = HashMap::new();
    let mut wanted = Vec::new();
    for (place, doc) in docs {
        let key = (*place, chunk_of(*doc));
        if let Some(source) = sources.get(*place)
            && chunks.insert(key, Vec::new()).is_none()
        {
            wanted.push((key, source.segment.id));
        }
    }
    let row = |(place, ((_, chunk), segment)): (usize, &((usize, usize), i64))| {
        vec![(place as u64).into(), (*segment).into(), (*chunk as u64).into()]
    };
    for row in database.batch(&IDS, wanted.iter().enumerate().map(row).collect())? {
        let mut row = row.read();
        let place = usize::try_from(row.int()?).map_err(|_| StoreError::Unreadable)?;
        let (key, _) = wanted.get(place).ok_or(StoreError::Unreadable)?;
        chunks.insert(*key, row.blob()?);
    }
    let id = |(place, doc): &(usize, u32)| {
        let chunk = chunks.get(&(*place, chunk_of(*doc)))?;
        segment::ids(chunk).nth(*doc as usize % CHUNK)
    };
    docs.iter()
        .map(|doc| id(doc).ok_or(StoreError::Unreadable))
        .collect()
}

/// The documents of one segment that have all that is required.
#[derive(Debug)]
struct Walk {
    /// The shortest first.
    sides: Vec<Side>,
    /// The next document to look at.
    doc: u32,
    end: u32,
    is_over: bool,
}

impl Walk {
    /// The next documents, at most `most`.
    fn take(&mut self, database: &mut dyn Database, most: usize) -> Result<Vec<u32>, StoreError> {
        let mut taken = Vec::new();
        while !self.is_over && taken.len() < most {
            match self.next(database)? {
                Some(doc) => {
                    taken.push(doc);
                    self.doc = doc + 1;
                }
                None => self.is_over = true,
            }
        }
        Ok(taken)
    }

    fn next(&mut self, database: &mut dyn Database) -> Result<Option<u32>, StoreError> {
        let mut doc = self.doc;
        loop {
            if doc >= self.end {
                return Ok(None);
            }
            let asked = doc;
            for side in &mut self.sides {
                match side.seek(database, doc)? {
                    Some(found) => doc = found,
                    None => return Ok(None),
                }
                if doc > asked {
                    break;
                }
            }
            if doc == asked {
                return Ok(Some(doc));
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
    /// How many documents have it, if that is known.
    fn count(&self) -> usize {
        match self {
            Side::One(list) => list.count(),
            Side::Any(lists) => lists
                .iter()
                .fold(0, |sum: usize, list| sum.saturating_add(list.count())),
            Side::Gathered(docs, _) => docs.len(),
        }
    }

    fn seek(&mut self, database: &mut dyn Database, doc: u32) -> Result<Option<u32>, StoreError> {
        match self {
            Side::One(list) => list.seek(database, doc),
            Side::Any(lists) => {
                let mut first: Option<u32> = None;
                for list in lists {
                    if let Some(found) = list.seek(database, doc)? {
                        first = Some(first.map_or(found, |first| first.min(found)));
                    }
                }
                Ok(first)
            }
            Side::Gathered(docs, at) => {
                *at += docs
                    .get(*at..)
                    .unwrap_or_default()
                    .partition_point(|found| *found < doc);
                Ok(docs.get(*at).copied())
            }
        }
    }
}

/// All documents of a segment that have a term.
pub(super) fn docs_of(
    database: &mut dyn Database,
    segment: &Segment,
    term: Vec<u8>,
) -> Result<Vec<u32>, StoreError> {
    let mut lists = List::open(database, vec![(segment.id, term, 0)])?;
    lists.pop().map_or(Ok(Vec::new()), |list| list.all(database))
}
