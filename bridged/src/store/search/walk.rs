//! Finding ids by the index, the newest first, without looking at more than the page needs.
//!
//! Segments are opened from the newest on, a few at a time, and walked (`intersect`) until all of them need more pages,
//! which are read at once: a search takes a few statements, however many words it has and segments there are. An id is
//! given away when no segment can still come with a newer one. What comes out fits as far as the index knows: outcomes
//! and erasures may have changed since, and of words in a row it knows joined pairs at most, by their hash, so `find`
//! has the last word.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::intersect::Walk;
use super::list::{self, List};
use super::order::Shares;
use super::plan::Plan;
use super::segment::{self, CHUNK, Drift, Segment};
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort};

/// Documents of the segments that are gone through at once: at first for each thing that is required, because the more
/// it is the fewer have it; then how many times more with each step at most, and than those among which there was enough
/// so far.
const FIRST_GROUP: u64 = if cfg!(test) { 16 } else { 16_384 };
const GROWTH: u64 = 8;
const MARGIN: u64 = 2;
/// Segments that are gone through at once, at most.
const MOST_GROUP: usize = 64;
/// Documents that are taken from a segment at once.
const MOST_TAKEN: usize = 1_024;

/// A walk through the index.
#[derive(Debug)]
pub(super) struct Search {
    plan: Plan,
    sources: Vec<Source>,
    /// Ids found and not given away.
    pool: BTreeSet<Uuid>,
    /// Ids from this one on were given away, or are not wanted.
    below: Option<Uuid>,
    /// Documents of the segments that are gone through at once.
    group: u64,
    /// Documents of the segments that were opened, and how many of them were found.
    opened: u64,
    found: u64,
    shares: Shares,
}

#[derive(Debug)]
struct Source {
    segment: Segment,
    /// Nothing newer will come.
    bound: Uuid,
    /// About when what comes began, where some of the segment is out of the dates that are asked for.
    drift: Option<Drift>,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Walk),
    Done,
}

