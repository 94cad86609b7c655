//! Several gateways on one PostgreSQL: what is changed at one counts at all of them.

use crate::cases::CHAT;
use crate::client::{Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::postgres::Postgres;
use crate::reload::ask_for_reload;

async fn two(server: &Postgres, fake: &FakeProvider) -> (Gateway, Gateway) {
    let url = server.database("shared");
    let start = || Gateway::start(Settings::in_front_of(fake).env("CAUSEWAY_STORE__URL", url.clone()));
    let one = start().await;
    (one, start().await)
}

fn says_it_was_asked(gateway: &Gateway) -> bool {
    String::from_utf8_lossy(&gateway.stderr()).contains("another gateway asks for the configuration")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_read_their_configuration_when_one_is_told_to() {
    let Some(server) = Postgres::start() else { return };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let (one, other) = two(&server, &fake).await;
    assert_eq!(ask_for_reload(&one, &one.token()).await.0, 200);
    eventually("the other gateway to be told", async || {
        says_it_was_asked(&other).then_some(())
    })
    .await;
    // Whose configuration cannot run tells nobody.
    let good = other.configuration();
    other.configure(&(good + "\n[colour]\n"));
    assert_eq!(ask_for_reload(&other, &other.token()).await.0, 422);
    assert_eq!(ask_for_reload(&one, &one.token()).await.0, 200);
    eventually("the other gateway to keep what it has", async || {
        (other.metric("causeway_config_reload_failures_total").await >= 2).then_some(())
    })
    .await;
    assert!(
        !says_it_was_asked(&one),
        "it asked itself, or was asked by who failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_at_one_is_good_at_all_until_it_is_revoked_anywhere() {
    let Some(server) = Postgres::start() else { return };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let (one, other) = two(&server, &fake).await;
    let (id, token) = one.new_token("ann");
    let ask = || Ask::post(CHAT.path, CHAT.request).header("authorization", "Bearer sk-user");
    // An open connection, which was let in with the token.
    let mut open = other.client_of(&token).open(CHAT.host, Http::V2).await;
    assert_eq!(open.send(ask()).await.status, 200);

    let path = format!("/api/v1/tokens/{id}");
    let revoke = Ask::delete(path).header("authorization", format!("Bearer {}", one.token()));
    assert_eq!(base_url(one.bridge()).await.send(revoke).await.status, 204);
    eventually("the token to be nobody's", async || {
        (open.send(ask()).await.status == 400).then_some(())
    })
    .await;
    assert_eq!(
        fake.requests().last().map(|seen| seen.path.clone()).as_deref(),
        Some(CHAT.path)
    );
}
