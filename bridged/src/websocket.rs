//! WebSockets: the client's handshake becomes the upstream's, then bytes pass both ways unread.
//!
//! In comes a request for a WebSocket over HTTP/1.1 (`Upgrade`, RFC 6455) or HTTP/2 (extended CONNECT, RFC 8441);
//! the upstream gets it over an HTTP/1.1 connection of its own. An answer other than 101 passes to the client as
//! it is. Invariant: the client hears of success only when the upstream has switched. The open socket goes to
//! `carry`.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use providers::{Api, Endpoint, Route, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::body::{ReplyBody, RequestBody};
use crate::config::WebSockets;
use crate::credential::{self, Asked};
use crate::exchange::{self, Exchange};
use crate::headers;
use crate::record::Mode;
use crate::refusal::Refusal;
use crate::splice::splice;
use crate::upstream::{Upstream, UpstreamBody, UpstreamError};
use crate::wire::Switch;

/// Longest silence of an open socket. Clients keep theirs for five minutes and providers for an hour.
const IDLE: Duration = Duration::from_secs(600);
/// What a server appends to the key (RFC 6455 section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked(request: &Request<Incoming>) -> bool {
    match request.version() {
        Version::HTTP_11 => {
            *request.method() == Method::GET
                && names(request.headers(), &UPGRADE, "websocket")
                && names(request.headers(), &CONNECTION, "upgrade")
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

fn is_relayed(upstream: &Upstream, endpoint: Endpoint) -> bool {
    let wanted = match upstream.websockets {
        WebSockets::None => false,
        WebSockets::Unbridged => !is_bridged(endpoint),
        WebSockets::All => true,
    };
    wanted && upstream.instance.kind.transport() == Transport::Network
}

/// Opens a WebSocket with the upstream and, if that answers so, with the client.
pub(crate) async fn open(
    app: &Arc<App>,
    upstream: &Upstream,
    route: &Route,
    exchange: Exchange,
) -> Result<Response<ReplyBody>, Refusal> {
    if !is_relayed(upstream, route.endpoint) {
        let status = upstream.instance.kind.websocket_refusal();
        return Err(Refusal::WebSocket { status });
    }
    let mode = exchange.mode();
    let mut client = exchange.request;
    let over_http2 = client.version() == Version::HTTP_2;
    let (mut asked, key) = handshake(client.headers(), over_http2, is_bridged(route.endpoint))?;
    let keyed = is_bridged(route.endpoint) || mode == Mode::BaseUrl;
    let chosen = keyed.then(|| credential::choose(upstream, &mut asked, mode));
    let credential = chosen.transpose()?;
    let switch = client.extensions_mut().remove::<Switch>();
    let client_side = hyper::upgrade::on(&mut client);
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
        return not_opened(app, upstream, response, over_http2);
    }
    if let Some(key) = key
        && !is_accepted(response.headers(), &key)
    {
        return Err(no_websocket(app, upstream));
    }
    let sides = Sides {
        client: client_side,
        upstream: hyper::upgrade::on(&mut response),
    };
    if let Some(switch) = switch {
        switch.turn();
    }
    let open = OpenSocket::count(app.metrics.websockets_open(&upstream.name));
    let stopping = app.stopping.clone();
    app.tracker.spawn(async move {
        sides.meet(&stopping).await;
        drop(open);
    });
    Ok(opened(response, over_http2))
}

/// The headers of the upstream's handshake, and the key if it was made here.
fn handshake(
    client: &HeaderMap,
    over_http2: bool,
    bridged: bool,
) -> Result<(HeaderMap, Option<HeaderValue>), Refusal> {
    let mut out = headers::to_upstream(client);
    if bridged {
        // What is to be recorded must stay readable; compression is the client's offer, not its need.
        out = without(&out, &SEC_WEBSOCKET_EXTENSIONS);
    }
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if !over_http2 {
        return Ok((out, None));
    }
    // HTTP/2 has neither key nor version of its own (RFC 8441 section 5).
    let key = new_key()?;
    out.insert(SEC_WEBSOCKET_KEY, key.clone());
    out.entry(SEC_WEBSOCKET_VERSION)
        .or_insert(HeaderValue::from_static("13"));
    Ok((out, Some(key)))
}

/// The upstream's answer for a client that asked for a WebSocket and gets none.
fn not_opened(
    app: &App,
    upstream: &Upstream,
    response: Response<UpstreamBody>,
    over_http2: bool,
) -> Result<Response<ReplyBody>, Refusal> {
    if over_http2 && response.status().is_success() {
        // To the client it would mean that the socket is open.
        return Err(no_websocket(app, upstream));
    }
    let (parts, body) = exchange::to_client(response);
    Ok(Response::from_parts(parts, ReplyBody::Passed(Box::new(body))))
}

/// The answer that opens the socket.
fn opened(response: Response<UpstreamBody>, over_http2: bool) -> Response<ReplyBody> {
    let (mut parts, _) = exchange::to_client(response);
    if over_http2 {
        parts.status = StatusCode::OK;
        parts.headers = without(&parts.headers, &SEC_WEBSOCKET_ACCEPT);
    } else {
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts
            .headers
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Response::from_parts(parts, ReplyBody::empty())
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
}

impl Sides {
    async fn meet(self, stopping: &CancellationToken) {
        match tokio::try_join!(self.client, self.upstream) {
            Ok((client, upstream)) => carry(tokio_io(client), tokio_io(upstream), stopping).await,
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a WebSocket was not opened"
            ),
        }
    }
}

fn tokio_io(upgraded: Upgraded) -> TokioIo<Upgraded> {
    TokioIo::new(upgraded)
}

/// Carries an open socket's frames until it ends. What reads the frames (for records) belongs here, between the
/// two streams.
async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    stopping: &CancellationToken,
) {
    splice(client, upstream, IDLE, stopping).await;
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

/// Whether a list field has an element, whatever its case.
fn names(headers: &HeaderMap, field: &HeaderName, element: &str) -> bool {
    headers
        .get_all(field)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
}

/// A copy without a field; removal would reorder the rest.
fn without(headers: &HeaderMap, field: &HeaderName) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| *name != field) {
        out.append(name.clone(), value.clone());
    }
    out
}

