//! One request from its arrival to its reply: the pipeline, top to bottom.
//!
//! `exchange` is what both ways in call: `proxyd` with a decrypted request and the host of its CONNECT, the
//! bridge's listener with a provider's name. A bridged request is buffered, inspected, recorded, sent and
//! relayed with a tap; everything else of a claimed host passes through. Refusals of every step come out in
//! one place, in the provider's error shape.

mod call;
mod pass;
mod reply;
mod send;
mod way;

use std::sync::Arc;

use http::header::HeaderMap;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use providers::{Api, Endpoint, ErrorShape, NamedRouteError, Route};
use uuid::Uuid;

use crate::app::{App, Providers};
use crate::body::ReplyBody;
use crate::headers;
use crate::identity::Identity;
use crate::record::Mode;
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::websocket;

pub(crate) use call::{Call, record, user_agent};
pub(crate) use reply::{tap_limits, to_client};
pub(crate) use send::answered;

/// What the client asked for.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A URL of a claimed host, through the proxy. Path and query are the request's.
    Host {
        /// The host of the CONNECT.
        host: Arc<str>,
        /// Its port.
        port: u16,
    },
    /// A provider by name, on the bridge's own listener.
    Provider {
        /// The name.
        name: String,
        /// Path and query below it.
        path_and_query: String,
    },
}

/// A request with what is known of it.
#[derive(Debug)]
pub struct Exchange {
    /// What the client asked for.
    pub origin: Origin,
    /// Who asks.
    pub identity: Identity,
    /// The CONNECT that carries it.
    pub connect_id: Option<Uuid>,
    /// Names the request to client and operator.
    pub request_id: Uuid,
    /// The request itself.
    pub request: Request<Incoming>,
}

/// Answers a request. Never fails: what goes wrong is answered too.
pub async fn exchange(app: &Arc<App>, exchange: Exchange) -> Response<ReplyBody> {
    let request_id = exchange.request_id;
    let providers = app.providers();
    let mut response = match route(&providers, &exchange) {
        Err((refusal, index)) => refuse(app, &refusal, providers.error_shape(index), request_id),
        Ok(route) => dispatch(app, &providers, route, exchange).await,
    };
    mark(response.headers_mut(), request_id);
    response
}

/// Puts the request's id on a reply.
pub fn mark(headers: &mut HeaderMap, request_id: Uuid) {
    let mut text = Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(request_id.as_hyphenated().encode_lower(&mut text)) {
        headers.insert(headers::REQUEST_ID, value);
    }
}

/// Answers a refusal, counted and logged.
pub fn refuse(app: &App, refusal: &Refusal, shape: ErrorShape, request_id: Uuid) -> Response<ReplyBody> {
    app.metrics.refused(refusal.code());
    tracing::info!(
        request = %request_id,
        reason = refusal.code(),
        status = refusal.status(),
        error = refusal as &dyn std::error::Error,
        "request refused"
    );
    refusal.respond(shape, request_id)
}

/// Finds the route; a refusal comes with the instance whose clients are to understand it.
fn route(providers: &Providers, exchange: &Exchange) -> Result<Route, (Refusal, Option<usize>)> {
    let method = exchange.request.method();
    if websocket::is_asked(&exchange.request) {
        // On the wire a WebSocket is a GET or a CONNECT, whatever goes over it.
        return match route_as(&Method::POST, providers, exchange) {
            Ok(route) if websocket::is_bridged(route.endpoint) => Ok(route),
            _ => route_as(&Method::GET, providers, exchange),
        };
    }
    if *method == Method::CONNECT {
        return Err((Refusal::Connect, None));
    }
    route_as(method, providers, exchange)
}

fn route_as(
    method: &Method,
    providers: &Providers,
    exchange: &Exchange,
) -> Result<Route, (Refusal, Option<usize>)> {
    match &exchange.origin {
        Origin::Host { host, port } => {
            let path = exchange
                .request
                .uri()
                .path_and_query()
                .map_or("/", |path| path.as_str());
            providers
                .registry
                .route_origin(method, host, *port, path)
                .ok_or((Refusal::Misdirected, None))
        }
        Origin::Provider { name, path_and_query } => {
            let found = providers.registry.route_named(method, name, path_and_query);
            found.map_err(|error| match error {
                NamedRouteError::UnknownRoute { index } => (
                    Refusal::UnknownRoute {
                        provider: providers.name(index),
                    },
                    Some(index),
                ),
                _ => (Refusal::UnknownProvider, None),
            })
        }
    }
}

async fn dispatch(
    app: &Arc<App>,
    providers: &Arc<Providers>,
    route: Route,
    exchange: Exchange,
) -> Response<ReplyBody> {
    let request_id = exchange.request_id;
    let Some(upstream) = providers.upstream(route.index) else {
        return refuse(app, &Refusal::UnknownProvider, ErrorShape::OpenAi, request_id);
    };
    let shape = upstream.instance.kind.error_shape(route.endpoint);
    let answered = if websocket::is_asked(&exchange.request) {
        websocket::open(app, providers, &route, exchange).await
    } else {
        match route.endpoint {
            Endpoint::Bridged(api) => bridge(app, providers, upstream, (&route, api), exchange).await,
            Endpoint::Passthrough => pass::pass_through(app, upstream, &route, exchange).await,
        }
    };
    answered.unwrap_or_else(|refusal| refuse(app, &refusal, shape, request_id))
}

/// An AI call: recorded before it is sent, tapped while it is answered.
async fn bridge(
    app: &Arc<App>,
    providers: &Providers,
    upstream: &Upstream,
    (route, api): (&Route, Api),
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let mut call = call::receive(app, route, api, exchange).await?;
    let mut way = way::find(providers, upstream, (route, api), &mut call)?;
    let mut recording = call::record(app, way.upstream, &mut call, &way.credential).await?;
    match send::send(app, &mut way, call, &mut recording).await {
        Ok(response) => Ok(reply::relay(way.upstream, response, recording)),
        Err(refusal) => Err(send::fail(recording, refusal).await),
    }
}

impl Exchange {
    pub(crate) fn mode(&self) -> Mode {
        match self.origin {
            Origin::Host { .. } => Mode::Proxy,
            Origin::Provider { .. } => Mode::BaseUrl,
        }
    }
}
