//! A claimed host's connection: TLS with a certificate of our own, then HTTP, then each request to the bridge.
//!
//! The host of the CONNECT is authoritative: it decides the certificate and the upstream, and every request must
//! name it (421 otherwise). Whatever goes wrong here ends the connection; it is never tunnelled instead.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridged::body::ReplyBody;
use bridged::exchange::{self, Exchange, Origin};
use bridged::identity::Identity;
use bridged::refusal::Refusal;
use bridged::serve::{self, Manner, Protocol};
use bridged::troubles::Sign;
use certs::LeafName;
use http::header::HOST;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use crate::authority::Authority;
use crate::front::Client;
use crate::proxy::Proxy;
use crate::troubles;

/// Deadline for the whole ClientHello after the CONNECT.
const HELLO: Duration = Duration::from_secs(10);
/// Deadline for the rest of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What an intercepted connection is.
#[derive(Debug)]
pub struct Connection {
    /// The target of its CONNECT.
    pub target: Authority,
    /// Who opened it.
    pub identity: Identity,
    /// Names it in records.
    pub id: Uuid,
    /// Who connected.
    pub peer: IpAddr,
    /// Whether anything was asked on it.
    pub asked: AtomicBool,
}

/// Serves an intercepted connection until either side ends it.
pub(crate) async fn serve(proxy: Arc<Proxy>, client: Client, connection: Connection) {
    // Boxed, so that the handshake's state is gone while the connection lives.
    let Some(stream) = Box::pin(handshake(&proxy, client, &connection)).await else {
        return;
    };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let connection = Arc::new(connection);
    let (app, idle) = (proxy.app.clone(), proxy.rules().config.client_idle);
    let opened = (proxy.clone(), connection.clone());
    let service = move |request| {
        let (proxy, connection) = (proxy.clone(), connection.clone());
        async move { answer(&proxy, &connection, request).await }
    };
    let protocol = if is_h2 { Protocol::Http2 } else { Protocol::Http1 };
    let manner = Manner { protocol, idle };
    serve::speak(&app, stream.into(), manner, service).await;
    let (proxy, connection) = opened;
    if !connection.asked.load(Ordering::Relaxed) {
        proxy.trouble(connection.peer, &connection.target.host, &troubles::NO_REQUEST);
    }
}

async fn handshake(proxy: &Proxy, client: Client, connection: &Connection) -> Option<Box<TlsStream<Client>>> {
    let target = &connection.target;
    let outcome = async {
        let hello = tokio::time::timeout(HELLO, LazyConfigAcceptor::new(Acceptor::default(), client)).await;
        let start = hello.map_err(|_| Failed::Slow)?.map_err(Failed::Tls)?;
        let config = leaf_name(target).and_then(|name| proxy.tls_for(&name).map_err(Failed::Proxy))?;
        let stream = tokio::time::timeout(HANDSHAKE, start.into_stream(config)).await;
        stream.map_err(|_| Failed::Slow)?.map_err(Failed::Tls)
    };
    match outcome.await {
        Ok(stream) => {
            proxy.metrics.handshakes_done.increment(1);
            // Boxed, because it is handed on from stage to stage.
            Some(Box::new(stream))
        }
        Err(failed) => {
            match &failed {
                Failed::Slow => proxy.metrics.handshakes_slow.increment(1),
                Failed::Tls(error) => proxy.metrics.handshake_failed(error),
                Failed::Name(_) | Failed::Proxy(_) => proxy.metrics.handshake_impossible(),
            }
            if let Some(sign) = failed.sign() {
                proxy.trouble(connection.peer, &target.host, sign);
            }
            tracing::info!(%target, error = &failed as &dyn std::error::Error, "TLS handshake with a client failed");
            None
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the client did not finish in time")]
    Slow,
    #[error("the client and the proxy cannot agree")]
    Tls(#[source] std::io::Error),
    #[error("there is no certificate for the host")]
    Name(#[source] certs::NameError),
    #[error(transparent)]
    Proxy(crate::ProxyError),
}

impl Failed {
    /// What it means for the client, if it is the client's.
    fn sign(&self) -> Option<&'static Sign> {
        match self {
            Failed::Slow => Some(&troubles::SLOW),
            Failed::Tls(error) => Some(troubles::of_handshake(error)),
            Failed::Name(_) | Failed::Proxy(_) => None,
        }
    }
}

fn leaf_name(target: &Authority) -> Result<LeafName, Failed> {
    match target.address {
        Some(address) => Ok(LeafName::Ip(address)),
        None => LeafName::parse(&target.host).map_err(Failed::Name),
    }
}

async fn answer(proxy: &Proxy, connection: &Connection, request: Request<Incoming>) -> Response<ReplyBody> {
    let request_id = Uuid::now_v7();
    if !connection.asked.swap(true, Ordering::Relaxed) {
        proxy.reached(connection.peer, &connection.target.host);
    }
    if !names_target(&request, &connection.target) {
        let providers = proxy.app.providers();
        let index = providers
            .registry
            .claiming(&connection.target.host, connection.target.port.get());
        let shape = providers.error_shape(index);
        return exchange::refuse_marked(&proxy.app, &Refusal::Misdirected, shape, request_id);
    }
    let target = &connection.target;
    let exchange = Exchange {
        origin: Origin::Host {
            host: target.host.clone(),
            port: target.port.get(),
        },
        identity: connection.identity.clone(),
        connect_id: Some(connection.id),
        request_id,
        request,
    };
    exchange::exchange(&proxy.app, exchange).await
}

/// Whether every place in which a request names its host names the one of the CONNECT.
fn names_target(request: &Request<Incoming>, target: &Authority) -> bool {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let hosts = request.headers().get_all(HOST);
    let mut named = in_uri.is_some() || request.version() == Version::HTTP_10;
    if in_uri.is_some_and(|value| !target.is_named_by(value)) {
        return false;
    }
    for (index, host) in hosts.iter().enumerate() {
        if index > 0 || !host.to_str().is_ok_and(|value| target.is_named_by(value)) {
            return false;
        }
        named = true;
    }
    named
}
