//! The CA's life: swapped under a running gateway, limited to the claimed hosts, described and explained.

use std::process::Command;

use crate::cases;
use crate::client::{Ask, Http};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

/// Runs the program; its exit code and everything it printed.
fn causeway(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_is_taken_up_without_a_restart() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let case = cases::CHAT;
    let ask = || Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let mut before = gateway.client().open(case.host, Http::V1).await;
    assert!(!before.send(ask()).await.bytes().await.is_empty());

    let old = std::fs::read(gateway.ca_file()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let folder = other.path().to_str().unwrap();
    assert_eq!(causeway(&["--data-dir", folder, "ca", "init"]).0, 0);
    for name in ["ca.key", "ca.pem"] {
        std::fs::rename(other.path().join(name), gateway.data_dir().join(name)).unwrap();
    }
    assert_ne!(std::fs::read(gateway.ca_file()).unwrap(), old);
    gateway.hang_up();

    // `client()` trusts only what is in the CA file now.
    eventually("a certificate of the new CA", async || {
        let client = gateway.client();
        let open = tokio::spawn(async move { client.open(cases::CHAT.host, Http::V1).await });
        let mut session = open.await.ok()?;
        (session.send(ask()).await.status == 200).then_some(())
    })
    .await;
    let served = gateway.answer_of("/ca.pem").await;
    assert_eq!(served, std::fs::read(gateway.ca_file()).unwrap());
    let after = before.send(ask()).await;
    assert_eq!(after.status, 200, "connections that were open go on");
}

#[test]
fn a_constrained_ca_must_cover_the_claimed_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("causeway.toml");
    let (config_path, data) = (config.to_str().unwrap(), folder.path().join("data"));
    let arguments = |command: [&'static str; 2]| {
        [
            "--config",
            config_path,
            "--data-dir",
            data.to_str().unwrap(),
            command[0],
            command[1],
        ]
        .map(str::to_owned)
    };
    let run = |command| causeway(&arguments(command).each_ref().map(String::as_str));

    std::fs::write(&config, "[ca]\nname-constraints = true\n").unwrap();
    assert_eq!(run(["ca", "init"]).0, 0);
    assert_eq!(run(["ca", "show"]).0, 0);
    let (code, text) = run(["ca", "init"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("exists already"), "{text}");

    let added = "[ca]\nname-constraints = true\n[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://llm.example.com/v1\"\n";
    std::fs::write(&config, added).unwrap();
    let (code, text) = run(["ca", "show"]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("llm.example.com") && text.contains("ca init"),
        "{text}"
    );
}

#[test]
fn every_trust_store_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    assert_eq!(causeway(&["--data-dir", data, "ca", "init"]).0, 0);
    let (code, text) = causeway(&["--data-dir", data, "ca", "install"]);
    assert_eq!(code, 0, "{text}");
    for store in [
        "Debian", "Fedora", "macOS", "Windows", "Node", "Python", "Java", "Firefox", "curl", "git",
    ] {
        assert!(text.contains(store), "{store} is not explained:\n{text}");
    }
    assert!(text.contains(data), "the lines name the real file");
    assert!(!text.contains("PRIVATE KEY"));
}
