//! Segments made of others: many small ones become a large one, and what was erased is left out.
//!
//! First the documents of all are numbered anew, then the terms of all are read in order at once, so that of either only
//! a few are in memory, and a number for each document. A document that is in several, because more became known of
//! it, is one afterwards and has the terms of all. It may take minutes, in which what is new becomes part of the index
//! as always, in segments that are merged while they are few; when somebody waits for the lease, it is left, and what
//! was made of it goes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::Gauge;
use uuid::Uuid;

use super::indexer;
use super::lease::{self, Lease};
use super::page::{self, Entry, Packer, Page};
use super::segment::{self, Doc, Frame, Segment, State};
use crate::store::StoreError;
use crate::store::sql::{Database, Row};

/// Pages that are read or written at once.
pub(super) const STEP: usize = 64;
/// Documents of segments on which work takes long.
const LONG_WORK: u32 = if cfg!(test) { 512 } else { 4_096 };
/// Rows that are deleted at once.
const DELETED: i64 = 256;
/// How often new records are looked for.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Nothing is written if nothing was for so long.
const QUIET: Duration = Duration::from_secs(3);
/// Longest pause between two transactions.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Whether records are being written.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Links of all chains.
    links: i64,
    moved_at: Option<Instant>,
}

impl Traffic {
    fn is_moving(&mut self, database: &mut dyn Database) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(coalesce(sum(head_n), 0) AS BIGINT) FROM instance";
        let links = database.query(sql, &[])?.pop().map_or(Ok(0), Row::int)?;
        if links != self.links {
            (self.links, self.moved_at) = (links, Some(Instant::now()));
        }
        Ok(self.moved_at.is_some_and(|at| at.elapsed() < QUIET))
    }
}

/// Changes to the index, in transactions so short that the writer of records does not notice them.
pub(super) struct Work<'a> {
    pub(super) database: &'a mut dyn Database,
    pub(super) lease: &'a Lease,
    /// Where it is known, the database is left to others for twice the time of each transaction while records are
    /// written.
    pub(super) traffic: Option<&'a mut Traffic>,
    /// Shows how many links of the chains have not been read.
    pub(super) behind: Option<&'a Gauge>,
    pub(super) stopping: &'a AtomicBool,
    /// When long work next gives way to what is new.
    pub(super) look_at: Instant,
    /// The segment that is being made, which is not swept.
    pub(super) making: Option<i64>,
}

