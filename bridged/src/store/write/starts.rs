//! Starts: their thread, their session, their rows.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::Memory;
use super::sessions::{Deltas, Sessions};
use crate::record::Started;
use crate::store::StoreError;
use crate::store::sql::{Batch, Change, Database, Sort, Value};

/// Tool results that are followed to the call they answer, the last ones of a request.
const RESULTS_FOLLOWED: usize = 16;

/// A start with all that was found for it.
#[derive(Debug)]
pub(super) struct Begun<'e> {
    pub(super) started: &'e Started,
    pub(super) who: i64,
    pub(super) session: String,
    parent: Option<Parent>,
}

/// The interception whose tool calls a request answers.
#[derive(Clone, Debug)]
struct Parent {
    id: Uuid,
    root: Uuid,
    session: String,
}

/// Finds thread and session of each start and counts it there.
pub(super) fn prepare<'e>(
    database: &mut dyn Database,
    memory: &Memory,
    starts: &[&'e Started],
    deltas: &mut Deltas,
) -> Result<Vec<Begun<'e>>, StoreError> {
    let mut parents = parents(database, memory, starts)?;
    let begun = starts.iter().map(|started| {
        let who = memory.words.label(&started.user);
        let parent = parents.remove(&started.id);
        // The client's own session, else the thread's, else one of its own.
        let session = match (&started.session_id, &parent) {
            (Some(id), _) => id.clone(),
            (None, Some(parent)) => parent.session.clone(),
            (None, None) => started.id.to_string(),
        };
        deltas.start(who, &session, started, parent.is_none());
        Begun {
            started,
            who,
            session,
            parent,
        }
    });
    Ok(begun.collect())
}

const FIND_CALLS: Batch = Batch {
    columns: &[
        ("child", Sort::Blob),
        ("place", Sort::Int),
        ("call", Sort::Text),
        ("who", Sort::Int),
        ("failed", Sort::Int),
    ],
    body: "SELECT batch.child, batch.place, batch.failed, t.interception, t.n, coalesce(i.thread_root, i.id), s.id
        FROM batch CROSS JOIN tool_call t JOIN interception i ON i.id = t.interception
        JOIN session s ON s.seq = i.session WHERE t.id = batch.call AND i.who = batch.who",
};
const SET_RESULTS: Change = Change::Update {
    table: "tool_call",
    key: &[("interception", Sort::Blob), ("n", Sort::Int)],
    columns: &[("result", Sort::Int)],
    and: "",
};

/// Finds the interceptions that made the tool calls which these requests answer, and notes on those calls how
/// they went. Where several answer the same id, the latest is meant.
fn parents(
    database: &mut dyn Database,
    memory: &Memory,
    starts: &[&Started],
) -> Result<HashMap<Uuid, Parent>, StoreError> {
    let mut rows = Vec::new();
    for started in starts {
        let who = memory.words.label(&started.user);
        let last = started.tool_results.iter().rev().take(RESULTS_FOLLOWED);
        for (place, result) in (0_i64..).zip(last) {
            let call = result.call_id.as_str();
            let failed = result.is_error.unwrap_or(false);
            rows.push(vec![
                started.id.into(),
                place.into(),
                call.into(),
                who.into(),
                failed.into(),
            ]);
        }
    }
    let mut found: BTreeMap<(Uuid, i64), (Parent, i64, i64)> = BTreeMap::new();
    for row in database.batch(&FIND_CALLS, rows)? {
        let mut row = row.read();
        let (child, place, failed) = (row.id()?, row.int()?, row.int()?);
        let (id, n, root, session) = (row.id()?, row.int()?, row.id()?, row.text()?);
        let known = found.get(&(child, place));
        if known.is_none_or(|(parent, ..)| parent.id < id) {
            found.insert((child, place), (Parent { id, root, session }, n, failed));
        }
    }
    let results: BTreeMap<(Uuid, i64), i64> = found
        .values()
        .map(|(parent, n, failed)| ((parent.id, *n), *failed))
        .collect();
    let results = results
        .into_iter()
        .map(|((id, n), failed)| vec![id.into(), n.into(), failed.into()]);
    database.change(&SET_RESULTS, results.collect())?;
    let mut parents = HashMap::new();
    // The first place is the last result.
    for ((child, _), (parent, ..)) in found {
        parents.entry(child).or_insert(parent);
    }
    Ok(parents)
}

