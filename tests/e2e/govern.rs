//! The operator decides who may use what, and how much: each refusal has its status, its words in the provider's own
//! shape, its headers and its record, on every way in.

use serde_json::Value;

use crate::cases::{self, CHAT, CHAT_STREAM, Case, MESSAGES};
use crate::client::{Answer, Ask, Http, Session, base_url};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};

async fn governed(text: &str) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(text)).await;
    (fake, gateway)
}

fn ask(case: &Case) -> Ask {
    let (name, value) = case.key_header("sk-user");
    Ask::post(case.path, case.request).header(name, value)
}

fn at_base_url(case: &Case, token: &str) -> Ask {
    ask(case)
        .path(format!("/{}{}", case.provider, case.path))
        .header("x-coder-ai-governance-token", token)
}

/// What a refusal says; its shape is checked.
async fn words(case: &Case, answer: Answer) -> String {
    let body: Value = answer.json().await;
    let outer = if case.api == "messages" {
        Value::from("error")
    } else {
        Value::Null
    };
    assert_eq!(body["type"], outer, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

async fn sessions(gateway: &Gateway, case: &Case) -> [Session; 2] {
    let client = gateway.client();
    [
        client.open(case.host, Http::V1).await,
        client.open(case.host, Http::V2).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_model_is_a_400_in_shape_and_on_record_as_refused() {
    let rules = "[[policy.rule]]\ndeny = [\"gpt-5*\"]\n[[policy.rule]]\nproviders = [\"anthropic\"]\nallow = [\"*haiku*\"]";
    let (fake, gateway) = governed(rules).await;
    for case in [CHAT, MESSAGES] {
        let [v1, v2] = sessions(&gateway, &case).await;
        let base = base_url(gateway.bridge()).await;
        let asks = [
            (v1, ask(&case)),
            (v2, ask(&case)),
            (base, at_base_url(&case, &gateway.token())),
        ];
        for (mut session, ask) in asks {
            let answer = session.send(ask).await;
            assert_eq!(answer.status, 400, "{}", case.name);
            assert_eq!(answer.header("x-causeway-reason"), "model_not_allowed");
            assert_eq!(answer.header("retry-after"), "");
            let id = answer.request_id();
            let words = words(&case, answer).await;
            assert!(words.contains(case.want.model), "{words}");
            let record = gateway.record(&id).await;
            assert_eq!(record["outcome"], "refused", "{record}");
            assert_eq!(record["status"], 400, "{record}");
            assert_eq!(record["error_kind"], "model_not_allowed", "{record}");
            assert_eq!(record["prompt"], cases::PROMPT, "{record}");
        }
    }
    assert!(fake.requests().is_empty());
    let refused = gateway
        .metric("causeway_refusals_total{reason=\"model_not_allowed\"}")
        .await;
    assert_eq!(refused, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_for_their_users_groups_and_status() {
    let rules = r#"
        [identity.groups]
        interns = ["ivy"]
        [policy]
        refusal-status = 403
        [[policy.rule]]
        groups = ["interns"]
        allow = ["*-mini"]
        [[policy.rule]]
        users = ["e*"]
        providers = ["openai"]
        deny = ["*"]
    "#;
    let (fake, gateway) = governed(rules).await;
    for (user, case, status) in [
        ("ann", CHAT, 200),
        ("ivy", CHAT, 403),
        ("ivy", MESSAGES, 403),
        ("eve", CHAT, 403),
        ("eve", MESSAGES, 200),
    ] {
        let (_, token) = gateway.new_token(user);
        let mut session = gateway.client_of(&token).open(case.host, Http::V2).await;
        let answer = session.send(ask(&case)).await;
        assert_eq!(answer.status, status, "{user} {}", case.name);
        answer.bytes().await;
        // A provider that is denied whole gives nothing else either.
        let other = session.send(Ask::get("/v1/models")).await;
        assert_eq!(
            other.status == 403,
            user == "eve" && case.provider == "openai",
            "{user}"
        );
    }
    assert!(!fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_rate_is_a_429_with_the_wait_and_leaves_others_alone() {
    let (fake, gateway) = governed("[[limit]]\nper = \"user\"\nrequests-per-second = 0.01\nburst = 2").await;
    for (http, user) in [(Http::V1, "ann"), (Http::V2, "bob")] {
        let (_, token) = gateway.new_token(user);
        let mut session = gateway.client_of(&token).open(CHAT.host, http).await;
        for _ in 0..2 {
            let answer = session.send(ask(&CHAT)).await;
            assert_eq!(answer.status, 200, "{user}");
            answer.bytes().await;
        }
        let answer = session.send(ask(&CHAT)).await;
        assert_eq!(answer.status, 429, "{user}");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((90..=100).contains(&wait), "{wait}");
        words(&CHAT, answer).await;
    }
    assert_eq!(fake.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_free_again_when_the_stream_has_ended() {
    let (fake, gateway) = governed("[[limit]]\nper = \"provider\"\nconcurrent = 1").await;
    let (reply, gate) = CHAT_STREAM.scripted().gated();
    let frames = reply.frames().len();
    fake.on(CHAT_STREAM.path, reply);
    let mut one = gateway.client().open(CHAT.host, Http::V1).await;
    let mut streaming = one.send(ask(&CHAT_STREAM)).await;
    streaming.read_to(1).await;

    let mut two = gateway.client().open(CHAT.host, Http::V2).await;
    let answer = two.send(ask(&CHAT)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("x-causeway-reason"), "too_many_at_once");
    answer.bytes().await;
    // Another provider has places of its own.
    let mut three = gateway.client().open(MESSAGES.host, Http::V2).await;
    assert_eq!(three.send(ask(&MESSAGES)).await.status, 200);

    (0..frames).for_each(|_| gate.let_one_out());
    streaming.bytes().await;
    fake.on(CHAT.path, CHAT.scripted());
    let answer = two.send(ask(&CHAT)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_its_place_back() {
    let (fake, gateway) = governed("[[limit]]\nconcurrent = 1").await;
    let (reply, _gate) = CHAT_STREAM.scripted().gated();
    fake.on(CHAT_STREAM.path, reply);
    let mut session = gateway.client().open(CHAT.host, Http::V1).await;
    let mut streaming = session.send(ask(&CHAT_STREAM)).await;
    streaming.read_to(1).await;
    drop((streaming, session));
    fake.on(CHAT.path, CHAT.scripted());
    eventually("a free place", async || {
        let answer = gateway
            .client()
            .open(CHAT.host, Http::V1)
            .await
            .send(ask(&CHAT))
            .await;
        let status = answer.status;
        answer.bytes().await;
        (status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_tokens_count_against_the_minute() {
    let (_fake, gateway) = governed("[[limit]]\nper = \"user\"\ntokens-per-minute = 150").await;
    let mut session = gateway.client().open(CHAT.host, Http::V2).await;
    // The reply reports 165.
    let answer = session.send(ask(&CHAT)).await;
    assert_eq!(answer.status, 200);
    answer.bytes().await;
    let answer = session.send(ask(&CHAT)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-causeway-reason"), "too_many_tokens");
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_used_up_says_which_and_until_when() {
    let text = r#"
        [[budget]]
        name = "daily-tokens"
        per = "user"
        period = "day"
        tokens = 300
        [[budget]]
        name = "claude-money"
        providers = ["anthropic"]
        period = "month"
        money = 0.0001
        [[price]]
        model = "claude-*"
        input = 1
        output = 5
    "#;
    let (fake, gateway) = governed(text).await;
    for (user, case, budget) in [("ann", CHAT, "daily-tokens"), ("bob", MESSAGES, "claude-money")] {
        let (_, token) = gateway.new_token(user);
        let mut session = gateway.client_of(&token).open(case.host, Http::V1).await;
        let mut answers = 0;
        let refused = loop {
            let answer = session.send(ask(&case)).await;
            if answer.status != 200 {
                break answer;
            }
            answer.bytes().await;
            answers += 1;
        };
        // 165 tokens and 0.000375 a reply: whoever has anything left may ask once more.
        assert_eq!(answers, if budget == "daily-tokens" { 2 } else { 1 }, "{budget}");
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("x-causeway-reason"), "budget_exceeded");
        let words = words(&case, refused).await;
        assert!(words.contains(budget) && words.contains("T00:00:00"), "{words}");
    }
    assert_eq!(fake.requests().len(), 3);
    eventually("both warnings", async || {
        let warned = gateway
            .metric("causeway_budget_warnings_total{level=\"100\"}")
            .await;
        (warned == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_on_connections_that_are_open() {
    let (fake, gateway) = governed("").await;
    let (id, token) = gateway.new_token("ann");
    for http in [Http::V1, Http::V2] {
        let mut session = gateway.client_of(&token).open(CHAT.host, http).await;
        let answer = session.send(ask(&CHAT)).await;
        assert_eq!(answer.status, 200);
        answer.bytes().await;
        if http == Http::V1 {
            continue;
        }
        gateway.run(&["token", "revoke", &id]);
        let refused = eventually("the revocation", async || {
            let answer = session.send(ask(&CHAT)).await;
            (answer.status != 200).then_some(answer)
        })
        .await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("x-causeway-reason"), "token_ended");
        let (head, _) = gateway.client_of(&token).connect("api.openai.com:443").await;
        assert_eq!(head.status, 407);
    }
    assert!(fake.requests().len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_named_by_a_front_proxy_counts_only_from_its_address() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let header =
        |from| format!("[identity.trusted-header]\ngroups-header = \"x-groups\"\nfrom = [\"{from}\"]");
    let rule = "\n[[policy.rule]]\ngroups = [\"interns\"]\ndeny = [\"gpt-*\"]";
    for (from, trusted) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let settings = Settings::in_front_of(&fake).more(&(header(from) + rule));
        let gateway = Gateway::start(settings).await;
        let path = format!("/openai{}", CHAT.path);
        let named = || ask(&CHAT).path(&path).header("X-Forwarded-User", "ann");
        let answer = base_url(gateway.bridge()).await.send(named()).await;
        assert_eq!(answer.status, if trusted { 200 } else { 401 }, "{from}");
        let id = answer.request_id();
        answer.bytes().await;
        let intern = named().header("x-groups", "staff, interns");
        let answer = base_url(gateway.bridge()).await.send(intern).await;
        assert_eq!(answer.status, if trusted { 400 } else { 401 }, "{from}");
        let connect = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: x\r\nX-Forwarded-User: ann\r\n\r\n";
        let (head, _) = gateway.client().connect_raw(connect).await;
        assert_eq!(head.status, if trusted { 200 } else { 407 }, "{from}");
        if trusted {
            assert_eq!(gateway.record(&id).await["user"], "ann");
            let seen = fake.last_request();
            assert_eq!(seen.header("x-forwarded-user"), "", "it stays here");
        }
        // A known sender cannot pass as another, and the header goes nowhere.
        let own = at_base_url(&CHAT, &gateway.token()).header("X-Forwarded-User", "ann");
        let answer = base_url(gateway.bridge()).await.send(own).await;
        let id = answer.request_id();
        answer.bytes().await;
        assert_eq!(gateway.record(&id).await["user"], "admin");
        assert_eq!(fake.last_request().header("x-forwarded-user"), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_does_not_fall_back_to_where_its_user_may_not_go() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let port = fake.address().port();
    let instance = |name: &str, more: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"openai\"\nbase-url = \"https://localhost:{port}/v1\"\n\
             hosts = []\nkeys = [{{ literal = \"sk-{name}\" }}]\n{more}\n"
        )
    };
    let rule = "[[policy.rule]]\nusers = [\"eve\"]\nproviders = [\"spare\"]\ndeny = [\"gpt-*\"]";
    let text = instance("main", "fallback = [\"spare\"]") + &instance("spare", "") + rule;
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(&text)).await;
    fake.on_if(
        CHAT.path,
        |seen| seen.key() == "sk-main",
        Reply::json(b"{}").status(503),
    );
    for (user, status) in [("ann", 200), ("eve", 503)] {
        let (_, token) = gateway.new_token(user);
        let ask = Ask::post(format!("/main{}", CHAT.path), CHAT.request);
        let ask = ask.header("authorization", format!("Bearer {token}"));
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        assert_eq!(answer.status, status, "{user}");
        let key = if status == 200 { "sk-spare" } else { "sk-main" };
        assert_eq!(fake.last_request().key(), key, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spent_stays_spent_over_restarts() {
    let text = "[[budget]]\nname = \"b\"\nper = \"user\"\nperiod = \"month\"\ntokens = 300";
    let (_fake, mut gateway) = governed(text).await;
    let status = async |gateway: &Gateway| {
        let mut session = gateway.client().open(CHAT.host, Http::V2).await;
        let answer = session.send(ask(&CHAT)).await;
        let status = answer.status;
        answer.bytes().await;
        status
    };
    // 165 tokens each.
    assert_eq!(status(&gateway).await, 200);
    gateway.terminate();
    assert!(gateway.ended().await);
    gateway.restart().await;
    assert_eq!(status(&gateway).await, 200);
    gateway.terminate();
    assert!(gateway.ended().await);
    gateway.restart().await;
    assert_eq!(status(&gateway).await, 400);
    let tokens = gateway.cli(&["token", "list", "--json"]);
    assert!(tokens[0]["last_used_at"].is_string(), "{tokens}");
}
