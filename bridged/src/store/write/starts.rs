//! Starts: their thread, their session, their rows.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::Memory;
use super::sessions::{Deltas, Sessions};
use crate::record::Started;
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort, Value};

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
const SET_RESULTS: Batch = Batch {
    columns: &[
        ("interception", Sort::Blob),
        ("n", Sort::Int),
        ("result", Sort::Int),
    ],
    body: "UPDATE tool_call SET result = batch.result FROM batch
        WHERE tool_call.interception = batch.interception AND tool_call.n = batch.n",
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
    database.batch(&SET_RESULTS, results.collect())?;
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
    let mut prompts = Vec::new();
    let mut combos: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for begun in begun {
        let key = (begun.session.clone(), begun.who);
        let session = sessions.get(&key).copied().ok_or(StoreError::Unreadable)?;
        let combo = memory.words.combo(begun.started);
        let active = combos.entry((session, combo)).or_insert((begun.who, 0));
        active.1 = active.1.max(begun.started.started_at.0);
        rows.push(row(memory, begun, session, combo));
        if let Some(prompt) = &begun.started.prompt {
            let cut = begun.started.prompt_truncated;
            prompts.push(vec![
                begun.started.id.into(),
                memory.packer.body(prompt).into(),
                cut.into(),
            ]);
        }
    }
    database.batch(&INSERT, rows)?;
    database.batch(&INSERT_PROMPT, prompts)?;
    activate(database, &combos)
}

fn row<'e>(memory: &Memory, begun: &Begun<'e>, session: i64, combo: i64) -> Vec<Value<'e>> {
    let started = begun.started;
    let words = &memory.words;
    // What is the same as the id is not stored again.
    let other = |id: Uuid| (id != started.id).then_some(id);
    vec![
        started.id.into(),
        other(started.request_id).into(),
        started.connect_id.into(),
        memory.instance.into(),
        session.into(),
        begun.parent.as_ref().map(|parent| parent.root).into(),
        begun.parent.as_ref().map(|parent| parent.id).into(),
        started.agent_id.as_deref().into(),
        started.parent_agent_id.as_deref().into(),
        begun.who.into(),
        combo.into(),
        started.api.code().into(),
        words.optional(started.client_version.as_deref()).into(),
        words.optional(started.user_agent.as_deref()).into(),
        started.mode.code().into(),
        started.credential.code().into(),
        started.credential_hint.as_str().into(),
        started.stream.into(),
        started.started_at.0.into(),
        started.request_bytes.into(),
    ]
}

const INSERT: Batch = Batch {
    columns: &[
        ("id", Sort::Blob),
        ("request_id", Sort::Blob),
        ("connect_id", Sort::Blob),
        ("instance", Sort::Int),
        ("session", Sort::Int),
        ("thread_root", Sort::Blob),
        ("thread_parent", Sort::Blob),
        ("agent_id", Sort::Text),
        ("parent_agent_id", Sort::Text),
        ("who", Sort::Int),
        ("combo", Sort::Int),
        ("api", Sort::Int),
        ("client_version", Sort::Int),
        ("user_agent", Sort::Int),
        ("mode", Sort::Int),
        ("credential", Sort::Int),
        ("credential_hint", Sort::Text),
        ("stream", Sort::Int),
        ("started_at", Sort::Int),
        ("request_bytes", Sort::Int),
    ],
    body: "INSERT INTO interception (id, request_id, connect_id, instance, session, thread_root, thread_parent,
            agent_id, parent_agent_id, who, combo, api, client_version, user_agent, mode, credential, credential_hint, stream, started_at,
            request_bytes)
        SELECT id, request_id, connect_id, instance, session, thread_root, thread_parent,
            agent_id, parent_agent_id, who, combo, api, client_version, user_agent, mode, credential, credential_hint, stream, started_at,
            request_bytes
        FROM batch",
};
const INSERT_PROMPT: Batch = Batch {
    columns: &[
        ("interception", Sort::Blob),
        ("body", Sort::Blob),
        ("truncated", Sort::Int),
    ],
    body: "INSERT INTO prompt (interception, body, truncated) SELECT interception, body, truncated FROM batch",
};
const ADD_COMBO: Batch = Batch {
    columns: &[
        ("session", Sort::Int),
        ("combo", Sort::Int),
        ("who", Sort::Int),
        ("active", Sort::Int),
    ],
    body:
        "INSERT INTO session_combo (session, combo, who, active) SELECT session, combo, who, active FROM batch
        WHERE true ON CONFLICT (session, combo) DO NOTHING",
};
const MOVE_COMBOS: Batch = Batch {
    columns: &[("session", Sort::Int)],
    body:
        "UPDATE session_combo SET active = s.last_active_at FROM batch JOIN session s ON s.seq = batch.session
        WHERE session_combo.session = batch.session AND session_combo.active < s.last_active_at",
};

/// Puts sessions that were active at the top of the lists of all their combos.
fn activate(
    database: &mut dyn Database,
    combos: &BTreeMap<(i64, i64), (i64, i64)>,
) -> Result<(), StoreError> {
    let rows = combos.iter().map(|((session, combo), (who, active))| {
        vec![
            (*session).into(),
            (*combo).into(),
            (*who).into(),
            (*active).into(),
        ]
    });
    database.batch(&ADD_COMBO, rows.collect())?;
    let mut sessions: Vec<i64> = combos.keys().map(|(session, _)| *session).collect();
    sessions.dedup();
    let rows = sessions.into_iter().map(|session| vec![session.into()]);
    database.batch(&MOVE_COMBOS, rows.collect()).map(drop)
}
