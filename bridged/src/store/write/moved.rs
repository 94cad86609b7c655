//! Interceptions that another instance, or another key, answered than was asked first: they are listed under the
//! one that answered, and keep what was asked, which the start in the chain says.

use std::collections::HashMap;

use uuid::Uuid;

use super::Memory;
use super::words::Combo;
use crate::record::{Answerer, Ended};
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort};

const FIND: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT i.id, c.client, c.kind, c.model FROM batch CROSS JOIN interception i
        JOIN combo c ON c.id = i.combo WHERE i.id = batch.id",
};
const MOVE: Batch = Batch {
    columns: &[("id", Sort::Blob), ("combo", Sort::Int), ("hint", Sort::Text)],
    body:
        "UPDATE interception SET asked_combo = interception.combo, asked_hint = interception.credential_hint,
            combo = batch.combo, credential_hint = batch.hint
        FROM batch WHERE interception.id = batch.id",
};
const ADD_COMBO: Batch = Batch {
    columns: &[("moved", Sort::Blob), ("to_combo", Sort::Int)],
    body: "INSERT INTO session_combo (session, combo, who, active)
        SELECT DISTINCT s.seq, batch.to_combo, s.who, s.last_active_at FROM batch
        CROSS JOIN interception i JOIN session s ON s.seq = i.session WHERE i.id = batch.moved
        ON CONFLICT (session, combo) DO NOTHING",
};

/// Names those who answered; returns the combos that interceptions are listed under from now on.
pub(super) fn write(
    database: &mut dyn Database,
    memory: &mut Memory,
    ends: &[&Ended],
) -> Result<HashMap<Uuid, i64>, StoreError> {
    let moved: HashMap<Uuid, &Answerer> = ends
        .iter()
        .filter_map(|ended| Some((ended.id, ended.answerer.as_ref()?)))
        .collect();
    if moved.is_empty() {
        return Ok(HashMap::new());
    }
    let mut combos: Vec<(Uuid, Combo, &Answerer)> = Vec::new();
    let ids = moved.keys().map(|id| vec![(*id).into()]).collect();
    for row in database.batch(&FIND, ids)? {
        let mut row = row.read();
        let (id, client, kind, model) = (row.id()?, row.int()?, row.int()?, row.int()?);
        if let Some(answerer) = moved.get(&id) {
            let provider = memory.words.label(&answerer.provider);
            combos.push((id, [client, provider, kind, model], answerer));
        }
    }
    combos.sort_unstable_by_key(|(id, ..)| *id);
    memory
        .words
        .learn_combos(database, combos.iter().map(|(_, combo, _)| *combo))?;
    let number = |combo: &Combo| memory.words.combo_number(combo);
    let rows = combos
        .iter()
        .map(|(id, combo, answerer)| {
            vec![
                (*id).into(),
                number(combo).into(),
                answerer.credential_hint.as_str().into(),
            ]
        })
        .collect();
    database.batch(&MOVE, rows)?;
    let rows = combos
        .iter()
        .map(|(id, combo, _)| vec![(*id).into(), number(combo).into()])
        .collect();
    database.batch(&ADD_COMBO, rows)?;
    Ok(combos.iter().map(|(id, combo, _)| (*id, number(combo))).collect())
}
