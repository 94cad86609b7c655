//! Clients that begin slowly and leave early: a ClientHello in single bytes is read as a whole, and a reply that
//! nobody waits for ends upstream too.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::cases;
use crate::client::{Ask, Http, assert_same};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

/// Writes one byte at a time, each a packet of its own as far as the system lets it.
struct Dripping(TcpStream);

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Dripping {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &from[..from.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hello_in_single_bytes_is_intercepted() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let case = cases::CHAT;
    let (head, tcp) = gateway.client().connect(&format!("{}:443", case.host)).await;
    assert_eq!(head.status, 200);
    tcp.set_nodelay(true).unwrap();
    // The session trusts the gateway's CA only: a raw tunnel would show the provider's certificate.
    let mut session = gateway.client().session(Dripping(tcp), case.host, Http::V1).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    assert_same(&session.send(ask).await.bytes().await, case.reply, case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_reply_upstream() {
    let case = cases::CHAT_STREAM;
    let fake = FakeProvider::start(Offers::Both).await;
    let (reply, gate) = case.scripted().gated();
    let first = reply.frames()[0].len();
    fake.on(case.path, reply);
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let mut session = gateway.client().open(case.host, Http::V2).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let mut answer = session.send(ask).await;
    answer.read_to(first).await;
    let id = answer.request_id();
    drop((answer, session));
    eventually("the end of the reply upstream", async || {
        gate.is_over().then_some(())
    })
    .await;
    assert_eq!(gateway.record(&id).await["outcome"], "aborted");
}
