//! The client side: one `Upstream` per provider instance.
//!
//! `Upstream::send` takes a request whose headers are ready and returns the reply's head; the body streams on
//! through `UpstreamBody`, which gives the connection back when it has ended. The path is `pool` (which
//! connection), `dial` (making one), `body` (the reply). Invariant: a request is sent at most once, except
//! that one which a reused connection returned unsent goes out on a fresh one.

mod body;
mod dial;
mod health;
mod pool;
mod trust;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, TE};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use providers::{Instance, KeyHeader, Scheme, Target};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;
use crate::breaker::Permit;
use crate::config::{Byok, CallConfig, ProviderConfig, RetryConfig, UpstreamConfig};
use crate::credential::{KeyCondition, KeyPool};
use crate::headers;
use crate::metrics::Metrics;

pub use body::UpstreamBody;
pub use dial::DialError;
pub(crate) use dial::Http1Sender;
pub(crate) use health::{CallWatch, InFlight};
pub use health::{Health, Healths, LastError};
use pool::{HostPool, Lease, Sender};
pub use trust::{Trust, TrustError};

/// Why an upstream gave no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The instance's circuit breaker is open.
    #[error("it has failed too often and is left alone for now")]
    Open {
        /// How long nobody should ask again.
        wait: Duration,
    },
    /// No connection could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke before the reply's head.
    #[error("the connection broke before a reply came")]
    Broken(#[source] hyper::Error),
    /// The reply's head did not come in time.
    #[error("no reply within {} s", .0.as_secs())]
    NoReply(Duration),
    /// A WebSocket was asked for, and the reply neither opens nor refuses one.
    #[error("the reply does not open a WebSocket")]
    NoWebSocket,
    /// The request cannot be put on the wire.
    #[error("the request's target is not a URL")]
    Target(#[source] http::Error),
}

impl UpstreamError {
    /// One word for metrics and records.
    pub fn kind(&self) -> &'static str {
        match self {
            UpstreamError::Open { .. } => "open",
            UpstreamError::Dial(error) => error.kind(),
            UpstreamError::Broken(_) => "broken",
            UpstreamError::NoReply(_) => "timeout",
            UpstreamError::NoWebSocket => "websocket",
            UpstreamError::Target(_) => "target",
        }
    }

    /// Whether it says that the instance as a whole cannot be reached. A connection that breaks is no such sign: a
    /// client's own request can be the reason.
    pub fn is_transport(&self) -> bool {
        matches!(self, UpstreamError::Dial(_) | UpstreamError::NoReply(_))
    }

    /// Whether the upstream was too slow (504), rather than not there (502).
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            UpstreamError::NoReply(_) | UpstreamError::Dial(DialError::Timeout(_))
        )
    }
}

/// What all instances share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where connections run.
    pub tracker: TaskTracker,
    /// Cancelled when the process is to end.
    pub stopping: CancellationToken,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// What is known of instances beyond their configuration.
    pub healths: Arc<Healths>,
}

/// Connections of an instance that can be used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// HTTP/2 connections, which are shared.
    pub shared: usize,
    /// HTTP/1.1 connections without a request.
    pub idle: usize,
}

/// A provider instance with its connections.
#[derive(Debug)]
pub struct Upstream {
    /// Name, kind, base URL, claimed hosts.
    pub instance: Arc<Instance>,
    /// The instance's name, to be shared.
    pub name: Arc<str>,
    /// Whose credentials it takes.
    pub byok: Byok,
    /// The gateway's own keys.
    pub(crate) keys: Arc<KeyPool>,
    /// The header that carries keys, where it is not that of the kind.
    pub key_header: Option<HeaderName>,
    /// Whether it relays WebSockets.
    pub websockets: bool,
    /// What is sent again.
    pub retry: RetryConfig,
    /// The names of the instances that answer where this one cannot.
    pub fallback: Vec<String>,
    /// Whether a user's credential that is out of quota is refused here until its quota is back.
    pub answer_429_locally: bool,
    /// How it is doing, which outlives this configuration.
    pub health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// How its AI calls are read.
    pub calls: CallConfig,
    connect_to: Option<SocketAddr>,
    config: UpstreamConfig,
    trust: Trust,
    tracker: TaskTracker,
    stopping: CancellationToken,
    /// One a host and port: a few, because only claimed hosts and the base URL are ever called.
    hosts: Mutex<HashMap<HostKey, Arc<HostPool>>>,
}