impl<'a> Work<'a> {
    /// Work beside which there is none, as far as is not said otherwise, and that gives way at once.
    pub(super) fn new(
        database: &'a mut dyn Database,
        lease: &'a Lease,
        stopping: &'a AtomicBool,
    ) -> Work<'a> {
        Work {
            database,
            lease,
            traffic: None,
            behind: None,
            stopping,
            look_at: Instant::now(),
            making: None,
        }
    }

    /// Does `work` in a transaction.
    pub(super) fn commit<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped);
        }
        let began = Instant::now();
        let done = self.lease.transaction(self.database, work)?;
        let taken = began.elapsed();
        if let Some(traffic) = &mut self.traffic
            && traffic.is_moving(self.database)?
        {
            std::thread::sleep(LONGEST_PAUSE.min(taken * 2));
        }
        Ok(done)
    }

    /// Makes what is new part of the index, if it is time, and beside long work merges small segments. False if
    /// what is being done has to be left, because somebody waits for the lease.
    fn give_way(&mut self, is_long: bool) -> Result<bool, StoreError> {
        let began = Instant::now();
        if began < self.look_at {
            return Ok(true);
        }
        if self.traffic.is_some() && lease::is_waited_for(self.database)? {
            return Ok(false);
        }
        let has_found = self.index()?;
        if is_long
            && self.traffic.is_some()
            && let Some(small) = indexer::alike(&Segment::all(self.database)?, LONG_WORK)
        {
            self.merge(&small)?;
        }
        // At most half of the time is spent so.
        self.look_at = Instant::now() + if has_found { began.elapsed() } else { LOOK };
        Ok(true)
    }

    /// Writes a whole segment and, in its last transaction, does `also`.
    pub(super) fn write(
        &mut self,
        mut frame: Frame,
        pages: &[Page],
        also: impl FnOnce(&mut dyn Database) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        frame.close();
        if pages.len() + frame.rows.len() <= STEP {
            return self.commit(|database| {
                let segment = segment::begin(database)?;
                segment::add_pages(database, segment, pages)?;
                segment::add_ids(database, segment, &frame.rows)?;
                frame.finish(database, segment)?;
                also(database)
            });
        }
        let segment = self.commit(segment::begin)?;
        self.add_pages(segment, pages)?;
        self.finish(segment, frame, also)
    }

    fn add_pages(&mut self, segment: i64, pages: &[Page]) -> Result<(), StoreError> {
        pages
            .chunks(STEP)
            .try_for_each(|pages| self.commit(|database| segment::add_pages(database, segment, pages)))
    }

    fn add_ids(&mut self, segment: i64, frame: &mut Frame) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut frame.rows);
        rows.chunks(STEP)
            .try_for_each(|rows| self.commit(|database| segment::add_ids(database, segment, rows)))
    }

    fn finish(
        &mut self,
        segment: i64,
        mut frame: Frame,
        also: impl FnOnce(&mut dyn Database) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        frame.close();
        self.add_ids(segment, &mut frame)?;
        self.commit(|database| {
            frame.finish(database, segment)?;
            also(database)
        })
    }

    /// Puts one segment in the place of some.
    pub(super) fn merge(&mut self, segments: &[Segment]) -> Result<(), StoreError> {
        self.rewrite(segments, |_, _, _| true)?;
        self.sweep()
    }

    /// Puts one segment in the place of `inputs`, with the documents for which `keep`, given the place of a segment
    /// among the inputs and the number and id of a document in it, says yes.
    pub(super) fn rewrite(
        &mut self,
        inputs: &[Segment],
        keep: impl Fn(usize, u32, Uuid) -> bool,
    ) -> Result<(), StoreError> {
        let replace = |database: &mut dyn Database| {
            let sql = "UPDATE search_segment SET state = ?2 WHERE id = ?1";
            inputs.iter().try_for_each(|input| {
                database
                    .execute(sql, &[input.id.into(), State::Replaced.code().into()])
                    .map(drop)
            })
        };
        let segment = self.commit(segment::begin)?;
        let outer = self.making.replace(segment);
        if let Some((frame, places)) = self.number(segment, inputs, keep)? {
            if frame.docs() == 0 {
                // What was begun is swept, too.
                self.commit(replace)?;
            } else if self.gather(segment, inputs, &places)? {
                self.finish(segment, frame, replace)?;
            }
        }
        self.making = outer;
        Ok(())
    }

    /// Numbers the documents of a segment, and writes their ids as far as they fill groups; also says for each input
    /// which numbers its documents have. Nothing if it has to be left.
    fn number(
        &mut self,
        segment: i64,
        inputs: &[Segment],
        keep: impl Fn(usize, u32, Uuid) -> bool,
    ) -> Result<Option<(Frame, Places)>, StoreError> {
        let mut readers: Vec<Docs> = inputs.iter().map(Docs::new).collect();
        let mut places: Places = inputs
            .iter()
            .map(|input| vec![GONE; input.docs as usize])
            .collect();
        let mut frame = Frame::default();
        let is_long = take_long(inputs);
        // The document that was met last: another input may know it, too.
        let mut last: Option<Doc> = None;
        while let Some((input, number, doc)) = newest(self.database, &mut readers)? {
            if !keep(input, number, doc.id) {
                continue;
            }
            last = match last {
                Some(known) if known.id == doc.id => Some(known.with(doc)),
                Some(known) => {
                    frame.add(known);
                    Some(doc)
                }
                None => Some(doc),
            };
            let place = places
                .get_mut(input)
                .and_then(|places| places.get_mut(number as usize));
            *place.ok_or(StoreError::Unreadable)? = frame.docs();
            if frame.rows.len() >= STEP {
                self.add_ids(segment, &mut frame)?;
                if !self.give_way(is_long)? {
                    return Ok(None);
                }
            }
        }
        last.into_iter().for_each(|doc| frame.add(doc));
        Ok(Some((frame, places)))
    }

    /// Writes the pages of a segment whose documents have these places; false if it has to be left.
    fn gather(&mut self, segment: i64, inputs: &[Segment], places: &[Vec<u32>]) -> Result<bool, StoreError> {
        let mut readers: Vec<Reader> = inputs.iter().map(|input| Reader::new(input.id)).collect();
        let is_long = take_long(inputs);
        let mut packer = Packer::default();
        while let Some(term) = least(self.database, &mut readers)? {
            let mut list = Vec::new();
            for (reader, places) in readers.iter_mut().zip(places) {
                while let Some(entry) = reader.take(self.database, &term)? {
                    let place = |doc: &u32| places.get(*doc as usize).copied().filter(|place| *place != GONE);
                    list.extend(entry.run.docs().iter().filter_map(place));
                }
            }
            list.sort_unstable();
            list.dedup();
            packer.add(&term, &list);
            if packer.full.len() >= STEP {
                let pages = std::mem::take(&mut packer.full);
                self.add_pages(segment, &pages)?;
                if !self.give_way(is_long)? {
                    return Ok(false);
                }
            }
        }
        packer.close();
        self.add_pages(segment, &packer.full)?;
        Ok(true)
    }

    /// Deletes what was replaced or never finished; beside other work only some of it at a time.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        let until = self.traffic.is_some().then(|| Instant::now() + LOOK);
        let sql = "SELECT id FROM search_segment WHERE state <> ?1";
        for row in self.database.query(sql, &[State::Whole.code().into()])? {
            let segment = row.int()?;
            if self.making == Some(segment) {
                continue;
            }
            for table in ["search_page", "search_ids"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE segment = ?1 LIMIT {DELETED})"
                );
                while self.commit(|database| database.execute(&sql, &[segment.into()]))? > 0 {
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return Ok(());
                    }
                    self.give_way(false)?;
                }
            }
            let sql = "DELETE FROM search_segment WHERE id = ?1";
            self.commit(|database| database.execute(sql, &[segment.into()]))?;
        }
        Ok(())
    }
}

