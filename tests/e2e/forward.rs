//! `http://` URLs through the proxy: forwarded as they are, streamed, under the same rules as tunnels.

use crate::cases;
use crate::client::{Answer, Ask, base_url, basic, exchange_raw};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};
use crate::proxy::{payload, until_closed};

/// A web server, and a gateway that may reach it.
async fn started_with(change: impl FnOnce(Settings) -> Settings) -> (FakeProvider, Gateway) {
    let web = FakeProvider::in_clear().await;
    let fake = FakeProvider::start(Offers::Both).await;
    let settings = Settings::in_front_of(&fake)
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [80, 443, {}]", web.address().port()));
    let gateway = Gateway::start(change(settings)).await;
    (web, gateway)
}

fn url(web: &FakeProvider, path: &str) -> String {
    format!("http://localhost:{}{path}", web.address().port())
}

fn with_token(gateway: &Gateway, ask: Ask) -> Ask {
    ask.header("Proxy-Authorization", basic(&gateway.token()))
}

async fn send(gateway: &Gateway, ask: Ask) -> Answer {
    base_url(gateway.proxy()).await.send(ask).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_url_is_forwarded_with_its_own_host() {
    let (web, gateway) = started_with(|settings| settings).await;
    let reply = Reply::json(b"{\"ok\":true}")
        .status(201)
        .header("x-answer", "kept")
        .header("alt-svc", "h3=\":443\"")
        .header("proxy-authenticate", "Basic realm=\"other\"")
        .header("keep-alive", "timeout=5");
    web.on("/path", reply);
    let ask = Ask::post(url(&web, "/path?query=1"), payload())
        .header("x-kept", "yes")
        .header("connection", "x-hop")
        .header("x-hop", "no")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip")
        .header("upgrade", "h2c")
        .header("cookie", "a=b")
        .authority("other.example");
    let answer = send(&gateway, with_token(&gateway, ask)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("x-answer"), "kept");
    for gone in ["alt-svc", "proxy-authenticate", "keep-alive"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
    assert_eq!(answer.bytes().await, &b"{\"ok\":true}"[..]);
    let seen = web.last_request();
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.path, "/path?query=1");
    assert_eq!(seen.header("host"), format!("localhost:{}", web.address().port()));
    assert_eq!(seen.body, payload());
    assert_eq!((seen.header("x-kept"), seen.header("cookie")), ("yes", "a=b"));
    for gone in [
        "proxy-authorization",
        "proxy-connection",
        "x-hop",
        "te",
        "upgrade",
        "connection",
    ] {
        assert_eq!(seen.header(gone), "", "{gone}");
    }
    assert_eq!(
        gateway
            .metric("causeway_connects_total{kind=\"forwarded\"}")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_reply_streams() {
    let (web, gateway) = started_with(|settings| settings).await;
    let (reply, gate) = Reply::sse(cases::CHAT_STREAM.reply).gated();
    let frames = reply.frames().to_vec();
    web.on("/events", reply);
    let ask = with_token(&gateway, Ask::get(url(&web, "/events")));
    let mut answer = send(&gateway, ask).await;
    let mut length = 0;
    for (index, frame) in frames.iter().enumerate() {
        length += frame.len();
        assert!(answer.read_to(length).await.ends_with(frame), "frame {index}");
        gate.let_one_out();
    }
    assert_eq!(answer.bytes().await, cases::CHAT_STREAM.reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_forwarded_request() {
    let (web, gateway) = started_with(|settings| settings.proxy("max-tunnels = 1")).await;
    let (reply, _gate) = Reply::sse(cases::CHAT_STREAM.reply).gated();
    let first = reply.frames()[0].len();
    web.on("/events", reply);
    web.on("/after", Reply::json(b"{}"));
    let mut answer = send(&gateway, with_token(&gateway, Ask::get(url(&web, "/events")))).await;
    answer.read_to(first).await;
    let second = async || {
        send(&gateway, with_token(&gateway, Ask::get(url(&web, "/after"))))
            .await
            .status
    };
    assert_eq!(second().await, 503, "the only place is taken");
    drop(answer);
    eventually("the place to be free", async || {
        (second().await == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_needs_a_token_like_a_tunnel() {
    let (web, gateway) = started_with(|settings| settings).await;
    web.on("/", Reply::json(b"{}"));
    let answer = send(&gateway, Ask::get(url(&web, "/"))).await;
    assert_eq!(answer.status, 407);
    assert_eq!(answer.header("proxy-authenticate"), "Basic realm=\"Causeway\"");
    assert!(web.requests().is_empty());
    let (web, open) = started_with(|settings| settings.proxy("tunnel = \"open\"")).await;
    web.on("/", Reply::json(b"{}"));
    assert_eq!(send(&open, Ask::get(url(&web, "/"))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_host_is_never_reached_in_clear() {
    let (_web, gateway) = started_with(|settings| settings).await;
    for target in [
        "http://api.openai.com/v1/models",
        "http://API.OpenAI.com.:443/v1/models",
        "http://api.anthropic.com:80/",
    ] {
        let ask = Ask::get(target).header("authorization", "Bearer sk-user");
        let answer = send(&gateway, with_token(&gateway, ask)).await;
        assert_eq!(answer.status, 403, "{target}");
        assert_eq!(answer.header("x-causeway-reason"), "claimed_host_in_clear");
        let text = String::from_utf8(answer.bytes().await.to_vec()).unwrap();
        assert!(text.contains("https://"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_obeys_the_rules_of_tunnels() {
    let web = FakeProvider::in_clear().await;
    let fake = FakeProvider::start(Offers::Both).await;
    let port = web.address().port();
    let settings = Settings::in_front_of(&fake)
        .proxy(&format!("allowed-ports = [80, {port}]"))
        .proxy("deny-hosts = [\"*.denied.example\"]");
    let gateway = Gateway::start(settings).await;
    for (target, status, reason) in [
        (format!("http://127.0.0.1:{port}/"), 403, "address_not_allowed"),
        (format!("http://localhost:{port}/"), 403, "address_not_allowed"),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            403,
            "address_not_allowed",
        ),
        (
            "http://169.254.169.254/latest/meta-data".to_owned(),
            403,
            "address_not_allowed",
        ),
        ("http://example.test:81/".to_owned(), 403, "port_not_allowed"),
        ("http://a.denied.example/".to_owned(), 403, "host_denied"),
        ("http://2130706433/".to_owned(), 400, "bad_target"),
        ("http://user:pass@example.test/".to_owned(), 400, "bad_target"),
        ("https://example.test/".to_owned(), 400, "scheme_not_forwarded"),
        ("ftp://example.test/".to_owned(), 400, "scheme_not_forwarded"),
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {}\r\n\r\n",
            basic(&gateway.token())
        );
        let tcp = tokio::net::TcpStream::connect(gateway.proxy()).await.unwrap();
        let (head, _) = exchange_raw(tcp, request.into_bytes()).await;
        assert_eq!(
            (head.status, head.header("x-causeway-reason")),
            (status, Some(reason)),
            "{target}"
        );
    }
    assert_eq!(web.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_odd_clients_are_forwarded_too() {
    let (web, gateway) = started_with(|settings| settings).await;
    web.on("/", Reply::json(b"{\"ok\":1}"));
    web.on("/events", Reply::sse(cases::CHAT_STREAM.reply));
    let token = basic(&gateway.token());
    let raw = async |request: String| {
        let (head, mut tcp) = gateway.client().connect_raw(&request).await;
        let rest = until_closed(&mut tcp).await;
        (
            head.status,
            head.header("transfer-encoding").map(str::to_owned),
            rest,
        )
    };
    let old = |method: &str, path: &str| {
        format!(
            "{method} {} HTTP/1.0\r\nProxy-Authorization: {token}\r\n\r\n",
            url(&web, path)
        )
    };
    assert_eq!(raw(old("GET", "/")).await, (200, None, b"{\"ok\":1}".to_vec()));
    assert_eq!(raw(old("HEAD", "/")).await, (200, None, Vec::new()));
    // HTTP/1.0 knows no chunks.
    let stream = raw(old("GET", "/events")).await;
    assert_eq!(stream, (200, None, cases::CHAT_STREAM.reply.to_vec()));
    assert!(
        web.requests()
            .iter()
            .all(|seen| seen.version == http::Version::HTTP_11)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_two_lengths_hides_no_second_request() {
    let (web, gateway) = started_with(|settings| settings).await;
    web.on("/one", Reply::json(b"{}"));
    web.on("/two", Reply::json(b"{}"));
    let token = basic(&gateway.token());
    let hidden = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {token}\r\n\r\n",
        url(&web, "/two")
    );
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: 5\r\nContent-Length: 6",
    ] {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {token}\r\n{fields}\r\n\r\n0\r\n\r\n{hidden}",
            url(&web, "/one")
        );
        let (_, mut tcp) = gateway.client().connect_raw(&request).await;
        until_closed(&mut tcp).await;
    }
    for seen in web.requests() {
        assert_eq!((seen.path.as_str(), seen.body.len()), ("/one", 0));
        assert_eq!(seen.header("content-length"), "");
    }
}
