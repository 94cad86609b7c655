//! One POST after the other to a web server, over a connection that is kept while that works.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use providers::{Target, throttle};
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;
use crate::clock::Clock;
use crate::config::HttpConfig;
use crate::upstream::{DialError, Http1Sender, Trust, connect_once};

/// Longest answer that is read, in bytes.
const ANSWER: usize = 64 << 10;

/// Why a batch may not have arrived.
#[derive(Debug, thiserror::Error)]
pub(super) enum PutError {
    #[error("the file cannot be written")]
    File(#[source] io::Error),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the request cannot be put on the wire")]
    Request(#[from] http::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("the answer has status {}", status.as_u16())]
    Status {
        status: StatusCode,
        /// How long the server asks to be left alone.
        wait: Option<Duration>,
    },
}

impl PutError {
    /// How long the other side asks to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            PutError::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether fewer interceptions at once may help.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, PutError::Status { status, .. } if *status == StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// A web server.
pub(super) struct Post {
    target: Target,
    timeout: Duration,
    trust: Trust,
    tracker: TaskTracker,
    clock: Clock,
    sender: Option<Http1Sender>,
}

impl Post {
    pub(super) fn new(config: &HttpConfig, trust: Trust, tracker: TaskTracker, clock: Clock) -> Post {
        let url = &config.url;
        let path = if url.path.is_empty() { "/" } else { &url.path };
        Post {
            target: Target {
                scheme: url.scheme,
                host: url.host.clone(),
                port: url.port,
                path_and_query: path.to_owned(),
            },
            timeout: config.timeout,
            trust,
            tracker,
            clock,
            sender: None,
        }
    }

    /// Sends JSON; returns what a success says. Redirections are no success: they would lead records elsewhere.
    ///
    /// # Errors
    /// It may not have arrived.
    pub(super) async fn put(&mut self, headers: HeaderMap, body: String) -> Result<Bytes, PutError> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.exchange(headers, body.into()))
            .await
            .unwrap_or(Err(PutError::Slow(timeout)))
    }

    async fn exchange(&mut self, headers: HeaderMap, body: Bytes) -> Result<Bytes, PutError> {
        let mut request = Request::post(&self.target.path_and_query)
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("causeway/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(RequestBody::Full(Full::new(body)))?;
        request.headers_mut().extend(headers);
        let mut sender = self.connection().await?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let read = Limited::new(body, ANSWER).collect().await;
        let answer = match read {
            Ok(answer) => {
                self.sender = Some(sender);
                answer.to_bytes()
            }
            // It is the status that counts.
            Err(_) => Bytes::new(),
        };
        if !head.status.is_success() {
            return Err(PutError::Status {
                status: head.status,
                wait: throttle::retry_after(&head.headers, self.clock.now()),
            });
        }
        Ok(answer)
    }

    async fn connection(&mut self) -> Result<Http1Sender, DialError> {
        if let Some(mut kept) = self.sender.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        connect_once(&self.target, self.timeout, &self.trust, &self.tracker).await
    }
}
