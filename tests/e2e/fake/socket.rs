//! A provider of WebSockets in this process: it accepts each, and the test itself speaks on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Offers, tls_config};
use crate::client::within;
use crate::harness::Settings;

/// A running provider; it stops when dropped.
pub(crate) struct SocketProvider {
    address: SocketAddr,
    ca_file: PathBuf,
    opened: mpsc::UnboundedReceiver<ProviderSocket>,
    acceptor: AbortHandle,
    _dir: TempDir,
}

/// The provider's end of a socket.
pub(crate) struct ProviderSocket {
    /// The handshake.
    pub(crate) request: Request<()>,
    /// The socket.
    pub(crate) io: WebSocketStream<TlsStream<TcpStream>>,
}

impl SocketProvider {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("provider-ca.pem");
        let tls = TlsAcceptor::from(Arc::new(tls_config(Offers::Http1, &ca_file)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opening, opened) = mpsc::unbounded_channel();
        let acceptor = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(accept(tcp, tls.clone(), opening.clone()));
            }
        });
        Self {
            address,
            ca_file,
            opened,
            acceptor: acceptor.abort_handle(),
            _dir: dir,
        }
    }

    /// Settings that lead every built-in provider here.
    pub(crate) fn settings(&self) -> Settings {
        Settings::in_front_of_address(self.address, &self.ca_file)
    }

    /// The next socket that is opened.
    pub(crate) async fn opened(&mut self) -> ProviderSocket {
        within("a socket at the provider", self.opened.recv())
            .await
            .unwrap()
    }
}

impl Drop for SocketProvider {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(tcp: TcpStream, tls: TlsAcceptor, opening: mpsc::UnboundedSender<ProviderSocket>) {
    tcp.set_nodelay(true).unwrap();
    let Ok(io) = tls.accept(tcp).await else { return };
    let mut seen = None;
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let answer = |request: &Request<()>, response: Response<()>| {
        seen = Some(request.clone());
        Ok(response)
    };
    let any_size = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let opened = tokio_tungstenite::accept_hdr_async_with_config(io, answer, Some(any_size)).await;
    if let (Ok(io), Some(request)) = (opened, seen) {
        let _ = opening.send(ProviderSocket { request, io });
    }
}

impl ProviderSocket {
    /// The next message, as JSON; pings and pongs are passed over.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            let message = within("a message at the provider", self.io.next()).await;
            match message.expect("the socket is open").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} is no event"),
            }
        }
    }

    /// What comes when the client has ended: a close frame, or nothing more.
    pub(crate) async fn ended(&mut self) {
        let message = within("the end at the provider", self.io.next()).await;
        assert!(
            !matches!(message, Some(Ok(ref message)) if !message.is_close()),
            "{message:?}"
        );
    }

    /// Sends an event, in a lane if there is one.
    pub(crate) async fn send(&mut self, lane: Option<&str>, mut event: Value) {
        if let Some(lane) = lane {
            event["stream_id"] = lane.into();
        }
        self.io.send(Message::text(event.to_string())).await.unwrap();
    }

    /// Begins a response.
    pub(crate) async fn begins(&mut self, lane: Option<&str>, id: &str) {
        let response =
            json!({"id": id, "object": "response", "status": "in_progress", "model": "gpt-5.2-2026-01-15"});
        self.send(lane, json!({"type": "response.created", "response": response}))
            .await;
    }

    /// Sends a piece of a response's text.
    pub(crate) async fn says(&mut self, lane: Option<&str>, text: &str) {
        let delta = json!({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": text});
        self.send(lane, delta).await;
    }

    /// Ends a response with a tool call and its usage.
    pub(crate) async fn completes(&mut self, lane: Option<&str>, id: &str, output_tokens: u64) {
        self.send(lane, completed(id, output_tokens)).await;
    }
}

/// The last event of a response.
pub(crate) fn completed(id: &str, output_tokens: u64) -> Value {
    let call = json!({"type": "function_call", "id": "fc", "call_id": format!("call_{id}"), "name": "get_weather", "arguments": "{}", "status": "completed"});
    let usage = json!({
        "input_tokens": 120, "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": output_tokens, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120 + output_tokens,
    });
    json!({"type": "response.completed", "response": {
        "id": id, "object": "response", "status": "completed", "model": "gpt-5.2-2026-01-15", "output": [call], "usage": usage,
    }})
}
