//! Segments: parts of the index that are made whole and never changed, only replaced.
//!
//! A segment numbers its documents, which are interceptions with a prompt, from the newest (0) to the oldest, and
//! has pages of terms (`page`) and the ids of its documents in chunks. Of each chunk a mark says where it begins and how
//! far the dates of its documents are from those in their ids; marks are stored in groups, of each of which the guide
//! of the segment says the same. Segments may overlap: a record that comes late is in a later segment.

use uuid::Uuid;

use super::page::Page;
use super::terms::Terms;
use super::words::{Place, words_and_parts};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Row, Sort};

/// Documents whose ids are stored together.
pub(super) const CHUNK: usize = 112;
/// Chunks whose marks are stored together, in a row beside theirs.
const GROUP: usize = if cfg!(test) { 4 } else { 64 };

/// Whether a segment can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is being written.
    Unfinished,
    /// It is part of the index.
    Whole,
    /// Others have taken its place.
    Replaced,
}

impl State {
    pub(super) const fn code(self) -> u8 {
        match self {
            State::Unfinished => 0,
            State::Whole => 1,
            State::Replaced => 2,
        }
    }
}

/// A segment that can be read.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) made_at: i64,
    pub(super) docs: u32,
    /// The smallest and the greatest id.
    pub(super) oldest: Uuid,
    pub(super) newest: Uuid,
    /// When the first of its interceptions began, and the last.
    pub(super) earliest: i64,
    pub(super) latest: i64,
}

impl Segment {
    /// All that are part of the index, the one with the newest document first.
    pub(super) fn all(database: &mut dyn Database) -> Result<Vec<Segment>, StoreError> {
        let sql =
            "SELECT id, made_at, docs, oldest, newest, earliest, latest FROM search_segment WHERE state = ?1";
        let rows = database.query(sql, &[State::Whole.code().into()])?;
        let mut segments = rows
            .into_iter()
            .map(Segment::read)
            .collect::<Result<Vec<_>, _>>()?;
        segments.sort_unstable_by(|a, b| b.newest.cmp(&a.newest).then(a.id.cmp(&b.id)));
        Ok(segments)
    }

    fn read(row: Row) -> Result<Segment, StoreError> {
        let mut row = row.read();
        Ok(Segment {
            id: row.int()?,
            made_at: row.int()?,
            docs: u32::try_from(row.int()?).map_err(|_| StoreError::Unreadable)?,
            oldest: row.id()?,
            newest: row.id()?,
            earliest: row.int()?,
            latest: row.int()?,
        })
    }

    /// The marks of its groups.
    fn guide(&self, database: &mut dyn Database) -> Result<Vec<Mark>, StoreError> {
        let sql = "SELECT guide FROM search_segment WHERE id = ?1";
        marks(database.query(sql, &[self.id.into()])?)
    }

    /// The marks of a group's chunks.
    fn group(&self, database: &mut dyn Database, group: usize) -> Result<Vec<Mark>, StoreError> {
        let sql = "SELECT ids FROM search_ids WHERE segment = ?1 AND chunk = ?2";
        marks(database.query(sql, &[self.id.into(), row_of(group).into()])?)
    }

    /// The documents of a group, none behind the last one.
    pub(super) fn docs_in(&self, database: &mut dyn Database, group: usize) -> Result<Vec<Doc>, StoreError> {
        let first = group * GROUP;
        if first * CHUNK >= self.docs as usize {
            return Ok(Vec::new());
        }
        let marks = self.group(database, group)?;
        let sql =
            "SELECT ids FROM search_ids WHERE segment = ?1 AND chunk >= ?2 AND chunk < ?3 ORDER BY chunk";
        let values = [
            self.id.into(),
            (first as u64).into(),
            ((first + GROUP) as u64).into(),
        ];
        let mut docs = Vec::with_capacity(GROUP * CHUNK);
        for (mark, chunk) in marks.iter().zip(database.query(sql, &values)?) {
            let drift = mark.drift;
            docs.extend(ids(&chunk.read().blob()?).map(|id| Doc { id, drift }));
        }
        Ok(docs)
    }

