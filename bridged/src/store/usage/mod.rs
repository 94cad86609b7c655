//! Usage by day, seats, and the words that occur: read from roll-ups, never from interceptions.
//!
//! The writer keeps a row for each day, user and combo in `usage_day`, and in `usage_span` one for each span of 32 days,
//! user and combo, and one for all days; questions add up rows of whole days. A filter's dates choose every day (UTC)
//! that they touch; it has no states and no sessions, of which the roll-ups know nothing.

pub(super) mod days;
mod words;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use super::StoreError;
use super::filter::{Filter, Question, clause};
use super::sessions::SessionUsage;
use super::sql::Columns;
use crate::clock::Micros;

pub use days::UsageLine;
pub use words::{FacetLine, SeatLine};

/// What usage can be told apart by, beside the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// Who asked.
    User,
    /// The client.
    Client,
    /// The instance that answered.
    Provider,
    /// The model asked for.
    Model,
}

impl Dimension {
    /// All of them, in the order in which they are answered.
    pub const ALL: [Dimension; 4] = [
        Dimension::User,
        Dimension::Client,
        Dimension::Provider,
        Dimension::Model,
    ];

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dimension::User => "user",
            Dimension::Client => "client",
            Dimension::Provider => "provider",
            Dimension::Model => "model",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Dimension> {
        Dimension::ALL
            .into_iter()
            .find(|dimension| dimension.as_str() == text)
    }

    /// The column of the roll-up `x`, or of its combo `c`, that has the word's number.
    const fn column(self) -> &'static str {
        match self {
            Dimension::User => "x.who",
            Dimension::Client => "c.client",
            Dimension::Provider => "c.provider",
            Dimension::Model => "c.model",
        }
    }
}

/// What is counted of interceptions that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Totals {
    /// How many.
    pub interceptions: i64,
    /// How many were answered whole.
    pub completed: i64,
    /// How many failed.
    pub failed: i64,
    /// How many the gateway refused.
    pub refused: i64,
    /// How many ended before their answer did.
    pub aborted: i64,
    /// How many prompts.
    pub prompts: i64,
    /// How many tool calls.
    pub tool_calls: i64,
    /// Tokens in all.
    pub usage: SessionUsage,
    /// What is known of the cost, in millionths of the prices' currency. Null while nothing has a price.
    pub cost_micros: Option<i64>,
    /// Answered interceptions whose tokens nobody reported; `usage` and `cost_micros` lack them.
    pub unmetered: i64,
    /// Interceptions whose tokens are known and have no price; `cost_micros` lacks them.
    pub unpriced: i64,
}

impl Totals {
    /// What is counted, flat and in order: the columns of the roll-up that are added up.
    pub const COLUMNS: [&str; 15] = [
        "interceptions",
        "completed",
        "failed",
        "refused",
        "aborted",
        "prompts",
        "tool_calls",
        "input",
        "output",
        "cache_read",
        "cache_write",
        "reasoning",
        "cost_micros",
        "unmetered",
        "unpriced",
    ];

    /// The counts in the same order; none for what is not known.
    pub fn numbers(&self) -> [Option<i64>; 15] {
        let usage = &self.usage;
        [
            Some(self.interceptions),
            Some(self.completed),
            Some(self.failed),
            Some(self.refused),
            Some(self.aborted),
            Some(self.prompts),
            Some(self.tool_calls),
            Some(usage.input),
            Some(usage.output),
            Some(usage.cache_read),
            Some(usage.cache_write),
            Some(usage.reasoning),
            self.cost_micros,
            Some(self.unmetered),
            Some(self.unpriced),
        ]
    }

    fn read(row: &mut Columns) -> Result<Totals, StoreError> {
        Ok(Totals {
            interceptions: row.int()?,
            completed: row.int()?,
            failed: row.int()?,
            refused: row.int()?,
            aborted: row.int()?,
            prompts: row.int()?,
            tool_calls: row.int()?,
            usage: SessionUsage::read(row)?,
            cost_micros: row.optional_int()?,
            unmetered: row.int()?,
            unpriced: row.int()?,
        })
    }
}

/// The sums of the columns, named as these are. PostgreSQL adds numbers up to another type than theirs.
fn sums() -> String {
    let sum = |column: &str| format!("CAST(sum(x.{column}) AS BIGINT) AS {column}");
    Totals::COLUMNS.map(sum).join(", ")
}

/// The same columns of a table `g` of sums.
fn summed() -> String {
    Totals::COLUMNS.map(|column| format!("g.{column}")).join(", ")
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Days that a column can hold: whole spans of them.
const DAYS: std::ops::RangeInclusive<i64> = -1_000_000..=9_999_999;

/// The first and the last day that `filter` touches.
fn days_of(filter: &Filter) -> (i64, i64) {
    let day = |at: i64| at.div_euclid(DAY).clamp(*DAYS.start(), *DAYS.end());
    let first = filter.after.map_or(*DAYS.start(), |after| day(after.0));
    let last = filter.before.map_or(*DAYS.end(), |before| day(before.0 - 1));
    (first, last)
}

/// A day as the API writes it: `2026-11-22`.
fn date(day: i64) -> String {
    let mut text = Micros(day.saturating_mul(DAY)).rfc3339();
    text.truncate(10);
    text
}

/// The span that a day is in.
pub(super) fn span_of(day: i64) -> i64 {
    day.div_euclid(SPAN)
}

/// Days of a span.
const SPAN: i64 = 32;
/// The number of the span that is all days. No other has it: days do not go as far back.
pub(super) const ALL_DAYS: i64 = -1_000_000;

/// A roll-up, and some of its rows by their day or span, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Days(i64, i64),
    Spans(i64, i64),
}

