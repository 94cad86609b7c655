//! Which records a list is about, and where its page begins.
//!
//! A `Filter` turns into SQL conditions with bound values; words are compared as labels. Cursors are opaque to
//! clients: the sort key of the last row, in hexadecimal.

use rusqlite::types::Value;

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
#[derive(Clone, Debug, Default)]
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
    /// Begun at or after (sessions: active at or after).
    pub after: Option<Micros>,
    /// Begun before.
    pub before: Option<Micros>,
}

/// Where a page begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The last row of the page before.
    pub cursor: Option<Cursor>,
    /// Rows on the page.
    pub limit: u32,
}

impl Page {
    /// Rows to read: one more than the page holds, to know whether another page follows.
    pub(super) fn rows_read(self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Cuts `rows` to the page; the place of its last row if another page follows.
    pub(super) fn cut<T>(self, rows: &mut Vec<T>, place: impl Fn(&T) -> Cursor) -> Option<Cursor> {
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

/// SQL conditions with the values bound to their `?`s.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    texts: Vec<String>,
    pub(super) values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition with one value.
    pub(super) fn add(&mut self, text: &str, value: impl Into<Value>) {
        self.texts.push(text.to_owned());
        self.values.push(value.into());
    }

    /// Adds a condition with two values.
    pub(super) fn add_pair(&mut self, text: &str, first: impl Into<Value>, second: impl Into<Value>) {
        self.add(text, first);
        self.values.push(second.into());
    }

    /// Adds a condition without values.
    pub(super) fn add_plain(&mut self, text: String) {
        self.texts.push(text);
    }

    /// Adds `before (one of words) after`; nothing when there are no words.
    pub(super) fn add_any(&mut self, before: &str, words: &[String], after: &str) {
        if words.is_empty() {
            return;
        }
        let marks = vec!["?"; words.len()].join(", ");
        self.texts.push(format!("{before} ({marks}){after}"));
        self.values
            .extend(words.iter().map(|word| Value::from(word.clone())));
    }

    /// The `WHERE` clause, empty when there are no conditions.
    pub(super) fn clause(&self) -> String {
        if self.texts.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.texts.join(" AND "))
        }
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
