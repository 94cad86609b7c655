//! The documents of a segment that have a term, read as far as they are asked for.

use super::page::{self, key};
use super::segment::Segment;
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort};

/// Pages that are read at once, at first and at most.
const FIRST_AHEAD: u64 = 2;
const MOST_AHEAD: u64 = 16;
/// Pages of the words with a beginning that are read; where there are more, most documents have one.
const MOST_OPEN: usize = 8;

/// A term in a segment.
#[derive(Debug)]
pub(super) struct List {
    segment: i64,
    term: Vec<u8>,
    /// The documents that were read last, in order.
    docs: Vec<u32>,
    at: usize,
    /// The key of the last page that was read, if there may be more on the next.
    more_after: Option<Vec<u8>>,
    ahead: u64,
    /// How often what was read last had the answer.
    answers: u64,
}

const OPEN: Batch = Batch {
    columns: &[("place", Sort::Int), ("segment", Sort::Int), ("key", Sort::Blob)],
    body: "SELECT batch.place, p.first, p.body FROM batch CROSS JOIN search_page p
        WHERE p.segment = batch.segment AND p.first = (SELECT q.first FROM search_page q
            WHERE q.segment = batch.segment AND q.first <= batch.key ORDER BY q.first DESC LIMIT 1)",
};

impl List {
    /// Opens a list of each segment and term, from a document on; all of them with one statement.
    pub(super) fn open(
        database: &mut dyn Database,
        wanted: Vec<(i64, Vec<u8>, u32)>,
    ) -> Result<Vec<List>, StoreError> {
        let row = |(place, (segment, term, from)): (usize, &(i64, Vec<u8>, u32))| {
            vec![
                (place as u64).into(),
                (*segment).into(),
                key(term, Some(*from)).into(),
            ]
        };
        let rows = database.batch(&OPEN, wanted.iter().enumerate().map(row).collect())?;
        let list = |(segment, term, _)| List {
            segment,
            term,
            docs: Vec::new(),
            at: 0,
            more_after: None,
            ahead: FIRST_AHEAD,
            answers: 0,
        };
        let mut lists: Vec<List> = wanted.into_iter().map(list).collect();
        for row in rows {
            let mut row = row.read();
            let (place, first, body) = (row.int()?, row.blob()?, row.blob()?);
            let place = usize::try_from(place).map_err(|_| StoreError::Unreadable)?;
            let list = lists.get_mut(place).ok_or(StoreError::Unreadable)?;
            list.add(first, &body)?;
        }
        Ok(lists)
    }

    fn add(&mut self, first: Vec<u8>, body: &[u8]) -> Result<(), StoreError> {
        let (entries, goes_on) = page::read(body, |term| term == self.term)?;
        self.docs.extend(entries.into_iter().flat_map(|entry| entry.docs));
        self.more_after = goes_on.then_some(first);
        Ok(())
    }

    /// How many there are, if that is known already.
    pub(super) fn count(&self) -> usize {
        if self.more_after.is_some() {
            usize::MAX
        } else {
            self.docs.len()
        }
    }

    /// The first document from `doc` on. What is asked for never goes back.
    pub(super) fn seek(&mut self, database: &mut dyn Database, doc: u32) -> Result<Option<u32>, StoreError> {
        loop {
            let rest = self.docs.get(self.at..).unwrap_or_default();
            // Mostly it is one of the next few.
            let near = rest.iter().take(8).position(|found| *found >= doc);
            self.at += near.unwrap_or_else(|| rest.partition_point(|found| *found < doc));
            if let Some(found) = self.docs.get(self.at) {
                self.answers += 1;
                return Ok(Some(*found));
            }
            let Some(after) = self.more_after.take() else {
                return Ok(None);
            };
            self.read_on(database, &after, doc)?;
        }
    }

    /// Reads the page that has `doc`, or would have it, and some after it.
    fn read_on(&mut self, database: &mut dyn Database, after: &[u8], doc: u32) -> Result<(), StoreError> {
        // Who takes all of a list reads far ahead; who skips most of it does not.
        self.ahead = if self.answers >= self.ahead * 4 {
            MOST_AHEAD.min(self.ahead * 2)
        } else {
            self.ahead.div_ceil(2)
        };
        self.answers = 0;
        let wanted = key(&self.term, Some(doc));
        // The next key that there can be.
        let from = [after, &[0]].concat();
        let mut end = self.term.clone();
        end.push(1);
        let sql = "SELECT first, body FROM search_page WHERE segment = ?1 AND first < ?3
            AND first >= coalesce((SELECT q.first FROM search_page q
                WHERE q.segment = ?1 AND q.first >= ?2 AND q.first <= ?4 ORDER BY q.first DESC LIMIT 1), ?2)
            ORDER BY first LIMIT ?5";
        let values = [
            self.segment.into(),
            from.into(),
            end.into(),
            wanted.into(),
            self.ahead.into(),
        ];
        let pages = database.query(sql, &values)?;
        let is_end = (pages.len() as u64) < self.ahead;
        (self.docs, self.at) = (Vec::new(), 0);
        for page in pages {
            let mut page = page.read();
            let (first, body) = (page.blob()?, page.blob()?);
            self.add(first, &body)?;
        }
        if is_end {
            self.more_after = None;
        }
        Ok(())
    }

    /// All documents of the list.
    pub(super) fn all(mut self, database: &mut dyn Database) -> Result<Vec<u32>, StoreError> {
        let mut docs = std::mem::take(&mut self.docs);
        while let Some(after) = self.more_after.take() {
            self.answers = u64::MAX;
            self.read_on(database, &after, 0)?;
            docs.append(&mut self.docs);
        }
        Ok(docs)
    }
}

/// The documents that have a word with this beginning; nothing if they are too many to be gathered.
pub(super) fn with_beginning(
    database: &mut dyn Database,
    segment: &Segment,
    beginning: &[u8],
) -> Result<Option<Vec<u32>>, StoreError> {
    let mut end = beginning.to_vec();
    // No text in UTF-8 has this byte.
    end.push(0xff);
    let sql = "SELECT body FROM search_page WHERE segment = ?1 AND first < ?3
        AND first >= coalesce((SELECT q.first FROM search_page q
            WHERE q.segment = ?1 AND q.first <= ?2 ORDER BY q.first DESC LIMIT 1), ?2)
        ORDER BY first LIMIT ?4";
    let values = [
        segment.id.into(),
        beginning.into(),
        end.into(),
        (MOST_OPEN as u64 + 1).into(),
    ];
    let pages = database.query(sql, &values)?;
    if pages.len() > MOST_OPEN {
        return Ok(None);
    }
    let mut docs = Vec::new();
    for page in pages {
        let (entries, _) = page::read(&page.read().blob()?, |term| term.starts_with(beginning))?;
        docs.extend(entries.into_iter().flat_map(|entry| entry.docs));
    }
    docs.sort_unstable();
    docs.dedup();
    Ok(Some(docs))
}
