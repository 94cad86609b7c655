//! The connections to one host.
//!
//! `lease` gives a request its connection: an HTTP/2 one with room, an idle HTTP/1.1 one, or a new one. HTTP/2
//! connections are shared until they carry `STREAMS` requests, then another is dialled, so that one slow
//! connection never holds up all. While it is not known which protocol a host speaks, one request dials and the
//! others wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::{DialError, Dialler, Http1Sender};
use crate::body::RequestBody;

/// Requests on one HTTP/2 connection; most servers allow 100 or more.
const STREAMS: usize = 100;
/// HTTP/1.1 connections kept idle; the rest is closed.
const IDLE: usize = 256;
/// How long an idle connection is trusted: shorter than what servers and middle boxes allow.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// One connection's sending half.
#[derive(Debug)]
pub(super) enum Sender {
    H1(http1::SendRequest<RequestBody>),
    H2(http2::SendRequest<RequestBody>),
}

/// The connections to one host.
#[derive(Debug)]
pub(super) struct HostPool {
    dialler: Dialler,
    tracker: TaskTracker,
    stopping: CancellationToken,
    connections: Mutex<Connections>,
    /// Held while the first connection, or one more HTTP/2 connection, is dialled.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    speaks_h1: bool,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
}

/// A connection for one request. Given back by `release`, or closed (HTTP/1.1) when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    sender: Sender,
    stream: Option<Stream>,
    pool: Arc<HostPool>,
    reused: bool,
}

/// A request's place on a shared connection, free again when dropped.
#[derive(Debug)]
struct Stream(Arc<AtomicUsize>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HostPool {
    pub(super) fn new(dialler: Dialler, tracker: TaskTracker, stopping: CancellationToken) -> HostPool {
        HostPool {
            dialler,
            tracker,
            stopping,
            connections: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// Lets go of every connection; those in use end with their requests.
    pub(super) fn close(&self) {
        let mut connections = self.lock();
        connections.idle.clear();
        connections.shared.clear();
    }

    /// How many connections are shared (HTTP/2), and how many idle (HTTP/1.1).
    pub(super) fn sizes(&self) -> (usize, usize) {
        let connections = self.lock();
        let shared = connections.shared.iter();
        let idle = connections.idle.iter();
        (
            shared.filter(|shared| !shared.sender.is_closed()).count(),
            idle.filter(|idle| !idle.sender.is_closed()).count(),
        )
    }

    /// A connection beside the pool's, for one request that may be upgraded.
    pub(super) async fn dial_http1(&self) -> Result<Http1Sender, DialError> {
        self.dialler.dial_http1(&self.tracker).await
    }

    /// A connection that can take a request now.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, DialError> {
        if let Some(lease) = self.at_hand().await {
            return Ok(lease);
        }
        if self.lock().speaks_h1 {
            return self.dial().await;
        }
        let _one_at_a_time = self.dialling.lock().await;
        // Another request may have dialled meanwhile.
        match self.at_hand().await {
            Some(lease) => Ok(lease),
            None => self.dial().await,
        }
    }

    async fn at_hand(self: &Arc<Self>) -> Option<Lease> {
        if let Some(shared) = self.lock().with_room() {
            return Some(self.shared(shared, true));
        }
        loop {
            let mut sender = self.lock().pop_idle()?;
            // The reply before has been read to its end; the connection needs a moment to notice.
            if sender.ready().await.is_ok() {
                return Some(self.own(Sender::H1(sender), true));
            }
        }
    }

    async fn dial(self: &Arc<Self>) -> Result<Lease, DialError> {
        match self.dialler.dial(&self.tracker).await? {
            Sender::H2(sender) => {
                let shared = Shared {
                    sender,
                    streams: Arc::new(AtomicUsize::new(1)),
                };
                let mut connections = self.lock();
                connections.speaks_h1 = false;
                if !self.stopping.is_cancelled() {
                    connections.shared.push(shared.clone());
                }
                drop(connections);
                Ok(self.shared(shared, false))
            }
            sender @ Sender::H1(_) => {
                self.lock().speaks_h1 = true;
                Ok(self.own(sender, false))
            }
        }
    }

    fn shared(self: &Arc<Self>, shared: Shared, reused: bool) -> Lease {
        let stream = Some(Stream(shared.streams));
        Lease {
            sender: Sender::H2(shared.sender),
            stream,
            pool: self.clone(),
            reused,
        }
    }

    fn own(self: &Arc<Self>, sender: Sender, reused: bool) -> Lease {
        Lease {
            sender,
            stream: None,
            pool: self.clone(),
            reused,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// The HTTP/2 connection with the most room, its place already taken. Drops dead ones.
    fn with_room(&mut self) -> Option<Shared> {
        self.shared.retain(|shared| !shared.sender.is_closed());
        let shared = self
            .shared
            .iter()
            .min_by_key(|shared| shared.streams.load(Ordering::Relaxed))?;
        if shared.streams.load(Ordering::Relaxed) >= STREAMS {
            return None;
        }
        shared.streams.fetch_add(1, Ordering::Relaxed);
        Some(shared.clone())
    }

    /// The connection that became idle last. Drops those that waited too long.
    fn pop_idle(&mut self) -> Option<http1::SendRequest<RequestBody>> {
        while let Some(idle) = self.idle.pop() {
            if !idle.sender.is_closed() && idle.since.elapsed() < IDLE_FOR {
                return Some(idle.sender);
            }
        }
        None
    }
}

impl Lease {
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn is_h2(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Gives the connection back: the reply has been read to its end.
    pub(super) fn release(self) {
        if let Sender::H1(sender) = self.sender {
            let mut connections = self.pool.lock();
            let wanted = connections.idle.len() < IDLE && !self.pool.stopping.is_cancelled();
            if wanted && !sender.is_closed() {
                connections.idle.push(Idle {
                    sender,
                    since: Instant::now(),
                });
            }
        }
    }
}
