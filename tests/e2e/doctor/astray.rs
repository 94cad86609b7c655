//! A gateway that does not behave, and what stands between it and its clients.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::SystemTime;

use certs::{Authority, LeafName};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::{ask, data, finds, started};
use crate::fake::{FakeProvider, Reply};
use crate::harness::Gateway;
use crate::raw::read_to;

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hangs_is_told_once_and_asked_no_more() {
    let (_fake, gateway) = started().await;
    gateway.hold(true);
    let (is_well, found) = ask(&gateway, &[], &[]).await;
    gateway.hold(false);
    let of = |check: &str| found.iter().filter(|finding| finding["check"] == check).count();
    let text = found[0]["text"].as_str().unwrap();
    assert!(!is_well && text.contains("does not answer on"), "{found:#?}");
    assert_eq!((of("gateway"), of("interception"), of("websocket")), (1, 0, 0));
    assert!(of("upstream") > 0, "what does not need it is still found out");
}

/// Has the doctor believe that the port `key` of the gateway is at `address`.
fn lead_astray(gateway: &Gateway, key: &str, address: SocketAddr) {
    let path = gateway.data_dir().join("gateway.json");
    let mut said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    said[key] = address.to_string().into();
    fs::write(path, said.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_ready_and_a_port_that_is_gone_are_found() {
    let (_fake, gateway) = started().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lead_astray(&gateway, "proxy", closed);
    finds(&gateway, &[], &[], "gateway", "cannot be reached").await;
    let other = FakeProvider::in_clear().await;
    let reply = Reply::of("text/plain", b"nothing more can be recorded\n").status(503);
    other.on("/readyz", reply);
    lead_astray(&gateway, "metrics", other.address());
    finds(
        &gateway,
        &[],
        &[],
        "gateway",
        "is not ready: nothing more can be recorded",
    )
    .await;
}

/// Another proxy between: it intercepts with the gateway's own CA, speaks no HTTP/2, and answers no request.
async fn in_between(gateway: &Gateway) -> SocketAddr {
    let now = SystemTime::now();
    let [cert, key] = ["ca.pem", "ca.key"].map(|name| fs::read_to_string(data(gateway, name)).unwrap());
    let authority = Authority::from_pem(&cert, &key, now).unwrap();
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
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                read_to(&mut tcp, "\r\n\r\n").await?;
                tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                let mut stream = acceptor.accept(tcp).await.ok()?;
                read_to(&mut stream, "\r\n\r\n").await?;
                stream.shutdown().await.ok()
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn another_proxy_in_between_is_found_by_what_it_does_not_pass() {
    let (_fake, gateway) = started().await;
    let other = in_between(&gateway).await;
    lead_astray(&gateway, "proxy", other);
    finds(
        &gateway,
        &[],
        &[],
        "interception",
        "is intercepted without HTTP/2",
    )
    .await;
    finds(&gateway, &[], &[], "websocket", "gets no answer").await;
}
