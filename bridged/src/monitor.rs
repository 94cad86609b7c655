//! The metrics listener: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::app::App;
use crate::body::ReplyBody;
use crate::serve;

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
        "/readyz" => match unready(&app).await {
            None => text(StatusCode::OK, ready(&app)),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

/// Why the gateway should get no new requests.
async fn unready(app: &App) -> Option<&'static str> {
    if app.stopping.is_cancelled() {
        return Some("stopping");
    }
    let queued = app.recorder.queued();
    if let Some(strain) = app.snapshot().admission.strain(&app.load, queued) {
        return Some(strain);
    }
    app.store
        .token_version()
        .await
        .err()
        .map(|_| "the record store cannot be read")
}

/// An unusable file is no reason to take the process out: the old configuration runs.
fn ready(app: &App) -> String {
    if app.metrics.config.is_good() {
        "ready\n".to_owned()
    } else {
        "ready; but the configuration's file cannot be used, the old one runs\n".to_owned()
    }
}

fn text(status: StatusCode, text: String) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::from(text.into_bytes()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
