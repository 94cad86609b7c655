//! Events into the tables: a batch of them, in one transaction.
//!
//! A start makes the interception, finds the thread and session it belongs to and counts it there; an end fills
//! in the rest and adds its usage and tools to the session. Both are idempotent: a start whose id is known and an
//! end whose interception has ended already change nothing. They may come in any order: an end without its start
//! waits in `early_end`. What the batch does to a table is gathered first and then done by few statements, with
//! the rows in an order that is the same everywhere, so that several gateways do not wait for each other in turns.

mod days;
mod ends;
mod moved;
mod sessions;
mod starts;
mod state;
mod words;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::StoreError;
use super::chain::{self, Head, LinkKind};
use super::content::Packer;
use super::sql::{Batch, Change, Database, Row, Sort, Value};
use crate::record::{Ended, Event, Outcome, Started};
use words::Words;

pub(super) use ends::{GATEWAY_STOPPED, counts, extra};

/// What the writer remembers between batches.
#[derive(Debug)]
pub(super) struct Memory {
    words: Words,
    packer: Packer,
    /// The number of this process among the instances.
    pub(super) instance: i64,
    /// The end of this process's chain.
    pub(super) head: Head,
    /// Whether ends may be waiting for their starts.
    early: bool,
}

impl Memory {
    pub(super) fn new(instance: i64, head: Head) -> Memory {
        Memory {
            words: Words::default(),
            packer: Packer::default(),
            instance,
            head,
            early: true,
        }
    }

    /// Forgets what a batch added that was rolled back; `head` is the last committed one.
    pub(super) fn restore(&mut self, head: Head) {
        self.words.clear();
        self.head = head;
        self.early = true;
    }
}

/// Writes a batch inside the caller's transaction.
pub(super) fn write(
    database: &mut dyn Database,
    memory: &mut Memory,
    events: &[Event],
) -> Result<(), StoreError> {
    let before = memory.head;
    for wave in waves(events) {
        write_wave(database, memory, wave)?;
    }
    save_head(database, memory, before)
}

/// Cuts a batch where a request answers a tool call of a reply in it: the one must be stored to be found.
fn waves(events: &[Event]) -> Vec<&[Event]> {
    let mut waves = Vec::new();
    let mut called: HashSet<&str> = HashSet::new();
    let mut begin = 0;
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Start(started) => {
                let answered = &mut started.tool_results.iter().map(|result| result.call_id.as_str());
                if answered.any(|id| called.contains(id)) {
                    waves.extend(events.get(begin..place));
                    begin = place;
                    called.clear();
                }
            }
            Event::End(ended) => {
                let calls = ended.facts.iter().flat_map(|facts| &facts.tool_calls);
                called.extend(calls.map(|call| call.id.as_str()));
            }
        }
    }
    waves.extend(events.get(begin..));
    waves
}

/// An interception that is stored, as far as writers need it.
#[derive(Clone, Debug)]
struct Known {
    who: i64,
    session: String,
    combo: i64,
    started_at: i64,
    has_prompt: bool,
    /// Open, or given up.
    is_open: bool,
    /// Ended by somebody who thought that its process was dead.
    is_given_up: bool,
}

impl Known {
    fn opened(begun: &starts::Begun<'_>, memory: &Memory) -> Known {
        Known {
            who: begun.who,
            session: begun.session.clone(),
            combo: memory.words.combo(begun.started),
            started_at: begun.started.started_at.0,
            has_prompt: begun.started.prompt.is_some(),
            is_open: true,
            is_given_up: false,
        }
    }
}

