//! A store that is away, with the password for it and records in the spool.

use std::path::PathBuf;

use super::planted::Planted;
use crate::cases::CHAT;
use crate::client::{Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::postgres::Postgres;

async fn on_postgres(fake: &FakeProvider, url: String) -> Gateway {
    let settings = Settings::in_front_of(fake)
        .log("trace")
        .env("CAUSEWAY_STORE__URL", url)
        .env("CAUSEWAY_RECORD__SPOOL_MAX", "40KiB".to_owned());
    Gateway::start(settings).await
}

/// What people and programs are told who need the store now.
async fn asked_meanwhile(gateway: &Gateway, token: &Planted, unknown: &Planted) -> Vec<Vec<u8>> {
    let mut told = Vec::new();
    // Nobody can say whether this token is good.
    let (head, _) = gateway
        .client_of(unknown.text())
        .connect("api.openai.com:443")
        .await;
    assert_eq!(head.status, 503, "{head:?}");
    let me = Ask::get("/api/v1/sessions").header("authorization", format!("Bearer {}", token.text()));
    let answer = base_url(gateway.bridge()).await.send(me).await;
    assert!(answer.status >= 500);
    told.push(answer.bytes().await.to_vec());
    for arguments in [
        &["sessions"][..],
        &["check"],
        &["doctor"],
        &["audit", "verify"],
        &["token", "list"],
        &["token", "create", "--user", "x"],
    ] {
        let mut command = gateway.command();
        let output = command.args(["--log", "trace"]).args(arguments).output().unwrap();
        told.push([output.stdout, output.stderr].concat());
    }
    told
}

fn without_token_file(files: Vec<(PathBuf, Vec<u8>)>) -> impl Iterator<Item = Vec<u8>> {
    let is_other = |path: &PathBuf| path.file_name().is_some_and(|name| name != "token");
    files
        .into_iter()
        .filter(move |(path, _)| is_other(path))
        .map(|(_, bytes)| bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_while_the_store_is_away() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let password = Planted::new("password", "hunter2-db/p@ss:planted");
    let url = server
        .database("records")
        .replace("hunter2", "hunter2-db%2Fp%40ss%3Aplanted");
    let gateway = on_postgres(&fake, url).await;
    let key = Planted::new("byok", "sk-proj-planted-outage-4f1c7Qz0Xw93_8Rb");
    let (token, unknown) = (
        Planted::new("token", gateway.token()),
        Planted::new("unknown", format!("cw_{}", "5a17b3c9".repeat(6))),
    );
    let ask = || Ask::post(CHAT.path, CHAT.request).header("authorization", format!("Bearer {}", key.text()));
    let mut session = gateway.client().open(CHAT.host, Http::V2).await;
    assert_eq!(session.send(ask()).await.status, 200);
    server.stop();
    let mut told = Vec::new();
    eventually("records in the spool", async || {
        assert_eq!(session.send(ask()).await.status, 200);
        (gateway.metric("causeway_records_in_spool").await > 1).then_some(())
    })
    .await;
    let spooled = gateway.files();
    assert!(
        spooled
            .iter()
            .any(|(path, bytes)| path.extension().is_some_and(|kind| kind == "seg") && !bytes.is_empty())
    );
    eventually("a full spool", async || {
        let answer = session.send(ask()).await;
        (answer.status == 503).then_some(())
    })
    .await;
    told.extend(asked_meanwhile(&gateway, &token, &unknown).await);
    told.push(gateway.stderr());
    told.push(gateway.metrics().await.into_bytes());
    told.extend(without_token_file(gateway.files()).chain(without_token_file(spooled)));
    server.resume();
    eventually("an empty spool", async || {
        (gateway.metric("causeway_records_in_spool").await == 0).then_some(())
    })
    .await;
    told.push(gateway.stderr());
    for record in gateway.list("/api/v1/interceptions?limit=1000").await {
        let path = format!("/api/v1/interceptions/{}", record["id"].as_str().unwrap());
        told.push(gateway.answer_of(&path).await);
    }
    for bytes in told {
        for secret in [&password, &key, &token, &unknown] {
            let line = bytes.split(|byte| *byte == b'\n').find(|line| secret.is_in(line));
            let line = line.map(|line| String::from_utf8_lossy(line).into_owned());
            assert_eq!(line, None, "{} is told", secret.name);
        }
    }
}