type HostKey = (bool, String, u16);

impl Upstream {
    /// An instance without connections.
    pub fn new(
        instance: Arc<Instance>,
        provider: &ProviderConfig,
        config: UpstreamConfig,
        trust: Trust,
        shared: &Shared,
    ) -> Upstream {
        let name: Arc<str> = Arc::from(instance.name.as_str());
        let health = shared.healths.of(&name, provider.breaker);
        let key_header = match &provider.key_header {
            Some(name) => KeyHeader::Named(name.clone()),
            None => instance.kind.key_header(),
        };
        let keys = KeyPool::new(name.clone(), key_header, &provider.keys, health.keys.clone());
        let Shared {
            tracker,
            stopping,
            metrics,
            ..
        } = shared.clone();
        Upstream {
            name,
            instance,
            byok: provider.byok,
            keys: Arc::new(keys),
            key_header: provider.key_header.clone(),
            websockets: provider.websockets,
            retry: provider.retry,
            fallback: provider.fallback.clone(),
            answer_429_locally: provider.answer_429_locally,
            health,
            metrics,
            calls: provider.calls,
            connect_to: provider.connect_to,
            config,
            trust,
            tracker,
            stopping,
            hosts: Mutex::default(),
        }
    }

    /// Longest silence inside a reply.
    pub fn idle_timeout(&self) -> Duration {
        self.config.idle_timeout
    }

    /// Sends a request whose headers are those of the client, filtered. The URI and `Host` are set here.
    ///
    /// # Errors
    /// The instance is left alone for now, there is no connection, or no reply in time.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let permit = self.admit()?;
        self.send_admitted(permit, target, request).await
    }

    /// Asks the instance's breaker.
    ///
    /// # Errors
    /// The instance is left alone for now.
    pub(crate) fn admit(&self) -> Result<Permit, UpstreamError> {
        self.health.admit().map_err(|wait| UpstreamError::Open { wait })
    }

    /// Sends a request that the instance's breaker has let go.
    pub(crate) async fn send_admitted(
        &self,
        permit: Permit,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let counted = self.health.count();
        let sent = self.deliver(target, request).await;
        self.health.judge(permit, &sent);
        Ok(sent?.map(|body| body.counted(counted)))
    }

    async fn deliver(
        &self,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let deadline = Instant::now() + self.config.response_timeout;
        let pool = self.pool(target);
        loop {
            let lease = pool.lease().await?;
            let reused = lease.is_reused();
            address(&mut request, target, lease.is_h2())?;
            let outcome = tokio::time::timeout_at(deadline, send_on(lease, request)).await;
            match outcome {
                Err(_) => return Err(UpstreamError::NoReply(self.config.response_timeout)),
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut failed)) => match failed.take_message() {
                    // The upstream closed an idle connection just as it was picked: nothing was sent on it.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(UpstreamError::Broken(failed.into_error())),
                },
            }
        }
    }

    /// Lets go of every connection once the process is stopping; those in use end with their requests.
    pub(crate) fn close(&self) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().for_each(|pool| pool.close());
    }

    /// Sends a request that asks for an upgrade, on an HTTP/1.1 connection of its own. `Connection` and `Upgrade`
    /// are the caller's, else as for `send`.
    ///
    /// # Errors
    /// There is no connection, or no reply in time.
    pub async fn send_upgrade(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let (permit, counted) = (self.admit()?, self.health.count());
        let sent = self.deliver_upgrade(target, request).await;
        self.health.judge(permit, &sent);
        Ok(sent?.map(|body| body.counted(counted)))
    }

    async fn deliver_upgrade(
        &self,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let deadline = Instant::now() + self.config.response_timeout;
        address(&mut request, target, false)?;
        let mut sender = self.pool(target).dial_http1().await?;
        let response = tokio::time::timeout_at(deadline, sender.send_request(request))
            .await
            .map_err(|_| UpstreamError::NoReply(self.config.response_timeout))?
            .map_err(UpstreamError::Broken)?;
        Ok(response.map(|body| UpstreamBody::alone(body, sender)))
    }

    /// Whether it claims `host` in proxy mode, on whatever port.
    pub fn claims(&self, host: &str) -> bool {
        self.instance.hosts.iter().any(|claim| *claim.host == *host)
    }

    /// Whether the provider has rejected a key of the gateway's.
    pub(crate) fn has_rejected_keys(&self) -> bool {
        let keys = self.keys.keys();
        keys.iter().any(|key| key.condition() == KeyCondition::Rejected)
    }

    /// Publishes how many of its keys are in which state.
    pub(crate) fn publish_keys(&self) {
        let keys = self.keys.keys();
        if keys.is_empty() {
            return;
        }
        let states = [
            KeyCondition::Usable,
            KeyCondition::Resting(Duration::ZERO),
            KeyCondition::Rejected,
        ];
        for state in states.map(KeyCondition::as_str) {
            let count = keys
                .iter()
                .filter(|key| key.condition().as_str() == state)
                .count();
            self.metrics.keys(&self.name, state, count);
        }
    }

    /// The connections that can be used again.
    pub fn connections(&self) -> Connections {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().fold(Connections::default(), |sum, pool| {
            let (shared, idle) = pool.sizes();
            Connections {
                shared: sum.shared + shared,
                idle: sum.idle + idle,
            }
        })
    }

    fn pool(&self, target: &Target) -> Arc<HostPool> {
        let key = (target.scheme == Scheme::Https, target.host.clone(), target.port);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let dialler =
                dial::Dialler::new(target, self.connect_to, self.config.connect_timeout, &self.trust);
            Arc::new(HostPool::new(
                dialler,
                self.tracker.clone(),
                self.stopping.clone(),
            ))
        };
        hosts.entry(key).or_insert_with(make).clone()
    }
}

