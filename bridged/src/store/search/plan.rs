//! What the index is asked for, made of a question's words and filters.
//!
//! An interception has a user and a combo (client, provider and model), so that filters on several of these name few
//! pairs of both, mostly one: then one short list takes the place of several long ones.

use std::collections::HashMap;

use super::query::{MOST_TERMS, Query, Term};
use super::segment::{self, Trait};
use crate::record::Outcome;
use crate::store::StoreError;
use crate::store::filter::{Filter, Question, Status, clause};
use crate::store::sql::{Database, Row};

/// Words of a question that are looked up. There are more only where some are in a row, and then prompts are read.
const LOOKED_UP: usize = 24;
const _: () = assert!(MOST_TERMS <= LOOKED_UP);
/// Lists of users with combos, or of combos, that are read in the place of those of each filter, at most.
const TOGETHER: usize = 6;

/// What is required of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// All of these terms.
    pub(super) words: Vec<Vec<u8>>,
    /// Of each a word that begins so.
    pub(super) beginnings: Vec<Vec<u8>>,
    /// Of each group one.
    pub(super) traits: Vec<Vec<Vec<u8>>>,
    /// Begun at or after, and before; about.
    pub(super) after: Option<i64>,
    pub(super) before: Option<i64>,
}

impl Plan {
    /// Nothing where nothing can fit.
    pub(super) fn make(
        database: &mut dyn Database,
        filter: &Filter,
        query: &Query,
    ) -> Result<Option<Plan>, StoreError> {
        let Some(traits) = traits(database, filter)? else {
            return Ok(None);
        };
        let mut plan = Plan {
            traits,
            after: filter.after.map(|at| at.0),
            before: filter.before.map(|at| at.0),
            ..Plan::default()
        };
        plan.traits.extend(outcomes(filter));
        for term in &query.terms {
            plan.words.extend(looked_up(term));
            if let ([only], true) = (term.words.as_slice(), term.is_open) {
                plan.beginnings.push(only.text.as_bytes().to_vec());
            }
        }
        plan.words.sort_unstable();
        plan.words.dedup();
        plan.words.truncate(LOOKED_UP);
        Ok(Some(plan))
    }

    /// How many lists, or groups of lists, a document has to be in.
    pub(super) fn lists(&self) -> usize {
        self.words.len() + self.traits.len()
    }

    /// The terms of which the thing of this number requires one: words are before traits.
    pub(super) fn terms(&self, number: usize) -> &[Vec<u8>] {
        match self.words.get(number) {
            Some(word) => std::slice::from_ref(word),
            None => self
                .traits
                .get(number - self.words.len())
                .map_or(&[], Vec::as_slice),
        }
    }
}

/// Groups of terms: what the filter allows has one of each. Nothing where nothing can fit.
fn traits(database: &mut dyn Database, filter: &Filter) -> Result<Option<Vec<Vec<Vec<u8>>>>, StoreError> {
    let labels = labels(database, filter)?;
    let terms = |words: &[String], kind: fn(i64) -> Trait| {
        let numbers = words.iter().filter_map(|word| labels.get(word));
        let terms: Vec<Vec<u8>> = numbers.map(|number| kind(*number).term()).collect();
        (!words.is_empty()).then_some(terms)
    };
    let each = [
        terms(&filter.user, Trait::User),
        terms(&filter.client, Trait::Client),
        terms(&filter.provider, Trait::Provider),
        terms(&filter.model, Trait::Model),
    ];
    let each: Vec<Vec<Vec<u8>>> = each.into_iter().flatten().collect();
    if each.iter().any(Vec::is_empty) {
        return Ok(None);
    }
    if each.len() < 2 {
        return Ok(Some(each));
    }
    let combos = combos(database, filter)?;
    if combos.is_empty() {
        return Ok(None);
    }
    let group: Vec<Vec<u8>> = if filter.user.is_empty() {
        combos.iter().map(|combo| Trait::Combo(*combo).term()).collect()
    } else {
        let users = filter.user.iter().filter_map(|word| labels.get(word));
        let pairs = users.flat_map(|who| combos.iter().map(|combo| Trait::Habit(*who, *combo).term()));
        pairs.take(TOGETHER + 1).collect()
    };
    Ok(Some(if group.len() > TOGETHER { each } else { vec![group] }))
}

/// The numbers of the words that the filter asks for, as far as there are such.
fn labels(database: &mut dyn Database, filter: &Filter) -> Result<HashMap<String, i64>, StoreError> {
    let words = [&filter.user, &filter.client, &filter.provider, &filter.model];
    let words: Vec<String> = words.into_iter().flatten().cloned().collect();
    let mut question = Question::default();
    let Some(which) = question.any("text", &words) else {
        return Ok(HashMap::new());
    };
    let sql = format!("SELECT text, id FROM label WHERE {which}");
    let read = |row: Row| {
        let mut row = row.read();
        Ok((row.text()?, row.int()?))
    };
    let rows = database.query(&sql, &question.values)?;
    rows.into_iter().map(read).collect()
}

/// Combos that the filter allows, one more than can be of use at most.
fn combos(database: &mut dyn Database, filter: &Filter) -> Result<Vec<i64>, StoreError> {
    let mut question = Question::default();
    let which = clause(&question.combos("y", filter));
    let sql = format!("SELECT y.id FROM combo y {which} LIMIT {}", TOGETHER + 1);
    let rows = database.query(&sql, &question.values)?;
    rows.into_iter().map(Row::int).collect()
}

/// What the index is asked for of a term: pairs of joined words, and the words that are in none.
fn looked_up(term: &Term) -> Vec<Vec<u8>> {
    let closed = term.words.len() - usize::from(term.is_open);
    let words = term.words.get(..closed).unwrap_or_default();
    let mut wanted = Vec::with_capacity(closed);
    for (place, word) in words.iter().enumerate() {
        let next = words.get(place + 1).filter(|next| next.is_joined);
        match next {
            Some(next) => wanted.push(segment::pair(&word.text, &next.text).to_vec()),
            None if place > 0 && word.is_joined => {}
            None => wanted.push(word.text.as_bytes().to_vec()),
        }
    }
    wanted
}

/// The terms of the outcomes that the filter asks for, as far as the index knows outcomes: most are `completed`, and
/// what is in flight may be something else by now.
fn outcomes(filter: &Filter) -> Option<Vec<Vec<u8>>> {
    let term = |status: &Status| match status {
        Status::InFlight | Status::Ended(Outcome::Completed) => None,
        Status::Ended(outcome) => Some(Trait::Outcome(outcome.code().into()).term()),
    };
    let terms: Option<Vec<_>> = filter.status.iter().map(term).collect();
    terms.filter(|terms| !terms.is_empty())
}
