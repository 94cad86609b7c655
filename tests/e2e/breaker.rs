//! Circuit breakers: what is overloaded or gone is left alone, nothing else is, and recovery is tried by few.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::cases::{self, Case};
use crate::client::{Answer, Ask, Http, ProxyClient, base_url};
use crate::fake::{FakeProvider, Offers, Reply, Seen};
use crate::harness::{Gateway, Settings, eventually};

const ERROR: &[u8] = br#"{"error":{"message":"No","type":"server_error","param":null,"code":null}}"#;
const OVERLOADED: &[u8] = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";

async fn started(settings: impl FnOnce(Settings) -> Settings) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(settings(Settings::in_front_of(&fake))).await;
    (fake, gateway)
}

/// A request for `model` with a user's own key.
async fn ask(client: &ProxyClient, case: &Case, model: &str, http: Http) -> Answer {
    let body = json!({"model": model, "stream": case.stream, "max_tokens": 9, "input": "x",
        "messages": [{"role": "user", "content": "x"}]});
    let (name, value) = case.key_header("sk-user");
    let ask = Ask::post(case.path, body.to_string()).header(name, value);
    client.open(case.host, http).await.send(ask).await
}

fn is_for(model: &str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    let model = model.to_owned();
    move |seen| seen.model() == model
}

fn asked_for(fake: &FakeProvider, model: &str) -> usize {
    let requests = fake.requests();
    requests.iter().filter(|seen| seen.model() == model).count()
}

/// Checks a breaker's refusal, and gives the wait.
async fn refused(answer: Answer, anthropic: bool) -> u64 {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-causeway-reason"), "circuit_open");
    let wait = answer.header("retry-after").parse().unwrap();
    let body = answer.json().await;
    let want = if anthropic {
        "overloaded_error"
    } else {
        "server_error"
    };
    assert_eq!(body["error"]["type"], want, "{body}");
    wait
}

