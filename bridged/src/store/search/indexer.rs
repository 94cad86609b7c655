//! The thread that keeps the index up to date, a second or so behind the records.
//!
//! The chains of the processes tell what is new: each is a log to which links are only ever added, and the index
//! knows how far it has read each. So nothing is skipped, late records and replays of the spool included, and after
//! a crash it goes on where it was. Of all gateways on one store one works at a time (`lease`). What is deleted from
//! the records is left out when a segment is written anew.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use uuid::Uuid;

use super::lease::Lease;
use super::rewrite::{LOOK, Traffic, Work};
use super::segment::{self, Found, Segment, Trait};
use super::walk;
use crate::config::Durability;
use crate::store::chain::LinkKind;
use crate::store::content::Content;
use crate::store::lease::micros;
use crate::store::retention;
use crate::store::sql::{self, Batch, Database, Dialect, Row, Sort};
use crate::store::{Store, StoreError};

/// The pause after a failure.
const REST: Duration = Duration::from_secs(5);
/// The pause between two pieces of work, in which others may take the lease.
const BREATH: Duration = Duration::from_millis(15);
/// Documents and bytes of text of a new segment, about.
const DOCS: usize = 2_048;
const TEXT: usize = 8 << 20;
/// Links that are read at once.
const LINKS: i64 = 512;
/// Segments of a size that become one, and documents of one that is large enough.
const WIDTH: usize = 8;
const LARGE: u32 = 1_048_576;
/// Segments up to this size are freed of what is too old after a minute, larger ones after a day.
const SMALL: u32 = 16_384;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The state of the thread.
pub(in crate::store) struct Indexer {
    store: Store,
    behind: Gauge,
    stopping: Arc<AtomicBool>,
    database: Option<Box<dyn Database>>,
    /// When there was last nothing to do for the segments.
    tidy_at: Option<Instant>,
    traffic: Traffic,
    /// The name of this process.
    own: Uuid,
}

impl Indexer {
    /// `behind` is to show how many links of the chains have not been read; `stopping` ends the work at the next
    /// transaction.
    pub(in crate::store) fn new(
        store: Store,
        own: Uuid,
        behind: Gauge,
        stopping: Arc<AtomicBool>,
    ) -> Indexer {
        Indexer {
            store,
            behind,
            stopping,
            database: None,
            tidy_at: None,
            traffic: Traffic::default(),
            own,
        }
    }

    /// Works until the other end of `alive` is gone.
    pub(in crate::store) fn run(mut self, alive: &Receiver<()>) {
        let mut pause = LOOK;
        while let Err(RecvTimeoutError::Timeout) = alive.recv_timeout(pause) {
            pause = match self.work() {
                Ok(true) => BREATH,
                Ok(false) => LOOK,
                Err(error) => {
                    self.report(&error);
                    REST
                }
            };
        }
    }

    fn report(&self, error: &StoreError) {
        // The writer of records tells of a store that is away.
        let is_passing = error.is_passing() || self.stopping.load(Ordering::Relaxed);
        let error = error as &dyn Error;
        if is_passing {
            tracing::debug!(error, "the search index has to wait");
        } else {
            tracing::warn!(error, "the search index could not be brought up to date");
        }
    }

    /// Does a piece of work; false when there was nothing to do here.
    fn work(&mut self) -> Result<bool, StoreError> {
        let database = match self.database.take().filter(|database| database.is_usable()) {
            Some(database) => database,
            None => connect(&self.store)?,
        };
        let database = self.database.insert(database).as_mut();
        let behind = Position::all(database)?;
        Position::show(&behind, &self.behind);
        if behind.is_empty() {
            // Only time brings chores then, or another gateway, which sees to its own.
            if self.tidy_at.is_some_and(|at| at.elapsed() < MINUTE) {
                return Ok(false);
            }
            if Chore::find(database, false)?.is_none() {
                self.tidy_at = Some(Instant::now());
                return Ok(false);
            }
        }
        self.tidy_at = None;
        let Some(lease) = Lease::take(database, self.own)? else {
            return Ok(false);
        };
        let mut work = Work {
            traffic: Some(&mut self.traffic),
            behind: Some(&self.behind),
            look_at: Instant::now() + LOOK,
            ..Work::new(database, &lease, &self.stopping)
        };
        let outcome = work
            .index()
            .and_then(|_| match Chore::find(work.database, false)? {
                Some(chore) => work.run(&chore),
                None => Ok(()),
            });
        let ended = lease.end(database);
        outcome.and(ended).map(|()| true)
    }
}

fn connect(store: &Store) -> Result<Box<dyn Database>, StoreError> {
    // What a power failure takes is made again.
    let mut database = store.0.place.connect_to_write(Durability::Relaxed)?;
    if database.dialect() == Dialect::Sqlite {
        database.script("PRAGMA cache_size = -4000")?;
    }
    Ok(database)
}

/// How far a chain was read.
pub(super) struct Position {
    pub(super) instance: i64,
    pub(super) n: i64,
    pub(super) head: i64,
}