    /// The documents among which are all with ids up to one that began when it is asked for, the first and the one
    /// after the last; and about when these began.
    pub(super) fn range(
        &self,
        database: &mut dyn Database,
        (newest, after, before): (Uuid, Option<i64>, Option<i64>),
    ) -> Result<(u32, u32, Option<Drift>), StoreError> {
        let groups = self.guide(database)?;
        let first = first_of(&groups, self.oldest, (newest, before));
        let (Some(first), Some(last)) = (first, last_of(&groups, after)) else {
            return Ok((0, 0, None));
        };
        let end = groups.get(first + 1).map_or(self.oldest, |next| next.newest);
        let marks = self.group(database, first)?;
        let begin = first * GROUP + first_of(&marks, end, (newest, before)).unwrap_or(marks.len());
        let marks = if last == first {
            marks
        } else {
            self.group(database, last)?
        };
        let end = last * GROUP + last_of(&marks, after).map_or(0, |chunk| chunk + 1);
        let among = groups.get(first..=last).unwrap_or_default();
        let drift = among.iter().map(|mark| mark.drift).reduce(Drift::or);
        let doc = |chunk: usize| u32::try_from(chunk * CHUNK).unwrap_or(u32::MAX);
        Ok((doc(begin), doc(end).min(self.docs), drift))
    }
}

/// The marks in the only one of some rows.
fn marks(mut rows: Vec<Row>) -> Result<Vec<Mark>, StoreError> {
    let bytes = rows.pop().ok_or(StoreError::Unreadable)?.read().blob()?;
    bytes.chunks(MARK).map(Mark::read).collect()
}

/// The number of the row of a group's marks: those of chunks are their own.
fn row_of(group: usize) -> i64 {
    -1 - i64::try_from(group).unwrap_or(i64::MAX - 1)
}

/// The first mark under which may be something with an id up to `newest` that began before a date; no id there is
/// smaller than `oldest`.
fn first_of(marks: &[Mark], oldest: Uuid, (newest, before): (Uuid, Option<i64>)) -> Option<usize> {
    // Under the mark before the first that begins below this id.
    let by_id = marks
        .partition_point(|mark| mark.newest >= newest)
        .saturating_sub(1);
    let Some(before) = before else {
        return Some(by_id);
    };
    let earliest = |place: usize, mark: &Mark| {
        let next = marks.get(place + 1).map_or(oldest, |next| next.newest);
        mark.drift.earliest(next)
    };
    let mut places = marks.iter().enumerate();
    let by_date = places.position(|(place, mark)| earliest(place, mark) < before)?;
    Some(by_id.max(by_date))
}

/// The last mark under which may be something that began at a date or after it.
fn last_of(marks: &[Mark], after: Option<i64>) -> Option<usize> {
    marks
        .iter()
        .rposition(|mark| after.is_none_or(|after| mark.drift.latest(mark.newest) >= after))
}

const MARK: usize = 32;

/// What is said of a chunk, or of a group of them.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The first and greatest id.
    newest: Uuid,
    drift: Drift,
}

/// How many microseconds after the date in its id (RFC 9562, version 7) something began, at least and at most; it may
/// be before it. Both clocks are the gateway's, so mostly this is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drift {
    least: i64,
    most: i64,
}

impl Drift {
    /// Of something that began then.
    pub(super) fn of(id: Uuid, began: i64) -> Drift {
        let drift = began.saturating_sub(date_in(id));
        Drift {
            least: drift,
            most: drift,
        }
    }

    /// That of what has either.
    pub(super) fn or(self, other: Drift) -> Drift {
        Drift {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }

    /// The earliest date of what has this id or a greater one.
    pub(super) fn earliest(self, id: Uuid) -> i64 {
        date_in(id).saturating_add(self.least)
    }

    /// The latest date of what has this id or a smaller one.
    pub(super) fn latest(self, id: Uuid) -> i64 {
        date_in(id).saturating_add(self.most)
    }
}

/// The date in an id, in microseconds.
fn date_in(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX) * 1_000
}

impl Mark {
    fn read(bytes: &[u8]) -> Result<Mark, StoreError> {
        let number = |range| {
            let bytes: Option<[u8; 8]> = bytes.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok());
            bytes.map(i64::from_be_bytes).ok_or(StoreError::Unreadable)
        };
        let id = bytes.get(..16).ok_or(StoreError::Unreadable)?;
        Ok(Mark {
            newest: Uuid::from_slice(id).map_err(|_| StoreError::Unreadable)?,
            drift: Drift {
                least: number(16..24)?,
                most: number(24..32)?,
            },
        })
    }

    /// That of both, where this one is first.
    fn and(self, other: Mark) -> Mark {
        Mark {
            newest: self.newest,
            drift: self.drift.or(other.drift),
        }
    }

    fn write(self, guide: &mut Vec<u8>) {
        guide.extend_from_slice(self.newest.as_bytes());
        guide.extend_from_slice(&self.drift.least.to_be_bytes());
        guide.extend_from_slice(&self.drift.most.to_be_bytes());
    }
}

