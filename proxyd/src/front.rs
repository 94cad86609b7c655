//! The proxy port: reads what a client asks for, decides, answers, and hands the connection on.
//!
//! In comes a connection; out goes a tunnel, an intercepted connection, a forwarded request, a page about the
//! proxy itself, or a refusal. Identity is proved here, before any TLS with the target, and carried by the
//! connection. Nothing past a CONNECT's head is interpreted here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bridged::identity::Identity;
use bridged::prefixed::Prefixed;
use bridged::serve::{self, HEAD_LIMIT, Protocol};
use bridged::wire::{Guarded, InUse, Line, Switch};
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::authority::{Authority, AuthorityError};
use crate::policy::{self, Pass};
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::rules::Rules;
use crate::slots::{Caller, Place};
use crate::wire::Wire;
use crate::{dial, forward, intercept, page, tls, troubles, tunnel};

/// A connection after its CONNECT, with what was sent along with it.
pub(crate) type Client = Wire;

/// A connection to one of the proxy's ports.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// The address that was connected to.
    pub(crate) local: SocketAddr,
    /// Whether the port speaks TLS.
    pub(crate) tls: bool,
    /// Its place among `max-connections`, free when the last tunnel over it has ended.
    pub(crate) _place: Arc<Place>,
}

/// Serves one connection to the plain port.
pub(crate) async fn serve(proxy: Arc<Proxy>, tcp: TcpStream, door: Door) {
    let limit = proxy.rules().config.head_timeout;
    let opening = tokio::time::timeout(limit, serve::opening(tcp));
    let opened = tokio::select! {
        opened = opening => opened,
        // Nothing is in flight yet.
        () = proxy.app.stopping.cancelled() => return,
    };
    if let Ok(Ok((io, protocol))) = opened {
        if io.ahead().first() == Some(&TLS) {
            proxy.trouble(door.peer.ip(), "", &troubles::TLS_ON_PLAIN_PORT);
        }
        speak(proxy, io, protocol, door).await;
    }
}

/// Serves one connection to the TLS port.
pub(crate) async fn serve_tls(proxy: Arc<Proxy>, tcp: TcpStream, door: Door) {
    let accepted = tokio::select! {
        accepted = tls::accept(&proxy, tcp) => accepted,
        () = proxy.app.stopping.cancelled() => return,
    };
    if let Some((io, protocol)) = accepted {
        speak(proxy, io.into(), protocol, door).await;
    }
}

/// The first byte of a TLS handshake (RFC 8446 section 5.1).
const TLS: u8 = 0x16;

async fn speak<IO>(proxy: Arc<Proxy>, io: Prefixed<IO>, protocol: Protocol, door: Door)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (peer, line) = (door.peer, Line::default());
    let ended = match protocol {
        Protocol::Http1 => speak_http1(proxy, io, line, door).await,
        Protocol::Http2 => speak_http2(proxy, io, line, door).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "a proxy connection ended");
    }
}

