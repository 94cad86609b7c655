//! Interceptions that another instance, or another key, answered than was asked first: they are listed under the
//! one that answered, and keep what was asked, which the start in the chain says.

use std::collections::HashMap;

use uuid::Uuid;

use super::Memory;
use super::words::Combo;
use crate::record::{Answerer, Ended};
use crate::store::StoreError;
use crate::store::sql::{Batch, Change, Database, Sort};

const FIND: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT i.id, i.combo, i.credential_hint, c.client, c.kind, c.model FROM batch CROSS JOIN interception i
        JOIN combo c ON c.id = i.combo WHERE i.id = batch.id",
};
const MOVE: Change = Change::Update {
    table: "interception",
    key: &[("id", Sort::Blob)],
    columns: &[
        ("asked_combo", Sort::Int),
        ("asked_hint", Sort::Int),
        ("combo", Sort::Int),
        ("credential_hint", Sort::Int),
    ],
    and: "",
};
const ADD_COMBO: Batch = Batch {
    columns: &[("moved", Sort::Blob), ("to_combo", Sort::Int)],
    body: "INSERT INTO session_combo (session, combo, who, active)
        SELECT DISTINCT s.seq, batch.to_combo, s.who, s.last_active_at FROM batch
        CROSS JOIN interception i JOIN session s ON s.seq = i.session WHERE i.id = batch.moved
        ON CONFLICT (session, combo) DO NOTHING",
};

/// An interception that another answered.
struct Moved<'e> {
    id: Uuid,
    asked_combo: i64,
    asked_hint: Option<i64>,
    combo: Combo,
    answerer: &'e Answerer,
}

/// Names those who answered; returns the combos that interceptions are listed under from now on.
pub(super) fn write(
    database: &mut dyn Database,
    memory: &mut Memory,
    ends: &[&Ended],
) -> Result<HashMap<Uuid, i64>, StoreError> {
    let moved = find(database, memory, ends)?;
    if moved.is_empty() {
        return Ok(HashMap::new());
    }
    memory
        .words
        .learn_combos(database, moved.iter().map(|moved| moved.combo))?;
    let number = |moved: &Moved<'_>| memory.words.combo_number(&moved.combo);
    let row = |moved: &Moved<'_>| {
        vec![
            moved.id.into(),
            moved.asked_combo.into(),
            moved.asked_hint.into(),
            number(moved).into(),
            memory.words.label(&moved.answerer.credential_hint).into(),
        ]
    };
    database.change(&MOVE, moved.iter().map(row).collect())?;
    let row = |moved: &Moved<'_>| vec![moved.id.into(), number(moved).into()];
    database.batch(&ADD_COMBO, moved.iter().map(row).collect())?;
    Ok(moved.iter().map(|moved| (moved.id, number(moved))).collect())
}

fn find<'e>(
    database: &mut dyn Database,
    memory: &Memory,
    ends: &[&'e Ended],
) -> Result<Vec<Moved<'e>>, StoreError> {
    let answerers: HashMap<Uuid, &Answerer> = ends
        .iter()
        .filter_map(|ended| Some((ended.id, ended.answerer.as_ref()?)))
        .collect();
    let ids = answerers.keys().map(|id| vec![(*id).into()]).collect();
    let mut moved = Vec::new();
    for row in database.batch(&FIND, ids)? {
        let mut row = row.read();
        let (id, asked_combo, asked_hint) = (row.id()?, row.int()?, row.optional_int()?);
        let (client, kind, model) = (row.int()?, row.int()?, row.int()?);
        let Some(answerer) = answerers.get(&id) else {
            continue;
        };
        let provider = memory.words.label(&answerer.provider);
        moved.push(Moved {
            id,
            asked_combo,
            asked_hint,
            combo: [client, provider, kind, model],
            answerer,
        });
    }
    moved.sort_unstable_by_key(|moved| moved.id);
    Ok(moved)
}
