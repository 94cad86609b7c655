//! The store as requests and readers use it: events in, pages out.

use std::sync::Arc;

use providers::{Api, ReplyFacts, ToolCall, ToolKind, ToolResult, Usage, UsageSource};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::*;
use crate::clock::{Clock, Micros};
use crate::config::{Content, Durability, RecordConfig, WhenFull};
use crate::metrics::Metrics;
use crate::record::{Answerer, CredentialKind, Ended, Mode, Outcome, QUEUE, Recorder, Started};

/// A store with its writer; `close` waits until everything is written.
struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
    recorder: Recorder,
    writer: Writer,
}

fn open(folder: tempfile::TempDir, content: Content) -> Fixture {
    let store = Store::open(&folder.path().join("test.db")).unwrap();
    let metrics = Metrics::new().unwrap().record;
    let (queue, jobs) = mpsc::channel(QUEUE);
    let config = RecordConfig {
        content,
        durability: Durability::Strict,
        when_full: WhenFull::Refuse,
    };
    let writer = Writer::start(&store, jobs, config.durability, metrics.clone(), &Clock::system()).unwrap();
    let recorder = Recorder::new(queue, config, metrics, TaskTracker::new());
    Fixture {
        folder,
        store,
        recorder,
        writer,
    }
}

fn fresh() -> Fixture {
    open(tempfile::tempdir().unwrap(), Content::Prompts)
}

impl Fixture {
    async fn start(&self, started: Started) {
        self.recorder.start(started).await.unwrap();
    }

    async fn end(&self, ended: Ended) {
        self.recorder.end(ended).unwrap().await.unwrap();
    }

    fn close(self) -> tempfile::TempDir {
        drop(self.recorder);
        self.writer.join();
        self.folder
    }
}

fn started(user: &str, session: Option<&str>, prompt: &str) -> Started {
    Started {
        id: Uuid::now_v7(),
        request_id: Uuid::now_v7(),
        connect_id: None,
        user: Arc::from(user),
        provider: Arc::from("openai"),
        kind: "openai",
        api: Api::ChatCompletions,
        model: Some("gpt-5.5".to_owned()),
        client: "Codex",
        client_version: Some("0.169.0".to_owned()),
        user_agent: Some("codex_exec/0.169.0".to_owned()),
        session_id: session.map(str::to_owned),
        agent_id: Some("agent-7".to_owned()),
        parent_agent_id: None,
        mode: Mode::Proxy,
        credential: CredentialKind::Byok,
        credential_hint: "sk-u...6789".to_owned(),
        stream: true,
        request_bytes: 100,
        started_at: Micros(1_000_000),
        prompt: Some(prompt.to_owned()),
        prompt_truncated: false,
        tool_results: Vec::new(),
    }
}

fn ended(id: Uuid) -> Ended {
    Ended {
        id,
        outcome: Outcome::Completed,
        status: Some(200),
        error_kind: None,
        error_message: None,
        first_token_at: Some(Micros(1_100_000)),
        ended_at: Micros(2_000_000),
        overhead_us: 150,
        response_bytes: 1_000,
        retries: 0,
        answerer: None,
        facts: Some(ReplyFacts {
            model: Some("gpt-5.5-2026".to_owned()),
            finish_reason: Some("stop".to_owned()),
            usage: Some(Usage {
                input: 10,
                output: 5,
                cache_read: 3,
                ..Usage::default()
            }),
            usage_source: UsageSource::Reported,
            ..ReplyFacts::default()
        }),
        cost_micros: Some(40),
    }
}

fn call(id: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: "read_file".to_owned(),
        arguments: "{\"path\":\"secret\"}".to_owned(),
        kind: ToolKind::Function,
        server: None,
        truncated: false,
    }
}

const PAGE: Page = Page {
    cursor: None,
    limit: 50,
};