impl Position {
    /// Of every chain that has links which were not read.
    pub(super) fn all(database: &mut dyn Database) -> Result<Vec<Position>, StoreError> {
        let sql = "SELECT i.id, coalesce(p.n, 0), i.head_n FROM instance i
            LEFT JOIN search_position p ON p.instance = i.id WHERE i.head_n > coalesce(p.n, 0) ORDER BY i.id";
        let read = |row: Row| {
            let mut row = row.read();
            Ok(Position {
                instance: row.int()?,
                n: row.int()?,
                head: row.int()?,
            })
        };
        database.query(sql, &[])?.into_iter().map(read).collect()
    }

    /// Shows how many links have not been read.
    fn show(all: &[Position], behind: &Gauge) {
        let links: i64 = all.iter().map(|position| position.head - position.n).sum();
        #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 links")]
        behind.set(links as f64);
    }

    fn save(&self, database: &mut dyn Database) -> Result<(), StoreError> {
        let sql = "INSERT INTO search_position (instance, n) VALUES (?1, ?2)
            ON CONFLICT (instance) DO UPDATE SET n = excluded.n";
        database
            .execute(sql, &[self.instance.into(), self.n.into()])
            .map(drop)
    }

    /// Reads on, up to the head: the interceptions that began, or ended so that more is to be said of them.
    fn read(&mut self, database: &mut dyn Database) -> Result<Vec<Found>, StoreError> {
        let sql =
            "SELECT n, kind, id FROM chain WHERE instance = ?1 AND n > ?2 AND n <= ?3 ORDER BY n LIMIT ?4";
        let values = [
            self.instance.into(),
            self.n.into(),
            self.head.into(),
            LINKS.into(),
        ];
        let (mut starts, mut ends) = (HashSet::new(), HashSet::new());
        let links = database.query(sql, &values)?;
        if links.is_empty() {
            self.n = self.head;
        }
        for link in links {
            let mut link = link.read();
            self.n = link.int()?;
            let (kind, id) = (link.code()?, link.optional_id()?);
            match kind.and_then(LinkKind::from_code) {
                Some(LinkKind::Start) => starts.extend(id),
                Some(LinkKind::End) => ends.extend(id),
                _ => {}
            }
        }
        let new = starts.iter().map(|id| vec![(*id).into(), true.into()]);
        let known = ends
            .difference(&starts)
            .map(|id| vec![(*id).into(), false.into()]);
        let rows = database.batch(&FIND, new.chain(known).collect())?;
        let found: Result<Vec<_>, _> = rows.into_iter().map(found).collect();
        Ok(found?.into_iter().flatten().collect())
    }
}

/// An interception is looked at a second time if it ended in an unusual way or was answered elsewhere.
const FIND: Batch = Batch {
    columns: &[("id", Sort::Blob), ("is_new", Sort::Int)],
    body: "SELECT i.id, i.started_at, i.who, i.combo, c.client, c.provider, c.model, r.outcome, p.body
        FROM batch CROSS JOIN interception i JOIN combo c ON c.id = i.combo JOIN prompt p ON p.interception = i.id
        LEFT JOIN reply r ON r.interception = i.id
        WHERE i.id = batch.id AND (batch.is_new = 1 OR r.outcome <> 1 OR i.asked_combo IS NOT NULL)",
};

/// Nothing where the text was erased.
fn found(row: Row) -> Result<Option<Found>, StoreError> {
    let mut row = row.read();
    let (id, started_at) = (row.id()?, row.int()?);
    let (who, combo) = (row.int()?, row.int()?);
    let mut traits = vec![
        Trait::User(who),
        Trait::Combo(combo),
        Trait::Habit(who, combo),
        Trait::Client(row.int()?),
        Trait::Provider(row.int()?),
        Trait::Model(row.int()?),
    ];
    traits.extend(row.optional_int()?.map(Trait::Outcome));
    let text = Content::read(&row.blob()?)?.text();
    Ok(text.map(|text| Found {
        id,
        started_at,
        traits,
        text,
    }))
}

/// What is to be done about segments that there are.
enum Chore {
    /// They become one.
    Merge(Vec<Segment>),
    /// What is before this id goes.
    Purge(Segment, Uuid),
    /// What was replaced goes.
    Sweep,
}

impl Chore {
    /// What is most urgent; with `at_once` also what could wait.
    fn find(database: &mut dyn Database, at_once: bool) -> Result<Option<Chore>, StoreError> {
        let segments = Segment::all(database)?;
        let before = gone_before(database)?;
        let now = sql::now(database)?;
        let is_due = |segment: &Segment| {
            let age = if segment.docs <= SMALL { MINUTE } else { DAY };
            let is_old = segment.made_at < now.saturating_sub(micros(age));
            segment.oldest < before && (at_once || segment.newest < before || is_old)
        };
        if let Some(segment) = segments.iter().find(|segment| is_due(segment)) {
            return Ok(Some(Chore::Purge(segment.clone(), before)));
        }
        if let Some(alike) = alike(&segments, LARGE) {
            return Ok(Some(Chore::Merge(alike)));
        }
        let sql = "SELECT id FROM search_segment WHERE state <> 1 LIMIT 1";
        let has_rest = !database.query(sql, &[])?.is_empty();
        Ok(has_rest.then_some(Chore::Sweep))
    }
}

