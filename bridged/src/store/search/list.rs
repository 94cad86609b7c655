//! The documents of a segment that have a term, read as far as they are asked for.
//!
//! A list never reads by itself: it says what it wants, and `fetch` reads for many lists, of many segments, at once.

use std::collections::VecDeque;

use super::page::{self, key};
use super::run::Seeker;
use super::segment::Segment;
use crate::store::StoreError;
use crate::store::sql::{Batch, ColumnList, Database, Dialect, Row, Sort, Value};

/// Pages of the words with a beginning that are read in a small segment, and documents for each page of a larger one;
/// where there are more, most documents have one.
const OPEN: u64 = 8;
const DOCS_OF_OPEN: u64 = 16_384;

/// A term in a segment.
#[derive(Debug)]
pub(super) struct List {
    segment: i64,
    term: Vec<u8>,
    /// The documents that were read, in order, as far as they were not passed.
    runs: VecDeque<Seeker>,
    /// How many pages were asked for last, how many came, how many runs there were then, and how often there was an
    /// answer since.
    asked: usize,
    pages: usize,
    had: usize,
    answers: usize,
    /// From which key on there may be more pages.
    more: Option<Vec<u8>>,
    /// The document from which on pages are wanted.
    wanted: Option<u32>,
}

/// What a list answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seek {
    Found(u32),
    /// There is none.
    End,
    /// Pages have to be fetched first.
    Wanting,
}

/// What is read for a list: so many pages from the one that is, behind `low`, the last up to `key`.
const COLUMNS: ColumnList = &[
    ("place", Sort::Int),
    ("segment", Sort::Int),
    ("low", Sort::Blob),
    ("key", Sort::Blob),
    ("high", Sort::Blob),
    ("most", Sort::Int),
];

macro_rules! pages {
    () => {
        "search_page p WHERE p.segment = batch.segment AND p.first < batch.high
            AND p.first >= coalesce((SELECT r.first FROM search_page r
                WHERE r.segment = batch.segment AND r.first >= batch.low AND r.first <= batch.key
                ORDER BY r.first DESC LIMIT 1), batch.low)
            ORDER BY p.first LIMIT "
    };
}

/// Where each row is asked about by itself.
static PAGES: Batch = Batch {
    columns: COLUMNS,
    body: concat!(
        "SELECT batch.place, p.first, p.body FROM batch CROSS JOIN ",
        pages!(),
        "(SELECT most FROM batch)"
    ),
};
/// Where all are asked about at once.
static PAGES_OF_ALL: Batch = Batch {
    columns: COLUMNS,
    body: concat!(
        "SELECT batch.place, p.first, p.body FROM batch CROSS JOIN LATERAL (SELECT p.* FROM ",
        pages!(),
        "batch.most) p"
    ),
};

/// Pages that are read at once for who takes something of every page; for who skips most, it is one.
const SEVERAL: usize = 12;
/// How many times more are read from a server each time, and how many at most: hardly any word has more of them in the
/// largest segment.
const FAR_GROWTH: usize = 4;
const FAR_MOST: usize = 96;
/// Answers from a page at which something of every page is taken.
const ANSWERS: usize = 2;

impl List {
    /// The list from a document on, of which nothing has been read; if it is not said where, nothing is wanted yet.
    pub(super) fn new(segment: i64, term: Vec<u8>, from: Option<u32>) -> List {
        List {
            segment,
            term,
            runs: VecDeque::new(),
            asked: 0,
            pages: 0,
            had: 0,
            answers: 0,
            more: Some(Vec::new()),
            wanted: from,
        }
    }

    /// About how many there are up to the document `end`, from what was read.
    pub(super) fn count(&self, end: u32) -> u64 {
        let known = self.runs.iter().map(|run| run.run().count()).sum();
        match (self.runs.front(), self.runs.back()) {
            (Some(first), Some(last)) if self.more.is_some() => {
                let (first, last) = (first.run().first(), last.run().last());
                let (read, all) = (last.saturating_sub(first) + 1, end.saturating_sub(first));
                known * u64::from(all.max(read)) / u64::from(read)
            }
            _ => known,
        }
    }

    /// Begins at a document, where nothing of it was asked for yet.
    pub(super) fn begin_at(&mut self, doc: u32) {
        if self.is_unread() {
            self.wanted = Some(doc);
        }
    }

    /// The first document from `doc` on. What is asked for never goes back.
    pub(super) fn seek(&mut self, doc: u32) -> Seek {
        while self.runs.get(1).is_some_and(|next| next.run().first() <= doc) {
            self.runs.pop_front();
        }
        while let Some(run) = self.runs.front_mut() {
            if let Some(found) = run.seek(doc) {
                self.answers += 1;
                return Seek::Found(found);
            }
            self.runs.pop_front();
        }
        if self.more.is_none() {
            return Seek::End;
        }
        self.wanted = Some(doc);
        Seek::Wanting
    }

    /// Whether nothing of it was asked for yet.
    pub(super) fn is_unread(&self) -> bool {
        self.asked == 0
    }

