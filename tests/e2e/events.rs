//! The event stream: interceptions as they end and warnings of budgets, each once, whatever breaks in between; and
//! nobody hears of what is not theirs.

use serde_json::Value;

use crate::cases::{self, CHAT};
use crate::client::{Answer, Ask, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::postgres::Postgres;

/// An event of a stream.
#[derive(Debug)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

/// An open stream.
struct Events {
    answer: Answer,
    at: usize,
}

impl Events {
    async fn open(gateway: &Gateway, token: &str, query: &str, last: Option<&str>) -> Events {
        let answer = ask_for(gateway, token, query, last).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/event-stream");
        let mut events = Events { answer, at: 0 };
        // The first block tells how to come back.
        let block = events.block().await;
        assert!(block.contains("retry: "), "{block}");
        events
    }

    /// The lines up to the next empty one.
    async fn block(&mut self) -> String {
        loop {
            let read = self.answer.read_to(self.at).await;
            let rest = std::str::from_utf8(&read[self.at..]).unwrap();
            if let Some((block, _)) = rest.split_once("\n\n") {
                let block = block.to_owned();
                self.at += block.len() + 2;
                return block;
            }
            let more = read.len() + 1;
            self.answer.read_to(more).await;
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            let block = self.block().await;
            let field = |name: &str| {
                let mut lines = block.lines().filter_map(|line| line.split_once(": "));
                lines
                    .find(|(field, _)| *field == name)
                    .map(|(_, value)| value.to_owned())
            };
            if let Some(data) = field("data") {
                return Event {
                    id: field("id").unwrap(),
                    name: field("event").unwrap(),
                    data: serde_json::from_str(&data).unwrap(),
                };
            }
        }
    }

    /// The account and the level of the next warning of a budget.
    async fn warning(&mut self) -> (String, u64) {
        loop {
            let Event { name, data, .. } = self.next().await;
            if name == "budget" {
                let account = data["account"].as_str().unwrap().to_owned();
                return (account, data["level"].as_u64().unwrap());
            }
        }
    }

    /// The requests of the next interceptions.
    async fn requests(&mut self, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..count {
            let event = self.next().await;
            assert_eq!(event.name, "interception");
            found.push(event.data["request_id"].as_str().unwrap().to_owned());
        }
        found
    }
}

async fn ask_for(gateway: &Gateway, token: &str, query: &str, last: Option<&str>) -> Answer {
    let mut ask =
        Ask::get(format!("/api/v1/events{query}")).header("authorization", format!("Bearer {token}"));
    if let Some(last) = last {
        ask = ask.header("last-event-id", last);
    }
    base_url(gateway.bridge()).await.send(ask).await
}

async fn started(more: &str) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(more)).await;
    (fake, gateway)
}