/// A document as a segment in the making knows it: its id, and about when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doc {
    pub(super) id: Uuid,
    pub(super) drift: Drift,
}

impl Doc {
    /// The same document as others know it, too.
    pub(super) fn with(self, other: Doc) -> Doc {
        Doc {
            id: self.id,
            drift: self.drift.or(other.drift),
        }
    }
}

/// What is said of a segment when it is whole, and the rows of its ids and marks.
#[derive(Debug, Default)]
pub(super) struct Frame {
    docs: u32,
    newest: Uuid,
    oldest: Uuid,
    /// When the first of its documents began, and the last.
    dates: Option<(i64, i64)>,
    guide: Vec<u8>,
    /// The group in the making: its mark and those of its chunks.
    group: Option<Mark>,
    marks: Vec<u8>,
    /// The chunk in the making, and how many there were before.
    mark: Option<Mark>,
    ids: Vec<u8>,
    chunks: usize,
    /// Rows that are to be written: the number of each and what is in it.
    pub(super) rows: Vec<(i64, Vec<u8>)>,
}

impl Frame {
    pub(super) fn of(docs: impl IntoIterator<Item = Doc>) -> Frame {
        let mut frame = Frame::default();
        docs.into_iter().for_each(|doc| frame.add(doc));
        frame
    }

    /// How many documents were added.
    pub(super) fn docs(&self) -> u32 {
        self.docs
    }

    /// Adds a document that is older than all before it.
    pub(super) fn add(&mut self, doc: Doc) {
        if self.ids.len() == CHUNK * 16 {
            self.end_chunk();
        }
        if self.docs == 0 {
            self.newest = doc.id;
        }
        self.oldest = doc.id;
        let (earliest, latest) = (doc.drift.earliest(doc.id), doc.drift.latest(doc.id));
        let (first, last) = self.dates.unwrap_or((earliest, latest));
        self.dates = Some((first.min(earliest), last.max(latest)));
        let mark = Mark {
            newest: doc.id,
            drift: doc.drift,
        };
        self.mark = Some(self.mark.map_or(mark, |first| first.and(mark)));
        self.ids.extend_from_slice(doc.id.as_bytes());
        self.docs += 1;
    }

    fn end_chunk(&mut self) {
        let Some(mark) = self.mark.take() else { return };
        let number = i64::try_from(self.chunks).unwrap_or(i64::MAX);
        self.rows.push((number, std::mem::take(&mut self.ids)));
        self.chunks += 1;
        mark.write(&mut self.marks);
        self.group = Some(self.group.map_or(mark, |first| first.and(mark)));
        if self.chunks.is_multiple_of(GROUP) {
            self.end_group();
        }
    }

    fn end_group(&mut self) {
        let Some(mark) = self.group.take() else { return };
        let group = (self.chunks - 1) / GROUP;
        self.rows.push((row_of(group), std::mem::take(&mut self.marks)));
        mark.write(&mut self.guide);
    }

    /// Ends what is in the making; there are no more documents.
    pub(super) fn close(&mut self) {
        self.end_chunk();
        self.end_group();
    }

    /// Makes the segment part of the index.
    pub(super) fn finish(self, database: &mut dyn Database, segment: i64) -> Result<(), StoreError> {
        let now = database.dialect().now();
        let sql = format!(
            "UPDATE search_segment SET state = ?2, made_at = {now}, docs = ?3, oldest = ?4, newest = ?5,
             earliest = ?6, latest = ?7, guide = ?8 WHERE id = ?1"
        );
        let (earliest, latest) = self.dates.unwrap_or_default();
        let values = [
            segment.into(),
            State::Whole.code().into(),
            i64::from(self.docs).into(),
            self.oldest.into(),
            self.newest.into(),
            earliest.into(),
            latest.into(),
            self.guide.into(),
        ];
        database.execute(&sql, &values).map(drop)
    }
}