#[tokio::test]
async fn what_is_recorded_can_be_read() {
    let fixture = fresh();
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.start(start).await;
    let open = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((open.outcome, open.prompt.as_deref()), (None, Some("hello")));

    fixture.end(ended(id)).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.outcome, Some("completed"));
    assert_eq!(row.model_answered.as_deref(), Some("gpt-5.5-2026"));
    assert_eq!(row.duration_ms, Some(1_000.0));
    assert_eq!(
        (row.usage[0].input, row.usage[0].cache_read, row.usage[0].source),
        (10, 3, "reported")
    );

    let (sessions, next) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!((session.id.as_str(), session.user.as_str()), ("s1", "ann"));
    assert_eq!(
        (session.interceptions, session.threads, session.prompts),
        (1, 1, 1)
    );
    assert_eq!((session.usage.input, session.usage.output), (10, 5));
    assert_eq!(
        (&session.clients[..], &session.models[..]),
        (&["Codex".to_owned()][..], &["gpt-5.5".to_owned()][..])
    );
    assert_eq!(session.last_prompt.as_deref(), Some("hello"));
    assert!(next.is_none());
}

#[tokio::test]
async fn costs_add_up_and_gaps_are_counted() {
    let fixture = fresh();
    let ends: [fn(&mut Ended); 5] = [
        |_| {},
        |_| {},
        |end| end.cost_micros = None,
        |end| (end.facts, end.cost_micros) = (None, None),
        |end| (end.facts, end.cost_micros, end.outcome) = (None, None, Outcome::Refused),
    ];
    let mut sources = Vec::new();
    for change in ends {
        let start = started("ann", Some("s1"), "hello");
        let mut end = ended(start.id);
        change(&mut end);
        let id = start.id;
        fixture.start(start).await;
        fixture.end(end).await;
        let row = fixture.store.interception(id, None).await.unwrap().unwrap();
        assert_eq!(
            (row.agent_id.as_deref(), row.parent_agent_id),
            (Some("agent-7"), None)
        );
        sources.push((
            row.usage_source,
            row.usage.first().and_then(|usage| usage.cost_micros),
        ));
    }
    assert_eq!(
        sources,
        [
            (Some("reported"), Some(40)),
            (Some("reported"), Some(40)),
            (Some("reported"), None),
            (Some("unknown"), None),
            (None, None),
        ]
    );
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!(session.cost_micros, Some(80));
    assert_eq!((session.unpriced, session.unmetered), (1, 1));
    fixture.close();
}

#[tokio::test]
async fn no_report_of_an_upstream_makes_a_session_unreadable() {
    let fixture = fresh();
    for _ in 0..3 {
        let start = started("ann", Some("s1"), "hello");
        let mut end = ended(start.id);
        if let Some(usage) = end.facts.as_mut().and_then(|facts| facts.usage.as_mut()) {
            (usage.input, usage.output) = (u64::MAX, u64::MAX);
        }
        fixture.start(start).await;
        fixture.end(end).await;
    }
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!(sessions[0].usage.input, 3 << 40);
    fixture.close();
}

#[tokio::test]
async fn an_event_that_comes_twice_counts_once() {
    let fixture = fresh();
    let start = started("ann", Some("s1"), "hello");
    let (id, again) = (
        start.id,
        Started {
            id: start.id,
            ..started("ann", Some("s1"), "hello")
        },
    );
    fixture.start(start).await;
    fixture.start(again).await;
    fixture.end(ended(id)).await;
    fixture
        .end(Ended {
            outcome: Outcome::Failed,
            ..ended(id)
        })
        .await;
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!((sessions[0].interceptions, sessions[0].usage.input), (1, 10));
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.outcome, Some("completed"));
}

#[tokio::test]
async fn a_call_that_was_answered_elsewhere_is_recorded_there() {
    let fixture = fresh();
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.start(start).await;
    let answerer = Answerer {
        provider: Arc::from("backup"),
        credential_hint: "sk-b...7f3a".to_owned(),
    };
    fixture
        .end(Ended {
            answerer: Some(answerer),
            ..ended(id)
        })
        .await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.provider, "backup");
    assert_eq!(row.credential_hint.as_deref(), Some("sk-b...7f3a"));
}

