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
mod usage;
mod way;

use std::sync::Arc;

use http::header::HeaderMap;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use providers::{Api, Endpoint, ErrorShape, NamedRouteError, Registry, Route};
use uuid::Uuid;

use crate::admission::Denied;
use crate::app::App;
use crate::body::ReplyBody;
use crate::headers;
use crate::identity::Identity;
use crate::record::Mode;
use crate::refusal::Refusal;
use crate::snapshot::{Providers, Snapshot};
use crate::upstream::Upstream;
use crate::websocket;

use call::Asking;
pub(crate) use call::{Call, begin, begin_unasked, user_agent};
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
    let (snapshot, mut exchange) = (app.snapshot(), exchange);
    let providers = &snapshot.providers;
    if !exchange.identity.is_live(app, app.clock.micros()) {
        let shape = providers.error_shape(exchange.index(&providers.registry));
        return refuse_marked(app, &Refusal::Ended, shape, request_id);
    }
    snapshot.identity.strip(exchange.request.headers_mut());
    let mut response = match route(providers, &exchange) {
        Err((refusal, index)) => refuse(app, &refusal, providers.error_shape(index), request_id),
        Ok(route) => dispatch(app, &snapshot, route, exchange).await,
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

/// The same, with the request's id on it.
pub fn refuse_marked(
    app: &App,
    refusal: &Refusal,
    shape: ErrorShape,
    request_id: Uuid,
) -> Response<ReplyBody> {
    let mut response = refuse(app, refusal, shape, request_id);
    mark(response.headers_mut(), request_id);
    response
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
    snapshot: &Arc<Snapshot>,
    route: Route,
    exchange: Exchange,
) -> Response<ReplyBody> {
    let request_id = exchange.request_id;
    let Some(upstream) = snapshot.providers.upstream(route.index) else {
        return refuse(app, &Refusal::UnknownProvider, ErrorShape::OpenAi, request_id);
    };
    let shape = upstream.instance.kind.error_shape(route.endpoint);
    let answered = if websocket::is_asked(&exchange.request) {
        match admit_socket(snapshot, upstream, &route, &exchange) {
            Ok(()) => websocket::open(app, &snapshot.providers, &route, exchange).await,
            Err(denied) => Err(denied.into()),
        }
    } else {
        match route.endpoint {
            Endpoint::Bridged(api) => bridge(app, snapshot, upstream, (route, api), exchange).await,
            Endpoint::Passthrough => match admit_unbridged(snapshot, upstream, &exchange) {
                Ok(()) => pass::pass_through(app, upstream, &route, exchange).await,
                Err(denied) => Err(denied.into()),
            },
        }
    };
    answered.unwrap_or_else(|refusal| refuse(app, &refusal, shape, request_id))
}

/// An AI call: recorded before it is sent, tapped while it is answered.
async fn bridge(
    app: &Arc<App>,
    snapshot: &Arc<Snapshot>,
    upstream: &Upstream,
    (route, api): (Route, Api),
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let call = call::receive(app, &route, api, exchange).await?;
    let Some(drain) = reply::drain(app, upstream) else {
        return answer(app, snapshot, upstream, (&route, api), call).await;
    };
    let (app, snapshot) = (app.clone(), snapshot.clone());
    let answering = async move {
        let upstream = snapshot.providers.upstream(route.index);
        let upstream = upstream.ok_or(Refusal::UnknownProvider)?;
        answer(&app, &snapshot, upstream, (&route, api), call).await
    };
    drain.outlive(Box::pin(answering)).await
}

/// Answers a call that has been read.
async fn answer(
    app: &App,
    snapshot: &Snapshot,
    upstream: &Upstream,
    (route, api): (&Route, Api),
    mut call: Call,
) -> Result<Response<ReplyBody>, Refusal> {
    let asking = Asking::of(&call);
    let found = match asking.admit(app, snapshot, upstream) {
        Ok(admitted) => way::find(
            (app, snapshot),
            upstream,
            (route, api),
            &mut call,
            (asking, admitted),
        ),
        Err(denied) => Err(denied.into()),
    };
    let mut way = match found {
        Ok(way) => way,
        Err(refusal) => return Err(call::refuse(app, upstream, call, refusal).await),
    };
    let mut recording = call::record(app, way.upstream, &mut call, &way.credential).await?;
    let hides_usage = usage::ask(way.upstream, &mut call);
    match send::send(app, &mut way, &mut call, &mut recording).await {
        Ok(response) => {
            recording.admitted(way.admitted);
            Ok(reply::relay(app, way.upstream, response, recording, hides_usage))
        }
        Err(refusal) => Err(send::fail(recording, refusal).await),
    }
}

/// Calls over a socket are admitted one by one.
fn admit_socket(
    snapshot: &Snapshot,
    upstream: &Upstream,
    route: &Route,
    exchange: &Exchange,
) -> Result<(), Denied> {
    match websocket::is_bridged(route.endpoint) {
        true => Ok(()),
        false => admit_unbridged(snapshot, upstream, exchange),
    }
}

fn admit_unbridged(snapshot: &Snapshot, upstream: &Upstream, exchange: &Exchange) -> Result<(), Denied> {
    let admission = &snapshot.admission;
    admission.admit_unbridged(&exchange.identity, &upstream.name)
}

impl Exchange {
    /// The instance that this is for, whatever its path.
    fn index(&self, registry: &Registry) -> Option<usize> {
        match &self.origin {
            Origin::Host { host, port } => registry.claiming(host, *port),
            Origin::Provider { name, .. } => registry.named(name),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.origin {
            Origin::Host { .. } => Mode::Proxy,
            Origin::Provider { .. } => Mode::BaseUrl,
        }
    }
}
