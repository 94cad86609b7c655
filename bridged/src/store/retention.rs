//! Deleting what is too old, or whose user is to be forgotten.
//!
//! Texts go first and leave their digests; whole interceptions follow, by the date in their id. Both happen in
//! small transactions, so that the writer is never held up for long, and each deletion is first noted in the chain
//! of the process that does it. Links of the chains stay. Partitions by month would delete faster on PostgreSQL, but
//! need the key in every table and another way on SQLite; a few hundred rows at a time keep up with any load that
//! was written at the same pace.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::content::{self, sha256};
use super::filter::first_id;
use super::sql::{Batch, Database, Sort, transaction};
use super::write::{self, Memory};
use super::{Store, StoreError, lease, search};
use crate::clock::Micros;
use crate::config::RetentionConfig;
use crate::hex::hex;

/// Interceptions in one transaction.
const STEP: i64 = 200;

/// What a chain says of a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) struct Note {
    /// Interceptions before this one were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_before: Option<Uuid>,
    /// Texts of interceptions before this one were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased_before: Option<Uuid>,
    /// Texts of the user whose name has this SHA-256 were deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased_user: Option<String>,
}

impl Note {
    pub(super) fn parse(text: &str) -> Option<Note> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn covers_deletion(&self, id: Uuid) -> bool {
        self.deleted_before.is_some_and(|before| id < before)
    }

    pub(super) fn covers_erasure(&self, id: Uuid, user: &str) -> bool {
        self.erased_before.is_some_and(|before| id < before)
            || self
                .erased_user
                .as_deref()
                .is_some_and(|digest| digest == digest_of(user))
    }

    fn write(&self, database: &mut dyn Database, memory: &mut Memory) -> Result<(), StoreError> {
        let text = serde_json::to_string(self).map_err(|_| StoreError::Unreadable)?;
        transaction(database, |database| write::note(database, memory, &text))
    }
}

fn digest_of(user: &str) -> String {
    hex(&sha256(user.as_bytes()))
}

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Interceptions that lost their texts.
    pub texts: u64,
    /// Interceptions that are gone.
    pub interceptions: u64,
}

/// A clean-up in progress: `step` until it says that it is done.
#[derive(Debug)]
pub(super) struct CleanUp {
    /// Texts in this range of ids are to go.
    texts: Option<(Uuid, Uuid)>,
    interceptions: Option<Uuid>,
    sessions: Option<i64>,
    pub(super) deleted: Deleted,
}

impl CleanUp {
    /// Begins a clean-up at `now`; notes in the chain what will go. Nothing where nothing is to go.
    pub(super) fn begin(
        database: &mut dyn Database,
        memory: &mut Memory,
        config: &RetentionConfig,
        now: Micros,
    ) -> Result<Option<CleanUp>, StoreError> {
        let cut = |span: Option<Duration>| span.map(|span| Micros(now.0.saturating_sub(lease::micros(span))));
        let (content, metadata) = (cut(config.content), cut(config.metadata));
        let mut note = Note::default();
        let mut texts = None;
        if let Some(before) = content.map(first_id) {
            let from = erased_until(database)?;
            texts = (from < before && has_texts(database, from, before)?).then_some((from, before));
            note.erased_before = texts.map(|(_, before)| before);
        }
        if let Some(before) = metadata.map(first_id) {
            let sql = "SELECT 1 FROM interception WHERE id < ?1 LIMIT 1";
            if !database.query(sql, &[before.into()])?.is_empty() {
                note.deleted_before = Some(before);
            }
        }
        if note == Note::default() {
            return Ok(None);
        }
        note.write(database, memory)?;
        Ok(Some(CleanUp {
            texts,
            interceptions: note.deleted_before,
            sessions: metadata.map(|at| at.0),
            deleted: Deleted::default(),
        }))
    }

    /// Deletes a little; false when there was nothing left.
    pub(super) fn step(&mut self, database: &mut dyn Database) -> Result<bool, StoreError> {
        if let Some((from, before)) = self.texts {
            let last = transaction(database, |database| erase_range(database, from, before))?;
            let Some((last, count)) = last else {
                self.texts = None;
                transaction(database, |database| set_erased_until(database, before))?;
                return Ok(true);
            };
            self.deleted.texts += count;
            self.texts = Some((after(last), before));
            return Ok(true);
        }
        if let Some(before) = self.interceptions {
            let count = transaction(database, |database| delete_before(database, before))?;
            self.deleted.interceptions += count;
            if count == 0 {
                self.interceptions = None;
            }
            return Ok(true);
        }
        let Some(before) = self.sessions else {
            return Ok(false);
        };
        let more = transaction(database, |database| delete_sessions(database, before))? > 0;
        if !more {
            self.sessions = None;
        }
        Ok(more)
    }
}

