//! One request from its arrival to its reply: the pipeline, top to bottom.
//!
//! `exchange` is what both ways in call: `proxyd` with a decrypted request and the host of its CONNECT, the
//! bridge's listener with a provider's name. A bridged request is buffered, inspected, recorded, sent and
//! relayed with a tap; everything else of a claimed host passes through. Refusals of every step come out in
//! one place, in the provider's error shape.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use providers::{
    Api, Client, Endpoint, ErrorShape, Inspection, Limits, NamedRouteError, ReplyHead, Route, Tap, TapLimits,
    Transport,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::{App, Providers};
use crate::body::{self, Breach, ReplyBody, RequestBody, Streaming};
use crate::clock::Micros;
use crate::config::Content;
use crate::credential::{self, Credential};
use crate::headers;
use crate::identity::Identity;
use crate::record::{Finish, Mode, Outcome, Recording, Started};
use crate::refusal::Refusal;
use crate::relay::Relay;
use crate::upstream::{self, Upstream, UpstreamBody, UpstreamError};
use crate::websocket;

/// Bytes that a compressed request may decode to, for inspection only.
const DECODED_LIMIT: usize = 64 << 20;
/// Longest `User-Agent` that is recorded, in bytes.
const USER_AGENT_LIMIT: usize = 256;

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
    providers: &Providers,
    route: Route,
    exchange: Exchange,
) -> Response<ReplyBody> {
    let request_id = exchange.request_id;
    let Some(upstream) = providers.upstream(route.index) else {
        return refuse(app, &Refusal::UnknownProvider, ErrorShape::OpenAi, request_id);
    };
    let shape = upstream.instance.kind.error_shape(route.endpoint);
    let answered = if websocket::is_asked(&exchange.request) {
        websocket::open(app, upstream, &route, exchange).await
    } else {
        match route.endpoint {
            Endpoint::Bridged(api) => bridge(app, upstream, &route, api, exchange).await,
            Endpoint::Passthrough => pass_through(app, upstream, &route, exchange).await,
        }
    };
    answered.unwrap_or_else(|refusal| refuse(app, &refusal, shape, request_id))
}

/// A request that is not recorded: everything of a claimed host that is no AI call.
async fn pass_through(
    app: &Arc<App>,
    upstream: &Upstream,
    route: &Route,
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let mode = exchange.mode();
    let (mut parts, body) = exchange.request.into_parts();
    parts.headers = headers::to_upstream(&parts.headers);
    // Proxy mode sends what the client sent and nothing more; only the allow-list of base-URL mode gets a key.
    if mode == Mode::BaseUrl {
        credential::choose(upstream, &mut parts.headers, mode)?;
    }
    if upstream.instance.kind.transport() == Transport::Simulated {
        return Err(Refusal::UnknownRoute {
            provider: upstream.name.to_string(),
        });
    }
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
    app.metrics
        .passthrough(&upstream.name, response.status().as_u16());
    let (parts, body) = to_client(response);
    Ok(Response::from_parts(parts, ReplyBody::Passed(Box::new(body))))
}

/// An AI call: recorded before it is sent, tapped while it is answered.
async fn bridge(
    app: &Arc<App>,
    upstream: &Upstream,
    route: &Route,
    api: Api,
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let mut call = receive(app, route, api, exchange).await?;
    let credential = credential::choose(upstream, &mut call.parts.headers, call.mode)?;
    let mut recording = record(app, upstream, &mut call, credential).await?;
    let sending = Instant::now();
    let sent = send(app, upstream, route, call, recording.id()).await;
    recording.waited(sending.elapsed());
    match answered(app, upstream, sent) {
        Ok(response) => Ok(relay(app, upstream, response, recording)),
        Err(refusal) => Err(fail(recording, refusal).await),
    }
}

/// An AI call that has been read.
struct Call {
    api: Api,
    arrived: Instant,
    date: Micros,
    mode: Mode,
    identity: Identity,
    connect_id: Option<Uuid>,
    request_id: Uuid,
    user_agent: Option<String>,
    client: Client,
    inspection: Inspection,
    /// The head, its headers as they go upstream.
    parts: http::request::Parts,
    body: Bytes,
}

/// Buffers and inspects a request.
async fn receive(app: &App, route: &Route, api: Api, exchange: Exchange) -> Result<Call, Refusal> {
    let (arrived, date, mode) = (Instant::now(), app.clock.micros(), exchange.mode());
    let (mut parts, body) = exchange.request.into_parts();
    let body = body::collect(body, app.config.max_body)
        .await
        .map_err(Refusal::Body)?;
    let inspection = inspect(api, &route.target.path_and_query, &parts.headers, &body);
    let client = providers::detect(&parts.headers);
    let user_agent = user_agent(&parts.headers);
    parts.headers = headers::to_upstream(&parts.headers);
    let Exchange {
        identity,
        connect_id,
        request_id,
        ..
    } = exchange;
    Ok(Call {
        api,
        arrived,
        date,
        mode,
        identity,
        connect_id,
        request_id,
        user_agent,
        client,
        inspection,
        parts,
        body,
    })
}

