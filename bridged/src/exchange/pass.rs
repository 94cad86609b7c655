//! A request that is not recorded: everything of a claimed host that is no AI call.
//!
//! Its body streams through. Only what base-URL mode allows gets a key of the gateway's, and only a request that is
//! short enough to keep can be sent again with the next key.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use providers::{Route, Transport};

use super::{Exchange, answered, to_client};
use crate::app::App;
use crate::body::{self, Breach, ReplyBody, RequestBody, Streaming};
use crate::credential::{self, Asked, Credential, Lesson};
use crate::headers;
use crate::record::Mode;
use crate::refusal::Refusal;
use crate::upstream::{Upstream, UpstreamBody};

/// Longest body that is kept to be sent again with another key.
const KEPT: usize = 1 << 20;

/// Sends a request and relays the reply.
pub(super) async fn pass_through(
    app: &Arc<App>,
    upstream: &Upstream,
    route: &Route,
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let mode = exchange.mode();
    let (mut parts, body) = exchange.request.into_parts();
    parts.headers = headers::to_upstream(&parts.headers);
    // Proxy mode sends what the client sent and nothing more; only the allow-list of base-URL mode gets a key.
    let credential = match mode {
        Mode::BaseUrl => Some(credential::choose(upstream, &mut parts.headers, mode)?),
        Mode::Proxy => None,
    };
    if upstream.instance.kind.transport() == Transport::Simulated {
        return Err(Refusal::UnknownRoute {
            provider: upstream.name.to_string(),
        });
    }
    let response = match credential {
        Some(credential) if credential.has_key() && is_short(&body) => {
            let body = body::collect(body, KEPT).await.map_err(Refusal::Body)?;
            each_key(app, upstream, route, credential, (parts, body)).await?
        }
        credential => stream(app, upstream, route, credential, (parts, body)).await?,
    };
    app.metrics
        .passthrough(&upstream.name, response.status().as_u16());
    let (parts, body) = to_client(response);
    Ok(Response::from_parts(parts, ReplyBody::Passed(Box::new(body))))
}

fn is_short(body: &Incoming) -> bool {
    let upper = body.size_hint().upper();
    upper.is_some_and(|most| most <= KEPT as u64)
}

/// Sends it once.
async fn stream(
    app: &App,
    upstream: &Upstream,
    route: &Route,
    credential: Option<Credential>,
    (parts, body): (http::request::Parts, Incoming),
) -> Result<Response<UpstreamBody>, Refusal> {
    let breach = Breach::default();
    let body = RequestBody::Streaming(Streaming::new(body, breach.clone()));
    let sent = upstream
        .send(&route.target, Request::from_parts(parts, body))
        .await;
    if sent.is_err()
        && let Some(error) = breach.error()
    {
        return Err(Refusal::Body(error));
    }
    let response = answered(app, upstream, sent)?;
    if let Some(credential) = credential {
        let answer = (response.status().as_u16(), response.headers());
        credential.learn(upstream, Asked::Other, answer, app.clock.now());
    }
    Ok(response)
}

/// Sends it with one key after the other until the provider takes one; the last answer counts.
async fn each_key(
    app: &App,
    upstream: &Upstream,
    route: &Route,
    mut credential: Credential,
    (mut parts, body): (http::request::Parts, Bytes),
) -> Result<Response<UpstreamBody>, Refusal> {
    loop {
        let request = Request::from_parts(parts.clone(), RequestBody::Full(Full::new(body.clone())));
        let sent = upstream.send(&route.target, request).await;
        let response = answered(app, upstream, sent)?;
        let answer = (response.status().as_u16(), response.headers());
        let lesson = credential.learn(upstream, Asked::Other, answer, app.clock.now());
        if lesson == Lesson::None {
            return Ok(response);
        }
        match credential.change(upstream, &mut parts.headers) {
            Ok(()) => {}
            // It is the request that no key has the right for.
            Err(_) if response.status() == http::StatusCode::UNAUTHORIZED => return Ok(response),
            Err(refusal) => return Err(refusal),
        }
    }
}
