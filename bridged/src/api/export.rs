//! `GET /api/v1/export`: every interception that fits, the latest first, as JSON Lines, JSON or CSV.
//!
//! Pages go from the store straight to the client, so an export of any length takes the memory of a few pages and
//! keeps nobody waiting. All that was there when it began is in it. If it cannot be ended it breaks off in the
//! middle of the body, which HTTP tells from a whole answer.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};

use super::problem::Problem;
use super::query::Asked;
use super::stream::{Gone, Pipe, Place, pipe};
use crate::app::App;
use crate::export::Format;
use crate::identity::Identity;
use crate::store::{Cursor, Filter, InterceptionRow, Page, SEARCH_PATIENCE};

/// Interceptions that are read at once.
const PAGE: u32 = 20;

/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;

/// An export in the middle.
struct Export {
    app: Arc<App>,
    identity: Identity,
    filter: Filter,
    format: Format,
    pipe: Pipe,
    _place: Place,
}

pub(super) async fn export(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Problem> {
    let (identity, filter) = (asked.caller, asked.filter);
    let format = asked.export.unwrap_or_default();
    let place = Place::take(&app, &identity)?;
    if filter.query.is_some() && !app.store.is_searchable(SEARCH_PATIENCE).await? {
        app.metrics.refused("search_index_behind");
        return Err(Problem::later(
            "the search index is being made, and an export by words would not be complete",
        ));
    }
    // What fails at once is a proper error.
    let first = app.store.interceptions(filter.clone(), page(None)).await?;
    let (pipe, body) = pipe();
    let export = Export {
        app: app.clone(),
        identity,
        filter,
        format,
        pipe,
        _place: place,
    };
    app.tracker.spawn(async move { export.run(first).await.ok() });
    let name = format!("attachment; filename=\"interceptions.{}\"", format.extension());
    let headers = [
        (CONTENT_TYPE, format.media_type()),
        (CONTENT_DISPOSITION, name.as_str()),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

fn page(cursor: Option<Cursor>) -> Page {
    Page { cursor, limit: PAGE }
}

impl Export {
    async fn run(self, first: (Vec<InterceptionRow>, Option<Cursor>)) -> Result<(), Gone> {
        let (mut rows, mut next) = first;
        let mut text = self.format.begin();
        let mut is_first = true;
        loop {
            for row in &rows {
                text.push_str(&self.format.rows([row], is_first));
                is_first = false;
                if text.len() >= CHUNK {
                    self.pipe.send(std::mem::take(&mut text)).await?;
                }
            }
            let Some(cursor) = next else { break };
            let now = self.app.clock.micros();
            if self.app.stopping.is_cancelled() || !self.identity.is_live(&self.app, now) {
                return Err(Gone);
            }
            let read = self
                .app
                .store
                .interceptions(self.filter.clone(), page(Some(cursor)))
                .await;
            (rows, next) = read.map_err(|error| Gone::unreadable(&error))?;
        }
        text.push_str(self.format.end());
        self.pipe.send(text).await?;
        self.pipe.finish().await;
        Ok(())
    }
}
