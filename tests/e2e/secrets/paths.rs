//! Every way in which a request can go wrong, each with the secrets that it carries. The next one is a function and a
//! line of the table.

use std::pin::Pin;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::mistakes::mistakes;
use super::planted::Planted;
use super::world::{World, chat};
use crate::cases::{self, CHAT, CHAT_STREAM, MESSAGES};
use crate::client::{Ask, base_url, basic, try_tls};
use crate::fake::Reply;
use crate::harness::eventually;
use crate::reload::ask_for_reload;

type Path = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! paths {
    ($($name:ident)+) => {
        const PATHS: &[(&str, Path)] = &[$((stringify!($name), |world| Box::pin($name(world)))),+];
    };
}

paths! {
    all_goes_well
    tokens_that_are_not_good
    credentials_that_cannot_be_read
    web_tokens_that_are_not_good
    a_request_for_another_host
    targets_with_credentials_in_them
    a_claimed_host_in_clear
    tunnels_that_are_refused
    a_handshake_that_fails
    a_provider_that_refuses
    a_provider_that_repeats_the_key
    an_upstream_that_refuses_connections
    an_upstream_that_is_not_trusted
    an_upstream_that_says_nothing
    an_upstream_that_breaks_off
    an_upstream_that_speaks_no_http
    a_stream_with_an_error_in_it
    a_client_that_leaves
    a_breaker_that_is_open
    a_budget_that_is_spent
    a_limit_that_is_reached
    a_model_that_is_denied
    a_body_that_is_too_large
    bodies_that_cannot_be_read
    heads_that_cannot_be_read
    places_that_are_unknown
    upgrades_that_are_refused
    the_api_without_the_right
    reloads_that_cannot_run
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_on_any_path_that_a_request_can_take() {
    let world = World::start().await;
    let mut read = world.check_log("the start", 0);
    for (name, path) in PATHS {
        path(&world).await;
        read = world.check_log(name, read);
    }
    let last = world.gateway.list("/api/v1/interceptions?limit=1000").await;
    assert!(last.len() > 30, "the paths were taken: {}", last.len());
    world.check_places().await;
    // What is written while it ends counts too.
    let World { mut gateway, .. } = world;
    gateway.terminate();
    assert!(gateway.ended().await);
}

fn bearer(ask: Ask, secret: &Planted) -> Ask {
    ask.header("authorization", format!("Bearer {}", secret.text()))
}

/// A call through the proxy with the user's own key.
fn own(world: &World) -> Ask {
    bearer(Ask::post(CHAT.path, CHAT.request), &world.secrets.byok)
}

async fn all_goes_well(world: &World) {
    let secrets = &world.secrets;
    for case in &cases::ALL {
        let (name, value) = case.key_header(secrets.byok.text());
        let ask = Ask::post(case.path, case.request).header(name, value);
        assert_eq!(world.through(case, ask).await, 200, "{}", case.name);
    }
    let chatgpt = cases::Case {
        host: "chatgpt.com",
        ..CHAT
    };
    let path = "/backend-api/codex/responses";
    let ask = bearer(Ask::post(path, cases::RESPONSES.request), &secrets.oauth);
    assert_eq!(world.through(&chatgpt, ask).await, 404, "not scripted");
    assert_eq!(world.at_bridge(world.central("openai", CHAT.request)).await, 200);
    let ask = Ask::post(format!("/anthropic{}", MESSAGES.path), MESSAGES.request)
        .header("x-api-key", secrets.token.text());
    assert_eq!(world.at_bridge(ask).await, 200);
    let ask = bearer(
        Ask::post("/openai/v1/chat/completions", CHAT.request),
        &secrets.jwt,
    );
    assert_eq!(world.at_bridge(ask).await, 200);
}

async fn tokens_that_are_not_good(world: &World) {
    let secrets = &world.secrets;
    for token in [&secrets.unknown, &secrets.revoked, &secrets.expired] {
        let (head, _) = world.client(token).connect("api.openai.com:443").await;
        assert_eq!(world.connected(&head), 407, "{}", token.name);
        for header in ["x-coder-ai-governance-token", "authorization", "x-api-key"] {
            let scheme = if header == "authorization" { "Bearer " } else { "" };
            let ask = Ask::post("/openai/v1/chat/completions", CHAT.request)
                .header(header, format!("{scheme}{}", token.text()));
            assert_eq!(world.at_bridge(ask).await, 401, "{}", token.name);
        }
    }
}

async fn credentials_that_cannot_be_read(world: &World) {
    let token = world.secrets.unknown.text();
    let byok = world.secrets.byok.text();
    for value in [
        format!("Basic {token}"),
        format!("Basic {}", basic(token)),
        format!("Digest username=\"x\", response=\"{token}\""),
        format!("Negotiate {byok}"),
        format!("{token} {byok}"),
        format!("Bearer {byok}"),
    ] {
        let head = format!(
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\nProxy-Authorization: {value}\r\n\r\n"
        );
        let (head, _) = world.client(&world.secrets.token).connect_raw(&head).await;
        assert_eq!(world.connected(&head), 407, "{head:?}");
    }
}

async fn web_tokens_that_are_not_good(world: &World) {
    let secrets = &world.secrets;
    for token in [&secrets.bad_jwt, &secrets.old_jwt] {
        let (head, _) = world.client(token).connect("api.openai.com:443").await;
        assert_eq!(world.connected(&head), 407, "{}", token.name);
        let ask = bearer(Ask::post("/openai/v1/chat/completions", CHAT.request), token);
        assert_eq!(world.at_bridge(ask).await, 401, "{}", token.name);
    }
}

async fn a_request_for_another_host(world: &World) {
    let ask = own(world).authority("api.anthropic.com");
    assert_eq!(world.through(&CHAT, ask).await, 421);
}

async fn targets_with_credentials_in_them(world: &World) {
    let token = world.secrets.unknown.text();
    let client = world.client(&world.secrets.token);
    for target in [
        format!("x:{token}@api.openai.com:443"),
        format!("{token}:443"),
        format!("{token}.test:1"),
    ] {
        let (head, _) = client.connect(&target).await;
        // The last one's port is refused before anybody looks at the host.
        let status = if target.ends_with(":1") { 403 } else { 400 };
        assert_eq!(world.connected(&head), status, "{target}");
    }
    let mut session = base_url(world.gateway.proxy()).await;
    let ask = Ask::get(format!("http://x:{token}@example.test/"))
        .header("proxy-authorization", client.authorization());
    let answer = session.send(ask).await;
    assert_eq!(answer.status, 400);
    world.hears(&answer.bytes().await);
}

async fn a_claimed_host_in_clear(world: &World) {
    let client = world.client(&world.secrets.token);
    let ask = bearer(Ask::get("http://api.openai.com/v1/models"), &world.secrets.byok)
        .header("proxy-authorization", client.authorization());
    let answer = base_url(world.gateway.proxy()).await.send(ask).await;
    assert_eq!(answer.status, 403);
    world.hears(&answer.bytes().await);
}

async fn tunnels_that_are_refused(world: &World) {
    let client = world.client(&world.secrets.token);
    for (target, status) in [
        ("denied.example:443", 403),
        ("example.test:22", 403),
        ("10.1.2.3:443", 403),
        // The organisation's proxy does not take the gateway's password.
        ("example.test:443", 502),
    ] {
        let (head, _) = client.connect(target).await;
        assert_eq!(world.connected(&head), status, "{target}");
    }
}

async fn a_handshake_that_fails(world: &World) {
    let client = world.client(&world.secrets.token);
    let (_, tcp) = client.connect("api.openai.com:443").await;
    assert!(try_tls(tcp, CHAT.host, world.fake.ca_file()).await.is_err());
    // A key in clear where TLS should begin.
    let (_, mut tcp) = client.connect("api.openai.com:443").await;
    let text = format!(
        "GET / HTTP/1.1\r\nAuthorization: Bearer {}\r\n\r\n",
        world.secrets.byok.text()
    );
    tcp.write_all(text.as_bytes()).await.unwrap();
    crate::proxy::until_closed(&mut tcp).await;
}

/// Asks for a model that the provider answers so, with the user's key and with the gateway's.
async fn answered(world: &World, model: &'static str, reply: Reply) -> [u16; 2] {
    world
        .fake
        .on_if(CHAT.path, move |seen| seen.model() == model, reply);
    [
        world.at_bridge(world.own("openai", chat(model, false))).await,
        world.at_bridge(world.central("openai", chat(model, false))).await,
    ]
}

const ERROR: &[u8] = br#"{"error":{"message":"No","type":"server_error","param":null,"code":null}}"#;

async fn a_provider_that_refuses(world: &World) {
    for (model, status) in [
        ("m400", 400),
        ("m403", 403),
        ("m404", 404),
        ("m422", 422),
        ("m500", 500),
        ("m502", 502),
        ("m503", 503),
        ("m529", 529),
    ] {
        let [byok, central] = answered(world, model, Reply::json(ERROR).status(status)).await;
        assert_eq!((byok, central), (status, status));
    }
    let limited = Reply::json(ERROR).status(429).header("retry-after", "0");
    assert_eq!(answered(world, "m429", limited).await[0], 429);
}

async fn a_provider_that_repeats_the_key(world: &World) {
    // Some do. The client gets its own key back, byte for byte; nobody else learns it.
    let key = world.secrets.byok.text();
    let text = format!(
        r#"{{"error":{{"message":"Incorrect API key provided: {key}. Bearer {key}, \"{key}\"","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}}}"#
    );
    let reply = Reply::json(Vec::leak(text.into_bytes())).status(401);
    world.fake.on_if(CHAT.path, |seen| seen.model() == "echo", reply);
    let ask = world.own("openai", chat("echo", false));
    let answer = base_url(world.gateway.bridge()).await.send(ask).await;
    assert_eq!(answer.status, 401);
    let id = answer.request_id();
    let record = world.gateway.record(&id).await;
    let message = record["error_message"].as_str().unwrap();
    assert!(message.starts_with("Incorrect API key provided: "), "{message}");
}

async fn an_upstream_that_refuses_connections(world: &World) {
    assert_eq!(world.at_bridge(world.own("refused", CHAT.request)).await, 502);
    assert_eq!(world.at_bridge(world.central("refused", CHAT.request)).await, 502);
}

async fn an_upstream_that_is_not_trusted(world: &World) {
    assert_eq!(world.at_bridge(world.own("stranger", CHAT.request)).await, 502);
    assert_eq!(
        world.at_bridge(world.central("stranger", CHAT.request)).await,
        502
    );
}

async fn an_upstream_that_says_nothing(world: &World) {
    let (reply, _never) = CHAT.scripted().held();
    assert_eq!(answered(world, "silent", reply).await, [504, 504]);
}

async fn an_upstream_that_breaks_off(world: &World) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{";
    world.raw.then(head);
    let ask = world.own("raw", CHAT.request);
    let answer = base_url(world.gateway.bridge()).await.send(ask).await;
    assert_eq!(
        world.gateway.record(&answer.request_id()).await["outcome"],
        "failed"
    );
    // Without a word, with either key.
    assert_eq!(world.at_bridge(world.own("raw", CHAT.request)).await, 502);
    assert_eq!(world.at_bridge(world.central("raw", CHAT.request)).await, 502);
}

async fn an_upstream_that_speaks_no_http(world: &World) {
    world
        .raw
        .then("220 mail.example ESMTP\r\nConnection: close\r\n\r\n");
    assert_eq!(world.at_bridge(world.own("raw", CHAT.request)).await, 502);
    assert!(world.raw.last_request().contains(world.secrets.byok.text()));
}

async fn a_stream_with_an_error_in_it(world: &World) {
    let reply = Reply::sse(b"data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n");
    world
        .fake
        .on_if(CHAT.path, |seen| seen.model() == "broken", reply);
    assert_eq!(
        world.at_bridge(world.own("openai", chat("broken", true))).await,
        200
    );
}

async fn a_client_that_leaves(world: &World) {
    let (reply, _gate) = CHAT_STREAM.scripted().gated();
    world.fake.on_if(CHAT.path, |seen| seen.model() == "left", reply);
    let mut session = base_url(world.gateway.bridge()).await;
    let mut answer = session.send(world.own("openai", chat("left", true))).await;
    answer.read_to(1).await;
    let id = answer.request_id();
    drop((answer, session));
    assert_eq!(world.gateway.record(&id).await["outcome"], "aborted");
}

async fn a_breaker_that_is_open(world: &World) {
    eventually("an open breaker", async || {
        (world.at_bridge(world.own("fragile", CHAT.request)).await == 503).then_some(())
    })
    .await;
    assert_eq!(world.at_bridge(world.central("fragile", CHAT.request)).await, 503);
}

async fn a_budget_that_is_spent(world: &World) {
    let ask = || {
        bearer(
            Ask::post("/openai/v1/chat/completions", CHAT.request),
            &world.secrets.poor,
        )
    };
    assert_eq!(world.at_bridge(ask()).await, 200);
    assert_eq!(world.at_bridge(ask()).await, 400);
}

async fn a_limit_that_is_reached(world: &World) {
    let text = world.gateway.configuration();
    let limited = text.replace("requests-per-second = 1000", "requests-per-second = 0.001");
    world.gateway.configure(&limited);
    assert_eq!(
        ask_for_reload(&world.gateway, &world.gateway.token()).await.0,
        200
    );
    let ask = || {
        bearer(
            Ask::post("/openai/v1/chat/completions", CHAT.request),
            &world.secrets.slow,
        )
    };
    eventually("a 429", async || {
        (world.at_bridge(ask()).await == 429).then_some(())
    })
    .await;
    world.gateway.configure(&text);
    assert_eq!(
        ask_for_reload(&world.gateway, &world.gateway.token()).await.0,
        200
    );
}

async fn a_model_that_is_denied(world: &World) {
    let ask = bearer(
        Ask::post("/openai/v1/chat/completions", CHAT.request),
        &world.secrets.banned,
    );
    assert_eq!(world.at_bridge(ask).await, 400);
}

async fn a_body_that_is_too_large(world: &World) {
    let large = format!("{{\"model\":\"m\",\"messages\":\"{}\"}}", "x".repeat(80_000));
    assert_eq!(world.at_bridge(world.own("openai", large)).await, 413);
}

async fn bodies_that_cannot_be_read(world: &World) {
    let key = world.secrets.byok.text();
    // The provider is the one to say no: whatever it is goes on as it came.
    for body in ["{", "null", "", "\u{0}", "[[[[["] {
        let status = world.at_bridge(world.own("openai", body)).await;
        assert!(status == 200 || status >= 400, "{body}: {status}");
    }
    let ask = world.own("openai", "no gzip").header("content-encoding", "gzip");
    world.at_bridge(ask).await;
    let ask = world.own("openai", CHAT.request).header("content-encoding", key);
    world.at_bridge(ask).await;
}

async fn heads_that_cannot_be_read(world: &World) {
    let key = world.secrets.byok.text();
    for field in [
        format!("Authorization: Bearer {key}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
        format!("Authorization : Bearer {key}"),
        format!("Authorization: Bearer {key}\u{1}"),
        format!("X-Long: {}", key.repeat(3_000)),
    ] {
        for address in [
            world.gateway.bridge(),
            world.gateway.proxy(),
            world.gateway.metrics_address(),
        ] {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            let head = format!("GET /v1/models?key={key} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
            // It may be closed before all of it is read.
            let _ = tcp.write_all(head.as_bytes()).await;
            let _ = tcp.shutdown().await;
            world.hears(&crate::proxy::until_closed(&mut tcp).await);
        }
    }
}

async fn places_that_are_unknown(world: &World) {
    let key = world.secrets.byok.text();
    for path in [
        "/nobody/v1/chat/completions",
        "/openai/v1/organization/admin_api_keys",
        "/openai/../x",
    ] {
        let ask = bearer(Ask::post(path, CHAT.request), &world.secrets.byok)
            .header("x-coder-ai-governance-token", world.secrets.token.text());
        assert_eq!(world.at_bridge(ask).await, 404, "{path}");
    }
    // Where a client puts its key into the URL, that goes on to the provider and is told to nobody else.
    let ask = bearer(Ask::get(format!("/v1/models?key={key}")), &world.secrets.byok);
    assert_eq!(world.through(&CHAT, ask).await, 404);
}

async fn upgrades_that_are_refused(world: &World) {
    let upgrade = |ask: Ask| {
        ask.header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "Y2F1c2V3YXktZG9jdG9yIQ==")
    };
    // The provider knows no WebSockets, and answers as to any request.
    let ask = upgrade(bearer(Ask::get("/v1/responses"), &world.secrets.byok));
    assert_ne!(world.through(&CHAT, ask).await, 101);
    let ask = upgrade(bearer(Ask::get("/openai/v1/responses"), &world.secrets.unknown));
    assert_eq!(world.at_bridge(ask).await, 401);
    let ask = upgrade(world.own("refused", "").path("/refused/v1/responses"));
    assert!(world.at_bridge(ask).await >= 400);
}

async fn the_api_without_the_right(world: &World) {
    let secrets = &world.secrets;
    for (path, token, status) in [
        ("/api/v1/troubles", &secrets.poor, 403),
        ("/api/v1/me", &secrets.unknown, 401),
        ("/api/v1/me", &secrets.revoked, 401),
        ("/api/v1/sessions", &secrets.bad_jwt, 401),
        ("/api/v1/interceptions?cursor=x", &secrets.token, 400),
        ("/api/v1/interceptions/x", &secrets.token, 404),
    ] {
        let status_found = world.at_bridge(bearer(Ask::get(path), token)).await;
        assert!(
            status_found == status || (status_found >= 400 && status == 404),
            "{path}: {status_found}"
        );
    }
}

async fn reloads_that_cannot_run(world: &World) {
    let text = world.gateway.configuration();
    let secrets = &world.secrets;
    for mistake in mistakes(secrets.byok.text(), secrets.proxy.text()) {
        world.gateway.configure(&format!("{text}\n{mistake}"));
        let (code, body) = ask_for_reload(&world.gateway, &world.gateway.token()).await;
        assert_eq!(code, 422, "{mistake}");
        world.hears(body.to_string().as_bytes());
    }
    for line in [
        "upstream-proxy = [\"http://corp:PASSWORD@proxy\"]",
        "upstream-proxy = \"ftp://corp:PASSWORD@proxy\"",
    ] {
        let line = line.replace("PASSWORD", secrets.proxy.text());
        let changed: Vec<_> = text
            .lines()
            .map(|old| {
                if old.starts_with("upstream-proxy") {
                    &line
                } else {
                    old
                }
            })
            .collect();
        world.gateway.configure(&changed.join("\n"));
        let (code, body) = ask_for_reload(&world.gateway, &world.gateway.token()).await;
        assert_eq!(code, 422, "{line}");
        world.hears(body.to_string().as_bytes());
    }
    world.gateway.configure(&text);
    assert_eq!(
        ask_for_reload(&world.gateway, &world.gateway.token()).await.0,
        200
    );
}
