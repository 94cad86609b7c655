//! Which records a list is about, and where its page begins.
//!
//! A `Filter` turns into SQL conditions with bound values; words are compared as labels. Client, provider and model
//! hold together for one request: a session is found by them if one of its requests has them all. Cursors are opaque
//! to clients: the sort key of the last row, in hexadecimal.

use uuid::Uuid;

use super::search::Query;
use super::sql::{Dialect, Value};
use crate::clock::Micros;
use crate::record::Outcome;

/// A filter on the state of an interception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not ended.
    InFlight,
    /// Ended this way.
    Ended(Outcome),
}

impl Status {
    /// Reads `in_flight`, `completed`, `failed`, `refused` or `aborted`.
    pub fn parse(text: &str) -> Option<Status> {
        if text == "in_flight" {
            Some(Status::InFlight)
        } else {
            Outcome::parse(text).map(Status::Ended)
        }
    }
}

/// Which records. Values of one field are alternatives; fields are all to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// User names. A member's list has exactly the own name here.
    pub user: Vec<String>,
    /// Client names.
    pub client: Vec<String>,
    /// Instance names.
    pub provider: Vec<String>,
    /// Models asked for.
    pub model: Vec<String>,
    /// Session ids.
    pub session: Vec<String>,
    /// States.
    pub status: Vec<Status>,
    /// Begun at or after (sessions: their latest request).
    pub after: Option<Micros>,
    /// Begun before (sessions: their latest request).
    pub before: Option<Micros>,
    /// What is in the prompt. Sessions have such a prompt, and all else is about its request.
    pub query: Option<Query>,
}

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Page<C = Cursor> {
    /// The last row of the page before.
    pub cursor: Option<C>,
    /// Rows on the page.
    pub limit: u32,
}

impl<C> Page<C> {
    /// Rows to read: one more than the page holds, to know whether another page follows.
    pub(super) fn rows_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts `rows` to the page; the place of its last row if another page follows.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, place: impl Fn(&T) -> C) -> Option<C> {
        let more = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        rows.last().filter(|_| more).map(place)
    }
}

/// A row's place in a list: its sort key and what tells it from others with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u64, pub u64);

impl Cursor {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Cursor> {
        let hex = |range| {
            text.get(range)
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        Some(Cursor(hex(0..16)?, hex(16..32)?))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

/// The smallest id that an interception of this date can have.
pub(super) fn first_id(at: Micros) -> Uuid {
    let millis = u128::try_from(at.0 / 1_000).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// A question in the making: the values bound to its `?1`, `?2` … and the conditions that name them.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) values: Vec<Value<'static>>,
}

impl Question {
    /// Binds a value; returns its placeholder.
    pub(super) fn bind(&mut self, value: impl Into<Value<'static>>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// Binds values for an `IN`, and some again up to `count`, so that there are few statements to prepare; saying a
    /// value twice changes nothing. Returns the placeholders.
    pub(super) fn marks<T: Copy + Into<Value<'static>>>(&mut self, values: &[T], count: usize) -> String {
        let marks: Vec<String> = values
            .iter()
            .cycle()
            .take(count)
            .map(|value| self.bind(*value))
            .collect();
        marks.join(", ")
    }

    /// `column IN (words)`; nothing when there are no words.
    pub(super) fn any(&mut self, column: &str, words: &[String]) -> Option<String> {
        if words.is_empty() {
            return None;
        }
        let marks: Vec<String> = words.iter().map(|word| self.bind(word.clone())).collect();
        Some(format!("{column} IN ({})", marks.join(", ")))
    }

    /// `column` is the number of one of the words; nothing when there are no words.
    pub(super) fn any_label(&mut self, column: &str, words: &[String]) -> Option<String> {
        let texts = self.any("text", words)?;
        Some(format!("{column} IN (SELECT id FROM label WHERE {texts})"))
    }

    /// The combo `combo` is one of those that the filter asks for; nothing when it asks for none.
    pub(super) fn combos(&mut self, combo: &str, filter: &Filter) -> Vec<String> {
        [
            ("client", &filter.client),
            ("provider", &filter.provider),
            ("model", &filter.model),
        ]
        .into_iter()
        .filter_map(|(column, words)| self.any_label(&format!("{combo}.{column}"), words))
        .collect()
    }
}

/// The parts of a list's query: for each of some users and combos the first rows that fit.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// What rows are looked up for, none where the list is read as it is.
    each: Vec<&'static str>,
    /// Which of these.
    which: Vec<String>,
    /// Which rows `x` of the list.
    pub(super) row: Vec<String>,
}

impl Parts {
    /// Looks up rows for each user, and for each combo, that the filter asks for.
    pub(super) fn by_user_and_combo(question: &mut Question, filter: &Filter) -> Parts {
        let mut parts = Parts::default();
        if !filter.user.is_empty() {
            parts.look_up("label u", question.any("u.text", &filter.user), "x.who = u.id");
        }
        let combos = question.combos("c", filter);
        if !combos.is_empty() {
            parts.look_up("combo c", combos, "x.combo = c.id");
        }
        parts
    }

    /// Looks up rows for each `of` that is one of `which`.
    pub(super) fn look_up(&mut self, of: &'static str, which: impl IntoIterator<Item = String>, row: &str) {
        self.each.push(of);
        self.which.extend(which);
        self.row.push(row.to_owned());
    }

    /// The query of the columns `order`, which say what is late, latest first; `key` is the row's.
    pub(super) fn query(
        mut self,
        dialect: Dialect,
        table: &str,
        key: &str,
        order: &[&str],
        limit: &str,
    ) -> String {
        let columns = |row: &str, after: &str| {
            let columns: Vec<String> = order
                .iter()
                .map(|column| format!("{row}.{column}{after}"))
                .collect();
            columns.join(", ")
        };
        let latest = |row: &str| format!("ORDER BY {} LIMIT {limit}", columns(row, " DESC"));
        let list = format!("FROM {table} x {} {}", clause(&self.row), latest("x"));
        if self.each.is_empty() {
            return format!("SELECT {} {list}", columns("x", ""));
        }
        if self.each.contains(&"combo c") {
            // A session has several combos.
            self.which.push("i.combo = c.id".to_owned());
        }
        let from = dialect.few_of_each(&self.each.join(" CROSS JOIN "), table, key, &list);
        let distinct = columns("i", "");
        format!(
            "SELECT DISTINCT {distinct} FROM {from} {} {}",
            clause(&self.which),
            latest("i")
        )
    }
}

/// A `WHERE` clause, empty when there are no conditions.
pub(super) fn clause(conditions: &[String]) -> String {
    if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_a_round_trip() {
        let cursor = Cursor(u64::MAX, 7);
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for wrong in ["", "1", "+000000000000001000000000000000a", "zz", &"é".repeat(16)] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
