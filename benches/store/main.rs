//! How fast are records written, and how fast is a page of them read when there are a million?
//!
//! Fills a database through the writer, as requests do (strict durability), with 0.7 sessions an interception, 40
//! users, 30 models and 12 clients, prompts of 2 KiB of 20,000 made-up words; then asks for pages as the API does.
//! Prints interceptions a second, bytes an interception, the wait for one commit, and the median and 95th percentile
//! of each question.
//! `cargo bench --bench store`; `CAUSEWAY_BENCH_ROWS=10000000` for more, `CAUSEWAY_BENCH_STORE=postgres` for a server
//! that the bench starts itself, or the URL of an empty database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod made;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod words;

use std::time::{Duration, Instant};

use bridged::clock::{Clock, Micros};
use bridged::config::{PostgresUrl, RetentionConfig, StoreConfig, StoreLocation, WhenFull};
use bridged::metrics::Metrics;
use bridged::record::Outcome;
use bridged::record::{Event, Gate, Job, QUEUE};
use bridged::store::{Bounds, Dimension, Filter, Page, Query, Status, Store, Writer, WriterConfig};
use made::{Maker, client, model, user};
use tokio::sync::{mpsc, oneshot, watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // `cargo test --benches` only checks that it builds and starts.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let asked = std::env::var("CAUSEWAY_BENCH_ROWS").ok();
    let rows = asked.map_or(1_000_000, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(if is_test { 100 } else { rows }));
}

async fn run(rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let asked = std::env::var("CAUSEWAY_BENCH_STORE").ok();
    let server = match asked.as_deref() {
        Some("postgres") => postgres::Postgres::start(),
        _ => None,
    };
    let url = server.as_ref().map(|server| server.database("bench"));
    let location = match url.or(asked.filter(|asked| asked.contains("://"))) {
        Some(url) => StoreLocation::Postgres(PostgresUrl::parse(&url).unwrap()),
        None => StoreLocation::Sqlite(folder.path().join("bench.db")),
    };
    let store = Store::open(&StoreConfig {
        location,
        extra_ca: Vec::new(),
    })
    .await
    .unwrap();
    let (queue, jobs) = mpsc::channel(QUEUE);
    let (_, bounds) = watch::channel(Bounds {
        retention: RetentionConfig::default(),
        spool_max: 1 << 30,
    });
    let writing = WriterConfig {
        spool: folder.path().join("spool"),
        bounds,
    };
    let metrics = Metrics::new().unwrap();
    let writer = Writer::start(
        &store,
        jobs,
        &writing,
        (metrics.record.clone(), Gate::default()),
        &Clock::system(),
    )
    .unwrap();
    let mut maker = Maker::new(rows);
    write(&queue, &mut maker, rows).await;
    size(&store, folder.path(), rows).await;
    commits(&queue, &mut maker).await;
    index(&metrics, rows).await;
    size(&store, folder.path(), rows).await;
    commits(&queue, &mut maker).await;
    read(&store, &maker).await;
    search(&store, &maker).await;
    audit(&store).await;
    queue.send(Job::Stop).await.unwrap();
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
}

async fn write(queue: &mpsc::Sender<Job>, maker: &mut Maker, rows: u64) {
    let began = Instant::now();
    for _ in 0..rows {
        let (started, ended) = maker.next();
        for event in [Event::Start(Box::new(started)), Event::End(Box::new(ended))] {
            queue
                .send(Job::Write {
                    event,
                    committed: None,
                    when_full: WhenFull::Refuse,
                })
                .await
                .unwrap();
        }
    }
    commit(queue, maker).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("written        {:>10.0} interceptions/s", rows as f64 / seconds);
}

/// Writes one start and waits until it is committed.
async fn commit(queue: &mpsc::Sender<Job>, maker: &mut Maker) {
    let (started, _) = maker.next();
    let (committed, wait) = oneshot::channel();
    let job = Job::Write {
        event: Event::Start(Box::new(started)),
        committed: Some(committed),
        when_full: WhenFull::Refuse,
    };
    queue.send(job).await.unwrap();
    wait.await.unwrap();
}

async fn size(store: &Store, folder: &std::path::Path, rows: u64) {
    let bytes = match store.bytes().await.unwrap() {
        Some(bytes) => bytes,
        None => std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap())
            .filter(std::fs::Metadata::is_file)
            .map(|metadata| metadata.len())
            .sum(),
    };
    println!("stored         {:>10} bytes an interception", bytes / rows);
}