fn write_wave(database: &mut dyn Database, memory: &mut Memory, events: &[Event]) -> Result<(), StoreError> {
    let mut known = known(database, events)?;
    let mut seen = HashSet::new();
    let mut starts: Vec<&Started> = Vec::new();
    let mut ends: Vec<&Ended> = Vec::new();
    for event in events {
        match event {
            Event::Start(started) => {
                if !known.contains_key(&started.id) && seen.insert((started.id, LinkKind::Start.code())) {
                    starts.push(started);
                }
            }
            Event::End(ended) => {
                if seen.insert((ended.id, LinkKind::End.code())) {
                    ends.push(ended);
                }
            }
        }
    }
    let waited = take_early(database, memory, &starts)?;
    ends.extend(
        waited
            .iter()
            .filter(|ended| seen.insert((ended.id, LinkKind::End.code()))),
    );
    let starting: HashSet<Uuid> = starts.iter().map(|started| started.id).collect();
    let is_unknown = |ended: &&Ended| !known.contains_key(&ended.id) && !starting.contains(&ended.id);
    let early: Vec<&Ended> = ends.iter().copied().filter(is_unknown).collect();
    ends.retain(|ended| {
        let stored = known.get(&ended.id);
        // What another process gives up a second time stays as it is.
        let again = ended.error_kind.as_deref() == Some(GATEWAY_STOPPED);
        let is_open = stored.is_some_and(|known| known.is_open && !(known.is_given_up && again));
        starting.contains(&ended.id) || is_open
    });
    keep_early(database, memory, &early)?;

    memory.words.learn(database, &starts, &ends)?;
    let mut deltas = sessions::Deltas::default();
    let begun = starts::prepare(database, memory, &starts, &mut deltas)?;
    let opened = begun
        .iter()
        .map(|begun| (begun.started.id, Known::opened(begun, memory)));
    known.extend(opened);
    for ended in &ends {
        if let Some(known) = known.get(&ended.id) {
            deltas.end(known.who, &known.session, ended, known.is_given_up);
        }
    }
    let sessions = deltas.write(database)?;
    starts::insert(database, memory, &begun, &sessions)?;
    ends::write(database, memory, &ends)?;
    let moved = moved::write(database, memory, &ends)?;
    state::write(database, &ends, &known, &moved)?;
    days::write(database, &ends, &known, &moved)?;
    link(database, memory, &starts, &ends)
}

const KNOWN: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT i.id, i.who, s.id, i.combo, i.started_at,
            (SELECT count(*) FROM prompt p WHERE p.interception = i.id), r.outcome, r.error_kind
        FROM batch CROSS JOIN interception i JOIN session s ON s.seq = i.session
        LEFT JOIN reply r ON r.interception = i.id WHERE i.id = batch.id",
};

fn known(database: &mut dyn Database, events: &[Event]) -> Result<HashMap<Uuid, Known>, StoreError> {
    let mut ids: Vec<Uuid> = events.iter().map(Event::id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = ids.into_iter().map(|id| vec![id.into()]).collect();
    database
        .batch(&KNOWN, rows)?
        .into_iter()
        .map(read_known)
        .collect()
}

fn read_known(row: Row) -> Result<(Uuid, Known), StoreError> {
    let mut row = row.read();
    let (id, who, session) = (row.id()?, row.int()?, row.text()?);
    let (combo, started_at, has_prompt) = (row.int()?, row.int()?, row.truth()?);
    let (outcome, error) = (row.code()?, row.optional_text()?);
    let is_given_up = outcome == Some(Outcome::Aborted.code()) && error.as_deref() == Some(GATEWAY_STOPPED);
    let known = Known {
        who,
        session,
        combo,
        started_at,
        has_prompt,
        is_open: outcome.is_none() || is_given_up,
        is_given_up,
    };
    Ok((id, known))
}

const FIND_EARLY: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT e.event FROM batch CROSS JOIN early_end e WHERE e.id = batch.id",
};
const DROP_EARLY: Change = Change::Delete {
    table: "early_end",
    key: &[("id", Sort::Blob)],
};
const KEEP_EARLY: Change = Change::Insert {
    table: "early_end",
    columns: &[("id", Sort::Blob), ("event", Sort::Text)],
    then: "ON CONFLICT (id) DO NOTHING",
};

