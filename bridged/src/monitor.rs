//! The metrics listener: `/metrics`, `/healthz`, `/readyz`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::app::App;
use crate::body::ReplyBody;
use crate::config::WhenFull;
use crate::serve;

/// Longest wait for the store; who asks whether the gateway is ready gives it a second or two.
const PATIENCE: Duration = Duration::from_millis(500);

/// Serves until the app stops.
pub async fn run(app: Arc<App>, listener: TcpListener) {
    let shared = app.clone();
    serve::accept(app, listener, move |tcp, _| {
        let app = shared.clone();
        async move {
            let shared = app.clone();
            let service = move |request| answer(shared.clone(), request);
            serve::speak_plain(&app, tcp, service).await;
        }
    })
    .await;
}

async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<ReplyBody> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, app.metrics.render()),
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match unready(&app) {
            None => text(StatusCode::OK, ready(&app).await),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

/// Why the gateway should get no new requests: what holds for this process alone, so that an outage of something
/// that all gateways share does not take all of them out.
fn unready(app: &App) -> Option<&'static str> {
    if app.stopping.is_cancelled() {
        return Some("stopping");
    }
    let (snapshot, gate) = (app.snapshot(), app.recorder.gate());
    if gate.is_closed() && snapshot.config.record.when_full == WhenFull::Refuse {
        return Some("nothing more can be recorded: the record store is away and the spool is full");
    }
    snapshot.admission.strain(&app.load, app.recorder.queued())
}

/// That it serves, and what it does without.
async fn ready(app: &App) -> String {
    let mut text = "ready\n".to_owned();
    for reason in [lost_store(app).await, old_configuration(app)]
        .into_iter()
        .flatten()
    {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "degraded: {reason}");
    }
    text
}

async fn lost_store(app: &App) -> Option<&'static str> {
    let gate = app.recorder.gate();
    if gate.is_closed() {
        return Some("records are lost: the record store is away and the spool is full");
    }
    let asked = tokio::time::timeout(PATIENCE, app.store.versions()).await;
    match asked {
        Ok(Ok(_)) => gate
            .has_in_spool()
            .then_some("records wait in the spool until the record store takes them"),
        _ => Some("the record store cannot be read; requests are served and their records go to the spool"),
    }
}

/// An unusable file is no reason to take the process out: the old configuration runs.
fn old_configuration(app: &App) -> Option<&'static str> {
    let unusable = !app.metrics.config.is_good();
    unusable.then_some("the configuration's file cannot be used; the old configuration runs")
}

fn text(status: StatusCode, text: String) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::from(text.into_bytes()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
