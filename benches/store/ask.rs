//! The questions that are asked of the records, and how long their answers take.

use std::time::{Duration, Instant};

use bridged::clock::Micros;
use bridged::record::Outcome;
use bridged::store::{Dimension, Filter, Page, Query, Status, Store};

use crate::made::{Habit, Maker};

/// Rows on a page.
const LIMIT: u32 = 50;

/// Asks one kind of question after the other.
pub(crate) struct Asker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) maker: &'a Maker,
    /// Parts of the names of what is asked; all is asked where there are none.
    pub(crate) only: Vec<String>,
}

impl Asker<'_> {
    /// Asks everything that is wanted; prints a table.
    pub(crate) async fn ask(&self) {
        println!("\n| question | p50 ms | p95 ms | rows |\n|---|---:|---:|---:|");
        self.lists().await;
        self.counts().await;
        self.search().await;
        println!();
    }

    /// Whether a name is among what is asked.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Asks one question so many times; `ask` gives the number of rows.
    async fn measure(&self, name: &str, turns: u64, mut ask: impl AsyncFnMut(u64) -> usize) {
        if !self.is_wanted(name) {
            return;
        }
        let (mut spans, mut rows) = (Vec::new(), 0);
        for turn in 0..turns {
            let began = Instant::now();
            rows += ask(turn).await;
            spans.push(began.elapsed());
        }
        let (median, late) = percentiles(spans);
        println!(
            "| {name} | {median:.1} | {late:.1} | {:.0} |",
            rows as f64 / turns as f64
        );
    }

    async fn list(&self, filter: Filter, is_of_sessions: bool) -> usize {
        if is_of_sessions {
            self.store.sessions(filter, first()).await.unwrap().0.len()
        } else {
            self.store.interceptions(filter, first()).await.unwrap().0.len()
        }
    }

    async fn lists(&self) {
        for (name, is_of_sessions, with) in LISTS {
            let list = async |turn| self.list(self.filter(with, turn), is_of_sessions).await;
            self.measure(name, 100, list).await;
        }
        let session = async |turn: u64| {
            let id = self.maker.session(turn * 31_337);
            self.store.session(id, Vec::new()).await.unwrap().len()
        };
        self.measure("one session", 100, session).await;
    }

    async fn counts(&self) {
        for (name, count, days) in COUNTS {
            let count = async |_| {
                let filter = Filter {
                    after: days.map(|days| Micros(Maker::end() - days * 86_400_000_000)),
                    ..Filter::default()
                };
                self.count(filter, count).await
            };
            self.measure(name, 40, count).await;
        }
        let by_client = async |turn| {
            let filter = self.filter([true, false, false, true, false, false], turn);
            self.count(filter, Count::Usage(&[Dimension::Client])).await
        };
        self.measure("usage by client: user, model", 40, by_client).await;
        let of_model = async |turn| {
            let filter = self.filter([false, false, false, true, false, false], turn);
            self.count(filter, Count::Facets(Dimension::User)).await
        };
        self.measure("users with a model", 40, of_model).await;
        let own = async |turn| {
            let filter = self.filter([true, false, false, false, false, false], turn);
            self.count(filter, Count::Facets(Dimension::Model)).await
        };
        self.measure("models of a user", 40, own).await;
    }

    async fn count(&self, filter: Filter, count: Count) -> usize {
        let page = Page {
            cursor: None,
            limit: LIMIT,
        };
        match count {
            Count::Usage(by) => self.store.usage(filter, by.to_vec(), page).await.unwrap().0.len(),
            Count::Seats => self.store.seats(filter, page).await.unwrap().0.len(),
            Count::Facets(of) => self.store.facets(filter, of, page).await.unwrap().0.len(),
        }
    }

    async fn search(&self) {
        for (words, ranks) in SEARCHED {
            for (filters, is_of_sessions, with) in FILTERED {
                let find = async |turn| {
                    let text: Vec<&str> = ranks
                        .iter()
                        .map(|rank| self.maker.word(rank + turn as usize % 7))
                        .collect();
                    let filter = Filter {
                        query: Some(Query::parse(&text.join(" ")).unwrap()),
                        ..self.filter(with, turn)
                    };
                    self.list(filter, is_of_sessions).await
                };
                self.measure(&format!("search {words}{filters}"), 50, find).await;
            }
        }
        for (name, text) in [
            ("search a frequent name of two words", self.maker.name(20, 60)),
            ("search a name of two words", self.maker.name(700, 1_400)),
            ("search a rare name of two words", self.maker.name(9_000, 11_000)),
            (
                "search two words in a row",
                format!("\"{} {}\"", self.maker.word(200), self.maker.word(400)),
            ),
            ("search a beginning", format!("{}*", self.maker.word(5_000))),
        ] {
            let find = async |_| {
                let filter = Filter {
                    query: Some(Query::parse(&text).unwrap()),
                    ..Filter::default()
                };
                self.list(filter, false).await
            };
            self.measure(name, 50, find).await;
        }
    }

    /// What is asked for at a turn: user, client, provider, model (of one who has these), status, dates.
    fn filter(&self, with: [bool; 6], turn: u64) -> Filter {
        let habit = Habit::new(turn * 7, turn, turn);
        let word = |wanted: bool, word: String| if wanted { vec![word] } else { Vec::new() };
        Filter {
            user: word(with[0], habit.user),
            client: word(with[1], habit.client.to_owned()),
            provider: word(with[2], habit.provider.to_owned()),
            model: word(with[3], habit.model),
            status: with[4]
                .then_some(Status::Ended(Outcome::Failed))
                .into_iter()
                .collect(),
            after: with[5].then(|| self.maker.date_of(30 + turn % 20)),
            before: with[5].then(|| self.maker.date_of(60 + turn % 20)),
            ..Filter::default()
        }
    }
}

