//! Segments made of others: many small ones become a large one, and what was erased is left out.
//!
//! The terms of all are read in order at once, so that only a few pages of each are in memory. A document that is
//! in several, because more became known of it, is one afterwards and has the terms of all. It may take minutes, in
//! which what is new becomes part of the index as always.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::Gauge;
use uuid::Uuid;

use super::lease::Lease;
use super::page::{self, Entry, Packer, Page};
use super::segment::{self, Doc, Frame, Segment, State};
use crate::store::StoreError;
use crate::store::sql::{Database, Row};

/// Pages that are read or written at once.
pub(super) const STEP: usize = 64;
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
}

impl Work<'_> {
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

    /// Makes what is new part of the index, if it is time.
    fn give_way(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        if began < self.look_at {
            return Ok(());
        }
        let has_found = self.index()?;
        // At most half of the time is spent so.
        self.look_at = Instant::now() + if has_found { began.elapsed() } else { LOOK };
        Ok(())
    }

    /// Writes a whole segment and, in its last transaction, does `also`.
    pub(super) fn write(
        &mut self,
        frame: Frame,
        pages: &[Page],
        also: impl FnOnce(&mut dyn Database) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if pages.len() + frame.chunks.len() <= STEP {
            return self.commit(|database| {
                let segment = segment::begin(database)?;
                segment::add_pages(database, segment, pages)?;
                segment::add_ids(database, segment, 0, &frame.chunks)?;
                frame.finish(database, segment)?;
                also(database)
            });
        }
        let segment = self.commit(segment::begin)?;
        for pages in pages.chunks(STEP) {
            self.commit(|database| segment::add_pages(database, segment, pages))?;
        }
        self.finish(segment, frame, also)
    }

    fn finish(
        &mut self,
        segment: i64,
        frame: Frame,
        also: impl FnOnce(&mut dyn Database) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (place, chunks) in frame.chunks.chunks(STEP).enumerate() {
            self.commit(|database| segment::add_ids(database, segment, place * STEP, chunks))?;
        }
        self.commit(|database| {
            frame.finish(database, segment)?;
            also(database)
        })
    }

    /// Puts one segment in the place of `inputs`, with the documents for which `keep`, given the place of a segment
    /// among the inputs and the number and id of a document in it, says yes.
    pub(super) fn rewrite(
        &mut self,
        inputs: &[Segment],
        keep: impl Fn(usize, u32, Uuid) -> bool,
    ) -> Result<(), StoreError> {
        let (docs, places) = arrange(self.database, inputs, keep)?;
        let replace = |database: &mut dyn Database| {
            let sql = "UPDATE search_segment SET state = ?2 WHERE id = ?1";
            inputs.iter().try_for_each(|input| {
                database
                    .execute(sql, &[input.id.into(), State::Replaced.code().into()])
                    .map(drop)
            })
        };
        if docs.is_empty() {
            return self.commit(replace);
        }
        let segment = self.commit(segment::begin)?;
        let mut readers: Vec<Reader> = inputs.iter().map(|input| Reader::new(input.id)).collect();
        let mut packer = Packer::default();
        while let Some(term) = least(self.database, &mut readers)? {
            let mut list = Vec::new();
            for (reader, places) in readers.iter_mut().zip(&places) {
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
                self.commit(|database| segment::add_pages(database, segment, &pages))?;
                self.give_way()?;
            }
        }
        packer.close();
        self.commit(|database| segment::add_pages(database, segment, &packer.full))?;
        self.finish(segment, Frame::new(&docs), replace)
    }

    /// Deletes what was replaced or never finished.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT id FROM search_segment WHERE state <> ?1";
        for row in self.database.query(sql, &[State::Whole.code().into()])? {
            let segment = row.int()?;
            for table in ["search_page", "search_ids"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE segment = ?1 LIMIT {DELETED})"
                );
                while self.commit(|database| database.execute(&sql, &[segment.into()]))? > 0 {
                    self.give_way()?;
                }
            }
            let sql = "DELETE FROM search_segment WHERE id = ?1";
            self.commit(|database| database.execute(sql, &[segment.into()]))?;
        }
        Ok(())
    }
}

/// The new number of a document that is left out.
const GONE: u32 = u32::MAX;

/// The documents of the new segment, and for each old one the new numbers of its documents.
fn arrange(
    database: &mut dyn Database,
    inputs: &[Segment],
    keep: impl Fn(usize, u32, Uuid) -> bool,
) -> Result<(Vec<Doc>, Vec<Vec<u32>>), StoreError> {
    let mut all: Vec<(Doc, usize, u32)> = Vec::new();
    let mut places = Vec::with_capacity(inputs.len());
    for (input, segment) in inputs.iter().enumerate() {
        let marks = segment.guide(database)?;
        let sql = "SELECT ids FROM search_ids WHERE segment = ?1 ORDER BY chunk";
        let chunks = database.query(sql, &[segment.id.into()])?;
        let mut number = 0;
        for (mark, chunk) in marks.iter().zip(chunks) {
            let chunk = chunk.read().blob()?;
            for id in segment::ids(&chunk) {
                if keep(input, number, id) {
                    let doc = Doc {
                        id,
                        drift: mark.drift,
                    };
                    all.push((doc, input, number));
                }
                number += 1;
            }
        }
        places.push(vec![GONE; number as usize]);
    }
    all.sort_by_key(|(doc, ..)| std::cmp::Reverse(doc.id));
    let mut docs: Vec<Doc> = Vec::with_capacity(all.len());
    for (doc, input, number) in all {
        match docs.last_mut() {
            Some(last) if last.id == doc.id => {
                last.drift = last.drift.or(doc.drift);
            }
            _ => docs.push(doc),
        }
        let place = places
            .get_mut(input)
            .and_then(|places| places.get_mut(number as usize));
        if let Some(place) = place {
            *place = u32::try_from(docs.len() - 1).map_err(|_| StoreError::Unreadable)?;
        }
    }
    Ok((docs, places))
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
