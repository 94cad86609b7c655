//! Tables as CSV (RFC 4180), for spreadsheets.
//!
//! Without `limit` the answer is the whole table, read page by page as fast as the client takes it, in constant
//! memory; with it, it is that page, and the header `Link` has the next. No cell begins with what a spreadsheet
//! would run as a formula.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LINK, VARY};
use http::{HeaderMap, Uri};

use super::csv::Csv;
use super::problem::Problem;
use super::query::{Asked, Form};
use super::stream::{Gone, Pipe, Place, pipe};
use crate::app::App;
use crate::store::{Bookmark, Page, StoreError};

/// A table in the making.
pub(super) struct Sheet {
    /// The name of the file.
    pub(super) name: &'static str,
    /// The columns.
    pub(super) head: Vec<&'static str>,
}

/// Rows of cells, and where the next page begins.
pub(super) type Rows = (Vec<Vec<String>>, Option<Bookmark>);

/// Whether a table is asked for as CSV: by `format`, or by an `Accept` that prefers it to JSON.
pub(super) fn is_wanted(asked: &Asked, headers: &HeaderMap) -> bool {
    match asked.form {
        Some(form) => form == Form::Csv,
        None => {
            let csv = quality(headers, &["text/csv"]);
            csv > 0.0 && csv > quality(headers, &["application/json", "application/*", "*/*"])
        }
    }
}

/// The weight that `Accept` gives to the first of these media ranges that it names (RFC 9110 section 12.5.1).
fn quality(headers: &HeaderMap, ranges: &[&str]) -> f32 {
    let named = |wanted: &&str| {
        let values = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|part| {
            let mut pieces = part.split(';').map(str::trim);
            if !pieces.next()?.eq_ignore_ascii_case(wanted) {
                return None;
            }
            let weight =
                pieces.find_map(|piece| piece.strip_prefix("q=").or_else(|| piece.strip_prefix("Q=")));
            Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        })
    };
    ranges.iter().find_map(named).unwrap_or(0.0)
}

impl Sheet {
    /// Answers the table that `read` gives page by page, from `first` on.
    pub(super) async fn answer<F>(
        self,
        app: &Arc<App>,
        asked: &Asked,
        uri: &Uri,
        first: Page<Bookmark>,
        read: impl Fn(Page<Bookmark>) -> F + Send + Sync + 'static,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = Result<Rows, StoreError>> + Send + 'static,
    {
        let is_whole = asked.limit.is_none();
        let limit = if is_whole { Asked::most() } else { first.limit };
        // What goes wrong before anything is sent can still be told.
        let (rows, next) = read(Page { limit, ..first }).await?;
        let start = text([self.head]) + &text(rows);
        let mut link = None;
        let body = match next {
            None => Body::from(start),
            Some(next) if !is_whole => {
                link = link_to(uri, &next);
                Body::from(start)
            }
            Some(next) => rest(app, asked, (start, next), read)?,
        };
        let mut response = body.into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
        );
        headers.insert(VARY, HeaderValue::from_static("accept"));
        let file = format!("attachment; filename=\"causeway-{}.csv\"", self.name);
        headers.extend(
            HeaderValue::try_from(file)
                .ok()
                .map(|value| (CONTENT_DISPOSITION, value)),
        );
        headers.extend(link.map(|link| (LINK, link)));
        Ok(response)
    }
}

/// The address of the next page.
fn link_to(uri: &Uri, next: &Bookmark) -> Option<HeaderValue> {
    let old = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(old.filter(|(name, _)| name != "cursor"));
    query.append_pair("cursor", &next.to_string());
    HeaderValue::try_from(format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())).ok()
}

/// A body that goes on with pages as they are taken.
fn rest<F>(
    app: &Arc<App>,
    asked: &Asked,
    (start, next): (String, Bookmark),
    read: impl Fn(Page<Bookmark>) -> F + Send + Sync + 'static,
) -> Result<Body, Problem>
where
    F: Future<Output = Result<Rows, StoreError>> + Send + 'static,
{
    let place = Place::take(app, &asked.caller)?;
    let (pipe, body) = pipe();
    let stopping = app.stopping.clone();
    app.tracker.spawn(async move {
        let _place = place;
        tokio::select! {
            _ = send(pipe, start, next, read) => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(body)
}

async fn send<F>(
    pipe: Pipe,
    start: String,
    next: Bookmark,
    read: impl Fn(Page<Bookmark>) -> F,
) -> Result<(), Gone>
where
    F: Future<Output = Result<Rows, StoreError>>,
{
    let (mut ready, mut next) = (start, Some(next));
    loop {
        pipe.send(ready).await?;
        let Some(cursor) = next else { break };
        let page = Page {
            cursor: Some(cursor),
            limit: Asked::most(),
        };
        let rows;
        (rows, next) = read(page).await.map_err(|error| Gone::unreadable(&error))?;
        ready = text(rows);
    }
    pipe.finish().await;
    Ok(())
}

/// Rows as text.
fn text<R, C>(rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator<Item = C>,
    C: AsRef<str>,
{
    let mut csv = Csv::default();
    for row in rows {
        for cell in row {
            csv.text(cell.as_ref());
        }
        csv.end_line();
    }
    csv.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_answered_to_those_who_prefer_it() {
        for (accept, want) in [
            ("text/csv", true),
            ("text/csv, */*;q=0.1", true),
            ("TEXT/CSV;header=present;q=0.9, application/json;q=0.5", true),
            ("*/*", false),
            ("application/json, text/csv;q=0.5", false),
            ("text/csv;q=0", false),
            ("text/html, */*;q=0.8", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            let csv = quality(&headers, &["text/csv"]);
            let json = quality(&headers, &["application/json", "application/*", "*/*"]);
            assert_eq!(csv > 0.0 && csv > json, want, "{accept}");
        }
    }
}
