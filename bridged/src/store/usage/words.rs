//! Who used AI in a period, and which users, clients and models there are, each with what they used.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Bookmark, Dimension, Rows, Totals, date, days_of, summed, sums};
use crate::store::filter::{Filter, Page, Question};
use crate::store::{Store, StoreError};

/// A user who used AI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SeatLine {
    /// Who.
    pub user: String,
    /// The first day of use in the period, UTC: `2026-11-22`.
    pub first_day: String,
    /// The last day of use in the period, UTC.
    pub last_day: String,
    /// What is counted.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A word that records can be filtered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FacetLine {
    /// The word.
    pub name: String,
    /// The last day on which it occurred in the period, UTC: `2026-11-22`.
    pub last_day: String,
    /// What is counted.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A word, its first and last day, and what is counted.
type Counted = (String, i64, i64, Totals);

impl Store {
    /// A page of the users who used AI, in the order of their names. A user all of whose requests were refused used
    /// none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn seats(
        &self,
        filter: Filter,
        page: Page<Bookmark>,
    ) -> Result<(Vec<SeatLine>, Option<Bookmark>), StoreError> {
        let used = "HAVING sum(x.interceptions) > sum(x.refused)";
        let (found, next) = self.counted(filter, Dimension::User, used, page).await?;
        let seat = |(user, first, last, totals)| SeatLine {
            user,
            first_day: date(first),
            last_day: date(last),
            totals,
        };
        Ok((found.into_iter().map(seat).collect(), next))
    }

    /// A page of the words of a dimension, in their order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn facets(
        &self,
        filter: Filter,
        dimension: Dimension,
        page: Page<Bookmark>,
    ) -> Result<(Vec<FacetLine>, Option<Bookmark>), StoreError> {
        let (found, next) = self.counted(filter, dimension, "", page).await?;
        let facet = |(name, _, last, totals)| FacetLine {
            name,
            last_day: date(last),
            totals,
        };
        Ok((found.into_iter().map(facet).collect(), next))
    }

    async fn counted(
        &self,
        filter: Filter,
        dimension: Dimension,
        having: &'static str,
        page: Page<Bookmark>,
    ) -> Result<(Vec<Counted>, Option<Bookmark>), StoreError> {
        self.ask(move |database| {
            let mut question = Question::default();
            let groups = groups(&mut question, &filter, dimension, having);
            let word = page.cursor.as_ref().and_then(|place| place.words.first());
            let place = word.map(|word| format!("WHERE l.text > {}", question.bind(word.clone())));
            let limit = question.bind(page.rows_read());
            let sql = format!(
                "SELECT l.text, g.first_day, g.last_day, {} FROM ({groups}) g JOIN label l ON l.id = g.k {}
                 ORDER BY l.text LIMIT {limit}",
                summed(),
                place.unwrap_or_default(),
            );
            let mut found = Vec::new();
            for row in database.query(&sql, &question.values)? {
                let mut row = row.read();
                found.push((row.text()?, row.int()?, row.int()?, Totals::read(&mut row)?));
            }
            let next = page.cut(&mut found, |(word, ..)| Bookmark {
                day: 0,
                words: vec![word.clone()],
            });
            Ok((found, next))
        })
        .await
    }
}

/// The query of the numbers `k` of a dimension's words, with their days and sums.
fn groups(question: &mut Question, filter: &Filter, dimension: Dimension, having: &str) -> String {
    let (key, sums) = (
        if dimension == Dimension::User {
            "x.who"
        } else {
            "x.combo"
        },
        sums(),
    );
    let (first, last) = days_of(filter);
    let mut parts = Vec::new();
    for part in Rows::of(first, last) {
        let [.., first, last] = part.names();
        let rows = part.of_filter(question, filter, &[]);
        // With the sign, so that the days decide which index is used, and not the groups.
        parts.push(format!(
            "SELECT +{key} AS k, min({first}) AS first_day, max({last}) AS last_day, {sums} {rows} GROUP BY +{key}"
        ));
    }
    // There are few combos: their words are looked up once each, and not for every row.
    let (word, combos) = match dimension {
        Dimension::User => ("x.k", ""),
        _ => (dimension.column(), "CROSS JOIN combo c WHERE c.id = x.k"),
    };
    format!(
        "SELECT {word} AS k, min(x.first_day) AS first_day, max(x.last_day) AS last_day, {sums}
         FROM ({}) x {combos} GROUP BY {word} {having}",
        parts.join(" UNION ALL ")
    )
}