/// Records the start of a call. Where that cannot be done, the call is refused before anything is sent.
async fn record(
    app: &App,
    upstream: &Upstream,
    call: &mut Call,
    credential: Credential,
) -> Result<Recording, Refusal> {
    // One HTTP request is one interception: the id that the client sees finds its record.
    let id = call.request_id;
    let inspection = &mut call.inspection;
    let metrics = app.metrics.call(
        &upstream.name,
        call.api,
        inspection.model.as_deref(),
        call.client.name,
    );
    if inspection.prompt.is_some() {
        metrics.prompted();
    }
    let started = Started {
        id,
        request_id: call.request_id,
        connect_id: call.connect_id,
        user: call.identity.user.clone(),
        provider: upstream.name.clone(),
        kind: upstream.instance.kind.name(),
        api: call.api,
        model: inspection.model.clone(),
        client: call.client.name,
        client_version: call.client.version.take(),
        user_agent: call.user_agent.take(),
        session_id: call.client.session_id.take().or(inspection.session_id.take()),
        mode: call.mode,
        credential: credential.kind,
        credential_hint: credential.hint,
        stream: inspection.stream,
        request_bytes: call.body.len() as u64,
        started_at: call.date,
        prompt: inspection.prompt.clone(),
        prompt_truncated: inspection.prompt_truncated,
        tool_results: std::mem::take(&mut inspection.tool_results),
    };
    let mut recording = Recording::open(
        app.recorder.clone(),
        app.clock.clone(),
        metrics,
        (id, call.api),
        call.arrived,
    );
    match app.recorder.start(started).await {
        Ok(()) => Ok(recording),
        Err(error) => {
            let refusal = Refusal::Unrecordable(error);
            recording.answered(refusal.status());
            recording.finish(Finish::failed(
                Outcome::Refused,
                refusal.code(),
                refusal.to_string(),
            ));
            Err(refusal)
        }
    }
}

async fn send(
    app: &App,
    upstream: &Upstream,
    route: &Route,
    call: Call,
    id: Uuid,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    if upstream.instance.kind.transport() == Transport::Simulated {
        let reply_id = id.simple().to_string();
        let reply = providers::simulate(call.api, &call.inspection, &call.body, &reply_id, app.clock.now());
        return Ok(upstream::simulated(reply));
    }
    let request = Request::from_parts(call.parts, RequestBody::Full(Full::new(call.body)));
    upstream.send(&route.target, request).await
}

/// Ends the record of a request that the upstream did not answer.
async fn fail(mut recording: Recording, refusal: Refusal) -> Refusal {
    recording.answered(refusal.status());
    let finish = Finish::failed(Outcome::Failed, refusal.code(), refusal.to_string());
    if let Some(committed) = recording.finish(finish) {
        // The answer must not depend on the store.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), committed).await;
    }
    refusal
}

pub(crate) fn answered(
    app: &App,
    upstream: &Upstream,
    sent: Result<Response<UpstreamBody>, UpstreamError>,
) -> Result<Response<UpstreamBody>, Refusal> {
    match sent {
        Ok(response) => {
            app.metrics
                .upstream_response(&upstream.name, response.status().as_u16());
            Ok(response)
        }
        Err(error) => {
            app.metrics.upstream_error(&upstream.name, error.kind());
            Err(Refusal::Upstream {
                provider: upstream.name.to_string(),
                error,
            })
        }
    }
}

fn relay(
    app: &App,
    upstream: &Upstream,
    response: Response<UpstreamBody>,
    mut recording: Recording,
) -> Response<ReplyBody> {
    let status = response.status();
    recording.answered(status.as_u16());
    let tap = tap(app, recording.api(), &response);
    let (parts, body) = to_client(response);
    let relay = Relay::new(body, tap, recording, status.is_success(), upstream.idle_timeout());
    Response::from_parts(parts, ReplyBody::Tapped(Box::new(relay)))
}

fn tap(app: &App, api: Api, response: &Response<UpstreamBody>) -> Tap {
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let head = ReplyHead {
        status: response.status().as_u16(),
        content_type: text(CONTENT_TYPE),
        content_encoding: text(CONTENT_ENCODING),
    };
    let keep_output = app.recorder.config().content == Content::Full;
    Tap::new(
        api,
        &head,
        TapLimits {
            keep_output,
            ..TapLimits::default()
        },
    )
}

pub(crate) fn to_client(response: Response<UpstreamBody>) -> (http::response::Parts, UpstreamBody) {
    let (mut parts, body) = response.into_parts();
    parts.headers = headers::to_client(&parts.headers);
    parts.version = http::Version::HTTP_11;
    (parts, body)
}

fn inspect(api: Api, path: &str, headers: &HeaderMap, body: &Bytes) -> Inspection {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok());
    match providers::decode_body(encoding, body, DECODED_LIMIT) {
        Ok(decoded) => providers::inspect(api, path, &decoded, &Limits::default()),
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a request body cannot be decoded"
            );
            providers::inspect(api, path, b"", &Limits::default())
        }
    }
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.get(..USER_AGENT_LIMIT).unwrap_or(text).to_owned())
}

impl Exchange {
    pub(crate) fn mode(&self) -> Mode {
        match self.origin {
            Origin::Host { .. } => Mode::Proxy,
            Origin::Provider { .. } => Mode::BaseUrl,
        }
    }
}
