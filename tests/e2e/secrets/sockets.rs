//! WebSockets that go wrong, with a key in their handshake.

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::planted::Planted;
use crate::cases::RESPONSES;
use crate::client::within;
use crate::fake::{ProviderSocket, SocketProvider};
use crate::harness::{Gateway, eventually};
use crate::websocket::open_http1;

/// What the client sends last, and what of it the provider repeats.
const ENDINGS: [&str; 5] = [
    "not json",
    "{\"type\":\"response.create\"",
    "denied",
    "error",
    "gone",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_on_a_socket_that_goes_wrong() {
    let mut provider = SocketProvider::start().await;
    let settings = provider
        .settings()
        .log("trace")
        .more("[[policy.rule]]\ndeny = [\"denied\"]\n");
    let gateway = Gateway::start(settings).await;
    let key = Planted::new("byok", "sk-proj-planted-socket-4f1c7Qz0Xw93_8Rb");
    let token = Planted::new("token", gateway.token());
    for ending in ENDINGS {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", key.text()).parse().unwrap());
        let io = gateway.client().open_tls(RESPONSES.host).await;
        let (mut client, _) = open_http1(io, RESPONSES.host, RESPONSES.path, headers)
            .await
            .unwrap();
        let mut upstream = provider.opened().await;
        let seen = format!("{:?}", upstream.request.headers());
        assert!(key.is_in(seen.as_bytes()) && !token.is_in(seen.as_bytes()));
        play(ending, &key, &mut client, &mut upstream).await;
        drop((client, upstream));
    }
    let open = "/api/v1/interceptions?limit=1000&status=in_flight";
    eventually("all to have ended", async || {
        gateway.list(open).await.is_empty().then_some(())
    })
    .await;
    let records = gateway.list("/api/v1/interceptions?limit=1000").await;
    // What was no call at all is not on record, nor is what policy refused on an open socket.
    let masked =
        |record: &serde_json::Value| record["error_message"] == "Incorrect API key provided: sk-p..._8Rb";
    assert!(records.len() >= 2 && records.iter().any(masked), "{records:?}");
    let mut places = vec![gateway.stderr(), gateway.metrics().await.into_bytes()];
    for record in &records {
        let path = format!("/api/v1/interceptions/{}", record["id"].as_str().unwrap());
        places.push(gateway.answer_of(&path).await);
    }
    for (path, bytes) in gateway.files() {
        if path.file_name().is_some_and(|name| name != "token") {
            places.push(bytes);
        }
    }
    for bytes in places {
        for secret in [&key, &token] {
            assert!(
                !secret.is_in(&bytes),
                "{} is told: {}",
                secret.name,
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

/// One socket's life, up to the moment at which both ends go.
async fn play<T>(ending: &str, key: &Planted, client: &mut WebSocketStream<T>, upstream: &mut ProviderSocket)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let create = |model: &str| json!({"type": "response.create", "model": model, "input": "hi"}).to_string();
    match ending {
        "denied" => {
            client.send(Message::text(create("denied"))).await.unwrap();
            within("a refusal", client.next()).await;
        }
        "error" => {
            client.send(Message::text(create("m"))).await.unwrap();
            upstream.event().await;
            let message = format!("Incorrect API key provided: {}", key.text());
            let error = json!({"type": "error", "status": 401, "error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": message}});
            upstream.send(None, error).await;
            within("the error", client.next()).await;
        }
        "gone" => {
            client.send(Message::text(create("m"))).await.unwrap();
            upstream.event().await;
        }
        text => client.send(Message::text(text)).await.unwrap(),
    }
}
