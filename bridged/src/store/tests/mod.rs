//! The store as requests and readers use it, on both databases: events in, pages out.
//!
//! Here is what all tests share.

use std::sync::Arc;

use providers::{
    Api, ReplyFacts, Thought, ThoughtSource, ToolCall, ToolKind, ToolResult, Usage, UsageSource,
};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

mod audits;
mod budgets;
mod days;
mod feed;
mod finding;
mod lists;
mod news;
mod order;
mod pace;
mod records;
mod rest;
mod sinks;
mod usage;

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
    ($($module:ident: $($name:ident)+;)+) => {
        mod on_sqlite {$($(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$module::$name(super::Kind::Sqlite.home().unwrap()).await;
            }
        )+)+}
        mod on_postgres {$($(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(home) = super::Kind::Postgres.home() {
                    super::$module::$name(home).await;
                }
            }
        )+)+}
    };
}

on_both! {
    records:
        what_is_recorded_can_be_read
        costs_add_up_and_gaps_are_counted
        no_report_of_an_upstream_makes_a_session_unreadable
        a_call_that_was_answered_elsewhere_is_recorded_there
        metadata_only_keeps_no_text
        tokens_are_found_by_hash_and_never_stored
        a_newer_schema_is_refused
        odd_texts_are_kept
    ;
    order:
        an_event_that_comes_twice_counts_once
        an_end_may_come_before_its_start
        tool_results_chain_requests_into_a_thread
        a_thread_is_found_within_one_batch
        what_a_dead_process_left_open_is_aborted
        an_end_from_a_process_thought_dead_counts
        an_end_is_looked_up_also_in_a_list_that_seems_to_be_empty
        a_clock_that_steps_back_confuses_nobody
        sums_do_not_depend_on_the_order_of_events
    ;
    lists:
        users_with_the_same_session_id_stay_apart
        pages_neither_skip_nor_repeat
        filters_hold_together
        every_list_is_read_by_an_index
        every_filter_finds_what_a_look_at_each_row_finds
    ;
    days:
        days_are_summed_up_as_a_scan_would
        a_span_ends_where_its_days_do
    ;
    usage:
        usage_adds_up_however_it_is_told_apart
        users_and_words_have_pages
        words_of_a_period_are_summed_up_as_its_days_are
        what_was_taken_back_is_no_use
        usage_is_read_by_an_index
    ;
    budgets:
        sums_of_budgets_add_up_over_processes
        the_last_use_of_a_token_never_goes_back
    ;
    feed:
        a_reader_goes_on_where_it_stopped
        a_feed_tells_only_what_was_asked_for
        readers_hear_of_a_commit_at_once
        an_interception_that_was_given_up_is_told_of_again
        a_warning_is_given_once_by_whoever_is_first
    ;
    sinks:
        a_new_sink_begins_with_what_comes
        a_new_sink_gets_what_waited_for_the_store
        the_chain_of_a_dead_process_is_taken_over_by_one
        a_process_gets_its_own_chain_back
    ;
    news:
        changes_are_told_to_who_listens
    ;
    audits:
        an_audit_names_what_was_changed
        an_audit_names_what_is_missing_or_moved
        deletion_on_purpose_keeps_the_chain_whole
        a_retention_that_is_set_while_the_writer_runs_is_kept
        an_erased_user_leaves_no_text
    ;
    finding:
        search_finds_what_reading_everything_finds
        a_rare_word_among_frequent_ones_is_found_everywhere
        no_document_of_a_long_list_is_passed_over
        what_is_erased_is_nowhere_in_the_index
        no_search_shows_what_the_index_still_has_of_erased_texts
        what_is_on_record_is_found_at_once_and_indexed_by_itself
        what_is_new_is_indexed_while_segments_are_made_anew
        a_search_that_cannot_find_everything_says_so
        one_works_on_the_index_at_a_time
        small_segments_are_merged_beside_work_on_a_large_one
        long_work_on_the_index_is_left_when_somebody_waits_for_it
        no_search_reads_a_whole_table
    ;
}

/// A store with its writer; `close` waits until everything is written.
struct Fixture {
    home: Home,
    store: Store,
    recorder: Recorder,
    bounds: watch::Sender<Bounds>,
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
    let (bounds, seen) = watch::channel(Bounds {
        retention: RetentionConfig::default(),
        spool_max: config.spool_max,
    });
    let writing = WriterConfig {
        spool: home.folder.path().join("spool"),
        bounds: seen,
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
        bounds,
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
        credential_fingerprint: Some("0123456789abcdef".to_owned()),
        credential_plan: Some("pro".to_owned()),
        credential_account: None,
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