/// An HTTP/1.1 connection for one request to somewhere that is no provider.
///
/// # Errors
/// There is none within `timeout`.
pub(crate) async fn connect_once(
    target: &Target,
    timeout: Duration,
    trust: &Trust,
    tracker: &TaskTracker,
) -> Result<dial::Http1Sender, DialError> {
    dial::Dialler::new(target, None, timeout, trust)
        .dial_http1(tracker)
        .await
}

async fn send_on(
    mut lease: Lease,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, TrySendError<Request<RequestBody>>> {
    let response = match lease.sender() {
        Sender::H1(sender) => sender.try_send_request(request).await?,
        Sender::H2(sender) => sender.try_send_request(request).await?,
    };
    Ok(response.map(|body: Incoming| UpstreamBody::network(body, lease)))
}

/// Sets URI, version and `Host` as the connection's protocol wants them.
fn address(request: &mut Request<RequestBody>, target: &Target, http2: bool) -> Result<(), UpstreamError> {
    let path = target.path_and_query.as_str();
    if http2 {
        let scheme = if target.scheme == Scheme::Https {
            "https"
        } else {
            "http"
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(target.authority())
            .path_and_query(path)
            .build();
        *request.uri_mut() = uri.map_err(UpstreamError::Target)?;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        // Left from an attempt over HTTP/1.
        headers.remove(HOST);
        headers.remove(CONNECTION);
    } else {
        *request.uri_mut() = Uri::builder()
            .path_and_query(path)
            .build()
            .map_err(UpstreamError::Target)?;
        *request.version_mut() = Version::HTTP_11;
        let host = HeaderValue::from_str(&target.authority()).map_err(|e| UpstreamError::Target(e.into()))?;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers::join_cookies(headers);
        if headers.contains_key(TE) {
            // RFC 9110 section 10.1.4.
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        }
    }
    Ok(())
}

/// A reply made in this process, for the simulated kind.
pub fn simulated(reply: providers::SimulatedReply) -> Response<UpstreamBody> {
    let frames: Vec<Bytes> = reply.frames;
    let mut response = Response::new(UpstreamBody::simulated(frames));
    *response.status_mut() = http::StatusCode::from_u16(reply.status).unwrap_or_default();
    let kind = HeaderValue::from_static(reply.content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