/// A call by the owner of `token`; returns its id.
async fn call(gateway: &Gateway, token: &str) -> String {
    let ask = Ask::post(format!("/openai{}", CHAT.path), CHAT.request)
        .header("authorization", "Bearer sk-user")
        .header("x-coder-ai-governance-token", token);
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    let id = answer.request_id();
    answer.bytes().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interception_is_told_of_as_the_api_shows_it() {
    let (_fake, gateway) = started("").await;
    let token = gateway.token();
    call(&gateway, &token).await;
    let mut all = Events::open(&gateway, &token, "", None).await;
    let others = Events::open(&gateway, &token, "?model=other", None).await;
    let mut chosen = Events::open(
        &gateway,
        &token,
        "?user=admin&status=completed&provider=openai",
        None,
    )
    .await;
    let id = call(&gateway, &token).await;
    for events in [&mut all, &mut chosen] {
        let event = events.next().await;
        assert_eq!(
            (event.name.as_str(), &event.data["request_id"]),
            ("interception", &id.as_str().into())
        );
        assert_eq!(
            event.data,
            gateway.api(&format!("/api/v1/interceptions/{id}")).await
        );
    }
    // The other stream was told of nothing, and ends with the process.
    gateway.terminate();
    assert_eq!(others.answer.bytes().await.len(), others.at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_a_restart_without_loss_or_repetition() {
    let (_fake, mut gateway) = started("").await;
    let token = gateway.token();
    let mut events = Events::open(&gateway, &token, "", None).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(call(&gateway, &token).await);
    }
    let first = events.next().await;
    assert_eq!(first.data["request_id"], ids[0].as_str());
    let mut position = first.id;
    for kill in [false, true] {
        if kill {
            gateway.kill_9();
        } else {
            gateway.terminate();
            assert!(gateway.ended().await);
        }
        gateway.restart().await;
        ids.push(call(&gateway, &token).await);
        let mut events = Events::open(&gateway, &token, "", Some(&position)).await;
        ids.push(call(&gateway, &token).await);
        let seen = events.requests(ids.len() - 2).await;
        assert_eq!(seen, ids[1..ids.len() - 1]);
        let last = events.next().await;
        assert_eq!(last.data["request_id"], ids.last().unwrap().as_str());
        // As a parameter it is the same.
        let mut events = Events::open(&gateway, &token, &format!("?after={position}"), None).await;
        assert_eq!(events.requests(ids.len() - 1).await, ids[1..]);
        let (rest, of) = (ids.split_off(ids.len() - 1), last.id);
        (ids, position) = (rest, of);
    }
    for wrong in [
        "?after=x",
        "?after=2026-11-22",
        "?before=2026-11-22",
        "?limit=3",
        "?colour=red",
    ] {
        let answer = ask_for(&gateway, &token, wrong, None).await;
        assert_eq!(answer.status, 400, "{wrong}");
        let field = wrong[1..].split('=').next().unwrap();
        assert_eq!(answer.json().await["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_shows_that_it_is_there() {
    let (_fake, gateway) = started("").await;
    let token = gateway.token();
    let mut events = Events::open(&gateway, &token, "?model=other", None).await;
    call(&gateway, &token).await;
    let block = events.block().await;
    assert!(
        block.contains("\n: ") && !block.contains("data"),
        "a comment: {block}"
    );
    // It has passed what it did not tell of.
    let (_, position) = block.split_once("id: ").unwrap();
    let mut events = Events::open(&gateway, &token, "", Some(position.lines().next().unwrap())).await;
    let id = call(&gateway, &token).await;
    assert_eq!(events.requests(1).await, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_hear_of_nobody_else_and_auditors_of_all() {
    let (_fake, gateway) = started("").await;
    let ((_, ann), (_, bob)) = (gateway.new_token("ann"), gateway.new_token("bob"));
    let auditor = gateway.new_token_as("eve", "auditor");
    let mut of_ann = Events::open(&gateway, &ann, "", None).await;
    let mut of_eve = Events::open(&gateway, &auditor, "", None).await;
    let mut ids = Vec::new();
    for token in [&bob, &ann, &bob, &ann] {
        ids.push(call(&gateway, token).await);
    }
    assert_eq!(of_eve.requests(4).await, ids);
    assert_eq!(of_ann.requests(2).await, [ids[1].clone(), ids[3].clone()]);
    assert_eq!(ask_for(&gateway, &ann, "?user=bob", None).await.status, 403);
    assert_eq!(ask_for(&gateway, "cw_wrong", "", None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_their_number_is_bounded() {
    let (_fake, gateway) = started("").await;
    let (id, ann) = gateway.new_token("ann");
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Events::open(&gateway, &ann, "", None).await);
    }
    let refused = ask_for(&gateway, &ann, "", None).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"));
    let counted = "causeway_refusals_total{reason=\"too_many_streams\"}";
    assert_eq!(gateway.metric(counted).await, 1);
    // Others have places of their own, and one that is left is free again.
    Events::open(&gateway, &gateway.token(), "", None).await;
    open.pop();
    eventually("a free place", async || {
        let answer = ask_for(&gateway, &ann, "", None).await;
        (answer.status == 200).then_some(())
    })
    .await;
    gateway.run(&["token", "revoke", &id]);
    for events in open {
        let length = events.at;
        assert_eq!(events.answer.bytes().await.len(), length, "it ends, and in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_what_another_gateway_does_on_the_same_store() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("shared");
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let settings = Settings::in_front_of(&fake).env("CAUSEWAY_STORE__URL", url);
    let one = Gateway::start(settings.clone()).await;
    let two = Gateway::start(settings).await;
    let mut events = Events::open(&one, &one.token(), "", None).await;
    let mut ids = vec![call(&two, &two.token()).await, call(&one, &one.token()).await];
    let mut seen = events.requests(2).await;
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_warns_once_at_each_level() {
    // A reply uses 165 tokens: the second comes to 86 %, the third beyond the end.
    let budget = "[[budget]]\nname = \"daily\"\nper = \"user\"\nperiod = \"day\"\ntokens = 380";
    let (_fake, mut gateway) = started(budget).await;
    let ((_, ann), (_, bob)) = (gateway.new_token("ann"), gateway.new_token("bob"));
    let of_bob = Events::open(&gateway, &bob, "", None).await;
    let mut of_admin = Events::open(&gateway, &gateway.token(), "", None).await;
    call(&gateway, &ann).await;
    let mut from = of_admin.next().await.id;
    call(&gateway, &ann).await;
    let want = [(85, 0.868), (100, 1.303)];
    for (level, share) in want {
        let event = loop {
            let event = of_admin.next().await;
            if event.name == "budget" {
                break event;
            }
        };
        let (budget, account) = (&event.data["budget"], &event.data["account"]);
        assert_eq!((budget, account), (&"daily".into(), &"ann".into()), "{event:?}");
        assert_eq!(
            (&event.data["level"], &event.data["share"]),
            (&level.into(), &share.into())
        );
        assert!(
            event.data["resets_at"]
                .as_str()
                .unwrap()
                .ends_with("T00:00:00.000000Z")
        );
        call(&gateway, &ann).await;
    }
    // A refusal, and a new process, warn of nothing new.
    gateway.terminate();
    assert!(gateway.ended().await);
    gateway.restart().await;
    let refused = call(&gateway, &ann).await;
    let bobs = call(&gateway, &bob).await;
    let mut again = Events::open(&gateway, &gateway.token(), "", Some(&from)).await;
    let (mut levels, mut is_over) = (Vec::new(), false);
    while !is_over || levels.len() < 2 {
        let event = again.next().await;
        is_over |= event.data["request_id"] == bobs.as_str();
        if event.name == "budget" {
            levels.push(event.data["level"].clone());
        }
        from = event.id;
    }
    assert_eq!(levels, [85, 100]);
    let mut rest = Events::open(&gateway, &gateway.token(), "", Some(&from)).await;
    let next = call(&gateway, &bob).await;
    let event = rest.next().await;
    assert_eq!(
        (event.name.as_str(), &event.data["request_id"]),
        ("interception", &next.as_str().into())
    );
    assert_eq!(gateway.record(&refused).await["error_kind"], "budget_exceeded");

    // Members hear of their own accounts only. The stream of bob ended with the first process, without an event.
    let told = of_bob.answer.bytes().await;
    assert_eq!(told.len(), of_bob.at, "{}", String::from_utf8_lossy(&told));
    let log = String::from_utf8(gateway.stderr()).unwrap();
    for words in ["a budget is used to 85 %", "a budget is used up"] {
        assert_eq!(log.matches(words).count(), 1, "{words}");
    }
}

/// Calls of the owner of `token`, each of 165 tokens.
async fn use_up(gateway: &Gateway, token: &str, calls: usize) {
    for _ in 0..calls {
        call(gateway, token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_share_a_budget_warn_once() {
    let Some(server) = Postgres::start() else { return };
    let budget = "[[budget]]\nname = \"daily\"\nper = \"user\"\nperiod = \"day\"\ntokens = 380";
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let settings = Settings::in_front_of(&fake)
        .env("CAUSEWAY_STORE__URL", server.database("shared"))
        .more(budget);
    let one = Gateway::start(settings.clone()).await;
    let two = Gateway::start(settings).await;
    let [ann, bob, carol] = ["ann", "bob", "carol"].map(|user| one.new_token(user).1);
    let mut streams = Vec::new();
    for gateway in [&one, &two] {
        streams.push(Events::open(gateway, &gateway.token(), "", None).await);
    }
    // Half of it at each: both learn of the sum, and neither has used it alone.
    for gateway in [&one, &two] {
        use_up(gateway, &ann, 1).await;
    }
    for events in &mut streams {
        let warning = events.warning().await;
        assert_eq!(warning, ("ann".to_owned(), 85));
    }
    use_up(&two, &ann, 1).await;
    for gateway in [&one, &two] {
        eventually("the end of the budget", async || {
            let ask = Ask::post(format!("/openai{}", CHAT.path), CHAT.request)
                .header("authorization", "Bearer sk-user")
                .header("x-coder-ai-governance-token", ann.as_str());
            let answer = base_url(gateway.bridge()).await.send(ask).await;
            (answer.header("x-causeway-reason") == "budget_exceeded").then_some(())
        })
        .await;
    }
    // Each gateway warns of another account, after what it had to say of the first.
    use_up(&one, &bob, 2).await;
    use_up(&two, &carol, 2).await;
    let own = |account: &str| (account.to_owned(), 85);
    let mut want = vec![("ann".to_owned(), 100), own("bob"), own("carol")];
    want.sort();
    for events in &mut streams {
        let mut told = Vec::new();
        while !(told.contains(&own("bob")) && told.contains(&own("carol"))) {
            told.push(events.warning().await);
        }
        told.sort();
        assert_eq!(told, want);
    }
    for (level, want) in [("85", 3), ("100", 1)] {
        let name = format!("causeway_budget_warnings_total{{level=\"{level}\"}}");
        assert_eq!(one.metric(&name).await + two.metric(&name).await, want, "{level}");
    }
}
