//! A small client of our own gateway: plain requests to its ports, and connections through its proxy.
//!
//! Used by commands that look at a running gateway. Every step has a deadline; an answer's body has a limit.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Deadline of one step.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest body that is read, in bytes.
const BODY_LIMIT: usize = 4 << 20;
/// Largest head that is read, in bytes.
const HEAD_LIMIT: usize = 8 << 10;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `GET path` on one of the gateway's ports.
pub(crate) async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> io::Result<Answer> {
    let tcp = within(TcpStream::connect(address)).await?;
    let mut request = Request::get(path).header(HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::default()).map_err(io::Error::other)?;
    send(tcp, request).await
}

/// Sends a request over HTTP/1.1 and reads the answer.
pub(crate) async fn send<IO>(io: IO, request: Request<Full<Bytes>>) -> io::Result<Answer>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = async {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = handshake.map_err(io::Error::other)?;
        // The sender is dropped with the exchange, which ends the connection.
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.map_err(io::Error::other)?.to_bytes(),
            })
        };
        let (answer, _) = tokio::join!(exchange, async { drop(connection.await) });
        answer
    };
    within(exchange).await
}

/// What a proxy answered to a CONNECT that it refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It cannot be reached.
    #[error("the proxy cannot be reached")]
    Unreachable(#[from] io::Error),
    /// It answered with another status than 200.
    #[error("the proxy answered `{line}`")]
    Refused { status: u16, line: String },
}

/// Opens a tunnel to `target` (HOST:PORT) with `token` as the proxy's password.
pub(crate) async fn connect(
    proxy: SocketAddr,
    target: &str,
    token: Option<&str>,
) -> Result<TcpStream, ConnectError> {
    let mut tcp = within(TcpStream::connect(proxy)).await?;
    tcp.set_nodelay(true)?;
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(token) = token {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"));
        head.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
    }
    head.push_str("\r\n");
    tcp.write_all(head.as_bytes()).await?;
    let answer = within(read_head(&mut tcp)).await?;
    let line = answer.lines().next().unwrap_or_default().to_owned();
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    match status {
        Some(200) => Ok(tcp),
        status => Err(ConnectError::Refused {
            status: status.unwrap_or_default(),
            line,
        }),
    }
}

/// Reads a head byte by byte: what follows it belongs to TLS.
async fn read_head(tcp: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_LIMIT {
        head.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Waits no longer than a person would.
pub(crate) async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "there was no answer in time",
        )),
    }
}
