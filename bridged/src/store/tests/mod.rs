//! The store as requests and readers use it: events in, pages out.

use std::sync::Arc;

use providers::{
    Api, ReplyFacts, Thought, ThoughtSource, ToolCall, ToolKind, ToolResult, Usage, UsageSource,
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::sql::Dialect;
use super::*;
use crate::clock::{Clock, Micros};
use crate::config::{
    Content, Durability, PostgresUrl, RecordConfig, RetentionConfig, StoreConfig, StoreLocation, WhenFull,
};
use crate::metrics::Metrics;
use crate::record::{Answerer, CredentialKind, Ended, Event, Gate, Mode, Outcome, QUEUE, Recorder, Started};

#[path = "../../../../tests/support/postgres.rs"]
mod postgres;

/// The database that a test runs on.
#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A database that lives as long as its test.
struct Home {
    folder: tempfile::TempDir,
    location: StoreLocation,
    _server: Option<Arc<std::sync::Mutex<postgres::Postgres>>>,
}

/// The server that all tests share while any of them runs.
static SERVER: std::sync::Mutex<std::sync::Weak<std::sync::Mutex<postgres::Postgres>>> =
    std::sync::Mutex::new(std::sync::Weak::new());

impl Kind {
    /// An empty database; none where the server is not installed.
    fn home(self) -> Option<Home> {
        let folder = tempfile::tempdir().unwrap();
        if let Kind::Sqlite = self {
            return Some(Home {
                location: StoreLocation::Sqlite(folder.path().join("test.db")),
                folder,
                _server: None,
            });
        }
        let mut shared = SERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let server = match shared.upgrade() {
            Some(server) => server,
            None => {
                let server = Arc::new(std::sync::Mutex::new(postgres::Postgres::start()?));
                *shared = Arc::downgrade(&server);
                server
            }
        };
        let name = format!("t{}", Uuid::now_v7().simple());
        let url = server.lock().unwrap().database(&name);
        Some(Home {
            folder,
            location: StoreLocation::Postgres(PostgresUrl::parse(&url).unwrap()),
            _server: Some(server),
        })
    }
}

/// Every test here runs on both databases.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_sqlite {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Kind::Sqlite.home().unwrap()).await;
            }
        )+}
        mod on_postgres {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(home) = super::Kind::Postgres.home() {
                    super::$name(home).await;
                }
            }
        )+}
    };
}

on_both! {
    what_is_recorded_can_be_read
    costs_add_up_and_gaps_are_counted
    no_report_of_an_upstream_makes_a_session_unreadable
    an_event_that_comes_twice_counts_once
    an_end_may_come_before_its_start
    a_call_that_was_answered_elsewhere_is_recorded_there
    tool_results_chain_requests_into_a_thread
    a_thread_is_found_within_one_batch
    users_with_the_same_session_id_stay_apart
    pages_neither_skip_nor_repeat
    filters_hold_together
    what_a_dead_process_left_open_is_aborted
    an_end_from_a_process_thought_dead_counts
    metadata_only_keeps_no_text
    tokens_are_found_by_hash_and_never_stored
    a_newer_schema_is_refused
    odd_texts_are_kept
    every_list_is_read_by_an_index
    a_clock_that_steps_back_confuses_nobody
    sums_do_not_depend_on_the_order_of_events
    an_audit_names_what_was_changed
    deletion_on_purpose_keeps_the_chain_whole
    an_erased_user_leaves_no_text
}

/// A store with its writer; `close` waits until everything is written.
struct Fixture {
    home: Home,
    store: Store,
    recorder: Recorder,
    writer: Writer,
}

async fn open(home: Home, content: Content) -> Fixture {
    let config = StoreConfig {
        location: home.location.clone(),
        extra_ca: Vec::new(),
    };
    let store = Store::open(&config).await.unwrap();
    let metrics = Metrics::new().unwrap().record;
    let (queue, jobs) = mpsc::channel(QUEUE);
    let config = RecordConfig {
        content,
        durability: Durability::Strict,
        when_full: WhenFull::Refuse,
        spool_max: 1 << 20,
    };
    let writing = WriterConfig {
        durability: config.durability,
        when_full: config.when_full,
        retention: RetentionConfig::default(),
        spool: home.folder.path().join("spool"),
        spool_max: config.spool_max,
    };
    let gate = Gate::default();
    let writer = Writer::start(
        &store,
        jobs,
        &writing,
        (metrics.clone(), gate.clone()),
        &Clock::system(),
    )
    .unwrap();
    let recorder = Recorder::new(queue, config, metrics, TaskTracker::new(), gate);
    Fixture {
        home,
        store,
        recorder,
        writer,
    }
}

