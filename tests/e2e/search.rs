//! What was asked is found again within seconds, by those who may see it, until it is erased.

use serde_json::Value;

use crate::cases::{self, CHAT};
use crate::client::{Ask, Http, ProxyClient, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

async fn ask(client: &ProxyClient, prompt: &str) {
    let mut request: Value = serde_json::from_slice(CHAT.request).unwrap();
    request["messages"].as_array_mut().unwrap().last_mut().unwrap()["content"] = prompt.into();
    let request = request.to_string();
    let (name, value) = CHAT.key_header("sk-user");
    let ask = Ask::post(CHAT.path, request).header(name, value);
    let answer = client.open(CHAT.host, Http::V2).await.send(ask).await;
    assert_eq!(answer.status, 200);
    answer.bytes().await;
}

/// A question in a query string.
fn encoded(words: &str) -> String {
    words.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Status and body of a list of what is found.
async fn search(gateway: &Gateway, token: &str, list: &str, words: &str) -> (u16, Value) {
    let path = format!("/api/v1/{list}?q={}", encoded(words));
    let ask = Ask::get(path).header("authorization", format!("Bearer {token}"));
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    (answer.status, answer.json().await)
}

async fn prompts(gateway: &Gateway, token: &str, words: &str) -> Vec<String> {
    let (status, body) = search(gateway, token, "interceptions", words).await;
    assert_eq!(status, 200, "{words}: {body}");
    let items = body["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["prompt"].as_str().unwrap().to_owned())
        .collect()
}

async fn found(gateway: &Gateway, token: &str, words: &str, count: usize) {
    eventually("what is looked for", async || {
        (prompts(gateway, token, words).await.len() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_found_by_their_words_and_forgotten_when_erased() {
    let fake = FakeProvider::answering(Offers::Both, &[cases::CHAT]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let (admin, (_, mia)) = (gateway.token(), gateway.new_token("mia"));
    ask(
        &gateway.client(),
        "Why does parseHeader in src/wire/line.rs fail?",
    )
    .await;
    ask(&gateway.client(), "Translate 配置文件 please").await;
    ask(&gateway.client_of(&mia), "My plantedsecret fails").await;
    found(&gateway, &admin, "fail*", 2).await;
    found(&gateway, &admin, "translate", 1).await;
    for (words, count) in [
        ("FAIL", 1),
        ("\"wire/line.rs\"", 1),
        ("line.rs fail", 1),
        ("\"fail rs\"", 0),
        ("header", 1),
        ("parseheader", 1),
        ("配置", 1),
        ("plantedsecret", 1),
    ] {
        assert_eq!(prompts(&gateway, &admin, words).await.len(), count, "{words}");
    }
    let (_, sessions) = search(&gateway, &admin, "sessions", "plantedsecret").await;
    assert_eq!(sessions["items"][0]["user"], "mia");
    gateway.prints("mia", &["sessions", "-q", "planted*"]);

    // Members find their own.
    assert_eq!(prompts(&gateway, &mia, "fail*").await, ["My plantedsecret fails"]);
    assert_eq!(prompts(&gateway, &mia, "translate").await.len(), 0);
    let (_, sessions) = search(&gateway, &mia, "sessions", "translate").await;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 0);

    gateway.run(&["erase", "--user", "mia"]);
    assert_eq!(prompts(&gateway, &admin, "plantedsecret").await.len(), 0);
    assert_eq!(prompts(&gateway, &admin, "fail").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_is_more_than_words() {
    let fake = FakeProvider::answering(Offers::Both, &[cases::CHAT]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let token = gateway.token();
    ask(&gateway.client(), "plain or and near not").await;
    found(&gateway, &token, "plain", 1).await;
    for words in [
        "plain' OR '1'='1",
        "x\") OR 1=1 --",
        "'; DROP TABLE prompt; --",
        "NEAR(plain zebra)",
        "prompt : plain",
        "^plain + - ( ) { } [ ] zebra",
        "plain AND NOT near zebra",
        "\u{1}u1",
        "%' zebra",
        "plain\u{202e}zebra",
        "zebra*",
        "?1 $1 zebra",
    ] {
        assert_eq!(prompts(&gateway, &token, words).await.len(), 0, "{words:?}");
    }
    for words in [
        "plain \\ / | & ! < >",
        "\"\"\" plain",
        "** plain **",
        "PLAIN -- ;",
    ] {
        assert_eq!(prompts(&gateway, &token, words).await.len(), 1, "{words:?}");
    }
    for words in [
        "",
        " ",
        "\"",
        "*",
        "💥",
        "plain\0",
        &"x".repeat(1_001),
        &"x ".repeat(17),
    ] {
        for list in ["interceptions", "sessions"] {
            let (status, body) = search(&gateway, &token, list, words).await;
            assert_eq!((status, body["field"].as_str()), (400, Some("q")), "{words:?}");
        }
    }
    let path = format!("/api/v1/interceptions?q={}", "x".repeat(60_000));
    let ask = Ask::get(path).header("authorization", format!("Bearer {token}"));
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert_eq!(gateway.metric("causeway_records_unindexed").await, 0);
}