/// Begins a segment; returns its number.
pub(super) fn begin(database: &mut dyn Database) -> Result<i64, StoreError> {
    let none = || Vec::new().into();
    let values = [State::Unfinished.code().into(), none()];
    let sql = "INSERT INTO search_segment (state, made_at, docs, oldest, newest, earliest, latest, guide)
        VALUES (?1, 0, 0, ?2, ?2, 0, 0, ?2) RETURNING id";
    database
        .query(sql, &values)?
        .pop()
        .ok_or(StoreError::Unreadable)?
        .int()
}

const ADD_PAGES: Change = Change::Insert {
    table: "search_page",
    columns: &[
        ("segment", Sort::Int),
        ("first", Sort::Blob),
        ("body", Sort::Blob),
    ],
    then: "",
};
const ADD_IDS: Change = Change::Insert {
    table: "search_ids",
    columns: &[("segment", Sort::Int), ("chunk", Sort::Int), ("ids", Sort::Blob)],
    then: "",
};

/// Adds pages.
pub(super) fn add_pages(database: &mut dyn Database, segment: i64, pages: &[Page]) -> Result<(), StoreError> {
    let row = |(key, body): &Page| vec![segment.into(), key.clone().into(), body.clone().into()];
    database
        .change(&ADD_PAGES, pages.iter().map(row).collect())
        .map(drop)
}

/// Adds rows of ids and marks.
pub(super) fn add_ids(
    database: &mut dyn Database,
    segment: i64,
    rows: &[(i64, Vec<u8>)],
) -> Result<(), StoreError> {
    let row = |(number, bytes): &(i64, Vec<u8>)| vec![segment.into(), (*number).into(), bytes.clone().into()];
    database
        .change(&ADD_IDS, rows.iter().map(row).collect())
        .map(drop)
}

/// The ids in a chunk.
pub(super) fn ids(chunk: &[u8]) -> impl Iterator<Item = Uuid> + '_ {
    chunk.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok())
}

/// What an interception is found by beside its words. All numbers are of the store's: of labels, of combos, and the
/// code of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    User(i64),
    Client(i64),
    Provider(i64),
    Model(i64),
    Outcome(i64),
    Combo(i64),
    /// A user with a combo.
    Habit(i64, i64),
}

impl Trait {
    /// The term of this trait. No word begins so.
    pub(super) fn term(self) -> Vec<u8> {
        let text = match self {
            Trait::User(who) => format!("\u{1}u{who}"),
            Trait::Client(label) => format!("\u{1}c{label}"),
            Trait::Provider(label) => format!("\u{1}p{label}"),
            Trait::Model(label) => format!("\u{1}m{label}"),
            Trait::Outcome(code) => format!("\u{1}o{code}"),
            Trait::Combo(combo) => format!("\u{1}k{combo}"),
            Trait::Habit(who, combo) => format!("\u{1}h{who}-{combo}"),
        };
        text.into_bytes()
    }
}

/// The term of two words that follow each other with no white space between them, so that names of frequent words are
/// found without reading every prompt that has these. It is a hash of 21 bits: what has it most likely has the words.
pub(super) fn pair(first: &str, second: &str) -> [u8; 4] {
    // FNV-1a, which is the same everywhere and in every release; no word has a zero.
    let mut hash = 0x811c_9dc5_u32;
    for byte in first.bytes().chain([0]).chain(second.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash ^= hash >> 21;
    let seven = |shift: u32| (hash >> shift & 0x7f) as u8 | 0x80;
    [2, seven(14), seven(7), seven(0)]
}

/// An interception that is to be found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) started_at: i64,
    pub(super) traits: Vec<Trait>,
    pub(super) text: String,
}

/// The frame and the pages of a segment of some interceptions.
pub(super) fn build(mut found: Vec<Found>) -> (Frame, Vec<Page>) {
    found.sort_unstable_by_key(|found| std::cmp::Reverse(found.id));
    found.dedup_by_key(|found| found.id);
    let mut terms = Terms::default();
    let mut docs = Vec::with_capacity(found.len());
    let mut before = String::new();
    for (number, found) in (0_u32..).zip(found) {
        for one in &found.traits {
            terms.add(&one.term(), number);
        }
        words_and_parts(&found.text, |word| {
            terms.add(word.text.as_bytes(), number);
            if word.place == Place::Joined {
                terms.add(&pair(&before, word.text), number);
            }
            if word.place != Place::Within {
                before.clear();
                before.push_str(word.text);
            }
        });
        docs.push(Doc {
            id: found.id,
            drift: Drift::of(found.id, found.started_at),
        });
    }
    (Frame::of(docs), terms.pages())
}
