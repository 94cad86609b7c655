//! Which interceptions are open, and which did not complete: short lists beside the long one.

use std::collections::HashMap;

use uuid::Uuid;

use super::Known;
use crate::record::{Ended, Outcome};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Sort};

const CLOSE: Change = Change::Delete {
    table: "open",
    key: &[("id", Sort::Blob)],
};
const FORGET: Change = Change::Delete {
    table: "unusual",
    key: &[("outcome", Sort::Int), ("id", Sort::Blob)],
};
const NOTE: Change = Change::Insert {
    table: "unusual",
    columns: &[
        ("id", Sort::Blob),
        ("started_at", Sort::Int),
        ("who", Sort::Int),
        ("combo", Sort::Int),
        ("outcome", Sort::Int),
    ],
    then: "",
};

/// Moves interceptions that have ended from one list to the other; `moved` says who answered in another's place.
pub(super) fn write(
    database: &mut dyn Database,
    ends: &[&Ended],
    known: &HashMap<Uuid, Known>,
    moved: &HashMap<Uuid, i64>,
) -> Result<(), StoreError> {
    let (mut closed, mut given_up, mut unusual) = (Vec::new(), Vec::new(), Vec::new());
    for ended in ends {
        let Some(known) = known.get(&ended.id) else {
            continue;
        };
        if known.is_given_up {
            given_up.push(vec![Outcome::Aborted.code().into(), ended.id.into()]);
        } else {
            closed.push(vec![ended.id.into()]);
        }
        if ended.outcome != Outcome::Completed {
            unusual.push(vec![
                ended.id.into(),
                known.started_at.into(),
                known.who.into(),
                moved.get(&ended.id).copied().unwrap_or(known.combo).into(),
                ended.outcome.code().into(),
            ]);
        }
    }
    database.change(&CLOSE, closed)?;
    database.change(&FORGET, given_up)?;
    database.change(&NOTE, unusual).map(drop)
}
