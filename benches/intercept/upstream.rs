//! A TLS upstream that answers at once: one JSON body, or a stream of 54 events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use certs::{Authority, CaProfile, LeafName};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const EVENTS: usize = 54;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Blocking,
    Stream,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Blocking => "1 KiB",
            Shape::Stream => "54 events",
        }
    }

    /// A chat completion with a prompt of 2 KiB.
    pub(crate) fn request(self) -> Bytes {
        let prompt = "Tell me more. ".repeat(146);
        let stream = match self {
            Shape::Blocking => "",
            Shape::Stream => "\"stream\":true,\"stream_options\":{\"include_usage\":true},",
        };
        let body =
            format!(r#"{{"model":"gpt-5.5",{stream}"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        body.into()
    }
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
}

impl Upstream {
    pub(crate) async fn start() -> Upstream {
        let now = SystemTime::now();
        let made = Authority::generate(
            &CaProfile {
                common_name: "bench upstream",
                only: None,
            },
            now,
        )
        .unwrap();
        let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now).unwrap();
        let leaf = authority
            .issue(&LeafName::parse("api.openai.com").unwrap(), now)
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        Upstream {
            address,
            ca_pem: made.cert_pem,
        }
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor) {
    let events = Arc::new(events());
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (tls, events) = (tls.clone(), events.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = hyper::service::service_fn(move |request| answer(request, events.clone()));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, events: Arc<Vec<Bytes>>) -> Result<Response<Reply>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let streamed = body
        .windows(13)
        .take(64)
        .any(|window| window == b"\"stream\":true");
    let (kind, reply) = if streamed {
        (
            "text/event-stream",
            Reply {
                frames: events,
                next: 0,
            },
        )
    } else {
        (
            "application/json",
            Reply {
                frames: Arc::new(vec![blocking()]),
                next: 0,
            },
        )
    };
    Ok(Response::builder()
        .header("content-type", kind)
        .body(reply)
        .unwrap())
}

fn blocking() -> Bytes {
    let text = "word ".repeat(140);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5.5","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":512,"completion_tokens":140,"total_tokens":652}}}}"#
    )
    .into()
}

fn events() -> Vec<Bytes> {
    let chunk = |delta: &str, rest: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-5.5\",\"choices\":[{delta}]{rest}}}\n\n"
        ))
    };
    let mut events: Vec<Bytes> = (0..EVENTS - 3)
        .map(|n| {
            chunk(
                &format!(r#"{{"index":0,"delta":{{"content":" word{n}"}},"finish_reason":null}}"#),
                "",
            )
        })
        .collect();
    events.push(chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#, ""));
    events.push(chunk(
        "",
        r#","usage":{"prompt_tokens":512,"completion_tokens":51,"total_tokens":563}"#,
    ));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

/// Frames, each a wake-up of its own, as a model's are.
pub(crate) struct Reply {
    frames: Arc<Vec<Bytes>>,
    next: usize,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let step = self.next;
        self.next += 1;
        if step % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(
            self.frames
                .get(step / 2)
                .cloned()
                .map(|frame| Ok(Frame::data(frame))),
        )
    }
}
