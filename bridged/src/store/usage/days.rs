//! Usage by day, latest day first.
//!
//! A page is read backwards in spans of days that double, so that it costs what its own days hold, however many
//! years there are, and few questions where days are empty.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Bookmark, Dimension, Rows, Totals, date, days_of, summed, sums};
use crate::store::filter::{Filter, Page, Question};
use crate::store::sql::{Columns, Database, Row};
use crate::store::{Store, StoreError};

/// What a day's interceptions used, told apart by what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsageLine {
    /// The day on which they began, UTC: `2026-11-22`.
    pub day: String,
    /// Who asked, if told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub user: Option<String>,
    /// The client, if told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub client: Option<String>,
    /// The instance that answered, if told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub provider: Option<String>,
    /// The model asked for, if told apart; null where requests named none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub model: Option<Option<String>>,
    /// What is counted.
    #[serde(flatten)]
    pub totals: Totals,
    #[serde(skip)]
    pub(super) number: i64,
}

impl UsageLine {
    fn place(&self, by: &[Dimension]) -> Bookmark {
        let word = |dimension: &Dimension| self.word(*dimension).unwrap_or_default().to_owned();
        Bookmark {
            day: self.number,
            words: by.iter().map(word).collect(),
        }
    }

    /// The word of a dimension; none where the line has none.
    pub fn word(&self, dimension: Dimension) -> Option<&str> {
        match dimension {
            Dimension::User => self.user.as_deref(),
            Dimension::Client => self.client.as_deref(),
            Dimension::Provider => self.provider.as_deref(),
            Dimension::Model => self.model.as_ref().and_then(Option::as_deref),
        }
    }

    fn put(&mut self, dimension: Dimension, word: Option<String>) {
        match dimension {
            Dimension::User => self.user = Some(word.unwrap_or_default()),
            Dimension::Client => self.client = Some(word.unwrap_or_default()),
            Dimension::Provider => self.provider = Some(word.unwrap_or_default()),
            Dimension::Model => self.model = Some(word),
        }
    }
}

impl Store {
    /// A page of usage by day and by `by`, each at most once; latest day first, then in the order of the words.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage(
        &self,
        filter: Filter,
        by: Vec<Dimension>,
        page: Page<Bookmark>,
    ) -> Result<(Vec<UsageLine>, Option<Bookmark>), StoreError> {
        self.ask(move |database| {
            let mut lines = read(database, &filter, &by, &page)?;
            let next = page.cut(&mut lines, |line| line.place(&by));
            Ok((lines, next))
        })
        .await
    }
}

fn read(
    database: &mut dyn Database,
    filter: &Filter,
    by: &[Dimension],
    page: &Page<Bookmark>,
) -> Result<Vec<UsageLine>, StoreError> {
    let wanted = page.rows_read();
    let mut lines: Vec<UsageLine> = Vec::new();
    let ends = "SELECT (SELECT min(day) FROM usage_day), (SELECT max(day) FROM usage_day)";
    let mut ends = database
        .query(ends, &[])?
        .pop()
        .ok_or(StoreError::Unreadable)?
        .read();
    let (Some(oldest), Some(newest)) = (ends.optional_int()?, ends.optional_int()?) else {
        return Ok(lines);
    };
    let (first, last) = days_of(filter);
    let first = first.max(oldest);
    let mut high = page
        .cursor
        .as_ref()
        .map_or(last, |place| place.day)
        .min(last)
        .min(newest);
    // A day has one line where nothing tells it apart.
    let mut span = if by.is_empty() { wanted } else { 1 };
    while high >= first {
        let read = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        if read >= wanted {
            break;
        }
        let low = first.max(high.saturating_sub(span - 1));
        let (sql, question) = within(filter, by, (low, high), page.cursor.as_ref(), wanted - read);
        for row in database.query(&sql, &question.values)? {
            lines.push(line(row, by)?);
        }
        (high, span) = (low - 1, span.saturating_mul(2));
    }
    Ok(lines)
}

/// The query of the first lines of some days, after `cursor`.
pub(in crate::store) fn within(
    filter: &Filter,
    by: &[Dimension],
    days: (i64, i64),
    cursor: Option<&Bookmark>,
    limit: i64,
) -> (String, Question) {
    let mut question = Question::default();
    let (mut keys, mut groups, mut words, mut joins) =
        (String::new(), String::new(), Vec::new(), String::new());
    for (number, dimension) in by.iter().enumerate() {
        let column = dimension.column();
        keys += &format!("{column} AS k{number}, ");
        groups += &format!(", {column}");
        // A model may be none, whose number is no word's.
        joins += &format!(" LEFT JOIN label l{number} ON l{number}.id = g.k{number}");
        words.push(format!("coalesce(l{number}.text, '')"));
    }
    let rows = Rows::Days(days.0, days.1).of_filter(&mut question, filter, by);
    let place = cursor
        .map(|place| after(&mut question, place, &words))
        .unwrap_or_default();
    let word_list: String = words.iter().map(|word| format!("{word}, ")).collect();
    let order: String = words.iter().map(|word| format!(", {word}")).collect();
    let limit = question.bind(limit);
    let sql = format!(
        "SELECT g.day, {word_list}{} FROM (SELECT x.day, {keys}{} {rows} GROUP BY x.day{groups}) g{joins} {place}
         ORDER BY g.day DESC{order} LIMIT {limit}",
        summed(),
        sums(),
    );
    (sql, question)
}

/// A `WHERE` clause of what comes after `place`.
fn after(question: &mut Question, place: &Bookmark, words: &[String]) -> String {
    let day = question.bind(place.day);
    if words.is_empty() {
        return format!("WHERE g.day < {day}");
    }
    let marks: Vec<String> = place
        .words
        .iter()
        .map(|word| question.bind(word.clone()))
        .collect();
    let (words, marks) = (words.join(", "), marks.join(", "));
    format!("WHERE (g.day < {day} OR (g.day = {day} AND ({words}) > ({marks})))")
}

fn line(row: Row, by: &[Dimension]) -> Result<UsageLine, StoreError> {
    let mut row: Columns = row.read();
    let number = row.int()?;
    let mut line = UsageLine {
        day: date(number),
        number,
        ..UsageLine::default()
    };
    for dimension in by {
        let word = row.text()?;
        line.put(*dimension, Some(word).filter(|word| !word.is_empty()));
    }
    line.totals = Totals::read(&mut row)?;
    Ok(line)
}
