//! The texts of labels, kept by each connection that reads: what a row of `label` says never changes.

use std::collections::{BTreeSet, HashMap};

use super::StoreError;
use super::sql::{Batch, Database, Row, Sort, Value};

/// Texts that a connection keeps; with more it begins anew. User agents are the clients' to choose.
const KEPT: usize = 20_000;

/// Texts by their numbers. Only for connections that read: a number that is rolled back may come again.
#[derive(Debug, Default)]
pub(super) struct Labels(HashMap<i64, Box<str>>);

const TEXTS: Batch = Batch {
    columns: &[("id", Sort::Int)],
    body: "SELECT l.id, l.text FROM batch CROSS JOIN label l WHERE l.id = batch.id",
};

/// Puts the text in the place of each label's number in these columns of `rows`; null where there is no such label.
pub(super) fn spell_out(
    database: &mut dyn Database,
    rows: &mut [Row],
    columns: &[usize],
) -> Result<(), StoreError> {
    let unknown = unknown(database.labels(), rows, columns);
    let found = database.batch(&TEXTS, unknown.into_iter().map(|id| vec![id.into()]).collect())?;
    let Labels(texts) = database.labels();
    for row in found {
        let mut row = row.read();
        texts.insert(row.int()?, row.text()?.into());
    }
    for row in rows.iter_mut() {
        for column in columns {
            if let Some(value) = row.0.get_mut(*column)
                && let Value::Int(id) = value
            {
                *value = texts.get(id).map(|text| text.to_string()).into();
            }
        }
    }
    if texts.len() > KEPT {
        texts.clear();
    }
    Ok(())
}

/// The numbers in these columns whose texts are not kept. Zero is no label's.
fn unknown(Labels(texts): &Labels, rows: &[Row], columns: &[usize]) -> BTreeSet<i64> {
    let places = rows
        .iter()
        .flat_map(|row| columns.iter().filter_map(|column| row.0.get(*column)));
    places
        .filter_map(|value| match value {
            Value::Int(id) if *id != 0 && !texts.contains_key(id) => Some(*id),
            _ => None,
        })
        .collect()
}
