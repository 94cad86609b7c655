//! Usage by day, seats, and the words that records can be filtered by; as JSON or, the first two, as CSV.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, VARY};
use http::{HeaderMap, Uri};

use super::problem::Problem;
use super::query::Asked;
use super::records::List;
use super::sheet::{self, Sheet};
use crate::app::App;
use crate::store::{Dimension, FacetLine, SeatLine, Totals, UsageLine};

/// Answers usage by day.
pub(super) async fn usage(
    State(app): State<Arc<App>>,
    asked: Asked,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let page = asked.page_of_counts(asked.by.len())?;
    let (filter, by) = (asked.filter.clone(), asked.by.clone());
    if !sheet::is_wanted(&asked, &headers) {
        let found: List<UsageLine> = app.store.usage(filter, by, page).await?.into();
        return Ok(either(Json(found)));
    }
    let sheet = Sheet {
        name: "usage",
        head: ["day"]
            .into_iter()
            .chain(by.iter().map(|dimension| dimension.as_str()))
            .chain(Totals::COLUMNS)
            .collect(),
    };
    let store = app.store.clone();
    let read = move |page| {
        let (store, filter, by) = (store.clone(), filter.clone(), by.clone());
        async move {
            let (lines, next) = store.usage(filter, by.clone(), page).await?;
            Ok((lines.iter().map(|line| usage_cells(line, &by)).collect(), next))
        }
    };
    sheet.answer(&app, &asked, &uri, page, read).await
}

/// Answers who used AI.
pub(super) async fn seats(
    State(app): State<Arc<App>>,
    asked: Asked,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let page = asked.page_of_counts(1)?;
    let filter = asked.filter.clone();
    if !sheet::is_wanted(&asked, &headers) {
        let found: List<SeatLine> = app.store.seats(filter, page).await?.into();
        return Ok(either(Json(found)));
    }
    let sheet = Sheet {
        name: "seats",
        head: ["user", "first_day", "last_day"]
            .into_iter()
            .chain(Totals::COLUMNS)
            .collect(),
    };
    let store = app.store.clone();
    let read = move |page| {
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            let (lines, next) = store.seats(filter, page).await?;
            Ok((lines.into_iter().map(seat_cells).collect(), next))
        }
    };
    sheet.answer(&app, &asked, &uri, page, read).await
}

/// An answer that another `Accept` would have made another.
fn either(answer: impl IntoResponse) -> Response {
    ([(VARY, HeaderValue::from_static("accept"))], answer).into_response()
}

fn usage_cells(line: &UsageLine, by: &[Dimension]) -> Vec<String> {
    let mut cells = vec![line.day.clone()];
    cells.extend(
        by.iter()
            .map(|dimension| line.word(*dimension).unwrap_or_default().to_owned()),
    );
    cells.extend(total_cells(&line.totals));
    cells
}

fn seat_cells(line: SeatLine) -> Vec<String> {
    let totals = total_cells(&line.totals);
    [line.user, line.first_day, line.last_day]
        .into_iter()
        .chain(totals)
        .collect()
}

/// What is not known is an empty cell.
fn total_cells(totals: &Totals) -> [String; 15] {
    totals
        .numbers()
        .map(|number| number.map(|number| number.to_string()).unwrap_or_default())
}

/// Answers the clients.
pub(super) async fn clients(app: State<Arc<App>>, asked: Asked) -> Result<Json<List<FacetLine>>, Problem> {
    facets(&app, asked, Dimension::Client).await
}

/// Answers the models.
pub(super) async fn models(app: State<Arc<App>>, asked: Asked) -> Result<Json<List<FacetLine>>, Problem> {
    facets(&app, asked, Dimension::Model).await
}

/// Answers the users.
pub(super) async fn users(app: State<Arc<App>>, asked: Asked) -> Result<Json<List<FacetLine>>, Problem> {
    facets(&app, asked, Dimension::User).await
}

async fn facets(app: &App, asked: Asked, of: Dimension) -> Result<Json<List<FacetLine>>, Problem> {
    let page = asked.page_of_counts(1)?;
    Ok(Json(app.store.facets(asked.filter, of, page).await?.into()))
}