async fn speak_http1<IO>(proxy: Arc<Proxy>, io: Prefixed<IO>, line: Line, door: Door) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (head, stopping) = (proxy.rules().config.head_timeout, proxy.app.stopping.clone());
    let io = Guarded::proxy_http1(io, proxy.app.metrics.wire.clone(), line.clone(), head);
    let service = service_fn(move |request| served(&proxy, request, &line, &door));
    let mut settings = serve::http1();
    // Also how long a client may take between two requests.
    settings.header_read_timeout(head);
    let connection = settings.serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stopping.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn speak_http2<IO>(proxy: Arc<Proxy>, io: Prefixed<IO>, line: Line, door: Door) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (rules, stopping) = (proxy.rules(), proxy.app.stopping.clone());
    let (head, idle) = (rules.config.head_timeout, rules.config.client_idle);
    drop(rules);
    let begun = Arc::new(Notify::new());
    let io = Guarded::http2(io, proxy.app.metrics.wire.clone(), line.clone());
    let (begin, uses) = (begun.clone(), line.clone());
    let service = service_fn(move |request| {
        begin.notify_one();
        served(&proxy, request, &uses, &door)
    });
    let mut connection = std::pin::pin!(http2().serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = not_begun(&begun, head) => return Ok(()),
        () = stopping.cancelled() => {}
        () = line.unused_for(idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// The answer to a request, which uses its connection until it is sent, or until its tunnel ends.
fn served(
    proxy: &Arc<Proxy>,
    mut request: Request<Incoming>,
    line: &Line,
    door: &Door,
) -> impl Future<Output = Result<Response<InUse<Reply>>, Infallible>> + use<> {
    let (proxy, door, using) = (proxy.clone(), door.clone(), line.begin());
    if *request.method() == Method::CONNECT {
        line.offer(&mut request);
    }
    async move { Ok(using.until_sent(answer(&proxy, request, door).await)) }
}

/// Ends when there was no first request in time. After it, pings find out who is gone.
async fn not_begun(begun: &Notify, limit: Duration) {
    if tokio::time::timeout(limit, begun.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// HTTP/2 on the proxy's ports: many tunnels over one connection.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        // Small windows throttle uploads: the defaults are 64 KiB.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(60))
        .auto_date_header(false);
    builder
}

async fn answer(proxy: &Arc<Proxy>, request: Request<Incoming>, door: Door) -> Response<Reply> {
    let (peer, version, method) = (door.peer, request.version(), request.method().clone());
    let host = request.uri().host().map(str::to_owned);
    let rules = proxy.rules();
    let served = match Form::of(&request, &door) {
        Form::Connect => Box::pin(connect((proxy, &rules), request, door)).await,
        Form::Absolute => Box::pin(forward::forward((proxy, &rules), request, peer.ip())).await,
        Form::Origin => return page::answer(proxy, &request, &door),
        Form::Authority => Err(Refusal::Target(AuthorityError::Host)),
    };
    served.unwrap_or_else(|refusal| {
        proxy.metrics.refused.increment(1);
        proxy.app.metrics.refused(refusal.code());
        proxy.refused(peer.ip(), host.as_deref(), &refusal);
        let error = &refusal as &dyn std::error::Error;
        tracing::info!(%peer, %method, reason = refusal.code(), error, "request refused");
        refusal.respond(version)
    })
}

/// What a request's target looks like (RFC 9112 section 3.2).
enum Form {
    /// CONNECT.
    Connect,
    /// A whole URL: a request to be forwarded.
    Absolute,
    /// A path: a request to the proxy itself.
    Origin,
    /// A host, without CONNECT.
    Authority,
}

impl Form {
    fn of<B>(request: &Request<B>, door: &Door) -> Form {
        let uri = request.uri();
        // HTTP/2 knows only whole URLs; with `https` it can only be the proxy itself that is meant.
        let at_proxy =
            door.tls && request.version() == Version::HTTP_2 && uri.scheme() == Some(&Scheme::HTTPS);
        if *request.method() == Method::CONNECT {
            Form::Connect
        } else if uri.scheme().is_some() && !at_proxy {
            Form::Absolute
        } else if uri.authority().is_some() && !at_proxy {
            Form::Authority
        } else {
            Form::Origin
        }
    }
}

async fn connect(
    (proxy, rules): (&Arc<Proxy>, &Rules),
    request: Request<Incoming>,
    door: Door,
) -> Result<Response<Reply>, Refusal> {
    let target = connect_target(&request)?;
    match policy::judge((proxy, rules), &target, request.headers(), door.peer.ip()).await? {
        Pass::Intercept(identity) => Ok(start_interception(proxy, request, target, identity, door)),
        Pass::Carry(caller) => start_tunnel((proxy, rules), request, &target, caller, door).await,
    }
}

fn connect_target<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(Refusal::Form);
    }
    if announces_body(request.headers()) {
        return Err(Refusal::Body);
    }
    let text = uri.authority().map_or("", |authority| authority.as_str());
    Ok(Authority::parse(text)?)
}

/// Bytes that one side reads as a body and the other as the tunnel's first are a way around every check.
fn announces_body(headers: &HeaderMap) -> bool {
    let empty = |value: &http::HeaderValue| value.as_bytes().iter().all(|byte| *byte == b'0');
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(empty)
}

fn start_interception(
    proxy: &Arc<Proxy>,
    mut request: Request<Incoming>,
    target: Authority,
    identity: Identity,
    door: Door,
) -> Response<Reply> {
    proxy.metrics.intercepted.increment(1);
    let connection = intercept::Connection {
        target,
        identity,
        id: Uuid::now_v7(),
        peer: door.peer.ip(),
        asked: AtomicBool::new(false),
    };
    let (shared, switch) = (proxy.clone(), taken_over(&mut request));
    proxy.app.tracker.spawn(async move {
        if let Some(client) = upgraded(request).await {
            intercept::serve(shared, client, connection).await;
        }
        drop((switch, door));
    });
    Response::new(Reply::empty())
}

async fn start_tunnel(
    (proxy, rules): (&Arc<Proxy>, &Rules),
    mut request: Request<Incoming>,
    target: &Authority,
    caller: Caller,
    door: Door,
) -> Result<Response<Reply>, Refusal> {
    let slot = proxy.slots.take(caller, rules.most_tunnels())?;
    // Dialled before the 200, so that the client learns what went wrong.
    let upstream = dial::reach(proxy, rules, target).await?;
    proxy.metrics.tunnelled.increment(1);
    proxy.reached(door.peer.ip(), &target.host);
    let (shared, switch, idle) = (proxy.clone(), taken_over(&mut request), rules.config.tunnel_idle);
    proxy.app.tracker.spawn(async move {
        if let Some(client) = upgraded(request).await {
            tunnel::carry(&shared, client, upstream, idle).await;
        }
        drop((slot, switch, door));
    });
    Ok(Response::new(Reply::empty()))
}

/// Tells the connection that its bytes belong to the tunnel from now on.
fn taken_over(request: &mut Request<Incoming>) -> Option<Switch> {
    let switch = request.extensions_mut().remove::<Switch>()?;
    switch.turn();
    Some(switch)
}

async fn upgraded(request: Request<Incoming>) -> Option<Client> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    Some(Wire::from_upgraded(upgraded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(Method::CONNECT).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn connect_takes_an_authority_and_no_body() {
        for (target, fields, want) in [
            ("example.test:443", &[][..], None),
            ("example.test:443", &[("content-length", "0")], None),
            (
                "example.test:443",
                &[("content-length", "5")],
                Some("connect_with_body"),
            ),
            (
                "example.test:443",
                &[("content-length", "+5")],
                Some("connect_with_body"),
            ),
            (
                "example.test:443",
                &[("transfer-encoding", "chunked")],
                Some("connect_with_body"),
            ),
            ("http://example.test:443", &[], Some("bad_target")),
            ("https://example.test:443/", &[], Some("bad_target")),
            ("/", &[], Some("bad_target")),
            ("*", &[], Some("bad_target")),
            ("example.test", &[], Some("bad_target")),
            ("user:pass@example.test:443", &[], Some("bad_target")),
        ] {
            let refusal = connect_target(&request(target, fields)).err();
            assert_eq!(refusal.as_ref().map(Refusal::code), want, "{target} {fields:?}");
        }
    }
}
