//! `GET /api/v1/events`: interceptions as they end, and warnings of budgets, as server-sent events.
//!
//! Each event has the position behind it as its `id`; a client that comes back with `Last-Event-ID` (or `?after=`)
//! misses nothing and sees nothing twice. Without one the stream begins with what comes next. A stream ends with the
//! process, and when its token does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use tokio::time::Instant;

use super::problem::Problem;
use super::query::Asked;
use super::stream::{Gone, Pipe, Place, pipe};
use crate::app::App;
use crate::export::json;
use crate::identity::Identity;
use crate::store::{Filter, Position, PositionKey, StoreError};
use crate::token::Role;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies of nginx's kind not to hold events back.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Longest silence of a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the store is asked although nothing was heard: other gateways write to it too.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two questions.
const BREATH: Duration = Duration::from_millis(50);
/// Interceptions that are read at once.
const PORTION: u32 = 100;
/// Milliseconds after which a client that lost its connection comes back.
const RETRY: &str = "retry: 2000\n";

/// A stream.
struct Stream {
    app: Arc<App>,
    identity: Identity,
    filter: Filter,
    position: Position,
    key: Arc<PositionKey>,
    pipe: Pipe,
    spoken: Instant,
    _place: Place,
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Problem> {
    let identity = asked.caller;
    let key = app.store.position_key().await?;
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let position = match seen.or(asked.position.as_deref()) {
        Some(text) => key
            .open(text)
            .ok_or_else(|| Problem::parameter("after", "the `id` of an earlier event"))?,
        None => app.store.feed_end().await?,
    };
    let place = Place::take(&app, &identity)?;
    let (pipe, body) = pipe();
    let stream = Stream {
        app: app.clone(),
        identity,
        filter: asked.filter,
        position,
        key,
        pipe,
        spoken: Instant::now(),
        _place: place,
    };
    app.tracker.spawn(stream.run());
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (UNBUFFERED, "no"),
    ];
    Ok((headers, body).into_response())
}

fn note(error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "an event stream waits: the store cannot be read");
}

impl Stream {
    async fn run(mut self) {
        if self.speak().await.is_ok() {
            self.pipe.finish().await;
        }
    }

    /// Goes on until the process or the token ends.
    async fn speak(&mut self) -> Result<(), Gone> {
        let app = self.app.clone();
        let mut news = app.store.news();
        self.tell(RETRY).await?;
        loop {
            news.mark_unchanged();
            if app.stopping.is_cancelled() || !self.identity.is_live(&app, app.clock.micros()) {
                return Ok(());
            }
            // What cannot be read now is read later.
            let more = match self.read().await {
                Ok(more) => more?,
                Err(error) => {
                    note(&error);
                    false
                }
            };
            if self.spoken.elapsed() >= HEARTBEAT {
                self.tell(": still here\n").await?;
            }
            if more {
                continue;
            }
            let hear = async {
                tokio::time::sleep(BREATH).await;
                // What else is written shows at the next look.
                let _ = tokio::time::timeout(LOOK, news.changed()).await;
            };
            tokio::select! {
                () = hear => {}
                () = self.pipe.closed() => return Err(Gone),
                () = app.stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Tells of what there is to tell; whether there is more.
    async fn read(&mut self) -> Result<Result<bool, Gone>, StoreError> {
        let store = &self.app.store;
        let portion = store
            .feed(self.position.clone(), self.filter.clone(), PORTION)
            .await?;
        let own = (self.identity.role < Role::Auditor).then(|| self.identity.user.to_string());
        let warnings = store.warnings(&self.position, own).await?;
        for told in &portion.told {
            self.position.pass(told);
            if self.event("interception", &json(&told.row)).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        self.position.go_on_to(&portion.position);
        for (number, warning) in &warnings {
            self.position.pass_warning(*number);
            if self.event("budget", &json(warning)).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(portion.more))
    }

    async fn event(&mut self, name: &str, data: &str) -> Result<(), Gone> {
        self.tell(&format!("event: {name}\ndata: {data}\n")).await
    }

    /// Sends lines, with the position behind them. Lines without data are no event, but the position counts.
    async fn tell(&mut self, lines: &str) -> Result<(), Gone> {
        let position = self.key.seal(&self.position);
        self.spoken = Instant::now();
        self.pipe.send(format!("id: {position}\n{lines}\n")).await
    }
}
