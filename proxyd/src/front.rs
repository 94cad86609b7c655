//! The proxy port: reads a CONNECT, decides, answers, and hands the connection on.
//!
//! In comes a TCP connection; out goes a tunnel, an intercepted connection or a refusal. Identity is proved here,
//! before any TLS, and carried by the connection. Nothing past the CONNECT's head is interpreted here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bridged::body::ReplyBody;
use bridged::identity::{self, Identity};
use bridged::serve;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::authority::Authority;
use crate::config::TunnelPolicy;
use crate::prefixed::Prefixed;
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::{intercept, tunnel};

/// Deadline for the head of a CONNECT, and for the next one on a connection that was refused.
const HEAD: Duration = Duration::from_secs(10);

/// A connection after its CONNECT, with what was sent along with it.
pub(crate) type Client = Prefixed<TcpStream>;

/// Serves one connection to the proxy port.
pub async fn serve(proxy: Arc<Proxy>, io: TokioIo<TcpStream>, peer: SocketAddr) {
    let stopping = proxy.app.stopping.clone();
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(answer(&proxy, request, peer).await) }
    });
    let connection = serve::http1(HEAD).serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "a proxy connection ended");
    }
}

async fn answer(proxy: &Arc<Proxy>, request: Request<Incoming>, peer: SocketAddr) -> Response<ReplyBody> {
    if *request.method() != Method::CONNECT {
        return not_connect();
    }
    connect(proxy, request).await.unwrap_or_else(|refusal| {
        proxy.metrics.refused.increment(1);
        proxy.app.metrics.refused(refusal.code());
        let error = &refusal as &dyn std::error::Error;
        tracing::info!(%peer, reason = refusal.code(), error, "CONNECT refused");
        refusal.respond()
    })
}

async fn connect(proxy: &Arc<Proxy>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Refusal> {
    let target = Authority::parse(request.uri().authority().map_or("", |authority| authority.as_str()))?;
    if request.headers().contains_key(CONTENT_LENGTH) && !request.body().is_end_stream() {
        return Err(Refusal::Body);
    }
    if !proxy.config.allowed_ports.contains(&target.port.get()) {
        return Err(Refusal::Port);
    }
    let claimed = proxy.app.providers().registry.claiming(&target.host, target.port.get()).is_some();
    if claimed {
        let identity = identify(proxy, &request).await?;
        return Ok(start_interception(proxy, request, target, identity));
    }
    match proxy.config.tunnel {
        TunnelPolicy::Deny => return Err(Refusal::Host),
        TunnelPolicy::Authenticated => drop(identify(proxy, &request).await?),
        TunnelPolicy::Open => {}
    }
    start_tunnel(proxy, request, &target).await
}

async fn identify(proxy: &Proxy, request: &Request<Incoming>) -> Result<Identity, Refusal> {
    let value = request.headers().get(PROXY_AUTHORIZATION).map(HeaderValue::as_bytes);
    let now = proxy.app.clock.micros();
    Ok(identity::from_proxy_authorization(&proxy.app.tokens, value, now).await?)
}

fn start_interception(
    proxy: &Arc<Proxy>,
    request: Request<Incoming>,
    target: Authority,
    identity: Identity,
) -> Response<ReplyBody> {
    proxy.metrics.intercepted.increment(1);
    let connection = intercept::Connection { target, identity, id: Uuid::now_v7() };
    let shared = proxy.clone();
    proxy.app.tracker.spawn(async move {
        if let Some(client) = upgraded(request).await {
            intercept::serve(shared, client, connection).await;
        }
    });
    Response::new(ReplyBody::empty())
}

async fn start_tunnel(
    proxy: &Arc<Proxy>,
    request: Request<Incoming>,
    target: &Authority,
) -> Result<Response<ReplyBody>, Refusal> {
    // Dialled before the 200, so that the client learns what went wrong.
    let upstream = tunnel::dial(&proxy.config.guard, target).await?;
    proxy.metrics.tunnelled.increment(1);
    let shared = proxy.clone();
    proxy.app.tracker.spawn(async move {
        if let Some(client) = upgraded(request).await {
            tunnel::splice(&shared, client, upstream).await;
        }
    });
    Ok(Response::new(ReplyBody::empty()))
}

async fn upgraded(request: Request<Incoming>) -> Option<Client> {
    let upgraded = hyper::upgrade::on(request).await.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some(Prefixed::new(parts.read_buf, parts.io.into_inner()))
}

fn not_connect() -> Response<ReplyBody> {
    let text = "Causeway: this is a proxy port; it takes CONNECT. The CA certificate is at /ca.pem of the bridge.\n";
    let mut response = Response::new(ReplyBody::from(text.as_bytes().to_vec()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