/// The next id.
fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// Texts before this date, in milliseconds, are gone already.
pub(super) fn erased_until(database: &mut dyn Database) -> Result<Uuid, StoreError> {
    let mut rows = database.query("SELECT number FROM version WHERE of = 'erased_until'", &[])?;
    let millis = rows.pop().map_or(Ok(0), super::sql::Row::int)?;
    Ok(first_id(Micros(millis.saturating_mul(1_000))))
}

fn set_erased_until(database: &mut dyn Database, before: Uuid) -> Result<(), StoreError> {
    let millis = i64::try_from(before.as_u128() >> 80).unwrap_or(0);
    let sql = "INSERT INTO version (of, number) VALUES ('erased_until', ?1)
        ON CONFLICT (of) DO UPDATE SET number = excluded.number";
    database.execute(sql, &[millis.into()]).map(drop)
}

/// The tables with texts: table, and the column that tells rows of one interception apart.
const TEXTS: [(&str, &str); 4] = [
    ("prompt", "0"),
    ("tool_call", "n"),
    ("thought", "n"),
    ("output", "0"),
];

fn has_texts(database: &mut dyn Database, from: Uuid, before: Uuid) -> Result<bool, StoreError> {
    for (table, _) in TEXTS {
        let sql = format!("SELECT 1 FROM {table} WHERE interception >= ?1 AND interception < ?2 LIMIT 1");
        if !database.query(&sql, &[from.into(), before.into()])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Erases the texts of the first interceptions in the range; returns the last of them and how many.
fn erase_range(
    database: &mut dyn Database,
    from: Uuid,
    before: Uuid,
) -> Result<Option<(Uuid, u64)>, StoreError> {
    let sql = "SELECT id FROM interception WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
    let ids = ids(database, sql, from, before)?;
    let Some(last) = ids.last().copied() else {
        return Ok(None);
    };
    erase_texts(database, &ids)?;
    Ok(Some((last, ids.len() as u64)))
}

fn ids(database: &mut dyn Database, sql: &str, from: Uuid, before: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let rows = database.query(sql, &[from.into(), before.into(), STEP.into()])?;
    rows.into_iter().map(|row| row.read().id()).collect()
}

macro_rules! text_batches {
    ($($find:ident $set:ident $table:literal $n:literal $and:literal;)+) => {
        $(
            const $find: Batch = Batch {
                columns: &[("id", Sort::Blob)],
                body: concat!("SELECT t.interception, ", $n, ", t.body FROM batch CROSS JOIN ", $table,
                    " t WHERE t.interception = batch.id"),
            };
            const $set: Batch = Batch {
                columns: &[("id", Sort::Blob), ("place", Sort::Int), ("body", Sort::Blob)],
                body: concat!("UPDATE ", $table, " SET body = batch.body FROM batch WHERE ", $table,
                    ".interception = batch.id", $and),
            };
        )+
        const TEXT_BATCHES: [(&Batch, &Batch); 4] = [$((&$find, &$set)),+];
    };
}

text_batches! {
    FIND_PROMPTS SET_PROMPTS "prompt" "0" "";
    FIND_CALLS SET_CALLS "tool_call" "t.n" " AND tool_call.n = batch.place";
    FIND_THOUGHTS SET_THOUGHTS "thought" "t.n" " AND thought.n = batch.place";
    FIND_OUTPUTS SET_OUTPUTS "output" "0" "";
}

fn erase_texts(database: &mut dyn Database, ids: &[Uuid]) -> Result<(), StoreError> {
    for (find, set) in TEXT_BATCHES {
        let found = database.batch(find, ids.iter().map(|id| vec![(*id).into()]).collect())?;
        let mut rows = Vec::new();
        for row in found {
            let mut row = row.read();
            let (id, n, body) = (row.id()?, row.int()?, row.blob()?);
            if !content::is_erased(&body) {
                rows.push(vec![id.into(), n.into(), content::erased(&body)?.into()]);
            }
        }
        database.batch(set, rows)?;
    }
    Ok(())
}

/// Deletes the first interceptions before `before`; returns how many.
fn delete_before(database: &mut dyn Database, before: Uuid) -> Result<u64, StoreError> {
    let sql = "SELECT id FROM interception WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
    let ids = ids(database, sql, Uuid::nil(), before)?;
    let Some(last) = ids.last().copied() else {
        return Ok(0);
    };
    for (table, _) in TEXTS {
        let sql = format!("DELETE FROM {table} WHERE interception <= ?1");
        database.execute(&sql, &[last.into()])?;
    }
    for sql in [
        "DELETE FROM reply WHERE interception <= ?1",
        "DELETE FROM unusual WHERE outcome IN (2, 3, 4) AND id <= ?1",
        "DELETE FROM open WHERE id <= ?1",
        "DELETE FROM early_end WHERE id <= ?1",
    ] {
        database.execute(sql, &[last.into()])?;
    }
    database.execute("DELETE FROM interception WHERE id <= ?1", &[last.into()])
}

/// Deletes sessions of which nothing is left; returns how many.
fn delete_sessions(database: &mut dyn Database, before: i64) -> Result<u64, StoreError> {
    let rows = database.query(
        "SELECT s.seq FROM session s WHERE s.last_active_at < ?1
         AND NOT EXISTS (SELECT 1 FROM interception i WHERE i.session = s.seq)
         ORDER BY s.last_active_at, s.seq LIMIT ?2",
        &[before.into(), STEP.into()],
    )?;
    let seqs: Vec<i64> = rows
        .into_iter()
        .map(super::sql::Row::int)
        .collect::<Result<_, _>>()?;
    for seq in &seqs {
        database.execute("DELETE FROM session_combo WHERE session = ?1", &[(*seq).into()])?;
        database.execute("DELETE FROM session WHERE seq = ?1", &[(*seq).into()])?;
    }
    Ok(seqs.len() as u64)
}

/// Does `work` as a process of its own with a chain of its own, as commands do.
fn as_process<T>(
    database: &mut dyn Database,
    work: impl FnOnce(&mut dyn Database, &mut Memory) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let (instance, head) = transaction(database, |database| lease::enter(database, Uuid::now_v7()))?;
    let mut memory = Memory::new(instance, head);
    let outcome = work(database, &mut memory);
    transaction(database, |database| lease::end(database, instance))?;
    outcome
}

impl Store {
    /// Deletes what is older than `config` allows at `now`, then frees the space.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn clean_up(&self, config: RetentionConfig, now: Micros) -> Result<Deleted, StoreError> {
        self.ask(move |database| {
            let deleted = as_process(database, |database, memory| {
                let Some(mut work) = CleanUp::begin(database, memory, &config, now)? else {
                    return Ok(Deleted::default());
                };
                while work.step(database)? {}
                Ok(work.deleted)
            })?;
            search::purge(database)?;
            database.vacuum()?;
            Ok(deleted)
        })
        .await
    }

    /// Erases every text of a user; names, dates and counts stay. Returns the number of interceptions.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn erase_user(&self, user: String) -> Result<u64, StoreError> {
        self.ask(move |database| {
            let sql = "SELECT id FROM label WHERE text = ?1";
            let Some(who) = database.query(sql, &[user.clone().into()])?.pop() else {
                return Ok(0);
            };
            let who = who.int()?;
            let count = as_process(database, |database, memory| {
                let note = Note {
                    erased_user: Some(digest_of(&user)),
                    ..Note::default()
                };
                note.write(database, memory)?;
                let (mut from, mut count) = (Uuid::nil(), 0);
                loop {
                    let found = database.query(
                        "SELECT id FROM interception WHERE who = ?1 AND id >= ?2 ORDER BY id LIMIT ?3",
                        &[who.into(), from.into(), STEP.into()],
                    )?;
                    let ids: Vec<Uuid> = found
                        .into_iter()
                        .map(|row| row.read().id())
                        .collect::<Result<_, _>>()?;
                    let Some(last) = ids.last().copied() else {
                        return Ok(count);
                    };
                    transaction(database, |database| erase_texts(database, &ids))?;
                    count += ids.len() as u64;
                    from = after(last);
                }
            })?;
            search::forget(database, who)?;
            Ok(count)
        })
        .await
    }
}