fn first<C>() -> Page<C> {
    Page {
        cursor: None,
        limit: LIMIT,
    }
}

/// Median and 95th percentile in milliseconds.
fn percentiles(mut spans: Vec<Duration>) -> (f64, f64) {
    spans.sort_unstable();
    (percentile(&spans, 500), percentile(&spans, 950))
}

/// The span, in milliseconds, below which so many of a thousand are; they are in order.
pub(crate) fn percentile(spans: &[Duration], thousandths: usize) -> f64 {
    let place = (spans.len() * thousandths / 1_000).min(spans.len() - 1);
    spans[place].as_secs_f64() * 1_000.0
}

/// A list by its name: whether it is of sessions, and which filters it has, as in `Asker::filter`.
const LISTS: [(&str, bool, [bool; 6]); 16] = [
    ("sessions", true, [false; 6]),
    (
        "sessions of a user",
        true,
        [true, false, false, false, false, false],
    ),
    (
        "sessions with a client",
        true,
        [false, true, false, false, false, false],
    ),
    (
        "sessions with a provider",
        true,
        [false, false, true, false, false, false],
    ),
    (
        "sessions with a model",
        true,
        [false, false, false, true, false, false],
    ),
    (
        "sessions: user, client",
        true,
        [true, true, false, false, false, false],
    ),
    (
        "sessions: user, model",
        true,
        [true, false, false, true, false, false],
    ),
    (
        "sessions: client, model",
        true,
        [false, true, false, true, false, false],
    ),
    (
        "sessions: user, client, model",
        true,
        [true, true, false, true, false, false],
    ),
    (
        "sessions: client, model, dates",
        true,
        [false, true, false, true, false, true],
    ),
    ("interceptions", false, [false; 6]),
    (
        "interceptions of a user",
        false,
        [true, false, false, false, false, false],
    ),
    (
        "interceptions with a model",
        false,
        [false, false, false, true, false, false],
    ),
    (
        "interceptions that failed",
        false,
        [false, false, false, false, true, false],
    ),
    (
        "interceptions: user, client, model",
        false,
        [true, true, false, true, false, false],
    ),
    ("interceptions: all filters", false, [true; 6]),
];

/// A question about counts: what is asked, and of how many of the latest days (none: of all).
const COUNTS: [(&str, Count, Option<i64>); 13] = [
    ("usage by day", Count::Usage(&[]), None),
    ("usage by day of 30 days", Count::Usage(&[]), Some(30)),
    ("usage by day and user", Count::Usage(&[Dimension::User]), None),
    ("usage by day and model", Count::Usage(&[Dimension::Model]), None),
    ("usage by day and all", Count::Usage(&Dimension::ALL), None),
    ("seats of 30 days", Count::Seats, Some(30)),
    ("seats", Count::Seats, None),
    ("users", Count::Facets(Dimension::User), None),
    ("clients", Count::Facets(Dimension::Client), None),
    ("clients of 30 days", Count::Facets(Dimension::Client), Some(30)),
    ("providers", Count::Facets(Dimension::Provider), None),
    ("models", Count::Facets(Dimension::Model), None),
    ("models of 50 days", Count::Facets(Dimension::Model), Some(50)),
];

#[derive(Clone, Copy)]
enum Count {
    Usage(&'static [Dimension]),
    Seats,
    Facets(Dimension),
}

/// Words by their rank in the vocabulary: in every prompt, in every tenth, in one of three hundred.
const SEARCHED: [(&str, &[usize]); 5] = [
    ("every prompt", &[2]),
    ("every tenth", &[300]),
    ("a rare one", &[12_000]),
    ("frequent, rare", &[3, 12_000]),
    ("five words", &[1, 4, 20, 100, 300]),
];

/// What a search goes with: whether it is of sessions, and which filters it has, as in `Asker::filter`.
const FILTERED: [(&str, bool, [bool; 6]); 10] = [
    ("", false, [false; 6]),
    (": sessions", true, [false; 6]),
    (": user", false, [true, false, false, false, false, false]),
    (": client", false, [false, true, false, false, false, false]),
    (": provider", false, [false, false, true, false, false, false]),
    (": model", false, [false, false, false, true, false, false]),
    (": status", false, [false, false, false, false, true, false]),
    (": dates", false, [false, false, false, false, false, true]),
    (
        ": user, client, model",
        false,
        [true, true, false, true, false, false],
    ),
    (": all", false, [true; 6]),
];