async fn commits(queue: &mpsc::Sender<Job>, maker: &mut Maker) {
    let mut spans = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        commit(queue, maker).await;
        spans.push(began.elapsed());
    }
    print("one commit", spans);
}

/// A question by its name: sessions or interceptions, and which filters it has.
const QUESTIONS: [(&str, bool, [bool; 4]); 12] = [
    ("sessions", true, [false, false, false, false]),
    ("sessions of a user", true, [true, false, false, false]),
    ("sessions with a client", true, [false, true, false, false]),
    ("sessions with a provider", true, [false, false, true, false]),
    ("sessions with a model", true, [false, false, false, true]),
    ("sessions: user, model", true, [true, false, false, true]),
    ("sessions: client, model", true, [false, true, false, true]),
    ("sessions: user, client, model", true, [true, true, false, true]),
    ("interceptions", false, [false, false, false, false]),
    ("interceptions of a user", false, [true, false, false, false]),
    ("interceptions with a model", false, [false, false, false, true]),
    (
        "interceptions: user, client, model",
        false,
        [true, true, false, true],
    ),
];

async fn read(store: &Store, maker: &Maker) {
    for (name, is_sessions, with) in QUESTIONS {
        let mut spans = Vec::new();
        for turn in 0..100 {
            let word = |wanted: bool, word: String| if wanted { vec![word] } else { Vec::new() };
            let filter = Filter {
                user: word(with[0], user(turn * 7)),
                client: word(with[1], client(turn * 5).to_owned()),
                provider: word(with[2], made::provider(turn).to_owned()),
                model: word(with[3], model(turn * 3)),
                ..Filter::default()
            };
            spans.push(page(store, filter, is_sessions).await);
        }
        print(name, spans);
    }
    let mut spans = Vec::new();
    for turn in 0..100 {
        let id = maker.session(turn * 31);
        let began = Instant::now();
        assert!(!store.session(id, Vec::new()).await.unwrap().is_empty());
        spans.push(began.elapsed());
    }
    print("one session", spans);
    counts(store, maker).await;
}

/// A question about counts: what is asked, and of how many of the latest days (none: of all).
const COUNTS: [(&str, Count, Option<i64>); 8] = [
    ("usage by day", Count::Usage(&[]), None),
    ("usage by day of 30 days", Count::Usage(&[]), Some(30)),
    ("usage by day and user", Count::Usage(&[Dimension::User]), None),
    ("usage by day and all", Count::Usage(&Dimension::ALL), None),
    ("seats of 30 days", Count::Seats, Some(30)),
    ("seats", Count::Seats, None),
    ("clients of 30 days", Count::Facets(Dimension::Client), Some(30)),
    ("models", Count::Facets(Dimension::Model), None),
];

#[derive(Clone, Copy)]
enum Count {
    Usage(&'static [Dimension]),
    Seats,
    Facets(Dimension),
}

async fn counts(store: &Store, maker: &Maker) {
    for (name, count, days) in COUNTS {
        let mut spans = Vec::new();
        for turn in 0..20 {
            let filter = Filter {
                after: days.map(|days| Micros(maker.date() - days * 86_400_000_000)),
                ..Filter::default()
            };
            let page = Page {
                cursor: None,
                limit: 50,
            };
            let began = Instant::now();
            let found = match count {
                Count::Usage(by) => store.usage(filter, by.to_vec(), page).await.unwrap().0.len(),
                Count::Seats => store.seats(filter, page).await.unwrap().0.len(),
                Count::Facets(of) => store.facets(filter, of, page).await.unwrap().0.len(),
            };
            spans.push(began.elapsed());
            assert!(found > 0, "{name}, {turn}");
        }
        print(name, spans);
    }
    let mut spans = Vec::new();
    for turn in 0..20 {
        let filter = Filter {
            user: vec![user(turn)],
            model: vec![model(turn)],
            ..Filter::default()
        };
        let page = Page {
            cursor: None,
            limit: 50,
        };
        let began = Instant::now();
        store.usage(filter, vec![Dimension::Client], page).await.unwrap();
        spans.push(began.elapsed());
    }
    print("usage by client: user, model", spans);
}

/// Waits until the search index has everything.
async fn index(metrics: &Metrics, rows: u64) {
    let began = Instant::now();
    let behind = || {
        let text = metrics.render();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("causeway_records_unindexed "));
        line.map_or(1.0, |number| number.parse::<f64>().unwrap())
    };
    let at_first = behind();
    while behind() > 0.0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Segments that are merged at last.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "indexed        {:>10.0} interceptions/s, of {rows} {:.0} after the last was written",
        at_first / 2.0 / seconds,
        at_first / 2.0
    );
}