impl Search {
    /// Begins below an id, with ids of which the index does not know.
    pub(super) fn begin(
        database: &mut dyn Database,
        plan: Plan,
        below: Option<Uuid>,
        fresh: &BTreeSet<Uuid>,
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
            drift: None,
            state: State::Closed,
        };
        let required = plan.lists() + plan.beginnings.len();
        Ok(Search {
            sources: segments.map(source).collect(),
            shares: Shares::new(plan.lists()),
            plan,
            pool: fresh.range(..below.unwrap_or(Uuid::max())).copied().collect(),
            below,
            group: FIRST_GROUP * required.max(1) as u64,
            opened: 0,
            found: 0,
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

    /// Documents of the segments that are gone through next, for so many to be found.
    fn next_group(&self, want: usize) -> u64 {
        if self.opened == 0 {
            return self.group;
        }
        let most = self.group.max(self.opened).saturating_mul(GROWTH);
        let enough = (want as u64 * MARGIN)
            .saturating_mul(self.opened)
            .checked_div(self.found);
        enough.map_or(most, |enough| enough.clamp(FIRST_GROUP, most))
    }

    /// Goes on in the segments from which something newer than what is in the pool may come, and opens some more.
    fn advance(&mut self, database: &mut dyn Database, want: usize) -> Result<(), StoreError> {
        let newest = self.pool.last().copied();
        self.sources.sort_by_key(|source| std::cmp::Reverse(source.bound));
        self.group = self.next_group(want);
        let mut docs = 0;
        let is_of_group = |source: &&mut Source| {
            let is_within = docs < self.group;
            docs += u64::from(source.segment.docs);
            is_within
        };
        let mut chosen: Vec<&mut Source> = self
            .sources
            .iter_mut()
            .take(MOST_GROUP)
            .take_while(is_of_group)
            .collect();
        chosen.retain(|source| {
            matches!(source.state, State::Closed) || newest.is_none_or(|newest| source.bound > newest)
        });
        self.opened += open(database, &self.plan, &mut self.shares, &mut chosen)?;
        walk(database, &mut chosen, want.min(MOST_TAKEN))?;
        // What a segment has found keeps until it may be the next.
        let mut taken = Vec::new();
        for (place, source) in chosen.iter_mut().enumerate() {
            if let State::Open(walk) = &mut source.state
                && taken.len() < want
            {
                taken.extend(walk.taken.drain(..).map(|doc| (place, doc)));
            }
        }
        self.found += taken.len() as u64;
        let ids = ids(database, &chosen, &taken)?;
        for ((place, _), id) in taken.into_iter().zip(ids) {
            let Some(source) = chosen.get_mut(place) else {
                continue;
            };
            source.bound = source.bound.min(id);
            if self.below.is_none_or(|below| id < below) && source.may_give(id, &self.plan) {
                self.pool.insert(id);
            }
        }
        for source in chosen {
            if matches!(&source.state, State::Open(walk) if walk.is_over && walk.taken.is_empty()) {
                source.state = State::Done;
            }
        }
        Ok(())
    }
}

/// Opens the closed ones among these segments; returns how many documents these have.
fn open(
    database: &mut dyn Database,
    plan: &Plan,
    shares: &mut Shares,
    sources: &mut [&mut Source],
) -> Result<u64, StoreError> {
    let mut opened = Vec::new();
    let mut docs = 0;
    for source in sources.iter_mut() {
        if matches!(source.state, State::Closed) {
            let range = range(database, plan, source)?;
            let wide = u64::from(range.1.saturating_sub(range.0));
            docs += wide;
            let order = shares.order(wide);
            source.state = State::Open(Walk::new(plan, &order, source.segment.id, range));
            opened.push(source);
        }
    }
    list::fetch(
        database,
        opened.iter_mut().flat_map(|source| source.lists()).collect(),
    )?;
    for source in opened {
        let State::Open(walk) = &mut source.state else {
            continue;
        };
        walk.arrange(shares);
        if walk.is_over {
            continue;
        }
        for beginning in &plan.beginnings {
            let some = list::with_beginning(database, &source.segment, beginning)?;
            if let Some(some) = some {
                walk.require(some);
            }
        }
    }
    Ok(docs)
}

/// Goes on in those of these segments that have found nothing yet, until each has `most` documents or no more.
fn walk(database: &mut dyn Database, sources: &mut [&mut Source], most: usize) -> Result<(), StoreError> {
    let mut hungry: Vec<&mut &mut Source> = sources.iter_mut().filter(|source| source.is_hungry()).collect();
    loop {
        let mut wanting = Vec::new();
        for source in &mut hungry {
            if let State::Open(walk) = &mut source.state
                && !walk.go_on(most)
            {
                wanting.extend(source.lists());
            }
        }
        if wanting.is_empty() {
            return Ok(());
        }
        list::fetch(database, wanting)?;
    }
}

impl Source {
    /// Whether it has no documents that wait to be taken.
    fn is_hungry(&self) -> bool {
        matches!(&self.state, State::Open(walk) if walk.taken.is_empty())
    }

    /// Whether something with this id may have begun when it is asked for.
    fn may_give(&self, id: Uuid, plan: &Plan) -> bool {
        self.drift.is_none_or(|drift| {
            plan.after.is_none_or(|after| drift.latest(id) >= after)
                && plan.before.is_none_or(|before| drift.earliest(id) < before)
        })
    }

    fn lists(&mut self) -> impl Iterator<Item = &mut List> {
        let walk = match &mut self.state {
            State::Open(walk) => Some(walk),
            State::Closed | State::Done => None,
        };
        walk.into_iter().flat_map(Walk::lists)
    }
}

/// The documents of a segment among which are all that can fit; notes about when these began.
fn range(database: &mut dyn Database, plan: &Plan, source: &mut Source) -> Result<(u32, u32), StoreError> {
    let segment = &source.segment;
    let is_all = source.bound == segment.newest
        && plan.after.is_none_or(|after| segment.earliest >= after)
        && plan.before.is_none_or(|before| segment.latest < before);
    if is_all {
        return Ok((0, segment.docs));
    }
    let (first, end, drift) = segment.range(database, (source.bound, plan.after, plan.before))?;
    source.drift = drift;
    Ok((first, end))
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

/// All documents of a segment that have a term.
pub(super) fn docs_of(
    database: &mut dyn Database,
    segment: &Segment,
    term: Vec<u8>,
) -> Result<Vec<u32>, StoreError> {
    List::new(segment.id, term, Some(0)).all(database)
}