/// Writes the rows of starts whose sessions are written.
pub(super) fn insert(
    database: &mut dyn Database,
    memory: &Memory,
    begun: &[Begun<'_>],
    sessions: &Sessions,
) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(begun.len());
    let mut open = Vec::with_capacity(begun.len());
    let mut prompts = Vec::new();
    let mut combos = BTreeMap::new();
    for begun in begun {
        let started = begun.started;
        let key = (begun.session.clone(), begun.who);
        let (session, active) = sessions.get(&key).copied().ok_or(StoreError::Unreadable)?;
        let combo = memory.words.combo(started);
        combos.insert((session, combo), (begun.who, active));
        rows.push(row(memory, begun, session, combo));
        open.push(vec![
            started.id.into(),
            started.started_at.0.into(),
            memory.instance.into(),
            begun.who.into(),
            combo.into(),
        ]);
        if let Some(prompt) = &started.prompt {
            prompts.push(vec![
                started.id.into(),
                started.prompt_truncated.into(),
                memory.packer.body(prompt).into(),
            ]);
        }
    }
    database.change(&INSERT, rows)?;
    database.change(&INSERT_OPEN, open)?;
    database.change(&INSERT_PROMPT, prompts)?;
    activate(database, combos)
}

fn row<'e>(memory: &Memory, begun: &Begun<'e>, session: i64, combo: i64) -> Vec<Value<'e>> {
    let started = begun.started;
    let words = &memory.words;
    // What is the same as the id is not stored again.
    let other = |id: Uuid| (id != started.id).then_some(id);
    vec![
        started.id.into(),
        session.into(),
        started.started_at.0.into(),
        started.request_bytes.into(),
        memory.instance.into(),
        begun.who.into(),
        combo.into(),
        words.optional(started.client_version.as_deref()).into(),
        words.optional(started.user_agent.as_deref()).into(),
        words.label(&started.credential_hint).into(),
        started.api.code().into(),
        started.mode.code().into(),
        started.credential.code().into(),
        started.stream.into(),
        other(started.request_id).into(),
        started.connect_id.into(),
        begun.parent.as_ref().map(|parent| parent.root).into(),
        begun.parent.as_ref().map(|parent| parent.id).into(),
        started.agent_id.as_deref().into(),
        started.parent_agent_id.as_deref().into(),
        words.optional(started.credential_fingerprint.as_deref()).into(),
        words.optional(started.credential_plan.as_deref()).into(),
        words.optional(started.credential_account.as_deref()).into(),
    ]
}

const INSERT: Change = Change::Insert {
    table: "interception",
    columns: &[
        ("id", Sort::Blob),
        ("session", Sort::Int),
        ("started_at", Sort::Int),
        ("request_bytes", Sort::Int),
        ("instance", Sort::Int),
        ("who", Sort::Int),
        ("combo", Sort::Int),
        ("client_version", Sort::Int),
        ("user_agent", Sort::Int),
        ("credential_hint", Sort::Int),
        ("api", Sort::Int),
        ("mode", Sort::Int),
        ("credential", Sort::Int),
        ("stream", Sort::Int),
        ("request_id", Sort::Blob),
        ("connect_id", Sort::Blob),
        ("thread_root", Sort::Blob),
        ("thread_parent", Sort::Blob),
        ("agent_id", Sort::Text),
        ("parent_agent_id", Sort::Text),
        ("credential_fingerprint", Sort::Int),
        ("credential_plan", Sort::Int),
        ("credential_account", Sort::Int),
    ],
    then: "",
};
const INSERT_OPEN: Change = Change::Insert {
    table: "open",
    columns: &[
        ("id", Sort::Blob),
        ("started_at", Sort::Int),
        ("instance", Sort::Int),
        ("who", Sort::Int),
        ("combo", Sort::Int),
    ],
    then: "",
};
const INSERT_PROMPT: Change = Change::Insert {
    table: "prompt",
    columns: &[
        ("interception", Sort::Blob),
        ("truncated", Sort::Int),
        ("body", Sort::Blob),
    ],
    then: "",
};
const ADD_COMBO: Change = Change::Insert {
    table: "session_combo",
    columns: &[
        ("session", Sort::Int),
        ("combo", Sort::Int),
        ("who", Sort::Int),
        ("active", Sort::Int),
    ],
    then: "ON CONFLICT (session, combo) DO NOTHING",
};
const MOVE_COMBOS: Change = Change::Update {
    table: "session_combo",
    key: &[("session", Sort::Int)],
    columns: &[("active", Sort::Int)],
    and: "AND t.active < batch.active",
};

/// Puts sessions that were active at the top of the lists of all their combos.
fn activate(database: &mut dyn Database, combos: BTreeMap<(i64, i64), (i64, i64)>) -> Result<(), StoreError> {
    let sessions: BTreeMap<i64, i64> = combos
        .iter()
        .map(|((session, _), (_, active))| (*session, *active))
        .collect();
    let row = |((session, combo), (who, active)): ((i64, i64), (i64, i64))| {
        vec![session.into(), combo.into(), who.into(), active.into()]
    };
    database.change(&ADD_COMBO, combos.into_iter().map(row).collect())?;
    let rows = sessions
        .into_iter()
        .map(|(session, active)| vec![session.into(), active.into()]);
    database.change(&MOVE_COMBOS, rows.collect()).map(drop)
}