fn new_key() -> Result<HeaderValue, Refusal> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| Refusal::NoRandomness)?;
    HeaderValue::from_str(&STANDARD.encode(nonce)).map_err(|_| Refusal::NoRandomness)
}

/// Whether the upstream has read the key (RFC 6455 section 4.1).
fn is_accepted(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(ACCEPT_SUFFIX);
    let want = STANDARD.encode(hash.finish());
    headers
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_some_and(|value| value.as_bytes() == want.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert!(!is_accepted(&headers, &key));
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        assert!(is_accepted(&headers, &key));
        assert!(!is_accepted(&headers, &HeaderValue::from_static("x")));
    }

    #[test]
    fn only_a_bridged_socket_loses_its_compression() {
        let mut client = HeaderMap::new();
        client.insert(
            SEC_WEBSOCKET_EXTENSIONS,
            HeaderValue::from_static("permessage-deflate"),
        );
        client.insert("x-codex-turn-state", HeaderValue::from_static("s"));
        for (over_http2, bridged) in [(false, false), (false, true), (true, false), (true, true)] {
            let (asked, key) = handshake(&client, over_http2, bridged).unwrap();
            assert_eq!(asked.contains_key(SEC_WEBSOCKET_EXTENSIONS), !bridged);
            assert_eq!(key.as_ref(), asked.get(SEC_WEBSOCKET_KEY));
            assert_eq!(key.is_some(), over_http2);
            assert_eq!(asked["x-codex-turn-state"], "s");
            assert_eq!(
                (&asked[CONNECTION], &asked[UPGRADE]),
                (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
            );
        }
    }
}