/// Whether work on these segments takes long, so that smaller ones are merged beside it.
fn take_long(segments: &[Segment]) -> bool {
    segments.iter().all(|segment| segment.docs >= LONG_WORK)
}

/// The new numbers of the documents of each input.
type Places = Vec<Vec<u32>>;
/// The new number of a document that is left out.
const GONE: u32 = u32::MAX;

/// The newest document that comes next in any of the segments: the place of that segment, its number there, and it.
fn newest(
    database: &mut dyn Database,
    readers: &mut [Docs<'_>],
) -> Result<Option<(usize, u32, Doc)>, StoreError> {
    let mut newest: Option<(usize, Uuid)> = None;
    for (place, reader) in readers.iter_mut().enumerate() {
        if let Some(id) = reader.peek(database)?
            && newest.is_none_or(|(_, newest)| id > newest)
        {
            newest = Some((place, id));
        }
    }
    let next = newest.and_then(|(place, _)| Some((place, readers.get_mut(place)?.take()?)));
    Ok(next.map(|(place, (number, doc))| (place, number, doc)))
}

/// Reads the documents of a segment, the newest first.
struct Docs<'a> {
    segment: &'a Segment,
    group: usize,
    docs: VecDeque<Doc>,
    number: u32,
}

impl Docs<'_> {
    fn new(segment: &Segment) -> Docs<'_> {
        Docs {
            segment,
            group: 0,
            docs: VecDeque::new(),
            number: 0,
        }
    }

    fn peek(&mut self, database: &mut dyn Database) -> Result<Option<Uuid>, StoreError> {
        if self.docs.is_empty() {
            self.docs = self.segment.docs_in(database, self.group)?.into();
            self.group += 1;
        }
        Ok(self.docs.front().map(|doc| doc.id))
    }

    /// The document at which was looked, and its number.
    fn take(&mut self) -> Option<(u32, Doc)> {
        let doc = self.docs.pop_front()?;
        self.number += 1;
        Some((self.number - 1, doc))
    }
}

/// The least term that comes next in any of the segments.
fn least(database: &mut dyn Database, readers: &mut [Reader]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut least: Option<&[u8]> = None;
    for reader in readers {
        if let Some(entry) = reader.peek(database)?
            && least.is_none_or(|least| entry.term.as_slice() < least)
        {
            least = Some(&entry.term);
        }
    }
    Ok(least.map(<[u8]>::to_vec))
}

/// Reads the entries of a segment in the order of their terms.
struct Reader {
    segment: i64,
    after: Vec<u8>,
    entries: VecDeque<Entry>,
    is_read: bool,
}

impl Reader {
    fn new(segment: i64) -> Reader {
        Reader {
            segment,
            after: Vec::new(),
            entries: VecDeque::new(),
            is_read: false,
        }
    }

    fn peek(&mut self, database: &mut dyn Database) -> Result<Option<&Entry>, StoreError> {
        if self.entries.is_empty() && !self.is_read {
            let sql = "SELECT first, body FROM search_page WHERE segment = ?1 AND first > ?2 ORDER BY first LIMIT ?3";
            let values = [
                self.segment.into(),
                self.after.clone().into(),
                (STEP as u64).into(),
            ];
            let pages = database.query(sql, &values)?;
            self.is_read = pages.len() < STEP;
            for page in pages {
                let mut page = page.read();
                self.after = page.blob()?;
                self.entries.extend(page::read(&page.blob()?, |_| true)?.0);
            }
        }
        Ok(self.entries.front())
    }

    /// The next entry if it is of this term.
    fn take(&mut self, database: &mut dyn Database, term: &[u8]) -> Result<Option<Entry>, StoreError> {
        let fits = self.peek(database)?.is_some_and(|entry| entry.term == term);
        Ok(if fits { self.entries.pop_front() } else { None })
    }
}
