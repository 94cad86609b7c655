//! How fast are records written, and how fast is a page of them read when there are a million?
//!
//! Fills a database through the writer, as requests do (strict durability), and asks for pages as the API does. The
//! records are spread as those of a company are: 0.7 sessions an interception; 40 users with one to three of 12 clients
//! and two to four of 30 models each, some of whom ask sixteen times as much as others, and who now and then try
//! something else; a million in 60 days, ten million in 400; prompts of 2 KiB of 20,000 words that are as frequent as
//! those of a language. Prints interceptions a second, bytes an interception, the wait for one commit, and a table with
//! the median and 95th percentile of each question and the rows that it found on average.
//!
//! `cargo bench --bench store`; `CAUSEWAY_BENCH_ROWS=10000000` for more. `CAUSEWAY_BENCH_STORE=postgres` for a server
//! that the bench starts itself; the path of an SQLite file or the URL of a database for one that stays: it is filled
//! where it is not full yet, so that the next run measures questions only. `-- seats "of a user"` asks only what is
//! named so; `-- commits` tells instead how long each of 60,000 commits one after the other is waited for. Memory does
//! not grow with the rows; a million takes 3 GB of disk.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod ask;
mod made;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod words;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ask::Asker;
use bridged::clock::Clock;
use bridged::config::{PostgresUrl, RetentionConfig, StoreConfig, StoreLocation, WhenFull};
use bridged::metrics::Metrics;
use bridged::record::{Event, Gate, Job, QUEUE};
use bridged::store::{Bounds, Dimension, Filter, Page, Store, Writer, WriterConfig};
use made::Maker;
use tokio::sync::{mpsc, oneshot, watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commits that are waited for beside the filling.
const COMMITS: usize = 300;
/// Groups of commits where only they are asked for, and commits of each: in it the log of an SQLite file is worked off
/// many times.
const GROUPS: usize = 3;
const MANY_COMMITS: usize = 20_000;
/// Interceptions after which is seen whether the store keeps up.
const PACE: u64 = 4_096;

fn main() {
    let (options, only): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    // `cargo test --benches` only checks that it builds and starts.
    let is_test = options.iter().any(|option| option == "--test");
    let asked = std::env::var("CAUSEWAY_BENCH_ROWS").ok();
    let rows = asked.map_or(1_000_000, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(if is_test { 100 } else { rows }, only));
}

/// Where records are kept: the SQLite file, if it is one.
struct Place {
    location: StoreLocation,
    file: Option<PathBuf>,
}

impl Place {
    fn new(asked: Option<String>, folder: &Path, server: Option<&postgres::Postgres>) -> Place {
        let url = server.map(|server| server.database("bench"));
        if let Some(url) = url.or(asked.clone().filter(|asked| asked.contains("://"))) {
            return Place {
                location: StoreLocation::Postgres(PostgresUrl::parse(&url).unwrap()),
                file: None,
            };
        }
        let file = asked.map_or_else(|| folder.join("bench.db"), PathBuf::from);
        Place {
            location: StoreLocation::Sqlite(file.clone()),
            file: Some(file),
        }
    }
}

async fn run(rows: u64, only: Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let asked = std::env::var("CAUSEWAY_BENCH_STORE").ok();
    let server = match asked.as_deref() {
        Some("postgres") => postgres::Postgres::start(),
        _ => None,
    };
    let asked = asked.filter(|asked| asked != "postgres");
    let Place { location, file } = Place::new(asked, folder.path(), server.as_ref());
    let store = Store::open(&StoreConfig {
        location,
        extra_ca: Vec::new(),
    })
    .await
    .unwrap();
    let had = ended(&store).await;
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
    let mut maker = Maker::new(rows, had.min(rows));
    let only_commits = had >= rows && only.iter().any(|name| name == "commits");
    if only_commits {
        many_commits(&queue, &mut Maker::new(rows, had)).await;
    } else if had < rows {
        write(&queue, &mut maker, &metrics, rows - had).await;
        size(&store, file.as_deref(), rows).await;
        commits(&queue, &mut maker).await;
        index(&metrics, rows).await;
        commits(&queue, &mut maker).await;
    } else {
        index(&metrics, rows).await;
    }
    size(&store, file.as_deref(), rows).await;
    let asker = Asker {
        store: &store,
        maker: &maker,
        only,
    };
    asker.ask().await;
    if asker.is_wanted("audit") {
        audit(&store).await;
    }
    queue.send(Job::Stop).await.unwrap();
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
}

/// How many interceptions a database has that have ended.
async fn ended(store: &Store) -> u64 {
    let page = Page {
        cursor: None,
        limit: 1_000,
    };
    let users = store
        .facets(Filter::default(), Dimension::User, page)
        .await
        .unwrap();
    let sum: i64 = users.0.iter().map(|user| user.totals.interceptions).sum();
    u64::try_from(sum).unwrap()
}

async fn write(queue: &mpsc::Sender<Job>, maker: &mut Maker, metrics: &Metrics, rows: u64) {
    let began = Instant::now();
    for row in 0..rows {
        if row % PACE == 0 {
            stored(metrics).await;
        }
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
    stored(metrics).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("written        {:>10.0} interceptions/s", rows as f64 / seconds);
}

/// Waits until nothing is in the spool, where records go when the store is slow for a moment.
async fn stored(metrics: &Metrics) {
    while gauge(metrics, "causeway_spool_bytes") > 0.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn gauge(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.render();
    let mut lines = text.lines();
    let number = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number.map_or(0.0, |number| number.parse().unwrap())
}

/// Writes one start and waits until it is committed; returns how long that took.
async fn commit(queue: &mpsc::Sender<Job>, maker: &mut Maker) -> Duration {
    let (started, _) = maker.next();
    commit_event(queue, Event::Start(Box::new(started))).await
}

async fn commit_event(queue: &mpsc::Sender<Job>, event: Event) -> Duration {
    let began = Instant::now();
    let (committed, wait) = oneshot::channel();
    let job = Job::Write {
        event,
        committed: Some(committed),
        when_full: WhenFull::Refuse,
    };
    queue.send(job).await.unwrap();
    wait.await.unwrap();
    began.elapsed()
}

async fn size(store: &Store, file: Option<&Path>, rows: u64) {
    let bytes = match file {
        Some(file) => ["", "-wal"]
            .iter()
            .filter_map(|end| std::fs::metadata(format!("{}{end}", file.display())).ok())
            .map(|metadata| metadata.len())
            .sum(),
        None => store.bytes().await.unwrap().unwrap(),
    };
    println!("stored         {:>10} bytes an interception", bytes / rows);
}

async fn commits(queue: &mpsc::Sender<Job>, maker: &mut Maker) {
    let mut spans = Vec::new();
    for _ in 0..COMMITS {
        spans.push(commit(queue, maker).await);
    }
    tell(spans);
}

/// Waits for many commits, of whole interceptions that are not there yet.
async fn many_commits(queue: &mpsc::Sender<Job>, maker: &mut Maker) {
    for _ in 0..GROUPS {
        let mut spans = Vec::new();
        while spans.len() < MANY_COMMITS {
            let (started, ended) = maker.next();
            for event in [Event::Start(Box::new(started)), Event::End(Box::new(ended))] {
                spans.push(commit_event(queue, event).await);
            }
        }
        tell(spans);
    }
}

fn tell(mut spans: Vec<Duration>) {
    spans.sort_unstable();
    let at = |thousandths| ask::percentile(&spans, thousandths);
    println!(
        "one commit     {:>10.2} ms, 95th percentile {:.2}, 99th {:.2}, 99.9th {:.2}, longest {:.2}",
        at(500),
        at(950),
        at(990),
        at(999),
        at(1_000)
    );
}

/// Waits until the search index has everything.
async fn index(metrics: &Metrics, rows: u64) {
    let began = Instant::now();
    let behind = || gauge(metrics, "causeway_records_unindexed");
    // The first look.
    tokio::time::sleep(Duration::from_secs(2)).await;
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

async fn audit(store: &Store) {
    let began = Instant::now();
    let audit = store.audit(Vec::new()).await.unwrap();
    assert_eq!(audit.count, 0, "{:?}", audit.faults);
    let speed = audit.links as f64 / began.elapsed().as_secs_f64();
    println!("audited        {speed:>10.0} links/s");
}
