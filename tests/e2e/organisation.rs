//! A CA that an organisation has issued: an intermediate with its chain works and says when it ends; one that
//! clients would refuse is refused before anything listens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::cases;
use crate::client::{Ask, Http, ProxyClient, assert_same, basic};
use crate::clients::run;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

/// A root; an intermediate for ten days; and certificates of the root that are no authorities, each with its key.
const ISSUE: &str = r#"
set -e
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
issue() { # name, days, extensions
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    printf "%b" "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA root.pem -CAkey root.key -CAcreateserial -days "$2" -extfile "$1.ext" -out "$1.pem"
    cat "$1.pem" root.pem > "$1.chain.pem"
}
CA="basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n"
SIGNS="keyUsage=critical,keyCertSign,cRLSign\n"
key root
openssl req -x509 -new -key root.key -subj "/CN=Corp Root" -days 3650 -addext "keyUsage=critical,keyCertSign" -out root.pem
issue good 10 "$CA$SIGNS"
issue leaf 10 "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\n$SIGNS"
issue no-signing 10 "${CA}keyUsage=critical,cRLSign\n"
issue no-identifier 10 "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=none\n$SIGNS"
issue expired 0 "$CA$SIGNS"
cat good.pem leaf.pem > broken.chain.pem
"#;

/// The organisation's files; nothing where openssl is missing.
async fn issued() -> Option<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let mut probe = Command::new("openssl");
    probe.arg("version");
    run(probe).await?;
    let mut command = Command::new("sh");
    command.args(["-c", ISSUE]).current_dir(folder.path());
    let made = run(command).await?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for entry in fs::read_dir(folder.path()).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    Some(folder)
}

fn section(folder: &Path, cert: &str, key: &str) -> String {
    format!(
        "[ca]\ncert = {:?}\nkey = {:?}\n",
        folder.join(cert),
        folder.join(key)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_with_its_chain_is_served_and_its_end_announced() {
    let Some(folder) = issued().await else { return };
    let case = cases::CHAT;
    let fake = FakeProvider::answering(Offers::Both, &[case]).await;
    let ca = section(folder.path(), "good.chain.pem", "good.key");
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(&ca)).await;
    // The client has the root and nothing else.
    let root = folder.path().join("root.pem");
    let client = ProxyClient::new(gateway.proxy(), basic(&gateway.token()), &root);
    let mut session = client.open(case.host, Http::V2).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    assert_same(&session.send(ask).await.bytes().await, case.reply, case.name);

    let metrics = gateway.metrics().await;
    let left = metrics
        .lines()
        .find_map(|line| line.strip_prefix("causeway_ca_expiry_seconds "));
    let days = left.unwrap().parse::<f64>().unwrap() / 86_400.0;
    assert!((9.9..=10.0).contains(&days), "{days} days");
    let log = String::from_utf8(gateway.stderr()).unwrap();
    assert!(log.contains("the CA expires soon"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_clients_would_refuse_is_refused_before_anything_listens() {
    let Some(folder) = issued().await else { return };
    for (cert, key, want) in [
        ("good.chain.pem", "root.key", "key"),
        ("leaf.chain.pem", "leaf.key", "CA:TRUE"),
        ("no-signing.chain.pem", "no-signing.key", "keyCertSign"),
        (
            "no-identifier.chain.pem",
            "no-identifier.key",
            "subject key identifier",
        ),
        ("expired.chain.pem", "expired.key", "expired"),
        ("broken.chain.pem", "good.key", "chain"),
    ] {
        let config = folder.path().join("causeway.toml");
        fs::write(&config, section(folder.path(), cert, key)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.path().join("data"));
        let output = run({
            command.arg("serve");
            command
        })
        .await
        .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{cert}: {text}");
        assert!(text.contains(want) && !text.contains("PRIVATE"), "{cert}: {text}");
    }
}