/// Words by their rank in the vocabulary: in every prompt, in every tenth, in one of three hundred; and a name that
/// is in one of millions.
const SEARCHED: [(&str, &[usize]); 5] = [
    ("every prompt", &[2]),
    ("every tenth", &[300]),
    ("a rare one", &[12_000]),
    ("frequent, rare", &[3, 12_000]),
    ("five words", &[1, 4, 20, 100, 300]),
];

/// A question by its name: whether it is of sessions, and which filters it has: user, client, provider, model,
/// status, dates.
const FILTERED: [(&str, bool, [bool; 6]); 10] = [
    ("", false, [false; 6]),
    ("sessions", true, [false; 6]),
    ("user", false, [true, false, false, false, false, false]),
    ("client", false, [false, true, false, false, false, false]),
    ("provider", false, [false, false, true, false, false, false]),
    ("model", false, [false, false, false, true, false, false]),
    ("status", false, [false, false, false, false, true, false]),
    ("dates", false, [false, false, false, false, false, true]),
    (
        "user, client, model",
        false,
        [true, true, false, true, false, false],
    ),
    ("all", false, [true; 6]),
];

async fn search(store: &Store, maker: &Maker) {
    for (words, ranks) in SEARCHED {
        for (filters, is_sessions, with) in FILTERED {
            let mut spans = Vec::new();
            for turn in 0..50 {
                let text: Vec<&str> = ranks
                    .iter()
                    .map(|rank| maker.word(rank + turn as usize % 7))
                    .collect();
                let word = |wanted: bool, word: String| if wanted { vec![word] } else { Vec::new() };
                let filter = Filter {
                    user: word(with[0], user(turn * 7)),
                    client: word(with[1], client(turn * 5).to_owned()),
                    provider: word(with[2], made::provider(turn).to_owned()),
                    model: word(with[3], model(turn * 3)),
                    status: with[4]
                        .then_some(Status::Ended(Outcome::Failed))
                        .into_iter()
                        .collect(),
                    after: with[5].then(|| maker.date_of(30 + turn % 20)),
                    before: with[5].then(|| maker.date_of(60 + turn % 20)),
                    query: Some(Query::parse(&text.join(" ")).unwrap()),
                    ..Filter::default()
                };
                spans.push(page(store, filter, is_sessions).await);
            }
            print(&format!("{words}: {filters}"), spans);
        }
    }
    for (name, text) in [
        ("a name of two words", maker.name()),
        ("a beginning", format!("{}*", maker.word(5_000))),
    ] {
        let mut spans = Vec::new();
        for _ in 0..50 {
            let filter = Filter {
                query: Some(Query::parse(&text).unwrap()),
                ..Filter::default()
            };
            spans.push(page(store, filter, false).await);
        }
        print(name, spans);
    }
}

async fn page(store: &Store, filter: Filter, is_sessions: bool) -> Duration {
    let page = Page {
        cursor: None,
        limit: 50,
    };
    let began = Instant::now();
    if is_sessions {
        store.sessions(filter, page).await.unwrap();
    } else {
        store.interceptions(filter, page).await.unwrap();
    }
    began.elapsed()
}

async fn audit(store: &Store) {
    let began = Instant::now();
    let audit = store.audit(Vec::new()).await.unwrap();
    assert_eq!(audit.count, 0, "{:?}", audit.faults);
    let speed = audit.links as f64 / began.elapsed().as_secs_f64();
    println!("audited        {speed:>10.0} links/s");
}

fn print(name: &str, mut spans: Vec<Duration>) {
    spans.sort_unstable();
    let at = |part: usize| spans[spans.len() * part / 100].as_secs_f64() * 1_000.0;
    println!("{name:<36} p50 {:>8.2} ms   p95 {:>8.2} ms", at(50), at(95));
}