/// Takes the ends that were waiting for these starts.
fn take_early(
    database: &mut dyn Database,
    memory: &mut Memory,
    starts: &[&Started],
) -> Result<Vec<Ended>, StoreError> {
    if !memory.early || starts.is_empty() {
        return Ok(Vec::new());
    }
    if database.query("SELECT 1 FROM early_end LIMIT 1", &[])?.is_empty() {
        memory.early = false;
        return Ok(Vec::new());
    }
    let ids = || starts.iter().map(|started| vec![started.id.into()]).collect();
    let found = database.batch(&FIND_EARLY, ids())?;
    if !found.is_empty() {
        database.change(&DROP_EARLY, ids())?;
    }
    let read = |row: Row| {
        let text = row.read().text()?;
        serde_json::from_str(&text).map_err(|_| StoreError::Unreadable)
    };
    found.into_iter().map(read).collect()
}

fn keep_early(database: &mut dyn Database, memory: &mut Memory, ends: &[&Ended]) -> Result<(), StoreError> {
    if ends.is_empty() {
        return Ok(());
    }
    memory.early = true;
    let row = |ended: &&Ended| {
        let text = serde_json::to_string(ended).map_err(|_| StoreError::Unreadable)?;
        Ok(vec![ended.id.into(), text.into()])
    };
    let rows = ends.iter().map(row).collect::<Result<_, StoreError>>()?;
    database.change(&KEEP_EARLY, rows).map(drop)
}

const LINK: Change = Change::Insert {
    table: "chain",
    columns: &[
        ("instance", Sort::Int),
        ("n", Sort::Int),
        ("kind", Sort::Int),
        ("id", Sort::Blob),
        ("note", Sort::Text),
        ("hash", Sort::Blob),
    ],
    then: "",
};

/// Adds the new starts and ends to this process's chain.
fn link(
    database: &mut dyn Database,
    memory: &mut Memory,
    starts: &[&Started],
    ends: &[&Ended],
) -> Result<(), StoreError> {
    let starts = starts
        .iter()
        .map(|started| (LinkKind::Start, started.id, chain::seal_start(started)));
    let ends = ends
        .iter()
        .map(|ended| (LinkKind::End, ended.id, chain::seal_end(ended)));
    let mut rows = Vec::new();
    for (kind, id, seal) in starts.chain(ends) {
        memory.head = memory.head.then(kind, Some(id), &seal);
        rows.push(vec![
            memory.instance.into(),
            memory.head.n.into(),
            kind.code().into(),
            id.into(),
            Value::Null,
            memory.head.hash.to_vec().into(),
        ]);
    }
    database.change(&LINK, rows).map(drop)
}

/// Adds a note of what is deleted on purpose to this process's chain.
pub(super) fn note(database: &mut dyn Database, memory: &mut Memory, text: &str) -> Result<(), StoreError> {
    let before = memory.head;
    memory.head = before.then(LinkKind::Note, None, &super::content::sha256(text.as_bytes()));
    let row = vec![
        memory.instance.into(),
        memory.head.n.into(),
        LinkKind::Note.code().into(),
        Value::Null,
        text.to_owned().into(),
        memory.head.hash.to_vec().into(),
    ];
    database.change(&LINK, vec![row])?;
    save_head(database, memory, before)
}

fn save_head(database: &mut dyn Database, memory: &Memory, before: Head) -> Result<(), StoreError> {
    if memory.head == before {
        return Ok(());
    }
    let values = [
        memory.instance.into(),
        memory.head.n.into(),
        memory.head.hash.to_vec().into(),
        before.n.into(),
    ];
    let sql = "UPDATE instance SET head_n = ?2, head_hash = ?3 WHERE id = ?1 AND head_n = ?4";
    match database.execute(sql, &values)? {
        1 => Ok(()),
        // Somebody else writes under this process's name, or its row is gone: the chain must not fork.
        _ => Err(StoreError::Forked),
    }
}
