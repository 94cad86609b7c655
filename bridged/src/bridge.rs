//! The bridge's own listener: the data plane in base-URL mode, the API, and the CA's certificate.
//!
//! `/<provider>/…` is a provider's API; `/api/v1/…` is ours. A request of the data plane becomes an `Exchange`
//! and goes on in `exchange`.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use providers::ErrorShape;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::app::App;
use crate::body::ReplyBody;
use crate::exchange::{self, Exchange, Origin};
use crate::refusal::Refusal;
use crate::{api, identity, serve};

/// Paths under which the data plane is known too.
const ALIASES: [&str; 2] = ["/api/v2/aibridge", "/api/v2/ai-gateway"];

/// Serves until the app stops.
pub async fn run(app: Arc<App>, listener: TcpListener) {
    let api = api::router(app.clone());
    let shared = app.clone();
    serve::accept(app, listener, move |tcp, peer| {
        let (app, api) = (shared.clone(), api.clone());
        async move {
            let shared = app.clone();
            let service = move |mut request: Request<Incoming>| {
                shared
                    .snapshot()
                    .identity
                    .distrust(request.headers_mut(), peer.ip());
                answer(shared.clone(), api.clone(), request)
            };
            serve::speak_plain(&app, tcp, service).await;
        }
    })
    .await;
}

async fn answer(app: Arc<App>, api: api::Router, request: Request<Incoming>) -> Response<ReplyBody> {
    match request.uri().path() {
        "/" => text(StatusCode::OK, "text/plain; charset=utf-8", WELCOME),
        "/ca.pem" => match app.ca() {
            Some(ca) => text(StatusCode::OK, "application/x-pem-file", &ca.pem),
            None => text(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "this process has no CA\n",
            ),
        },
        path if path == "/api/v1" || path.starts_with("/api/v1/") => api::answer(api, request).await,
        _ => data_plane(app, request).await,
    }
}

const WELCOME: &str =
    "Causeway. AI providers are at /<provider>/…, records at /api/v1/…, the CA at /ca.pem\n";

async fn data_plane(app: Arc<App>, request: Request<Incoming>) -> Response<ReplyBody> {
    let request_id = Uuid::now_v7();
    let (name, path_and_query) = split(request.uri().path_and_query().map_or("/", |path| path.as_str()));
    let providers = app.providers();
    let Some(index) = providers.registry.named(name) else {
        return exchange::refuse_marked(&app, &Refusal::UnknownProvider, ErrorShape::OpenAi, request_id);
    };
    // Clients probe a base URL before they use it.
    if *request.method() == Method::HEAD && path_and_query == "/" {
        return Response::new(ReplyBody::empty());
    }
    let identity = match identity::from_headers(&app, request.headers()).await {
        Ok(identity) => identity,
        Err(error) => {
            let shape = providers.error_shape(Some(index));
            return exchange::refuse_marked(&app, &Refusal::Unauthenticated(error), shape, request_id);
        }
    };
    let origin = Origin::Provider {
        name: name.to_owned(),
        path_and_query: path_and_query.to_owned(),
    };
    exchange::exchange(
        &app,
        Exchange {
            origin,
            identity,
            connect_id: None,
            request_id,
            request,
        },
    )
    .await
}

/// Splits `/openai/v1/x?y` into `openai` and `/v1/x?y`.
fn split(path_and_query: &str) -> (&str, &str) {
    let path = ALIASES
        .iter()
        .find_map(|alias| {
            path_and_query
                .strip_prefix(alias)
                .filter(|rest| rest.starts_with('/'))
        })
        .unwrap_or(path_and_query);
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.find(['/', '?']) {
        Some(end) if path.as_bytes().get(end) == Some(&b'/') => path.split_at(end),
        Some(end) => (path.get(..end).unwrap_or_default(), "/"),
        None => (path, "/"),
    }
}

fn text(status: StatusCode, kind: &'static str, text: &str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::from(text.as_bytes().to_vec()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_provider_and_rest() {
        for (path, want) in [
            (
                "/openai/v1/chat/completions?a=b",
                ("openai", "/v1/chat/completions?a=b"),
            ),
            ("/api/v2/aibridge/openai/v1/models", ("openai", "/v1/models")),
            (
                "/api/v2/ai-gateway/anthropic/v1/messages",
                ("anthropic", "/v1/messages"),
            ),
            ("/anthropic", ("anthropic", "/")),
            ("/anthropic?x=/y", ("anthropic", "/")),
            ("/", ("", "/")),
        ] {
            assert_eq!(split(path), want, "{path}");
        }
    }
}