async fn fresh(home: Home) -> Fixture {
    open(home, Content::Prompts).await
}

impl Fixture {
    async fn start(&self, started: Started) {
        self.recorder.start(started).await.unwrap();
    }

    async fn end(&self, ended: Ended) {
        self.recorder.end(ended).unwrap().await.unwrap();
    }

    async fn close(self) -> Home {
        drop(self.recorder);
        let writer = self.writer;
        tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
        self.home
    }
}

fn started(user: &str, session: Option<&str>, prompt: &str) -> Started {
    Started {
        id: Uuid::now_v7(),
        request_id: Uuid::now_v7(),
        connect_id: None,
        user: Arc::from(user),
        provider: Arc::from("openai"),
        kind: "openai".into(),
        api: Api::ChatCompletions,
        model: Some("gpt-5.5".to_owned()),
        client: "Codex".into(),
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

async fn what_is_recorded_can_be_read(home: Home) {
    let fixture = fresh(home).await;
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

async fn costs_add_up_and_gaps_are_counted(home: Home) {
    let fixture = fresh(home).await;
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
}

async fn no_report_of_an_upstream_makes_a_session_unreadable(home: Home) {
    let fixture = fresh(home).await;
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
}

async fn an_event_that_comes_twice_counts_once(home: Home) {
    let fixture = fresh(home).await;
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

async fn a_call_that_was_answered_elsewhere_is_recorded_there(home: Home) {
    let fixture = fresh(home).await;
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
    let filter = Filter {
        provider: vec!["backup".to_owned()],
        ..Filter::default()
    };
    let (rows, _) = fixture.store.interceptions(filter.clone(), PAGE).await.unwrap();
    let (sessions, _) = fixture.store.sessions(filter, PAGE).await.unwrap();
    assert_eq!((rows.len(), sessions.len()), (1, 1));
    assert_eq!(sessions[0].providers, ["backup", "openai"]);
    assert_eq!(faults(&fixture.store, Vec::new()).await, []);
}

async fn tool_results_chain_requests_into_a_thread(home: Home) {
    let fixture = fresh(home).await;
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

async fn users_with_the_same_session_id_stay_apart(home: Home) {
    let fixture = fresh(home).await;
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

async fn pages_neither_skip_nor_repeat(home: Home) {
    let fixture = fresh(home).await;
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

async fn filters_hold_together(home: Home) {
    let fixture = fresh(home).await;
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

async fn what_a_dead_process_left_open_is_aborted(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", None, "x");
    let id = start.id;
    fixture.start(start).await;
    let home = fixture.close().await;
    let again = open(home, Content::Prompts).await;
    assert_eq!(
        again.aborted(id).await.error_kind.as_deref(),
        Some("gateway_stopped")
    );
}

async fn metadata_only_keeps_no_text(home: Home) {
    let fixture = open(home, Content::Metadata).await;
    let start = started("ann", Some("s"), "planted-prompt");
    let id = start.id;
    fixture.start(start).await;
    let mut end = ended(id);
    end.facts.as_mut().unwrap().tool_calls = vec![call("call_1")];
    fixture.end(end).await;
    let home = fixture.close().await;
    let row = again(&home).await.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.prompt, row.tool_calls[0].arguments.as_str()), (None, ""));
    for bytes in home.files() {
        for planted in [&b"planted-prompt"[..], b"secret"] {
            assert!(!bytes.windows(planted.len()).any(|window| window == planted));
        }
    }
}

async fn tokens_are_found_by_hash_and_never_stored(home: Home) {
    let fixture = fresh(home).await;
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
    let home = fixture.close().await;
    for bytes in home.files() {
        let secret = secret.expose().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

/// The store of a home, without a writer.
async fn again(home: &Home) -> Store {
    let config = StoreConfig {
        location: home.location.clone(),
        extra_ca: Vec::new(),
    };
    Store::open(&config).await.unwrap()
}

impl Home {
    /// The contents of the files that a database of this machine consists of.
    fn files(&self) -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.is_file())
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}

async fn an_end_may_come_before_its_start(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.end(ended(id)).await;
    assert!(fixture.store.interception(id, None).await.unwrap().is_none());
    fixture.start(start).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.outcome, row.usage.len()), (Some("completed"), 1));
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!((sessions[0].interceptions, sessions[0].usage.input), (1, 10));
}

/// Writes events as one batch, by a process of its own.
async fn write_batch(store: &Store, events: Vec<Event>) {
    let write = move |database: &mut dyn Database| {
        sql::transaction(database, |database| {
            let (instance, head) = lease::enter(database, Uuid::now_v7())?;
            write::write(database, &mut write::Memory::new(instance, head), &events)
        })
    };
    store.ask(write).await.unwrap();
}

/// The events of a thread of `length` requests, each of which answers the one before.
fn thread(length: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..length {
        let answers = (number > 0).then(|| ToolResult {
            call_id: format!("call_{}", number - 1),
            is_error: None,
        });
        let start = Started {
            tool_results: answers.into_iter().collect(),
            ..started("ann", None, "next")
        };
        let mut end = ended(start.id);
        end.facts.as_mut().unwrap().tool_calls = vec![call(&format!("call_{number}"))];
        events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
    }
    events
}

async fn a_thread_is_found_within_one_batch(home: Home) {
    let store = again(&home).await;
    let events = thread(5);
    let root = events[0].id();
    write_batch(&store, events).await;
    let found = store.session(root.to_string(), Vec::new()).await.unwrap();
    let (session, threads) = &found[0];
    assert_eq!(
        (session.interceptions, session.threads, session.tool_calls),
        (5, 1, 5)
    );
    assert_eq!(threads[0].interceptions.len(), 5);
}

async fn an_end_from_a_process_thought_dead_counts(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s"), "x");
    let id = start.id;
    fixture.start(start).await;
    let home = fixture.close().await;
    let fixture = fresh(home).await;
    let row = fixture.aborted(id).await;
    assert_eq!(row.error_kind.as_deref(), Some("gateway_stopped"));
    fixture.end(ended(id)).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.outcome, row.error_kind), (Some("completed"), None));
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!(sessions[0].usage.input, 10);
}

impl Fixture {
    /// An interception, once somebody has aborted it.
    async fn aborted(&self, id: Uuid) -> InterceptionRow {
        for _ in 0..500 {
            let row = self.store.interception(id, None).await.unwrap().unwrap();
            if row.outcome == Some("aborted") {
                return row;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it was not aborted");
    }
}

async fn a_newer_schema_is_refused(home: Home) {
    let store = again(&home).await;
    store
        .ask(|database| database.execute("UPDATE version SET number = 99 WHERE of = 'schema'", &[]))
        .await
        .unwrap();
    let config = StoreConfig {
        location: home.location.clone(),
        extra_ca: Vec::new(),
    };
    let refused = Store::open(&config).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Newer { found: 99, .. }),
        "{refused:?}"
    );
    assert!(!format!("{refused:?} {refused}").contains("hunter2"));
}

async fn odd_texts_are_kept(home: Home) {
    let fixture = fresh(home).await;
    let start = Started {
        model: Some("m".repeat(5_000)),
        prompt: Some("a\0b '; DROP TABLE session; -- \u{1F98A} ?1".to_owned()),
        session_id: Some("s\0".repeat(3_000)),
        ..started("o'brien\0", None, "")
    };
    let id = start.id;
    fixture.start(start).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(
        row.prompt.as_deref(),
        Some("a\u{fffd}b '; DROP TABLE session; -- \u{1F98A} ?1")
    );
    assert_eq!(row.user, "o'brien\u{fffd}");
    assert!(row.model.unwrap().ends_with('…'));
}

/// Some ended interceptions of two users; returns their ids.
async fn filled(fixture: &Fixture) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for number in 0..6 {
        let user = if number % 2 == 0 { "ann" } else { "bob" };
        let start = started(user, Some(user), &"planted-prompt ".repeat(40));
        let id = start.id;
        let mut end = ended(id);
        let facts = end.facts.as_mut().unwrap();
        facts.tool_calls = vec![call(&format!("call_{number}"))];
        facts.thoughts = vec![Thought {
            text: "planted-thought".to_owned(),
            source: ThoughtSource::Thinking,
        }];
        facts.output = Some("planted-output".to_owned());
        facts
            .usage
            .as_mut()
            .unwrap()
            .extra
            .insert("web_search".to_owned(), 2);
        fixture.start(start).await;
        fixture.end(end).await;
        ids.push(id);
    }
    ids
}

async fn faults(store: &Store, earlier: Vec<ChainHead>) -> Vec<Fault> {
    store.audit(earlier).await.unwrap().faults
}

async fn an_audit_names_what_was_changed(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    let checkpoint = store.chain_heads().await.unwrap();
    assert_eq!(faults(&store, checkpoint.clone()).await, []);
    fixture.start(started("ann", None, "more")).await;
    assert_eq!(faults(&store, checkpoint.clone()).await, [], "a chain may grow");

    let id = ids[2];
    let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = |hex: &str| match home_dialect(&store) {
        Dialect::Sqlite => format!("x'{hex}'"),
        Dialect::Postgres => format!("'\\x{hex}'::bytea"),
    };
    let row = blob(&hex);
    let start = Fault::Changed { id, part: "start" };
    let end = Fault::Changed { id, part: "end" };
    let cases = [
        (
            format!("UPDATE interception SET started_at = started_at + 1 WHERE id = {row}"),
            start.clone(),
        ),
        (
            format!("UPDATE interception SET status = 500 WHERE id = {row}"),
            end.clone(),
        ),
        (
            format!("UPDATE usage SET output = 1 WHERE interception = {row}"),
            end.clone(),
        ),
        (
            format!("UPDATE tool_call SET truncated = 1 WHERE interception = {row}"),
            end.clone(),
        ),
        (
            format!(
                "UPDATE thought SET body = {} WHERE interception = {row}",
                blob("0041")
            ),
            end.clone(),
        ),
        (format!("DELETE FROM output WHERE interception = {row}"), end),
        (
            format!(
                "UPDATE prompt SET body = {} WHERE interception = {row}",
                blob("0041")
            ),
            start,
        ),
        (
            format!("DELETE FROM interception WHERE id = {row}"),
            Fault::Deleted { id },
        ),
    ];
    for (change, want) in cases {
        let found = tampered(&store, change.clone(), checkpoint.clone()).await;
        assert_eq!(found, [want], "{change}");
    }
    let instance = checkpoint[0].instance;
    let gone = tampered(&store, "DELETE FROM chain WHERE n = 4".to_owned(), Vec::new()).await;
    assert!(
        gone.contains(&Fault::Missing {
            instance,
            from: 4,
            to: 4
        }),
        "{gone:?}"
    );
    let tail = "DELETE FROM chain WHERE n > 11".to_owned();
    let tail = tampered(&store, tail, checkpoint.clone()).await;
    assert!(
        tail.contains(&Fault::Missing {
            instance,
            from: 12,
            to: 13
        }),
        "{tail:?}"
    );
    assert!(
        tail.contains(&Fault::Rewritten { instance, link: 12 }),
        "{tail:?}"
    );
    let swap = "UPDATE chain SET n = CASE n WHEN 3 THEN -5 ELSE -3 END WHERE n IN (3, 5);
        UPDATE chain SET n = -n WHERE n < 0"
        .to_owned();
    assert!(tampered(&store, swap, Vec::new()).await.len() >= 2, "moved links");
    let copy = format!(
        "INSERT INTO interception (id, instance, session, who, combo, api, mode, credential, stream, started_at,
            request_bytes) SELECT {}, instance, session, who, combo, api, mode, credential, stream, started_at,
            request_bytes FROM interception WHERE id = {row}",
        blob(&"7".repeat(32))
    );
    let copy = tampered(&store, copy, Vec::new()).await;
    assert!(matches!(copy[..], [Fault::Inserted { .. }]), "{copy:?}");
}

fn home_dialect(store: &Store) -> Dialect {
    match store.0.place {
        Place::Sqlite(_) => Dialect::Sqlite,
        Place::Postgres(_) => Dialect::Postgres,
    }
}

/// What an audit finds after `change`, which is undone.
async fn tampered(store: &Store, change: String, earlier: Vec<ChainHead>) -> Vec<Fault> {
    let found = store.ask(move |database| {
        database.begin()?;
        database.script(&change)?;
        let found = audit::audit_now(database, &earlier);
        database.roll_back();
        found
    });
    found.await.unwrap().faults
}

async fn deletion_on_purpose_keeps_the_chain_whole(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    let checkpoint = store.chain_heads().await.unwrap();
    let hour = std::time::Duration::from_secs(3_600);
    let later = Clock::system().micros().plus(2 * hour);
    let content = RetentionConfig {
        content: Some(hour),
        metadata: None,
    };
    let deleted = store.clean_up(content, later).await.unwrap();
    assert_eq!((deleted.texts, deleted.interceptions), (6, 0));
    assert_eq!(
        store.clean_up(content, later).await.unwrap().texts,
        0,
        "once is enough"
    );
    let row = store.interception(ids[0], None).await.unwrap().unwrap();
    assert!(row.erased && row.prompt.is_none() && row.output.is_none());
    assert_eq!(
        (row.tool_calls.len(), row.tool_calls[0].arguments.as_str()),
        (1, "")
    );
    assert_eq!(faults(&store, checkpoint.clone()).await, []);

    let all = RetentionConfig {
        content: Some(hour),
        metadata: Some(hour),
    };
    assert_eq!(store.clean_up(all, later).await.unwrap().interceptions, 6);
    assert!(store.interception(ids[0], None).await.unwrap().is_none());
    let (sessions, _) = store.sessions(Filter::default(), PAGE).await.unwrap();
    assert!(sessions.is_empty());
    assert_eq!(faults(&store, checkpoint).await, []);
}

async fn an_erased_user_leaves_no_text(home: Home) {
    let fixture = fresh(home).await;
    let ids = filled(&fixture).await;
    let store = fixture.store.clone();
    assert_eq!(store.erase_user("nobody".to_owned()).await.unwrap(), 0);
    assert_eq!(store.erase_user("ann".to_owned()).await.unwrap(), 3);
    assert_eq!(store.erase_user("bob".to_owned()).await.unwrap(), 3);
    let row = store.interception(ids[0], None).await.unwrap().unwrap();
    assert_eq!(
        (row.prompt, row.user.as_str(), row.usage[0].output),
        (None, "ann", 5)
    );
    let (sessions, _) = store.sessions(Filter::default(), PAGE).await.unwrap();
    assert!(sessions.iter().all(|session| session.last_prompt.is_none()));
    assert_eq!(faults(&store, Vec::new()).await, []);
    store
        .clean_up(RetentionConfig::default(), Micros(0))
        .await
        .unwrap();
    let home = fixture.close().await;
    for bytes in home.files() {
        for planted in [&b"planted-thought"[..], b"planted-output", b"secret"] {
            assert!(!bytes.windows(planted.len()).any(|window| window == planted));
        }
    }
}

async fn a_clock_that_steps_back_confuses_nobody(home: Home) {
    let fixture = fresh(home).await;
    let mut ids = Vec::new();
    // Each request is an hour earlier than the one before it.
    for hour in (10..20_u64).rev() {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, hour * 3_600, 0);
        let start = Started {
            id: Uuid::new_v7(at),
            started_at: Micros(i64::try_from(hour).unwrap() * 3_600_000_000),
            ..started("ann", Some("s"), &format!("at {hour}"))
        };
        let end = Ended {
            ended_at: Micros(start.started_at.0 - 60_000_000),
            ..ended(start.id)
        };
        ids.push(start.id);
        fixture.start(start).await;
        fixture.end(end).await;
    }
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!(
        (session.interceptions, session.last_prompt.as_deref()),
        (10, Some("at 19"))
    );
    assert!(session.started_at.contains("T10:00") && session.last_active_at.contains("T19:00"));
    let (rows, _) = fixture
        .store
        .interceptions(Filter::default(), PAGE)
        .await
        .unwrap();
    assert_eq!(
        rows.iter().map(|row| row.id).collect::<Vec<_>>(),
        ids,
        "latest first"
    );
    assert_eq!(faults(&fixture.store, Vec::new()).await, []);
}

