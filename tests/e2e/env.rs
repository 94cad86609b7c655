//! `causeway env`: what it prints makes the client work when a shell has read it. The command is the one that the
//! client's page gives as its test.

use std::path::PathBuf;
use std::process::Output;

use crate::clients::{self, bare, in_repository};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings};

/// As OpenAI answers without a key.
const NO_KEY: &[u8] =
    br#"{"error":{"message":"Missing bearer authentication","type":"invalid_request_error","param":null,"code":null}}"#;

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::start(Offers::Both).await;
    fake.on("/v1/models", Reply::json(NO_KEY).status(401));
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// The test of a client's page.
fn test_of(client: &str) -> String {
    let page = in_repository("docs/clients").join(format!("{client}.md"));
    let page = std::fs::read_to_string(page).unwrap();
    let (_, test) = page.split_once("## Test\n\n```sh\n").unwrap();
    test.split_once("\n```").unwrap().0.to_owned()
}

/// Runs `script` in a shell that has read the settings for `client`; everything that it says.
async fn told(gateway: &Gateway, client: &str, script: &str) -> String {
    let data = gateway.data_dir();
    let config = data.parent().unwrap().join("causeway.toml");
    let settings = format!(
        "eval \"$({} --config {} --data-dir {} env --client {client})\"",
        env!("CARGO_BIN_EXE_causeway"),
        config.display(),
        data.display(),
    );
    let mut shell = bare("sh");
    // Node 24 honours the proxy variables; the system's own is often older.
    let newer: PathBuf = in_repository("target/interop/runtime/node_modules/.bin");
    let path = std::env::var("PATH").unwrap();
    shell.env("PATH", format!("{}:{path}", newer.display()));
    shell.args(["-c", &format!("{settings}\n{script}")]);
    let Output { stdout, stderr, .. } = clients::run(shell).await.expect("there is a shell");
    String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
}

/// Whether a program is there; said aloud where it is not.
async fn is_there(program: &str) -> bool {
    let mut command = bare(program);
    command.arg("--version");
    clients::run(command).await.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_settings_pass_the_test_of_their_page() {
    for (client, program, want) in [
        ("curl", "curl", "401 0"),
        ("python", "python3", "HTTP Error 401: Unauthorized"),
        ("node", "node", "401"),
    ] {
        if !is_there(program).await {
            continue;
        }
        if client == "node" && !in_repository("target/interop/runtime").exists() {
            clients::skip("Node 24 is not installed: run tests/interop/setup.sh");
            continue;
        }
        let (fake, gateway) = started().await;
        let told = told(&gateway, client, &test_of(client)).await;
        assert!(told.contains(want), "{client}: {told}");
        assert_eq!(
            fake.last_request().path,
            "/v1/models",
            "{client} came through the gateway"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_trusts_what_its_settings_name() {
    if !is_there("git").await {
        return;
    }
    let (fake, gateway) = started().await;
    let told = told(
        &gateway,
        "git",
        "git ls-remote https://api.openai.com/no/repository HEAD",
    )
    .await;
    // Neither proxy nor certificate is in its way, only that there is no such repository.
    assert!(told.contains("not found"), "{told}");
    assert!(fake.last_request().path.starts_with("/no/repository"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_undoes_the_settings_leaves_nothing_behind() {
    let (fake, gateway) = started().await;
    let page = std::fs::read_to_string(in_repository("docs/clients/curl.md")).unwrap();
    let undo = page.lines().find(|line| line.starts_with("unset ")).unwrap();
    let told = told(&gateway, "curl", &format!("env; echo ---; {undo}; env")).await;
    let (with, without) = told.split_once("---").unwrap();
    let leads = |text: &str| text.to_lowercase().contains("proxy=") || text.contains("CA_BUNDLE=");
    assert!(leads(with) && !leads(without), "{told}");
    assert!(fake.requests().is_empty());
}