impl Rows {
    /// The fewest rows that have all days from the first to the last.
    fn of(first: i64, last: i64) -> Vec<Rows> {
        if (first, last) == (*DAYS.start(), *DAYS.end()) {
            return vec![Rows::Spans(ALL_DAYS, ALL_DAYS)];
        }
        // The spans that are in it whole.
        let (low, high) = (span_of(first + SPAN - 1), span_of(last + 1) - 1);
        if low > high {
            return vec![Rows::Days(first, last)];
        }
        let parts = [
            Rows::Days(first, low * SPAN - 1),
            Rows::Spans(low, high),
            Rows::Days((high + 1) * SPAN, last),
        ];
        let is_none = |rows: &Rows| matches!(rows, Rows::Days(first, last) if first > last);
        parts.into_iter().filter(|rows| !is_none(rows)).collect()
    }

    /// The table, the column of the number of days or spans, and those of the first and last day.
    const fn names(self) -> [&'static str; 4] {
        match self {
            Rows::Days(..) => ["usage_day", "x.day", "x.day", "x.day"],
            Rows::Spans(..) => ["usage_span", "x.span", "x.first_day", "x.last_day"],
        }
    }

    /// A `FROM` and `WHERE` of those of the rows `x` that fit `filter`, with their combos `c` where `by` or the filter
    /// needs them.
    fn of_filter(self, question: &mut Question, filter: &Filter, by: &[Dimension]) -> String {
        let [table, number, ..] = self.names();
        let (Rows::Days(first, last) | Rows::Spans(first, last)) = self;
        let (least, most) = match self {
            Rows::Days(..) => (*DAYS.start(), *DAYS.end()),
            Rows::Spans(..) => (i64::MIN, span_of(*DAYS.end())),
        };
        // What was taken back may leave nothing.
        let mut conditions = vec!["x.interceptions <> 0".to_owned()];
        // What says nothing would only mislead the database.
        if first == last {
            conditions.push(format!("{number} = {}", question.bind(first)));
        } else {
            if first > least {
                conditions.push(format!("{number} >= {}", question.bind(first)));
            }
            if last < most {
                conditions.push(format!("{number} <= {}", question.bind(last)));
            }
        }
        conditions.extend(question.any_label("x.who", &filter.user));
        let combos = question.combos("c", filter);
        let has_combo = !combos.is_empty() || by.iter().any(|dimension| *dimension != Dimension::User);
        conditions.extend(combos);
        let mut from = format!("{table} x");
        if has_combo {
            from += " CROSS JOIN combo c";
            conditions.push("c.id = x.combo".to_owned());
        }
        format!("FROM {from} {}", clause(&conditions))
    }
}

/// A line's place among others: its day, where lines have one, and its words. Opaque to clients, and made of nothing
/// but what the line shows, so that it tells nobody more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    day: i64,
    words: Vec<String>,
}

impl Bookmark {
    /// Reads what `Display` wrote of a line with so many words.
    pub fn parse(text: &str, words: usize) -> Option<Bookmark> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (day, found): (i64, Vec<String>) = serde_json::from_slice(&bytes).ok()?;
        let fits =
            DAYS.contains(&day) && found.len() == words && !found.iter().any(|word| word.contains('\0'));
        fits.then_some(Bookmark { day, words: found })
    }
}

impl std::fmt::Display for Bookmark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = serde_json::to_vec(&(self.day, &self.words)).map_err(|_| std::fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_a_round_trip_and_nothing_else_is_one() {
        let place = Bookmark {
            day: 20_000,
            words: vec!["ann".to_owned(), String::new()],
        };
        let text = place.to_string();
        assert_eq!(Bookmark::parse(&text, 2), Some(place));
        assert_eq!(Bookmark::parse(&text, 1), None, "of another list");
        for wrong in [
            "",
            "x",
            "bnVsbA",
            "WzEsWyJhXHUwMDAwIl1d",
            "Wzk5OTk5OTk5OTk5LFsiYSJdXQ",
        ] {
            assert_eq!(Bookmark::parse(wrong, 1), None, "{wrong}");
        }
    }

    #[test]
    fn a_period_is_read_from_the_fewest_rows_that_have_it() {
        let whole = (*DAYS.start(), *DAYS.end());
        assert_eq!(Rows::of(whole.0, whole.1), [Rows::Spans(ALL_DAYS, ALL_DAYS)]);
        for (first, last, want) in [
            (0, 31, vec![Rows::Spans(0, 0)]),
            (1, 31, vec![Rows::Days(1, 31)]),
            (0, 30, vec![Rows::Days(0, 30)]),
            (
                31,
                64,
                vec![Rows::Days(31, 31), Rows::Spans(1, 1), Rows::Days(64, 64)],
            ),
            (-33, 31, vec![Rows::Days(-33, -33), Rows::Spans(-1, 0)]),
            (64, whole.1, vec![Rows::Spans(2, whole.1 / 32)]),
            (5, 4, vec![Rows::Days(5, 4)]),
        ] {
            assert_eq!(Rows::of(first, last), want, "{first} to {last}");
        }
    }

    #[test]
    fn a_period_is_every_day_that_it_touches() {
        let at = |text| Micros::parse(text);
        for (after, before, want) in [
            ("2026-11-22", "2026-11-23", ("2026-11-22", "2026-11-22")),
            (
                "2026-11-22T23:59:59Z",
                "2026-11-23T00:00:01Z",
                ("2026-11-22", "2026-11-23"),
            ),
            ("1969-12-31T12:00:00Z", "1970-01-01", ("1969-12-31", "1969-12-31")),
        ] {
            let filter = Filter {
                after: at(after),
                before: at(before),
                ..Filter::default()
            };
            let (first, last) = days_of(&filter);
            assert_eq!((&*date(first), &*date(last)), want, "{after} to {before}");
        }
    }
}