/// Interceptions before this one have no texts any more.
fn gone_before(database: &mut dyn Database) -> Result<Uuid, StoreError> {
    let erased = retention::erased_until(database)?;
    let first = database
        .query("SELECT id FROM interception ORDER BY id LIMIT 1", &[])?
        .pop();
    let first = first.map_or(Ok(Uuid::max()), |row| row.read().id())?;
    Ok(erased.max(first))
}

/// Segments of about the same size, all with fewer documents than `below`, that are to become one: the oldest of those
/// of which there are too many.
pub(super) fn alike(segments: &[Segment], below: u32) -> Option<Vec<Segment>> {
    let size = |segment: &Segment| segment.docs.max(1).ilog(8);
    for wanted in 0..=LARGE.ilog(8) {
        let is_one = |segment: &&Segment| segment.docs < below && size(segment) == wanted;
        if segments.iter().filter(is_one).count() >= WIDTH {
            let mut docs = 0;
            let fits = |segment: &&Segment| {
                docs += segment.docs;
                docs <= 2 * LARGE
            };
            let oldest = segments.iter().rev().filter(is_one).take(WIDTH);
            let mut alike: Vec<Segment> = oldest.take_while(fits).cloned().collect();
            alike.reverse();
            return Some(alike);
        }
    }
    None
}

impl Work<'_> {
    /// Makes a segment of what is new, of any chain; false where nothing is.
    pub(super) fn index(&mut self) -> Result<bool, StoreError> {
        // As of now: until the lease was taken another may have read them.
        let mut positions = Position::all(self.database)?;
        if let Some(behind) = self.behind {
            Position::show(&positions, behind);
        }
        let (mut found, mut text) = (Vec::new(), 0);
        for position in &mut positions {
            while position.n < position.head && found.len() < DOCS && text < TEXT {
                let more = position.read(self.database)?;
                text += more.iter().map(|found| found.text.len()).sum::<usize>();
                found.extend(more);
            }
        }
        let save =
            |database: &mut dyn Database| positions.iter().try_for_each(|position| position.save(database));
        if positions.is_empty() {
            return Ok(false);
        }
        if found.is_empty() {
            self.commit(save)?;
        } else {
            let (frame, pages) = segment::build(found);
            self.write(frame, &pages, save)?;
        }
        Ok(true)
    }

    fn run(&mut self, chore: &Chore) -> Result<(), StoreError> {
        match chore {
            Chore::Merge(segments) => self.merge(segments),
            Chore::Purge(segment, before) => {
                self.rewrite(std::slice::from_ref(segment), |_, _, id| id >= *before)?;
                self.sweep()
            }
            Chore::Sweep => self.sweep(),
        }
    }
}

/// Does `work` on the index as soon as nobody else does.
fn alone(
    database: &mut dyn Database,
    work: impl FnOnce(&mut Work<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let lease = Lease::wait(database)?;
    let outcome = work(&mut Work::new(database, &lease, &AtomicBool::new(false)));
    let ended = lease.end(database);
    outcome.and(ended)
}

/// Takes everything out of the index that is no longer in the records.
pub(in crate::store) fn purge(database: &mut dyn Database) -> Result<(), StoreError> {
    alone(database, |work| {
        while let Some(chore) = Chore::find(work.database, true)? {
            work.run(&chore)?;
        }
        Ok(())
    })
}

/// Takes the words of a user, whose texts were erased, out of the index.
pub(in crate::store) fn forget(database: &mut dyn Database, who: i64) -> Result<(), StoreError> {
    alone(database, |work| {
        for segment in Segment::all(work.database)? {
            let docs = walk::docs_of(work.database, &segment, Trait::User(who).term())?;
            if !docs.is_empty() {
                let keep = |_, doc, _| docs.binary_search(&doc).is_err();
                work.rewrite(std::slice::from_ref(&segment), keep)?;
            }
        }
        work.sweep()
    })
}

/// Brings the index up to date at once.
#[cfg(test)]
pub(super) fn catch_up(database: &mut dyn Database) -> Result<(), StoreError> {
    alone(database, |work| {
        while !Position::all(work.database)?.is_empty() {
            work.index()?;
        }
        while let Some(chore) = Chore::find(work.database, false)? {
            work.run(&chore)?;
        }
        Ok(())
    })
}

/// Makes the largest segment anew as the thread does it.
#[cfg(test)]
pub(in crate::store) fn rewrite_largest(
    database: &mut dyn Database,
    lease: &Lease,
) -> Result<(), StoreError> {
    let segments = Segment::all(database)?;
    let largest = segments.into_iter().max_by_key(|segment| segment.docs);
    let (mut traffic, stopping) = (Traffic::default(), AtomicBool::new(false));
    let mut work = Work {
        traffic: Some(&mut traffic),
        ..Work::new(database, lease, &stopping)
    };
    work.rewrite(largest.as_slice(), |_, _, _| true)
}