    /// Whether it waits for pages.
    pub(super) fn is_wanting(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether there are more pages, and half of what was read is behind.
    fn is_half_read(&self) -> bool {
        !self.is_unread() && self.more.is_some() && self.runs.len() <= self.had / 2
    }

    /// Asks for pages, as the one at this place among those who ask.
    fn ask(&mut self, place: usize, is_far: bool) -> Vec<Value<'static>> {
        let is_taken_in_turn = self.answers > self.pages * ANSWERS;
        self.asked = match (is_far, is_taken_in_turn) {
            (true, _) => (self.asked * FAR_GROWTH).clamp(SEVERAL, FAR_MOST),
            (false, true) => SEVERAL,
            (false, false) => 1,
        };
        (self.pages, self.answers) = (0, 0);
        let low = self.more.take().unwrap_or_default();
        let key = match self.wanted.take() {
            Some(doc) => key(&self.term, Some(doc)),
            None => low.clone(),
        };
        let high = [self.term.as_slice(), &[1]].concat();
        vec![
            (place as u64).into(),
            self.segment.into(),
            low.into(),
            key.into(),
            high.into(),
            (self.asked as u64).into(),
        ]
    }

    fn take(&mut self, first: &[u8], body: &[u8]) -> Result<(), StoreError> {
        let (entries, goes_on) = page::read(body, |term| term == self.term)?;
        self.runs
            .extend(entries.into_iter().map(|entry| Seeker::new(entry.run)));
        (self.pages, self.had) = (self.pages + 1, self.runs.len());
        // The next key that there can be.
        self.more = goes_on.then(|| [first, &[0]].concat());
        Ok(())
    }

    /// All documents of the list.
    pub(super) fn all(mut self, database: &mut dyn Database) -> Result<Vec<u32>, StoreError> {
        let mut docs = Vec::new();
        while self.wanted.is_some() {
            self.answers = usize::MAX;
            fetch(database, vec![&mut self])?;
            docs.extend(self.runs.drain(..).flat_map(|run| run.run().docs()));
            self.wanted = docs.last().copied().filter(|_| self.more.is_some());
        }
        Ok(docs)
    }
}

/// Reads what is wanted of some lists, with one statement.
pub(super) fn fetch(database: &mut dyn Database, lists: Vec<&mut List>) -> Result<(), StoreError> {
    let dialect = database.dialect();
    // A question to a server takes longer than what is read in vain.
    let is_far = dialect == Dialect::Postgres;
    let is_due = |list: &&mut List| list.wanted.is_some() || (is_far && list.is_half_read());
    let mut lists: Vec<&mut List> = lists.into_iter().filter(is_due).collect();
    let ask = |(place, list): (usize, &mut &mut List)| list.ask(place, is_far);
    let asked: Vec<_> = lists.iter_mut().enumerate().map(ask).collect();
    let statement = match dialect {
        Dialect::Sqlite => &PAGES,
        Dialect::Postgres => &PAGES_OF_ALL,
    };
    let page = |row: Row| {
        let mut row = row.read();
        let place = usize::try_from(row.int()?).map_err(|_| StoreError::Unreadable)?;
        Ok((place, row.blob()?, row.blob()?))
    };
    let pages: Result<Vec<_>, StoreError> = database.batch(statement, asked)?.into_iter().map(page).collect();
    let mut pages = pages?;
    pages.sort_unstable_by(|(a, first, _), (b, second, _)| a.cmp(b).then(first.cmp(second)));
    for (place, first, body) in pages {
        let list = lists.get_mut(place).ok_or(StoreError::Unreadable)?;
        list.take(&first, &body)?;
    }
    for list in lists {
        // As many as were asked for: there may be more.
        list.more = list.more.take().filter(|_| list.pages == list.asked);
    }
    Ok(())
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
    let most = OPEN.max(u64::from(segment.docs) / DOCS_OF_OPEN);
    let values = [segment.id.into(), beginning.into(), end.into(), (most + 1).into()];
    let pages = database.query(sql, &values)?;
    if pages.len() as u64 > most {
        return Ok(None);
    }
    let mut docs = Vec::new();
    for page in pages {
        let (entries, _) = page::read(&page.read().blob()?, |term| term.starts_with(beginning))?;
        docs.extend(entries.into_iter().flat_map(|entry| entry.run.docs()));
    }
    docs.sort_unstable();
    docs.dedup();
    Ok(Some(docs))
}

/// What seeking from one document to so many after the last found gives, of a list that is written for it.
#[cfg(test)]
pub(in crate::store) fn seek_through(
    database: &mut dyn Database,
    docs: &[u32],
    step: u32,
) -> Result<Vec<u32>, StoreError> {
    let mut packer = page::Packer::default();
    for (term, docs) in [("w", &[1, 2][..]), ("x", docs), ("xy", &[3]), ("y", &[4])] {
        packer.add(term.as_bytes(), docs);
    }
    packer.close();
    let segment = super::segment::begin(database)?;
    super::segment::add_pages(database, segment, &packer.full)?;
    let mut list = List::new(segment, b"x".to_vec(), Some(0));
    let (mut found, mut doc) = (Vec::new(), 0);
    loop {
        match list.seek(doc) {
            Seek::Found(at) => {
                found.push(at);
                doc = at + step;
            }
            Seek::Wanting => fetch(database, vec![&mut list])?,
            Seek::End => return Ok(found),
        }
    }
}
