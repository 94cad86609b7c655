//! Segments: parts of the index that are made whole and never changed, only replaced.
//!
//! A segment numbers its documents, which are interceptions with a prompt, from the newest (0) to the oldest, and
//! has pages of terms (`page`) and the ids of its documents in chunks. Its guide says of each chunk where it begins
//! and how far the dates of its documents are from those in their ids. Segments may overlap: a record that comes late
//! is in a later segment.

use uuid::Uuid;

use super::page::Page;
use super::terms::Terms;
use super::words::{Place, words_and_parts};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Row, Sort};

/// Documents whose ids are stored together.
pub(super) const CHUNK: usize = 112;

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

    /// What it says of its chunks.
    pub(super) fn guide(&self, database: &mut dyn Database) -> Result<Vec<Mark>, StoreError> {
        let sql = "SELECT guide FROM search_segment WHERE id = ?1";
        let mut rows = database.query(sql, &[self.id.into()])?;
        let guide = rows.pop().ok_or(StoreError::Unreadable)?.read().blob()?;
        guide.chunks(MARK).map(Mark::read).collect()
    }
}

const MARK: usize = 32;

/// What a guide says of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The first and greatest id.
    pub(super) newest: Uuid,
    pub(super) drift: Drift,
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

/// What is said of a segment when it is whole; `docs` from the newest to the oldest, not empty.
#[derive(Debug)]
pub(super) struct Frame {
    docs: usize,
    oldest: Uuid,
    newest: Uuid,
    earliest: i64,
    latest: i64,
    guide: Vec<u8>,
    /// The ids in chunks.
    pub(super) chunks: Vec<Vec<u8>>,
}

impl Frame {
    pub(super) fn new(docs: &[Doc]) -> Frame {
        let mut guide = Vec::with_capacity(docs.len().div_ceil(CHUNK) * MARK);
        let mut chunks = Vec::with_capacity(docs.len().div_ceil(CHUNK));
        for chunk in docs.chunks(CHUNK) {
            let drift = chunk.iter().map(|doc| doc.drift).reduce(Drift::or);
            if let (Some(first), Some(drift)) = (chunk.first(), drift) {
                Mark {
                    newest: first.id,
                    drift,
                }
                .write(&mut guide);
            }
            chunks.push(chunk.iter().flat_map(|doc| doc.id.into_bytes()).collect());
        }
        let earliest = docs.iter().map(|doc| doc.drift.earliest(doc.id)).min();
        let latest = docs.iter().map(|doc| doc.drift.latest(doc.id)).max();
        Frame {
            docs: docs.len(),
            oldest: docs.last().map_or(Uuid::nil(), |doc| doc.id),
            newest: docs.first().map_or(Uuid::nil(), |doc| doc.id),
            earliest: earliest.unwrap_or(i64::MIN),
            latest: latest.unwrap_or(i64::MAX),
            guide,
            chunks,
        }
    }

    /// Makes the segment part of the index.
    pub(super) fn finish(self, database: &mut dyn Database, segment: i64) -> Result<(), StoreError> {
        let now = database.dialect().now();
        let sql = format!(
            "UPDATE search_segment SET state = ?2, made_at = {now}, docs = ?3, oldest = ?4, newest = ?5,
             earliest = ?6, latest = ?7, guide = ?8 WHERE id = ?1"
        );
        let values = [
            segment.into(),
            State::Whole.code().into(),
            (self.docs as u64).into(),
            self.oldest.into(),
            self.newest.into(),
            self.earliest.into(),
            self.latest.into(),
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

/// Adds chunks of ids, the first of which has the number `from`.
pub(super) fn add_ids(
    database: &mut dyn Database,
    segment: i64,
    from: usize,
    chunks: &[Vec<u8>],
) -> Result<(), StoreError> {
    let row = |(place, ids): (usize, &Vec<u8>)| {
        vec![segment.into(), ((from + place) as u64).into(), ids.clone().into()]
    };
    database
        .change(&ADD_IDS, chunks.iter().enumerate().map(row).collect())
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
    (Frame::new(&docs), terms.pages())
}