async fn sums_do_not_depend_on_the_order_of_events(home: Home) {
    let store = again(&home).await;
    let mut sums = Vec::new();
    for turn in 0..4 {
        let user = format!("user {turn}");
        let mut events = Vec::new();
        for number in 0..5 {
            let start = Started {
                started_at: Micros(1_000_000 * (number + 1)),
                ..started(&user, Some("s"), &format!("prompt {number}"))
            };
            let end = ended(start.id);
            events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
        }
        match turn {
            0 => {}
            1 => events.reverse(),
            2 => events.rotate_left(3),
            _ => events.sort_by_key(|event| matches!(event, Event::Start(_))),
        }
        // In batches of three, by different processes.
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(3));
            write_batch(&store, std::mem::replace(&mut events, rest)).await;
        }
        let filter = Filter {
            user: vec![user],
            ..Filter::default()
        };
        let session = store.sessions(filter, PAGE).await.unwrap().0.remove(0);
        let shown = serde_json::to_value(&session).unwrap();
        let counts = [
            "interceptions",
            "usage",
            "cost_micros",
            "started_at",
            "last_active_at",
            "last_prompt",
        ];
        sums.push(counts.map(|name| shown[name].clone()));
    }
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    assert_eq!(faults(&store, Vec::new()).await, []);
}

