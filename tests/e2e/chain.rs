//! Tunnels through the organisation's own proxy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cases;
use crate::client::{Ask, Head, Http, base_url, basic};
use crate::corporate::{Answer, Corporate};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};
use crate::proxy::echo_through;
use crate::tcp::Echo;

const PASSWORD: &str = "planted-p@ss";

fn settings(fake: &FakeProvider, corporate: &Corporate) -> Settings {
    let url = format!("http://gate:planted-p%40ss@{}", corporate.address());
    Settings::in_front_of(fake).proxy(&format!("upstream-proxy = \"{url}\""))
}

async fn started(answer: Answer) -> (FakeProvider, Corporate, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[cases::CHAT]).await;
    let corporate = Corporate::start(answer).await;
    let gateway = Gateway::start(settings(&fake, &corporate).log("debug")).await;
    (fake, corporate, gateway)
}

fn credentials() -> String {
    STANDARD.encode(format!("gate:{PASSWORD}"))
}

fn check_no_secret(gateway: &Gateway) {
    let log = String::from_utf8_lossy(&gateway.stderr()).into_owned();
    for secret in [PASSWORD, "planted-p%40ss", &credentials()] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_go_through_the_organisations_proxy() {
    let echo = Echo::start().await;
    let (_fake, corporate, gateway) = started(Answer::Tunnel(echo.address())).await;
    for target in ["elsewhere.example:443", "[2606:4700::1111]:443", "1.1.1.1:80"] {
        let (head, tunnel) = gateway.client().connect(target).await;
        assert_eq!(head.status, 200, "{target}: {head:?}");
        echo_through(tunnel).await;
        let seen = corporate.heads().pop().unwrap();
        assert!(
            seen.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")),
            "{seen}"
        );
        let lower = seen.to_lowercase();
        assert!(lower.contains(&format!("host: {target}\r\n")), "{seen}");
        let authorization = format!("proxy-authorization: basic {}\r\n", credentials().to_lowercase());
        assert!(lower.contains(&authorization), "{seen}");
        assert!(seen.contains(&credentials()), "{seen}");
    }
    check_no_secret(&gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organisations_proxy_may_speak_tls() {
    let echo = Echo::start().await;
    let fake = FakeProvider::start(Offers::Both).await;
    let corporate = Corporate::start_tls(Answer::Tunnel(echo.address())).await;
    let url = format!(
        "upstream-proxy = \"https://localhost:{}\"",
        corporate.address().port()
    );
    let trusted = Settings::in_front_of(&fake).proxy(&url);
    let ca = format!("upstream-proxy-ca = {:?}", corporate.ca_file().to_str().unwrap());
    let gateway = Gateway::start(trusted.proxy(&ca)).await;
    let (head, tunnel) = gateway.client().connect("elsewhere.example:443").await;
    assert_eq!(head.status, 200, "{head:?}");
    echo_through(tunnel).await;
    assert!(
        !corporate.heads()[0]
            .to_lowercase()
            .contains("proxy-authorization")
    );

    let distrusting = Gateway::start(Settings::in_front_of(&fake).proxy(&url)).await;
    let (head, _) = distrusting.client().connect("elsewhere.example:443").await;
    check(&head, 502, "upstream_proxy_unreachable");
    assert_eq!(corporate.heads().len(), 1);
}

#[track_caller]
fn check(head: &Head, status: u16, reason: &str) {
    assert_eq!(
        (head.status, head.header("x-causeway-reason")),
        (status, Some(reason)),
        "{head:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_organisations_proxy_are_told_apart() {
    const ASKS: &str = "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"corp\"\r\n\
        Content-Length: 0\r\n\r\n";
    for (answer, status, reason) in [
        (ASKS, 502, "upstream_proxy_credentials"),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nplease",
            403,
            "upstream_proxy_refused",
        ),
        (
            "HTTP/1.1 504 Slow\r\nContent-Length: 0\r\n\r\n",
            504,
            "upstream_proxy_refused",
        ),
        ("HTTP/1.0 503 Busy\r\n\r\n", 502, "upstream_proxy_refused"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n",
            502,
            "upstream_proxy_refused",
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n", 502, "upstream_proxy_broken"),
        ("", 502, "upstream_proxy_broken"),
    ] {
        let (_fake, _corporate, gateway) = started(Answer::Say(answer)).await;
        let (head, _) = gateway.client().connect("elsewhere.example:443").await;
        check(&head, status, reason);
        assert_eq!(
            head.header("proxy-authenticate"),
            None,
            "a password is asked for that is not ours"
        );
        check_no_secret(&gateway);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_head_of_the_organisations_proxy_is_not_read() {
    let padding: &'static str = format!("X-Padding: {}\r\n", "x".repeat(1 << 20)).leak();
    let endless: &'static str = format!("HTTP/1.1 200 OK\r\n{padding}\r\n").leak();
    let (_fake, _corporate, gateway) = started(Answer::Say(endless)).await;
    let (head, _) = gateway.client().connect("elsewhere.example:443").await;
    check(&head, 502, "upstream_proxy_broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_organisations_proxy_is_given_up() {
    let (_fake, _corporate, gateway) = started(Answer::Silence).await;
    let (head, _) = gateway.client().connect("elsewhere.example:443").await;
    check(&head, 504, "upstream_proxy_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_before_the_organisations_proxy() {
    let (_fake, corporate, gateway) = started(Answer::Silence).await;
    for host in [
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "169.254.169.254",
        "localhost",
        "a.localhost",
    ] {
        let (head, _) = gateway.client().connect(&format!("{host}:443")).await;
        check(&head, 403, "address_not_allowed");
    }
    assert!(corporate.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_hosts_are_reached_directly() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let fake = FakeProvider::start(Offers::Both).await;
    let corporate = Corporate::start(Answer::Tunnel(echo.address())).await;
    let settings = settings(&fake, &corporate)
        .proxy("no-proxy = [\"127.0.0.0/8\", \"localhost\", \"*.internal\"]")
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [443, {port}]"));
    let gateway = Gateway::start(settings).await;
    for host in ["127.0.0.1", "localhost"] {
        let (head, tunnel) = gateway.client().connect(&format!("{host}:{port}")).await;
        assert_eq!(head.status, 200, "{host}: {head:?}");
        echo_through(tunnel).await;
    }
    // Names below `internal` are looked up here, and there is none.
    let (head, _) = gateway.client().connect("nothing.internal:443").await;
    check(&head, 502, "host_not_found");
    assert!(corporate.heads().is_empty());
    let (head, _) = gateway.client().connect("internal:443").await;
    assert_eq!(head.status, 200);
    assert_eq!(corporate.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_go_through_the_organisations_proxy_too() {
    const REPLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (_fake, corporate, gateway) = started(Answer::Say(REPLY)).await;
    let ask =
        Ask::get("http://elsewhere.example/path?x").header("proxy-authorization", basic(&gateway.token()));
    let answer = base_url(gateway.proxy()).await.send(ask.clone()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.bytes().await, &b"hello"[..]);
    let seen = corporate.heads().pop().unwrap();
    assert!(
        seen.starts_with("GET http://elsewhere.example/path?x HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.contains(&credentials()), "{seen}");
    assert!(!seen.contains(&basic(&gateway.token())), "{seen}");

    let asks = "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let (_fake, _corporate, gateway) = started(Answer::Say(asks)).await;
    let ask = Ask::get("http://elsewhere.example/").header("proxy-authorization", basic(&gateway.token()));
    let answer = base_url(gateway.proxy()).await.send(ask).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("x-causeway-reason"), "upstream_proxy_credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn intercepted_requests_never_use_a_proxy() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let fake = FakeProvider::answering(Offers::Both, &[cases::CHAT]).await;
    let corporate = Corporate::start(Answer::Silence).await;
    let from_environment = Corporate::start(Answer::Silence).await;
    let url = format!("http://{}", from_environment.address());
    let mut settings = settings(&fake, &corporate)
        .proxy("no-proxy = [\"127.0.0.1\"]")
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [443, {port}]"));
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        settings = settings.env(name, url.clone());
    }
    let gateway = Gateway::start(settings).await;
    for http in [Http::V1, Http::V2] {
        let mut session = gateway.client().open(cases::CHAT.host, http).await;
        let ask = Ask::post(cases::CHAT.path, cases::CHAT.request).header("authorization", "Bearer sk-user");
        assert_eq!(session.send(ask).await.status, 200);
    }
    let (head, tunnel) = gateway.client().connect(&format!("127.0.0.1:{port}")).await;
    assert_eq!(head.status, 200, "{head:?}");
    echo_through(tunnel).await;
    assert!(corporate.heads().is_empty());
    assert!(from_environment.heads().is_empty());
}
