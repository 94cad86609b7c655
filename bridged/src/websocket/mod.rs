//! WebSockets: the client's handshake becomes the upstream's, then bytes pass both ways.
//!
//! In comes a request for a WebSocket over HTTP/1.1 (`Upgrade`, RFC 6455) or HTTP/2 (extended CONNECT, RFC 8441);
//! the upstream gets it over an HTTP/1.1 connection of its own. An answer other than 101 passes to the client as
//! it is. Invariant: the client hears of success only when the upstream has switched. An open socket of AI calls
//! goes to `relay`, where each call is recorded; any other to `splice`, which reads nothing.

mod caller;
mod calls;
mod down;
pub mod frames;
mod handshake;
mod relay;
mod up;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use providers::{Api, Endpoint, Route, Transport};

use crate::app::App;
use crate::body::{ReplyBody, RequestBody};
use crate::credential::{self, Asked};
use crate::exchange::{self, Exchange};
use crate::record::Mode;
use crate::refusal::Refusal;
use crate::snapshot::Providers;
use crate::splice::splice;
use crate::upstream::{Upstream, UpstreamError};
use crate::wire::Switch;
use caller::Caller;
use handshake::Handshake;

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked(request: &Request<Incoming>) -> bool {
    match request.version() {
        Version::HTTP_11 => {
            *request.method() == Method::GET
                && handshake::names(request.headers(), &UPGRADE, "websocket")
                && handshake::names(request.headers(), &CONNECTION, "upgrade")
                && request.body().is_end_stream()
        }
        Version::HTTP_2 => {
            *request.method() == Method::CONNECT
                && request
                    .extensions()
                    .get::<Protocol>()
                    .is_some_and(|protocol| protocol.as_str() == "websocket")
        }
        _ => false,
    }
}

/// Whether calls are made over a WebSocket of this endpoint.
pub(crate) fn is_bridged(endpoint: Endpoint) -> bool {
    endpoint == Endpoint::Bridged(Api::Responses)
}

fn is_relayed(upstream: &Upstream) -> bool {
    upstream.websockets && upstream.instance.kind.transport() == Transport::Network
}

/// Opens a WebSocket with the upstream and, if that answers so, with the client.
pub(crate) async fn open(
    app: &Arc<App>,
    providers: &Arc<Providers>,
    route: &Route,
    mut exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    let upstream = providers.upstream(route.index).ok_or(Refusal::UnknownProvider)?;
    if !is_relayed(upstream) {
        let status = upstream.instance.kind.websocket_refusal();
        return Err(Refusal::WebSocket { status });
    }
    let (mode, bridged) = (exchange.mode(), is_bridged(route.endpoint));
    let over_http2 = exchange.request.version() == Version::HTTP_2;
    let (handshake, mut asked) = Handshake::begin(exchange.request.headers(), over_http2, bridged)?;
    let keyed = bridged || mode == Mode::BaseUrl;
    let chosen = keyed.then(|| credential::choose(upstream, &mut asked, mode));
    let mut credential = chosen.transpose()?;
    if let Some(credential) = credential.as_mut().filter(|_| bridged) {
        credential.identify(upstream, &asked, &app.fingerprints);
    }
    let caller = credential.as_ref().filter(|_| bridged);
    let caller = caller.map(|credential| Caller::new(app, providers, route, &exchange, credential));
    let client = &mut exchange.request;
    let switch = client.extensions_mut().remove::<Switch>();
    let client_side = hyper::upgrade::on(&mut *client);
    let mut request = Request::new(RequestBody::Full(Full::default()));
    *request.headers_mut() = asked;
    // Among them is how the client spells its fields.
    *request.extensions_mut() = std::mem::take(client.extensions_mut());
    let sent = upstream.send_upgrade(&route.target, request).await;
    let mut response = exchange::answered(app, upstream, sent)?;
    if let Some(credential) = credential {
        let answer = (response.status().as_u16(), response.headers());
        credential.learn(upstream, Asked::of(route.endpoint), answer, app.clock.now());
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return handshake
            .refused(response)
            .ok_or_else(|| no_websocket(app, upstream));
    }
    if !handshake.is_accepted(response.headers()) {
        return Err(no_websocket(app, upstream));
    }
    let sides = Sides {
        client: client_side,
        upstream: hyper::upgrade::on(&mut response),
        idle: upstream.idle_timeout(),
    };
    if let Some(switch) = &switch {
        switch.turn();
    }
    let open = OpenSocket::count(app.metrics.websockets_open(&upstream.name));
    let shared = app.clone();
    app.tracker.spawn(async move {
        sides.meet(&shared, caller).await;
        drop((open, switch));
    });
    Ok(handshake.opened(response))
}

fn no_websocket(app: &App, upstream: &Upstream) -> Refusal {
    let error = UpstreamError::NoWebSocket;
    app.metrics.upstream_error(&upstream.name, error.kind());
    Refusal::Upstream {
        provider: upstream.name.to_string(),
        error,
    }
}

/// The two sides of a socket, until both have switched.
struct Sides {
    client: OnUpgrade,
    upstream: OnUpgrade,
    /// Longest silence of the socket.
    idle: Duration,
}

impl Sides {
    /// Carries the socket until it ends; `caller` makes calls over it.
    async fn meet(self, app: &App, caller: Option<Caller>) {
        let (client, upstream) = match tokio::try_join!(self.client, self.upstream) {
            Ok(sides) => sides,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "a WebSocket was not opened");
                return;
            }
        };
        let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        match caller {
            Some(caller) => relay::relay(client, upstream, caller, self.idle, &app.stopping).await,
            None => splice(client, upstream, self.idle, &app.stopping).await,
        }
    }
}

/// Counts a socket while it is open.
struct OpenSocket(Gauge);

impl OpenSocket {
    fn count(gauge: Gauge) -> OpenSocket {
        gauge.increment(1.0);
        OpenSocket(gauge)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