/// Every combination of filters: user, client, provider, model, session, status.
fn filters() -> impl Iterator<Item = Filter> {
    let word = |is_set: bool, word: &str| if is_set { vec![word.to_owned()] } else { Vec::new() };
    (0..64_u32).map(move |bits| {
        let is_set = |bit: u32| bits & (1 << bit) != 0;
        Filter {
            user: word(is_set(0), "ann"),
            client: word(is_set(1), "Codex"),
            provider: word(is_set(2), "openai"),
            model: word(is_set(3), "gpt-5.5"),
            session: word(is_set(4), "s1"),
            status: is_set(5)
                .then_some(Status::Ended(Outcome::Failed))
                .into_iter()
                .collect(),
            ..Filter::default()
        }
    })
}

async fn every_list_is_read_by_an_index(home: Home) {
    let store = again(&home).await;
    let mut events = Vec::new();
    for number in 0..2_000 {
        let start = Started {
            client: format!("client {}", number % 12).into(),
            model: Some(format!("model {}", number % 30)),
            ..started(&format!("user {}", number % 40), Some(&format!("s{number}")), "x")
        };
        let end = ended(start.id);
        events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
    }
    write_batch(&store, events).await;
    let plans = store.ask(|database| {
        let (dialect, explain) = match database.dialect() {
            Dialect::Sqlite => (Dialect::Sqlite, "EXPLAIN QUERY PLAN"),
            Dialect::Postgres => (Dialect::Postgres, "EXPLAIN"),
        };
        if dialect == Dialect::Postgres {
            // A table of a few pages is read whole whatever there is; this asks what a large one would get.
            database.script("ANALYZE; SET enable_seqscan = off")?;
        }
        let mut plans = Vec::new();
        for filter in filters() {
            for cursor in [None, Some(Cursor(u64::MAX >> 2, 5))] {
                let page = Page { cursor, limit: 50 };
                let lists = [
                    read::page_of(dialect, &filter, page),
                    sessions::page_of(dialect, &filter, page),
                ];
                for (sql, question) in lists {
                    let rows = database.query(&format!("{explain} {sql}"), &question.values)?;
                    plans.push((sql, rows));
                }
            }
        }
        Ok(plans)
    });
    for (sql, plan) in plans.await.unwrap() {
        let text = format!("{plan:?}");
        for table in ["interception", "session", "session_combo"] {
            // A list without filters is a walk along its index; a walk without one reads the table.
            let scans = [format!("Seq Scan on {table} "), format!("SCAN {table}\"")];
            assert!(!scans.iter().any(|scan| text.contains(scan)), "{sql}\n{text}");
        }
        // The whole list in the order of its key is a walk that ends with the page.
        let aliases = if plan.len() == 1 {
            &["i", "f", "s"][..]
        } else {
            &["x", "i", "f", "s"]
        };
        for alias in aliases {
            let line = |row: &sql::Row| format!("{row:?}");
            let is_walk = |line: &String| line.contains(&format!("\"SCAN {alias}\""));
            assert!(!plan.iter().map(line).any(|line| is_walk(&line)), "{sql}\n{text}");
        }
    }
}
