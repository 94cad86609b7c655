//! `causeway doctor`: each thing that it can find is broken once, and it must name that thing and a cure.

mod astray;

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::clients;
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};
use crate::raw::RawProvider;

/// Variables of the shell that the doctor is asked in.
type Environment<'a> = &'a [(&'a str, String)];

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::start(Offers::Both).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// What the doctor finds, and whether it calls that well.
async fn ask(gateway: &Gateway, arguments: &[&str], environment: Environment<'_>) -> (bool, Vec<Value>) {
    let mut command = gateway.command();
    command.args(["doctor", "--json"]).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = clients::run(command).await.expect("the program is built");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    let token = fs::read_to_string(gateway.data_dir().join("token")).unwrap_or("cw_none".to_owned());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains(token.trim()), "the token is not told");
    for finding in found.iter().filter(|finding| finding["level"] == "wrong") {
        assert!(!finding["cure"].as_str().unwrap().is_empty(), "{finding}");
    }
    (output.status.success(), found)
}

/// The doctor finds `part` wrong in `check`.
async fn finds(gateway: &Gateway, arguments: &[&str], environment: Environment<'_>, check: &str, part: &str) {
    let (is_well, found) = ask(gateway, arguments, environment).await;
    let matches = |finding: &&Value| {
        finding["check"] == check
            && finding["level"] == "wrong"
            && finding["text"].as_str().unwrap().contains(part)
    };
    assert!(
        found.iter().any(|finding| matches(&finding)),
        "no `{part}` in {check}: {found:#?}"
    );
    assert!(!is_well, "{part} is an error");
}

fn data(gateway: &Gateway, name: &str) -> String {
    gateway.data_dir().join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_what_run_starts() {
    let (_fake, gateway) = started().await;
    for client in ["curl", "node", "codex", "python"] {
        let mut command = gateway.command();
        command.args(["run", "--", env!("CARGO_BIN_EXE_causeway"), "--data-dir"]);
        command
            .arg(gateway.data_dir())
            .args(["doctor", "--json", "--client", client]);
        let output = clients::run(command).await.expect("the program is built");
        let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let wrong: Vec<_> = found
            .iter()
            .filter(|finding| finding["level"] == "wrong")
            .collect();
        assert!(
            output.status.success() && wrong.is_empty(),
            "{client}: {wrong:#?}"
        );
        for check in [
            "gateway",
            "token",
            "ca",
            "bundle",
            "ca in use",
            "variables",
            "trust",
            "interception",
            "websocket",
            "upstream",
            "clock",
            "recent troubles",
        ] {
            let fine = |finding: &&Value| finding["check"] == check && finding["level"] == "fine";
            assert!(
                found.iter().any(|finding| fine(&finding)),
                "{client}: {check} was not made: {found:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_run_is_told_from_a_port_that_is_taken() {
    let fake = FakeProvider::start(Offers::Both).await;
    let gateway = Gateway::configured(Settings::in_front_of(&fake));
    finds(&gateway, &[], &[], "gateway", "no gateway runs on").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = [("CAUSEWAY_PROXY__LISTEN", address.clone())];
    let text = format!("another program listens on {address}");
    finds(&gateway, &[], &listen, "gateway", &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_found_in_file_and_variable() {
    let (_fake, gateway) = started().await;
    let tokens = gateway.cli(&["token", "list", "--json"]);
    let items = tokens.as_array().or(tokens["items"].as_array()).unwrap();
    let id = items[0]["id"].as_str().unwrap();
    let revoked = gateway.command().args(["token", "revoke", id]).status().unwrap();
    assert!(revoked.success());
    let environment = [("HTTPS_PROXY", gateway.proxy_url())];
    eventually("the gateway to know", async || {
        let (_, found) = ask(&gateway, &[], &environment).await;
        found
            .iter()
            .any(|finding| finding["check"] == "token" && finding["level"] == "wrong")
            .then_some(())
    })
    .await;
    finds(
        &gateway,
        &[],
        &environment,
        "token",
        "unknown, expired or revoked",
    )
    .await;
    finds(
        &gateway,
        &[],
        &environment,
        "variables",
        "the token in HTTPS_PROXY: it is unknown",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_together_are_found() {
    let (fake, gateway) = started().await;
    let bundle = data(&gateway, "ca-bundle.pem");
    fs::copy(gateway.ca_file(), &bundle).unwrap();
    finds(&gateway, &[], &[], "bundle", "holds no other CA than ours").await;
    fs::copy(fake.ca_file(), &bundle).unwrap();
    finds(&gateway, &[], &[], "bundle", "does not hold the CA").await;
    fs::remove_file(&bundle).unwrap();
    finds(&gateway, &[], &[], "bundle", "cannot be read").await;

    fs::remove_file(data(&gateway, "ca.pem")).unwrap();
    fs::remove_file(data(&gateway, "ca.key")).unwrap();
    finds(&gateway, &[], &[], "ca", "there is no CA at").await;
    assert!(gateway.command().args(["ca", "init"]).status().unwrap().success());
    finds(&gateway, &[], &[], "ca in use", "signs with another CA").await;
    finds(&gateway, &[], &[], "interception", "through the gateway fails").await;
    gateway.hang_up();
    eventually("the new CA", async || {
        let (_, found) = ask(&gateway, &[], &[]).await;
        found
            .iter()
            .all(|finding| finding["check"] != "ca in use" || finding["level"] == "fine")
            .then_some(())
    })
    .await;

    fs::write(data(&gateway, "ca.pem"), "no certificate").unwrap();
    finds(&gateway, &[], &[], "ca", "the CA cannot be used").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_lead_elsewhere_are_found() {
    let (_fake, gateway) = started().await;
    let (good, proxy) = (gateway.proxy_url(), gateway.proxy());
    let curl = ["--client", "curl"];
    for (environment, arguments, check, part) in [
        (vec![], &curl[..], "variables", "HTTPS_PROXY is not set"),
        (
            vec![("HTTPS_PROXY", "http://proxy.corp:3128".to_owned())],
            &[],
            "variables",
            "leads to proxy.corp:3128",
        ),
        (
            vec![("HTTPS_PROXY", "socks5://127.0.0.1:1".to_owned())],
            &[],
            "variables",
            "no http:// URL",
        ),
        (
            vec![("https_proxy", good.replace("http:", "https:"))],
            &[],
            "variables",
            "speaks no TLS",
        ),
        (
            vec![("HTTPS_PROXY", format!("http://{proxy}"))],
            &[],
            "variables",
            "has no token in it",
        ),
        (
            vec![("HTTPS_PROXY", format!("http://x:cw_bad@{proxy}"))],
            &[],
            "variables",
            "does not take",
        ),
        (
            vec![
                ("HTTPS_PROXY", good.clone()),
                ("https_proxy", "http://old.corp:1".to_owned()),
            ],
            &[],
            "variables",
            "name different proxies",
        ),
        (
            vec![("HTTPS_PROXY", good.clone())],
            &["--client", "node"],
            "variables",
            "NODE_USE_ENV_PROXY is not 1",
        ),
        (
            vec![("NODE_TLS_REJECT_UNAUTHORIZED", "0".to_owned())],
            &[],
            "variables",
            "lets Node trust everyone",
        ),
    ] {
        finds(&gateway, arguments, &environment, check, part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_that_lead_around_the_gateway_are_found() {
    let (_fake, gateway) = started().await;
    for (name, list, part) in [
        ("NO_PROXY", "localhost,.openai.com", "`.openai.com` in NO_PROXY"),
        ("no_proxy", "*", "`*` in no_proxy"),
    ] {
        let environment = [(name, list.to_owned())];
        finds(&gateway, &[], &environment, "exceptions", part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_that_is_missing_or_too_small_is_found() {
    let (fake, gateway) = started().await;
    let own = data(&gateway, "ca.pem");
    let other = fake.ca_file().display().to_string();
    let node = ["--client", "node"];
    for (environment, arguments, part) in [
        (vec![], &node[..], "nothing here lets Node.js"),
        (
            vec![("NODE_EXTRA_CA_CERTS", "/no/such.pem".to_owned())],
            &node,
            "which holds no certificate",
        ),
        (
            vec![("NODE_EXTRA_CA_CERTS", other.clone())],
            &node,
            "which does not hold the CA",
        ),
        (vec![("SSL_CERT_FILE", own)], &[], "with our CA alone"),
        (vec![("CURL_CA_BUNDLE", other)], &[], "which does not hold the CA"),
    ] {
        finds(&gateway, arguments, &environment, "trust", part).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_out_of_reach_are_told_apart() {
    let fake = FakeProvider::start(Offers::Both).await;
    // A port where nobody listens any more.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere =
        "[[provider]]\nname = \"nowhere\"\nkind = \"openai\"\nbase-url = \"https://no-such-host.invalid/v1\"";
    let settings = Settings::in_front_of_address(closed, fake.ca_file()).bridge(nowhere);
    let gateway = Gateway::start(settings).await;
    finds(
        &gateway,
        &[],
        &[],
        "upstream",
        "openai: api.openai.com cannot be reached",
    )
    .await;
    finds(
        &gateway,
        &[],
        &[],
        "upstream",
        "nowhere: no-such-host.invalid cannot be found",
    )
    .await;
    finds(&gateway, &[], &[], "websocket", "does not get to").await;

    let other = FakeProvider::start(Offers::Both).await;
    let gateway = Gateway::start(Settings::in_front_of_address(fake.address(), other.ca_file())).await;
    finds(
        &gateway,
        &[],
        &[],
        "upstream",
        "shows a certificate that is not trusted",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_found() {
    let (fake, gateway) = started().await;
    fake.on(
        "/",
        Reply::json(b"{}").header("date", "Sun, 22 Nov 2020 08:30:00 GMT"),
    );
    finds(&gateway, &[], &[], "clock", "ahead of that of").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_view_explains_what_a_client_cannot() {
    let (fake, gateway) = started().await;
    let (_, tcp) = gateway.client().connect("api.openai.com:443").await;
    assert!(
        crate::client::try_tls(tcp, "api.openai.com", fake.ca_file())
            .await
            .is_err()
    );
    let text =
        "a client from 127.0.0.1, on its way to api.openai.com, aborted the handshake with `unknown_ca`";
    eventually("the trouble", async || {
        let list = gateway.list("/api/v1/troubles").await;
        (!list.is_empty()).then_some(())
    })
    .await;
    finds(&gateway, &[], &[], "recent troubles", text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_gone_and_a_host_that_is_denied_are_found() {
    let fake = FakeProvider::start(Offers::Both).await;
    let settings = Settings::in_front_of(&fake).proxy("deny-hosts = [\"api.openai.com\"]");
    let gateway = Gateway::start(settings).await;
    finds(&gateway, &[], &[], "token", "CONNECT api.openai.com:443 fails").await;
    fs::remove_file(data(&gateway, "token")).unwrap();
    finds(&gateway, &[], &[], "token", "cannot be read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_port_that_is_spoken_to_without_tls_is_found() {
    let fake = FakeProvider::start(Offers::Both).await;
    let tls = "[proxy.tls]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(tls)).await;
    let url = format!("http://x:{}@{}", gateway.token(), gateway.proxy_tls());
    let environment = [("HTTPS_PROXY", url)];
    finds(&gateway, &[], &environment, "variables", "speaks TLS only").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_no_http_and_a_clock_that_is_slow_are_found() {
    let raw = RawProvider::start().await;
    let gateway = Gateway::start(Settings::in_front_of_address(raw.address(), raw.ca_file())).await;
    finds(&gateway, &[], &[], "upstream", "does not answer in HTTP").await;
    let (fake, gateway) = started().await;
    let later = Reply::json(b"{}").header("date", "Sun, 22 Nov 2099 08:30:00 GMT");
    fake.on("/", later);
    finds(&gateway, &[], &[], "clock", "behind that of").await;
}