#[tokio::test]
async fn tool_results_chain_requests_into_a_thread() {
    let fixture = fresh();
    let first = started("ann", None, "look at the file");
    let root = first.id;
    fixture.start(first).await;
    let mut end = ended(root);
    end.facts.as_mut().unwrap().tool_calls = vec![call("call_1"), call("call_2")];
    fixture.end(end).await;

    let results = |id: &str, failed| {
        vec![ToolResult {
            call_id: id.to_owned(),
            is_error: Some(failed),
        }]
    };
    let second = Started {
        tool_results: results("call_2", true),
        prompt: None,
        ..started("ann", None, "")
    };
    let other = Started {
        tool_results: results("call_2", true),
        ..started("eve", None, "mine?")
    };
    let (second_id, other_id) = (second.id, other.id);
    fixture.start(second).await;
    fixture.start(other).await;

    let row = fixture
        .store
        .interception(second_id, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.thread_root_id, row.thread_parent_id), (root, Some(root)));
    assert_eq!(
        row.session_id,
        root.to_string(),
        "a thread without a client's session is one"
    );
    let parent = fixture.store.interception(root, None).await.unwrap().unwrap();
    let results: Vec<_> = parent.tool_calls.iter().map(|call| call.result).collect();
    assert_eq!(results, [None, Some("error")]);
    let foreign = fixture.store.interception(other_id, None).await.unwrap().unwrap();
    assert_eq!(
        foreign.thread_parent_id, None,
        "another user's calls are not answered"
    );

    let found = fixture.store.session(root.to_string(), Vec::new()).await.unwrap();
    let (session, threads) = &found[0];
    assert_eq!(
        (session.interceptions, session.threads, session.tool_calls),
        (2, 1, 2)
    );
    assert_eq!(threads[0].interceptions, [root, second_id]);
}