async fn metric(gateway: &Gateway, name: &str, (endpoint, model): (&str, &str)) -> u64 {
    let labels = format!("{{provider=\"openai\",endpoint=\"{endpoint}\",model=\"{model}\"}}");
    gateway
        .metric(&format!("causeway_circuit_breaker_{name}{labels}"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_model_is_left_alone_and_others_are_not() {
    let (fake, gateway) =
        started(|settings| settings.more("[breaker]\nfailures = 3\nopen-for = \"30s\"")).await;
    let client = gateway.client();
    let tries = [
        (500, Http::V1, cases::CHAT),
        (502, Http::V2, cases::CHAT_STREAM),
        (503, Http::V1, cases::CHAT_STREAM),
        (504, Http::V2, cases::CHAT),
        (529, Http::V2, cases::CHAT),
    ];
    for (status, http, case) in tries {
        let model = format!("model-{status}");
        let reply = Reply::json(ERROR).status(status).header("retry-after", "40");
        fake.on_if(case.path, is_for(&model), reply);
        for _ in 0..3 {
            let answer = ask(&client, &case, &model, http).await;
            assert_eq!(answer.status, status, "the provider's own answer passes");
            answer.bytes().await;
        }
        let wait = refused(ask(&client, &case, &model, http).await, false).await;
        assert!(
            (35..=44).contains(&wait),
            "the provider's wait, and a tenth at most: {wait}"
        );
        assert_eq!(asked_for(&fake, &model), 3, "{status}");

        let other_model = ask(&client, &case, "gpt-5.2", http).await;
        assert_eq!(other_model.status, 200, "another model after {status}");
        let other_api = ask(&client, &cases::RESPONSES, &model, http).await;
        assert_eq!(other_api.status, 200, "another endpoint after {status}");
        let scope = ("chat_completions", model.as_str());
        assert_eq!(metric(&gateway, "state", scope).await, 1);
        assert_eq!(metric(&gateway, "trips_total", scope).await, 1);
        assert_eq!(metric(&gateway, "rejects_total", scope).await, 1);
    }
    assert_eq!(metric(&gateway, "trips_total", ("*", "*")).await, 0);
    let all = gateway.list("/api/v1/providers").await;
    let openai = all.iter().find(|item| item["name"] == "openai").unwrap();
    assert_eq!(openai["state"], "closed", "the instance itself: {openai}");
    assert_eq!(openai["breakers"].as_array().unwrap().len(), 6, "{openai}");
    assert_eq!(openai["last_error"]["status"], 529, "{openai}");
    let log = String::from_utf8_lossy(&gateway.stderr()).into_owned();
    assert!(
        log.contains("circuit breaker") && log.contains("model-529"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_requests_or_quotas_opens_nothing() {
    let (fake, gateway) =
        started(|settings| settings.more("[breaker]\nfailures = 2\nmin-requests = 2")).await;
    let client = gateway.client();
    for status in [400, 401, 403, 404, 413, 429] {
        fake.on_if(
            cases::CHAT.path,
            is_for("gpt-bad"),
            Reply::json(ERROR).status(status),
        );
        for http in [Http::V1, Http::V2, Http::V1, Http::V2] {
            assert_eq!(ask(&client, &cases::CHAT, "gpt-bad", http).await.status, status);
        }
    }
    let metrics = gateway.metrics().await;
    let trips = "causeway_circuit_breaker_trips_total{provider=\"openai\",endpoint=";
    let lines: Vec<&str> = metrics.lines().filter(|line| line.starts_with(trips)).collect();
    let instance = format!("{trips}\"*\",model=\"*\"}} 0");
    assert_eq!(lines, [instance], "no model is watched, and nothing has opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_inside_a_stream_counts_as_overload() {
    let (fake, gateway) = started(|settings| settings.more("[breaker]\nfailures = 3")).await;
    let client = gateway.client();
    let case = cases::MESSAGES_STREAM;
    fake.on_if(case.path, is_for("claude-busy"), Reply::sse(OVERLOADED));
    for http in [Http::V1, Http::V2, Http::V1] {
        let answer = ask(&client, &case, "claude-busy", http).await;
        assert_eq!(answer.status, 200);
        let id = answer.request_id();
        assert_eq!(answer.bytes().await, OVERLOADED);
        assert_eq!(gateway.record(&id).await["outcome"], "failed");
    }
    let wait = refused(ask(&client, &case, "claude-busy", Http::V2).await, true).await;
    assert!((5..=11).contains(&wait), "{wait}");
    assert_eq!(ask(&client, &case, "claude-calm", Http::V2).await.status, 200);
}

/// A way to the provider that can be cut: connections are then closed before TLS.
struct Road {
    address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Road {
    async fn to(fake: &FakeProvider, open: bool) -> Road {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), fake.address());
        let road = Road {
            address,
            open: Arc::new(AtomicBool::new(open)),
        };
        let open = Arc::clone(&road.open);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if open.load(Ordering::SeqCst) {
                    tokio::spawn(async move {
                        let mut far = TcpStream::connect(to).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    });
                }
            }
        });
        road
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_cannot_be_reached_is_left_alone_until_it_can() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    fake.on("/v1/models", Reply::json(b"{}"));
    let road = Road::to(&fake, false).await;
    let settings = Settings::in_front_of(&fake)
        .env("CAUSEWAY_PROVIDER__OPENAI__CONNECT_TO", road.address.to_string())
        .more("[breaker]\nfailures = 4\nopen-for = \"2s\"\nprobes = 1");
    let gateway = Gateway::start(settings).await;
    let client = gateway.client();
    for http in [Http::V1, Http::V2, Http::V1, Http::V2] {
        let answer = ask(&client, &cases::CHAT, "gpt-5.2", http).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("x-causeway-reason"), "upstream_unreachable");
    }
    for model in ["gpt-5.2", "another"] {
        let wait = refused(
            ask(&client, &cases::RESPONSES_STREAM, model, Http::V2).await,
            false,
        )
        .await;
        assert!((1..=3).contains(&wait), "{wait}");
    }
    let passing = client
        .open("api.openai.com", Http::V2)
        .await
        .send(Ask::get("/v1/models"))
        .await;
    refused(passing, false).await;
    assert!(fake.requests().is_empty());
    let elsewhere = ask(&client, &cases::MESSAGES, "claude", Http::V2).await;
    assert_eq!(elsewhere.status, 200, "another instance");

    road.open.store(true, Ordering::SeqCst);
    eventually("the recovery", async || {
        let answer = ask(&client, &cases::CHAT, "gpt-5.2", Http::V1).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(metric(&gateway, "state", ("*", "*")).await, 0);
    assert_eq!(metric(&gateway, "trips_total", ("*", "*")).await, 1);
    assert_eq!(
        ask(&client, &cases::RESPONSES, "another", Http::V2).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_at_half_open_lets_only_the_probes_through() {
    let rules = "[breaker]\nfailures = 2\nopen-for = \"1s\"\nprobes = 3";
    let (fake, gateway) = started(|settings| settings.more(rules)).await;
    let client = gateway.client();
    let (case, model) = (cases::CHAT_STREAM, "gpt-crowd");
    fake.on_if(case.path, is_for(model), Reply::json(ERROR).status(503));
    for _ in 0..2 {
        ask(&client, &case, model, Http::V2).await.bytes().await;
    }
    let wait = refused(ask(&client, &case, model, Http::V2).await, false).await;
    assert_eq!(asked_for(&fake, model), 2);
    let (reply, heads) = case.scripted().held();
    fake.on_if(case.path, is_for(model), reply);
    tokio::time::sleep(Duration::from_secs(wait)).await;

    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        let http = if number % 2 == 0 { Http::V1 } else { Http::V2 };
        crowd.spawn(async move { ask(&client, &case, model, http).await.status });
    }
    for _ in 0..97 {
        assert_eq!(crowd.join_next().await.unwrap().unwrap(), 503);
    }
    assert_eq!(asked_for(&fake, model), 2 + 3);
    heads.add_permits(1_000);
    while let Some(status) = crowd.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(ask(&client, &case, model, Http::V1).await.status, 200);
    let scope = ("chat_completions", model);
    assert_eq!(metric(&gateway, "state", scope).await, 0);
    assert_eq!(metric(&gateway, "rejects_total", scope).await, 1 + 97);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_less_of_the_providers_than_auditors() {
    let (_fake, gateway) =
        started(|settings| settings.env("CAUSEWAY_PROVIDER__CHATGPT__ENABLED", "false".to_owned())).await;
    let answer = ask(&gateway.client(), &cases::CHAT, "gpt-5.2", Http::V2).await;
    answer.bytes().await;
    let made = gateway.cli_output(&["token", "create", "--user", "mia", "--role", "member"]);
    let token = String::from_utf8(made).unwrap().trim().to_owned();
    let reduced: Value = eventually("the new token", async || {
        let ask = Ask::get("/api/v1/providers").header("authorization", format!("Bearer {token}"));
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        match answer.status {
            200 => Some(answer.json().await),
            _ => None,
        }
    })
    .await;
    let full = gateway.api("/api/v1/providers").await;
    for (list, detailed) in [(&reduced, false), (&full, true)] {
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 6, "{list}");
        let named = |name: &str| items.iter().find(|item| item["name"] == name).unwrap();
        let openai = named("openai");
        assert_eq!(openai["base_url_host"], "api.openai.com");
        assert_eq!(
            (&openai["enabled"], &openai["state"]),
            (&json!(true), &json!("closed"))
        );
        for key in ["breakers", "keys", "in_flight", "connections", "last_error"] {
            assert_eq!(openai.get(key).is_some(), detailed, "{key} in {list}");
        }
        assert_eq!(named("chatgpt")["enabled"], false);
    }
    let openai = &full["items"][0];
    assert_eq!(openai["connections"]["shared"], 1, "{openai}");
    assert_eq!(openai["in_flight"], 0, "{openai}");
}
