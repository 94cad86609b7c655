//! Words that repeat, as numbers: labels, and the combos of client, provider, kind and model.

use std::collections::{BTreeSet, HashMap};

use crate::record::{Ended, Started};
use crate::store::StoreError;
use crate::store::sql::{Batch, Change, Database, Sort};

/// Words kept in memory; past this the memory is emptied, not the table.
const KEPT: usize = 50_000;
/// The number of no word.
const NONE: i64 = 0;

/// Client, provider, kind and model.
pub(super) type Combo = [i64; 4];

/// The words known so far.
#[derive(Debug, Default)]
pub(super) struct Words {
    labels: HashMap<String, i64>,
    combos: HashMap<Combo, i64>,
}

const ADD_LABELS: Change = Change::Insert {
    table: "label",
    columns: &[("text", Sort::Text)],
    then: "ON CONFLICT (text) DO NOTHING",
};
const FIND_LABELS: Batch = Batch {
    columns: &[("text", Sort::Text)],
    body: "SELECT l.text, l.id FROM batch CROSS JOIN label l WHERE l.text = batch.text",
};
const ADD_COMBOS: Change = Change::Insert {
    table: "combo",
    columns: &COMBO,
    then: "ON CONFLICT (client, provider, kind, model) DO NOTHING",
};
const FIND_COMBOS: Batch = Batch {
    columns: &COMBO,
    body: "SELECT c.client, c.provider, c.kind, c.model, c.id FROM batch CROSS JOIN combo c
        WHERE c.client = batch.client AND c.provider = batch.provider AND c.kind = batch.kind
        AND c.model = batch.model",
};
const COMBO: [(&str, Sort); 4] = [
    ("client", Sort::Int),
    ("provider", Sort::Int),
    ("kind", Sort::Int),
    ("model", Sort::Int),
];

impl Words {
    pub(super) fn clear(&mut self) {
        self.labels.clear();
        self.combos.clear();
    }

    /// Makes sure that every word of these events has a number.
    pub(super) fn learn(
        &mut self,
        database: &mut dyn Database,
        starts: &[&Started],
        ends: &[&Ended],
    ) -> Result<(), StoreError> {
        if self.labels.len() >= KEPT || self.combos.len() >= KEPT {
            self.clear();
        }
        let starts_words = starts.iter().flat_map(|started| words_of_start(started));
        let ends_words = ends.iter().flat_map(|ended| words_of_end(ended));
        let new: BTreeSet<&str> = starts_words
            .chain(ends_words)
            .filter(|word| !self.labels.contains_key(*word))
            .collect();
        if !new.is_empty() {
            let rows = || new.iter().map(|word| vec![(*word).into()]).collect();
            database.change(&ADD_LABELS, rows())?;
            for row in database.batch(&FIND_LABELS, rows())? {
                let mut row = row.read();
                self.labels.insert(row.text()?, row.int()?);
            }
        }
        let combos: Vec<Combo> = starts.iter().map(|started| self.combo_of(started)).collect();
        self.learn_combos(database, combos)
    }

    /// Makes sure that these combos have numbers.
    pub(super) fn learn_combos(
        &mut self,
        database: &mut dyn Database,
        combos: impl IntoIterator<Item = Combo>,
    ) -> Result<(), StoreError> {
        let new: BTreeSet<Combo> = combos
            .into_iter()
            .filter(|combo| !self.combos.contains_key(combo))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows = || new.iter().map(|combo| combo.map(Into::into).to_vec()).collect();
        database.change(&ADD_COMBOS, rows())?;
        for row in database.batch(&FIND_COMBOS, rows())? {
            let mut row = row.read();
            let combo = [row.int()?, row.int()?, row.int()?, row.int()?];
            self.combos.insert(combo, row.int()?);
        }
        Ok(())
    }

    /// The number of a word that was learned.
    pub(super) fn label(&self, word: &str) -> i64 {
        self.labels.get(word).copied().unwrap_or(NONE)
    }

    /// The number of a word that may be missing.
    pub(super) fn optional(&self, word: Option<&str>) -> Option<i64> {
        word.map(|word| self.label(word))
    }

    /// The number of a start's combo.
    pub(super) fn combo(&self, started: &Started) -> i64 {
        self.combo_number(&self.combo_of(started))
    }

    /// The number of a combo that was learned.
    pub(super) fn combo_number(&self, combo: &Combo) -> i64 {
        self.combos.get(combo).copied().unwrap_or(NONE)
    }

    fn combo_of(&self, started: &Started) -> Combo {
        let model = started.model.as_deref().map_or(NONE, |model| self.label(model));
        [
            self.label(&started.client),
            self.label(&started.provider),
            self.label(&started.kind),
            model,
        ]
    }
}

fn words_of_start(started: &Started) -> impl Iterator<Item = &str> {
    let always = [
        &*started.user,
        &*started.client,
        &*started.provider,
        &*started.kind,
        started.credential_hint.as_str(),
    ];
    let perhaps = [
        &started.model,
        &started.client_version,
        &started.user_agent,
        &started.credential_fingerprint,
        &started.credential_plan,
        &started.credential_account,
    ];
    always
        .into_iter()
        .chain(perhaps.into_iter().filter_map(|word| word.as_deref()))
}

fn words_of_end(ended: &Ended) -> impl Iterator<Item = &str> {
    let answerer = ended.answerer.as_ref();
    let answerer = answerer.map(|answerer| [&*answerer.provider, answerer.credential_hint.as_str()]);
    let told = ended.facts.iter().flat_map(|facts| {
        let perhaps = [facts.model.as_deref(), facts.finish_reason.as_deref()];
        let tools = facts.tool_calls.iter().map(|call| call.name.as_str());
        perhaps.into_iter().flatten().chain(tools)
    });
    answerer.into_iter().flatten().chain(told)
}