#[tokio::test]
async fn users_with_the_same_session_id_stay_apart() {
    let fixture = fresh();
    fixture.start(started("ann", Some("same"), "a")).await;
    fixture.start(started("bob", Some("same"), "b")).await;
    let found = fixture
        .store
        .session("same".to_owned(), vec!["bob".to_owned()])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.last_prompt.as_deref(), Some("b"));
    assert_eq!(
        fixture
            .store
            .session("same".to_owned(), Vec::new())
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat() {
    let fixture = fresh();
    for number in 0..25 {
        fixture
            .start(started("ann", Some(&format!("s{number}")), "x"))
            .await;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = Page { cursor, limit: 10 };
        let (rows, next) = fixture
            .store
            .interceptions(Filter::default(), page)
            .await
            .unwrap();
        assert!(rows.iter().all(|row| seen.insert(row.id)));
        // What is added meanwhile must not shift the pages.
        fixture.start(started("bob", None, "new")).await;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);

    let (first, next) = fixture
        .store
        .sessions(
            Filter::default(),
            Page {
                cursor: None,
                limit: 20,
            },
        )
        .await
        .unwrap();
    let (second, _) = fixture
        .store
        .sessions(
            Filter::default(),
            Page {
                cursor: next,
                limit: 20,
            },
        )
        .await
        .unwrap();
    let ids: std::collections::BTreeSet<_> = first.iter().chain(&second).map(|row| row.id.clone()).collect();
    assert_eq!(ids.len(), first.len() + second.len());
}

#[tokio::test]
async fn filters_hold_together() {
    let fixture = fresh();
    let start = started("ann", Some("s1"), "x");
    let id = start.id;
    fixture.start(start).await;
    fixture.end(ended(id)).await;
    fixture.start(started("bob", Some("s2"), "y")).await;
    let words = |word: &str| vec![word.to_owned()];
    let both = || vec!["ann".to_owned(), "bob".to_owned()];
    type Set = Box<dyn Fn(&mut Filter)>;
    let cases: [(&str, Set, usize); 9] = [
        ("user", Box::new(move |f| f.user = words("bob")), 1),
        ("two users", Box::new(move |f| f.user = both()), 2),
        ("unknown model", Box::new(move |f| f.model = words("none")), 0),
        (
            "client and user",
            Box::new(move |f| (f.client, f.user) = (words("Codex"), words("ann"))),
            1,
        ),
        ("session", Box::new(move |f| f.session = words("s2")), 1),
        ("in flight", Box::new(|f| f.status = vec![Status::InFlight]), 1),
        (
            "ended",
            Box::new(|f| f.status = vec![Status::Ended(Outcome::Completed)]),
            1,
        ),
        ("later", Box::new(|f| f.after = Some(Micros(1_000_001))), 0),
        ("earlier", Box::new(|f| f.before = Some(Micros(1_000_001))), 2),
    ];
    for (name, set, want) in cases {
        let mut filter = Filter::default();
        set(&mut filter);
        let (rows, _) = fixture.store.interceptions(filter, PAGE).await.unwrap();
        assert_eq!(rows.len(), want, "{name}");
    }
    let filter = Filter {
        provider: words("openai"),
        client: words("Codex"),
        ..Filter::default()
    };
    let (sessions, _) = fixture.store.sessions(filter, PAGE).await.unwrap();
    assert_eq!(sessions.len(), 2);
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_aborted() {
    let fixture = fresh();
    let start = started("ann", None, "x");
    let id = start.id;
    fixture.start(start).await;
    let folder = fixture.close();
    let again = open(folder, Content::Prompts);
    let row = again.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(
        (row.outcome, row.error_kind.as_deref()),
        (Some("aborted"), Some("gateway_stopped"))
    );
}

#[tokio::test]
async fn metadata_only_keeps_no_text() {
    let fixture = open(tempfile::tempdir().unwrap(), Content::Metadata);
    let start = started("ann", Some("s"), "planted-prompt");
    let id = start.id;
    fixture.start(start).await;
    let mut end = ended(id);
    end.facts.as_mut().unwrap().tool_calls = vec![call("call_1")];
    fixture.end(end).await;
    let folder = fixture.close();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for planted in [&b"planted-prompt"[..], b"secret"] {
            assert!(!bytes.windows(planted.len()).any(|window| window == planted));
        }
    }
}

#[tokio::test]
async fn tokens_are_found_by_hash_and_never_stored() {
    let fixture = fresh();
    let now = Micros(5);
    let new = NewToken {
        user: "ann".to_owned(),
        role: crate::token::Role::Member,
        created_at: now,
        expires_at: Some(Micros(100)),
    };
    let before = fixture.store.token_version().await.unwrap();
    let (record, secret) = fixture.store.create_token(new).await.unwrap();
    assert!(fixture.store.token_version().await.unwrap() > before);
    let tokens = crate::token::Tokens::load(fixture.store.clone()).await.unwrap();
    assert_eq!(
        &*tokens.find(secret.expose(), Micros(99)).await.unwrap().user,
        "ann"
    );
    assert!(
        tokens.find(secret.expose(), Micros(100)).await.is_none(),
        "expired"
    );
    assert!(fixture.store.revoke_token(record.id, now).await.unwrap());
    assert!(!fixture.store.revoke_token(record.id, now).await.unwrap());
    tokens.refresh().await;
    assert!(
        tokens.find(secret.expose(), Micros(99)).await.is_none(),
        "revoked"
    );
    let folder = fixture.close();
    let bytes = std::fs::read(folder.path().join("test.db")).unwrap();
    assert!(
        !bytes
            .windows(secret.expose().len())
            .any(|window| window == secret.expose().as_bytes())
    );
}
