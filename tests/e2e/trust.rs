//! Certificates of intercepted hosts, by name and by address, as the TLS stacks of real clients judge them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases;
use crate::clients::{java_store, run};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

/// A claimed host by name, and one by address.
const HOSTS: [&str; 2] = ["api.openai.com", "192.0.2.7"];

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let by_address = "[[provider]]\nname = \"by-address\"\nkind = \"openai\"\nbase-url = \"https://192.0.2.7/v1\"\nconnect-to = \"127.0.0.1:9\"";
    let gateway = Gateway::start(Settings::in_front_of(&fake).bridge(by_address)).await;
    (fake, gateway)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e/trust")
        .join(name)
}

/// Runs `command` with proxy, token, CA and host behind its own arguments; it must accept the certificate.
async fn accepts(gateway: &Gateway, make: impl Fn() -> Command) {
    for host in HOSTS {
        let mut command = make();
        let proxy = gateway.proxy();
        command.args([proxy.ip().to_string(), proxy.port().to_string(), gateway.token()]);
        command.arg(gateway.ca_file()).arg(host);
        let Some(output) = run(command).await else { return };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(
            output.status.success() && text.contains("accepted"),
            "{host}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_accepts_the_certificate_under_strict_rules() {
    let (_fake, gateway) = started().await;
    accepts(&gateway, || {
        let mut command = Command::new("python3");
        command.arg(script("trust.py"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_accepts_the_certificate() {
    let (_fake, gateway) = started().await;
    accepts(&gateway, || {
        let mut command = Command::new("node");
        command.arg(script("trust.js"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_accepts_the_certificate_from_a_store_that_keytool_made() {
    let (_fake, gateway) = started().await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let Some(()) = java_store(&gateway, &store).await else {
        return;
    };
    accepts(&gateway, || {
        let mut command = Command::new("java");
        command.arg(format!("-Djavax.net.ssl.trustStore={}", store.display()));
        command
            .arg("-Djavax.net.ssl.trustStorePassword=changeit")
            .arg(script("Trust.java"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_accepts_the_certificate() {
    let (_fake, gateway) = started().await;
    for host in HOSTS {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--proxy",
            &gateway.proxy_url(),
            "--cacert",
        ]);
        command.arg(gateway.ca_file()).args([
            "--output",
            "-",
            "--write-out",
            "accepted %{ssl_verify_result}",
        ]);
        command.arg(format!("https://{host}/nothing-here"));
        let Some(output) = run(command).await else { return };
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(
            output.status.success() && text.contains("accepted 0"),
            "{host}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_trust_the_ca_is_counted_by_its_alert() {
    let (fake, gateway) = started().await;
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--max-time",
        "20",
        "--proxy",
        &gateway.proxy_url(),
        "--cacert",
    ]);
    // Another CA than the gateway's.
    command
        .arg(fake.ca_file())
        .arg("https://api.openai.com/v1/models");
    let Some(output) = run(command).await else { return };
    assert_eq!(
        output.status.code(),
        Some(60),
        "curl calls the certificate untrusted"
    );
    let name = "causeway_tls_handshakes_total{result=\"unknown_ca\"}";
    eventually("the alert to be counted", async || {
        (gateway.metric(name).await == 1).then_some(())
    })
    .await;
}
