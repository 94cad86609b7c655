//! The API of a running gateway: tokens that it makes open the proxy, and what went through that is counted.

use serde_json::Value;

use crate::cases::{self, Case};
use crate::client::{Answer, Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

const CASE: Case = cases::CHAT;

async fn ask(gateway: &Gateway, ask: Ask, token: &str) -> Answer {
    let ask = ask.header("authorization", format!("Bearer {token}"));
    base_url(gateway.bridge()).await.send(ask).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_by_the_api_opens_the_proxy_until_it_is_revoked() {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let wish = Ask::post("/api/v1/tokens", r#"{"user": "ann"}"#);
    let made = ask(&gateway, wish, &gateway.token()).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let made = made.json().await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());

    let client = gateway.client_of(token);
    let mut session = client.open(CASE.host, Http::V2).await;
    let (name, key) = CASE.key_header("sk-ann-0123456789abcdef");
    let answer = session
        .send(Ask::post(CASE.path, CASE.request).header(name, key))
        .await;
    assert_eq!(answer.status, 200);
    let request = answer.request_id();
    answer.bytes().await;
    gateway.record(&request).await;

    // The members' view is the same as everyone's: nobody else did anything.
    for token in [token.to_owned(), gateway.token()] {
        let counted = async |path: &str| -> Value {
            let answer = ask(&gateway, Ask::get(path), &token).await;
            assert_eq!(answer.status, 200, "{path}");
            answer.json().await["items"][0].clone()
        };
        let usage = counted("/api/v1/usage?group=user&group=model").await;
        assert_eq!(
            (&usage["user"], &usage["model"]),
            (&"ann".into(), &CASE.want.model.into())
        );
        assert_eq!(usage["usage"]["input"], CASE.want.input);
        assert_eq!(usage["usage"]["output"], CASE.want.output);
        assert_eq!(counted("/api/v1/seats").await["user"], "ann");
        assert_eq!(counted("/api/v1/models").await["name"], CASE.want.model);
    }
    let told = ask(&gateway, Ask::get("/api/v1/usage?user=admin"), token).await;
    assert_eq!(told.status, 403);

    let path = format!("/api/v1/tokens/{id}");
    assert_eq!(ask(&gateway, Ask::delete(&path), token).await.status, 403);
    assert_eq!(
        ask(&gateway, Ask::delete(&path), &gateway.token()).await.status,
        204
    );
    let (refused, _) = client.connect(&format!("{}:443", CASE.host)).await;
    assert_eq!(refused.status, 407);
    assert_eq!(ask(&gateway, Ask::get("/api/v1/me"), token).await.status, 401);
    let log = gateway.stderr();
    assert!(
        !log.windows(token.len()).any(|part| part == token.as_bytes()),
        "the log has no token"
    );
}
