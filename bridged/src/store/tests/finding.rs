//! What is found in prompts: the same as by reading all of them.

use std::collections::HashSet;

use super::order::write_batch;
use super::*;
use crate::store::content;
use crate::store::labels::Labels;
use crate::store::sql::{Batch, Change, Database, Row, Sort, Value};

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const WORDS: [&str; 24] = [
    "the",
    "error",
    "Parser",
    "read_file",
    "userName",
    "HTTPServer",
    "src/main.rs",
    "配置文件",
    "naïve",
    "don't",
    "config",
    "confirm",
    "zebra",
    "Straße",
    "x86_64",
    "foo",
    "bar",
    "サーバー",
    "설정",
    "été",
    "OR",
    "NOT",
    "42",
    "conf",
];
const USERS: [&str; 4] = ["ann", "bob", "cyd", "dan"];
const CLIENTS: [&str; 2] = ["Codex", "Zed"];
const PROVIDERS: [&str; 2] = ["openai", "anthropic"];
const MODELS: [&str; 3] = ["a", "b", "c"];
const ROWS: u64 = 3_000;
/// When the first of them began, in milliseconds.
const BEGIN: u64 = 1_700_000_000_000;

fn text(random: &mut Random) -> String {
    let count = 1 + random.below(9);
    let mut words: Vec<&str> = Vec::new();
    for _ in 0..count {
        // Some words are in most texts and some in few.
        let rank = random.below(24).min(random.below(24));
        words.push(WORDS[rank as usize]);
    }
    words.join(random.of(&[" ", ", ", "\n"]))
}

/// An id that was made so many milliseconds after `BEGIN`.
fn id_at(millis: u64, random: &mut Random) -> Uuid {
    let date = u128::from(BEGIN + millis);
    Uuid::from_u128(date << 80 | 0x7000 << 64 | 0x8000 << 48 | u128::from(random.below(1 << 40)))
}

/// The events of an interception that began about a second after the one before. Its id was made a little earlier, or
/// by another clock.
fn events(random: &mut Random, number: u64) -> Vec<Event> {
    let millis = BEGIN + number * 1_000;
    let drift = match random.below(200) {
        0 => random.below(2_000_000),
        1..20 => random.below(5_000),
        _ => random.below(5),
    };
    let id = id_at((number * 1_000 + 300_000).saturating_sub(drift), random);
    let user = random.of(&USERS);
    let start = Started {
        id,
        client: random.of(&CLIENTS).into(),
        provider: random.of(&PROVIDERS).into(),
        model: Some(random.of(&MODELS).to_owned()),
        started_at: Micros(i64::try_from(millis).unwrap() * 1_000),
        prompt: (random.below(20) > 0).then(|| text(random)),
        ..started(user, Some(&format!("s{}", random.below(200))), "")
    };
    let mut all = vec![Event::Start(Box::new(start))];
    let outcome = match random.below(20) {
        0 => return all,
        1 | 2 => Outcome::Failed,
        3 => Outcome::Aborted,
        _ => Outcome::Completed,
    };
    let answerer = (random.below(10) == 0).then(|| Answerer {
        provider: random.of(&PROVIDERS).into(),
        credential_hint: "sk".to_owned(),
    });
    all.push(Event::End(Box::new(Ended {
        outcome,
        answerer,
        ..ended(id)
    })));
    all
}

fn filter(random: &mut Random) -> Filter {
    let date =
        |random: &mut Random| Micros(i64::try_from(BEGIN + random.below(ROWS) * 1_000).unwrap() * 1_000);
    let mut words = |choices: &[&str]| match random.below(3) {
        0 => vec![random.of(choices).to_owned()],
        1 if random.below(3) == 0 => choices.iter().take(2).map(|word| (*word).to_owned()).collect(),
        _ => Vec::new(),
    };
    let (user, client) = (words(&USERS), words(&CLIENTS));
    let (provider, model) = (words(&PROVIDERS), words(&MODELS));
    let status = match random.below(8) {
        0 => vec![Status::InFlight],
        1 => vec![Status::Ended(Outcome::Failed)],
        2 => vec![Status::Ended(Outcome::Failed), Status::Ended(Outcome::Aborted)],
        3 => vec![Status::Ended(Outcome::Completed)],
        4 => vec![Status::InFlight, Status::Ended(Outcome::Failed)],
        _ => Vec::new(),
    };
    Filter {
        user,
        client,
        provider,
        model,
        session: (random.below(10) == 0)
            .then(|| format!("s{}", random.below(200)))
            .into_iter()
            .collect(),
        status,
        after: (random.below(4) == 0).then(|| date(random)),
        before: (random.below(4) == 0).then(|| date(random)),
        query: None,
    }
}

fn question(random: &mut Random) -> String {
    let mut terms = Vec::new();
    for _ in 0..=random.below(2) {
        let word = random.of(&WORDS);
        terms.push(match random.below(6) {
            0 => format!("\"{word} {}\"", random.of(&WORDS)),
            1 => format!("{}*", word.chars().take(3).collect::<String>()),
            2 => word.to_uppercase(),
            _ => word.to_owned(),
        });
    }
    terms.join(" ")
}

/// Everything a list gives, page by page; each page holds at most `limit`.
async fn paged(store: &Store, filter: &Filter, limit: u32) -> Vec<Uuid> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page { cursor, limit };
        let (rows, next) = store.interceptions(filter.clone(), page).await.unwrap();
        assert!(rows.len() <= limit as usize);
        all.extend(rows.into_iter().map(|row| row.id));
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn paged_sessions(store: &Store, filter: &Filter, limit: u32) -> Vec<(String, String)> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let (rows, next) = store
            .sessions(filter.clone(), Page { cursor, limit })
            .await
            .unwrap();
        all.extend(rows.into_iter().map(|row| (row.user, row.id)));
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Interceptions of which some come late, in an index of many segments.
/// Fills the store; of the last, and of those that came late, the index knows nothing yet.
async fn fill(store: &Store, random: &mut Random) {
    let mut late = Vec::new();
    let mut batch = Vec::new();
    for number in 0..ROWS {
        let mut events = events(random, number);
        match random.below(20) {
            // Comes much later, from the spool of another gateway.
            0 => late.append(&mut events),
            // Its end is in another batch.
            1 => late.extend(events.pop()),
            _ => {}
        }
        batch.append(&mut events);
        if random.below(100) == 0 {
            write_batch(store, std::mem::take(&mut batch)).await;
            store.catch_up().await.unwrap();
        }
    }
    write_batch(store, batch).await;
    write_batch(store, late).await;
}

pub(super) async fn search_finds_what_reading_everything_finds(home: Home) {
    let store = again(&home).await;
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    fill(&store, &mut random).await;
    let mut found = 0;
    for turn in 0..120 {
        if turn == 60 {
            store.catch_up().await.unwrap();
        }
        let plain = filter(&mut random);
        let words = question(&mut random);
        let query = Query::parse(&words).unwrap();
        let everything = Page {
            cursor: None,
            limit: 5_000,
        };
        let (all, _) = store.interceptions(plain.clone(), everything).await.unwrap();
        let fits = |row: &&InterceptionRow| row.prompt.as_deref().is_some_and(|text| query.fits(text));
        let want: Vec<&InterceptionRow> = all.iter().filter(fits).collect();
        let filter = Filter {
            query: Some(query.clone()),
            ..plain
        };
        let limits: &[u32] = if want.len() > 60 {
            &[50, 1_000]
        } else {
            &[1, 7, 50]
        };
        let limit = limits[random.below(limits.len() as u64) as usize];
        let ids: Vec<Uuid> = want.iter().map(|row| row.id).collect();
        assert_eq!(
            paged(&store, &filter, limit).await,
            ids,
            "{turn}: {words} {filter:?} {limit}"
        );
        let mut seen = HashSet::new();
        let mut sessions: Vec<_> = want
            .iter()
            .map(|row| (row.user.clone(), row.session_id.clone()))
            .collect();
        sessions.retain(|session| seen.insert(session.clone()));
        assert_eq!(
            paged_sessions(&store, &filter, limit).await,
            sessions,
            "{turn}: {words} {filter:?} {limit}"
        );
        found += want.len();
    }
    assert!(found > 1_000, "only {found}");
}

fn with_words(words: &str) -> Filter {
    Filter {
        query: Some(Query::parse(words).unwrap()),
        ..Filter::default()
    }
}

pub(super) async fn a_rare_word_among_frequent_ones_is_found_everywhere(home: Home) {
    let store = again(&home).await;
    let mut rare = Vec::new();
    for round in 0..3 {
        let mut events = Vec::new();
        for number in 0..5_000 {
            let is_rare = number % 1_250 == 700;
            let text = if is_rare { "common needle" } else { "common straw" };
            let start = started(USERS[number % 4], Some("s"), text);
            if is_rare {
                rare.push(start.id);
            }
            events.push(Event::Start(Box::new(start)));
        }
        write_batch(&store, events).await;
        if round != 1 {
            store.catch_up().await.unwrap();
        }
    }
    rare.reverse();
    for words in [
        "needle",
        "common needle",
        "needle common",
        "need* comm*",
        "\"common needle\"",
    ] {
        assert_eq!(paged(&store, &with_words(words), 5).await, rare, "{words}");
    }
    let of_user = |user: &str| Filter {
        user: vec![user.to_owned()],
        ..with_words("comm*")
    };
    assert_eq!(paged(&store, &of_user("ann"), 1_000).await.len(), 3_750);
    assert_eq!(paged(&store, &of_user("nobody"), 1_000).await.len(), 0);
}

pub(super) async fn no_document_of_a_long_list_is_passed_over(home: Home) {
    let store = again(&home).await;
    // Some pages, with gaps of many sizes between their documents, and so between the pages.
    let mut random = Random(11);
    let mut last = 0;
    let mut next = || {
        last += 1 + u32::try_from(random.below(300)).unwrap();
        last
    };
    let docs: Vec<u32> = (0..12_000).map(|_| next()).collect();
    for step in [1, 2, 40, 700, 20_000, 90_000, 400_000] {
        let list = docs.clone();
        let found = store.ask(move |database| search::seek_through(database, &list, step));
        let (mut want, mut doc) = (Vec::new(), 0);
        while let Some(at) = docs.iter().find(|at| **at >= doc) {
            want.push(*at);
            doc = at + step;
        }
        let found = found.await.unwrap();
        let count = (found.len(), want.len());
        assert!(found == want, "in steps of {step}: {count:?}");
    }
}

pub(super) async fn what_is_erased_is_nowhere_in_the_index(home: Home) {
    let fixture = fresh(home).await;
    let store = fixture.store.clone();
    let (of_ann, of_bob) = (
        started("ann", None, "common plantedann"),
        started("bob", None, "common plantedbob"),
    );
    fixture.start(of_ann).await;
    fixture.start(of_bob).await;
    store.catch_up().await.unwrap();
    assert_eq!(paged(&store, &with_words("common"), 50).await.len(), 2);
    store.erase_user("ann".to_owned()).await.unwrap();
    assert_eq!(paged(&store, &with_words("common"), 50).await.len(), 1);
    assert_eq!(paged(&store, &with_words("plantedann"), 50).await.len(), 0);
    assert_eq!(paged(&store, &with_words("plantedb*"), 50).await.len(), 1);
    let pages = store
        .ask(|database| database.query("SELECT body FROM search_page", &[]))
        .await
        .unwrap();
    let pages = format!("{pages:?}");
    let as_numbers = |word: &str| {
        let numbers: Vec<String> = word.bytes().map(|byte| byte.to_string()).collect();
        numbers.join(", ")
    };
    // Terms are in order, and share their beginnings.
    assert!(pages.contains(&as_numbers("plantedbob")) && !pages.contains(&as_numbers("plantedann")));
    drop(store);
    let home = fixture.close().await;
    assert!(home.files().iter().all(|bytes| !contains(bytes, b"plantedann")));

    // Retention takes the rest.
    let store = again(&home).await;
    let retention = RetentionConfig {
        content: Some(std::time::Duration::from_secs(1)),
        ..RetentionConfig::default()
    };
    store
        .clean_up(retention, Micros(4_000_000_000_000_000))
        .await
        .unwrap();
    for table in ["search_segment", "search_page", "search_ids"] {
        let left = store.ask(move |database| database.query(&format!("SELECT id FROM {table}"), &[]));
        assert_eq!(left.await.unwrap().len(), 0, "{table}");
    }
    drop(store);
    assert!(home.files().iter().all(|bytes| !contains(bytes, b"plantedbob")));
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

pub(super) async fn no_search_shows_what_the_index_still_has_of_erased_texts(home: Home) {
    let store = again(&home).await;
    let mut random = Random(5);
    let start = |number: u64| {
        let id = id_at(number * 1_000, &mut random);
        let session = format!("s{number}");
        let start = Started {
            id,
            ..started("ann", Some(&session), "common")
        };
        (id, Event::Start(Box::new(start)))
    };
    let (ids, batch): (Vec<Uuid>, Vec<Event>) = (0..5).map(start).unzip();
    write_batch(&store, batch).await;
    store.catch_up().await.unwrap();
    let shown = async || {
        let filter = with_words("common");
        let sessions = paged_sessions(&store, &filter, 50).await;
        let sessions = sessions
            .into_iter()
            .map(|(_, session)| session)
            .collect::<Vec<_>>();
        (paged(&store, &filter, 50).await, sessions.join(" "))
    };
    let of = |numbers: &[usize]| {
        let sessions: Vec<String> = numbers.iter().map(|number| format!("s{number}")).collect();
        (
            numbers.iter().map(|number| ids[*number]).collect::<Vec<_>>(),
            sessions.join(" "),
        )
    };
    assert_eq!(shown().await, of(&[4, 3, 2, 1, 0]));
    let one = ids[3];
    let erase = store.ask(move |database| {
        let body = content::erased(&content::Packer::default().body("common"))?;
        let sql = "UPDATE prompt SET body = ?2 WHERE interception = ?1";
        database.execute(sql, &[one.into(), body.into()])
    });
    assert_eq!(erase.await.unwrap(), 1);
    assert_eq!(shown().await, of(&[4, 2, 1, 0]));
}

pub(super) async fn what_is_on_record_is_found_at_once_and_indexed_by_itself(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", None, "Needle");
    let id = start.id;
    fixture.start(start).await;
    for _ in 0..500 {
        assert_eq!(paged(&fixture.store, &with_words("needle"), 5).await, [id]);
        assert!(paged(&fixture.store, &with_words("straw"), 5).await.is_empty());
        let segments = |database: &mut dyn Database| database.query("SELECT id FROM search_segment", &[]);
        if !fixture.store.ask(segments).await.unwrap().is_empty() {
            fixture.close().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is not indexed");
}

/// The only column of what a query finds.
fn numbers(database: &mut dyn Database, sql: &str) -> Result<Vec<i64>, StoreError> {
    database.query(sql, &[])?.into_iter().map(Row::int).collect()
}

/// Prompts of some users with so many words that their segment has many pages.
fn wordy(users: &[&str], count: usize) -> Vec<Event> {
    let mut random = Random(7);
    let mut words = || {
        let words: Vec<String> = (0..60).map(|_| format!("word{}", random.below(9_000))).collect();
        words.join(" ")
    };
    let start = |number: usize| started(users[number % users.len()], None, &words());
    let starts = (0..count).map(start);
    starts.map(|start| Event::Start(Box::new(start))).collect()
}

pub(super) async fn what_is_new_is_indexed_while_segments_are_made_anew(home: Home) {
    let store = again(&home).await;
    write_batch(&store, wordy(&["ann", "bob"], 1_500)).await;
    store.catch_up().await.unwrap();
    write_batch(&store, wordy(&["bob"], 10)).await;
    store.erase_user("ann".to_owned()).await.unwrap();
    let segments = store.ask(|database| numbers(database, "SELECT docs FROM search_segment ORDER BY docs"));
    assert_eq!(segments.await.unwrap(), [10, 750]);
}

pub(super) async fn a_search_that_cannot_find_everything_says_so(home: Home) {
    let store = again(&home).await;
    let at_once = std::time::Duration::ZERO;
    let start = |_| Event::Start(Box::new(started("ann", None, "straw")));
    write_batch(&store, (0..1_024).map(start).collect()).await;
    assert!(store.is_searchable(at_once).await.unwrap());
    assert_eq!(paged(&store, &with_words("straw"), 1_000).await.len(), 1_024);
    write_batch(&store, (0..1_025).map(start).collect()).await;
    assert!(!store.is_searchable(at_once).await.unwrap());
    store.catch_up().await.unwrap();
    assert!(store.is_searchable(at_once).await.unwrap());
    assert_eq!(paged(&store, &with_words("straw"), 1_000).await.len(), 2_049);
}

pub(super) async fn one_works_on_the_index_at_a_time(home: Home) {
    let store = again(&home).await;
    let taken = store.ask(|database| {
        let [first, second] = [Uuid::now_v7(), Uuid::now_v7()];
        let dead = Uuid::now_v7();
        let first = search::Lease::take(database, first)?;
        let second = search::Lease::take(database, second)?;
        let found = (first.is_some(), second.is_some());
        if let Some(first) = first {
            first.end(database)?;
        }
        let of_dead = search::Lease::take(database, dead)?.is_some();
        // The next process on its data folder.
        lease::end_of(database, &[dead])?;
        let after = search::Lease::take(database, Uuid::now_v7())?.is_some();
        Ok((found, of_dead, after))
    });
    assert_eq!(taken.await.unwrap(), ((true, false), true, true));
}

pub(super) async fn small_segments_are_merged_beside_work_on_a_large_one(home: Home) {
    let store = again(&home).await;
    write_batch(&store, wordy(&["ann"], 1_500)).await;
    store.catch_up().await.unwrap();
    for _ in 0..7 {
        write_batch(&store, wordy(&["bob"], 5)).await;
        store.catch_up().await.unwrap();
    }
    write_batch(&store, wordy(&["bob"], 5)).await;
    let segments = store.ask(|database| {
        let lease = search::Lease::take(database, Uuid::now_v7())?.unwrap();
        search::rewrite_largest(database, &lease)?;
        lease.end(database)?;
        numbers(
            database,
            "SELECT docs FROM search_segment WHERE state = 1 ORDER BY docs",
        )
    });
    assert_eq!(segments.await.unwrap(), [40, 1_500]);
    let of_bob = Filter {
        user: vec!["bob".to_owned()],
        ..with_words("word*")
    };
    assert_eq!(paged(&store, &of_bob, 50).await.len(), 40);
}

pub(super) async fn long_work_on_the_index_is_left_when_somebody_waits_for_it(home: Home) {
    let store = again(&home).await;
    write_batch(&store, wordy(&["ann"], 1_500)).await;
    store.catch_up().await.unwrap();
    let (taken, is_taken) = std::sync::mpsc::channel();
    let (looked, has_looked) = std::sync::mpsc::channel();
    let worker = store.ask(move |database| {
        let lease = search::Lease::take(database, Uuid::now_v7())?.unwrap();
        taken.send(()).unwrap();
        while !search::is_waited_for(database)? {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        search::rewrite_largest(database, &lease)?;
        let left = numbers(database, "SELECT state FROM search_segment ORDER BY id")?;
        lease.end(database)?;
        // The one who waits comes first.
        let again = search::Lease::take(database, Uuid::now_v7())?;
        looked.send(()).unwrap();
        Ok((left, again.is_some()))
    });
    let waiter = store.ask(move |database| {
        is_taken.recv().unwrap();
        let lease = search::Lease::wait(database)?;
        has_looked.recv().unwrap();
        lease.end(database)?;
        // Nobody waits any more.
        Ok(search::Lease::take(database, Uuid::now_v7())?.is_some())
    });
    let (worker, waiter) = tokio::join!(worker, waiter);
    assert_eq!(worker.unwrap(), (vec![1, 0], false));
    assert!(waiter.unwrap());
}

/// Explains every statement before it runs, but for insertions.
pub(super) struct Explained<'d> {
    pub(super) database: &'d mut dyn Database,
    pub(super) plans: Vec<(String, String)>,
}

impl Explained<'_> {
    fn explain(&mut self, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        let explain = match self.database.dialect() {
            Dialect::Sqlite => "EXPLAIN QUERY PLAN",
            Dialect::Postgres => "EXPLAIN",
        };
        let plan = self.database.query(&format!("{explain} {sql}"), values)?;
        self.plans.push((sql.to_owned(), format!("{plan:?}")));
        Ok(())
    }

    /// The query of a row of values.
    fn one_row<'c>(&self, columns: impl Iterator<Item = &'c (&'static str, Sort)>) -> String {
        let mark = |(n, (_, sort)): (usize, &(&str, Sort))| {
            let sort = match (self.dialect(), sort) {
                (_, Sort::Int) => "BIGINT",
                (_, Sort::Text) => "TEXT",
                (Dialect::Sqlite, Sort::Blob) => "BLOB",
                (Dialect::Postgres, Sort::Blob) => "BYTEA",
            };
            format!("CAST(?{} AS {sort})", n + 1)
        };
        let marks: Vec<String> = columns.enumerate().map(mark).collect();
        format!("VALUES ({})", marks.join(", "))
    }
}

impl Database for Explained<'_> {
    fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.database.set_durability(durability)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.database.begin()
    }

    fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.database.begin_reading()
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.database.commit()
    }

    fn roll_back(&mut self) {
        self.database.roll_back();
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<sql::Row>, StoreError> {
        self.explain(sql, values)?;
        self.database.query(sql, values)
    }

    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.explain(sql, values)?;
        self.database.execute(sql, values)
    }

    fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.database.script(sql)
    }

    fn batch(
        &mut self,
        batch: &'static Batch,
        rows: Vec<Vec<Value<'_>>>,
    ) -> Result<Vec<sql::Row>, StoreError> {
        if let Some(row) = rows.first() {
            let sql = batch.sql(&self.one_row(batch.columns.iter()));
            self.explain(&sql, row)?;
        }
        self.database.batch(batch, rows)
    }

    fn change(
        &mut self,
        change: &'static Change,
        rows: Vec<Vec<Value<'_>>>,
    ) -> Result<Vec<sql::Row>, StoreError> {
        if let (Some(row), false) = (rows.first(), matches!(change, Change::Insert { .. })) {
            let sql = match self.dialect() {
                Dialect::Sqlite => change.for_one(),
                Dialect::Postgres => change.for_all(&self.one_row(change.columns())),
            };
            self.explain(&sql, row)?;
        }
        self.database.change(change, rows)
    }

    fn labels(&mut self) -> &mut Labels {
        self.database.labels()
    }

    fn is_usable(&self) -> bool {
        self.database.is_usable()
    }

    fn vacuum(&mut self) -> Result<(), StoreError> {
        self.database.vacuum()
    }
}

pub(super) async fn no_search_reads_a_whole_table(home: Home) {
    let store = again(&home).await;
    let mut random = Random(7);
    fill(&store, &mut random).await;
    store.catch_up().await.unwrap();
    let plans = store.ask(move |database| {
        if database.dialect() == Dialect::Postgres {
            // A table of a few pages is read whole whatever there is; this asks what a large one would get.
            database.script("ANALYZE; SET enable_seqscan = off")?;
        }
        let mut database = Explained {
            database,
            plans: Vec::new(),
        };
        for _ in 0..60 {
            let query = Query::parse(&question(&mut random)).unwrap();
            let filter = filter(&mut random);
            let (_, cursor) =
                search::interceptions(&mut database, &filter, &query, Page { limit: 3, ..PAGE })?;
            search::interceptions(&mut database, &filter, &query, Page { cursor, ..PAGE })?;
            let (_, cursor) = search::sessions(&mut database, &filter, &query, Page { limit: 3, ..PAGE })?;
            search::sessions(&mut database, &filter, &query, Page { cursor, ..PAGE })?;
        }
        Ok(database.plans)
    });
    let plans = plans.await.unwrap();
    assert!(plans.len() > 500);
    for (sql, plan) in plans {
        for table in [
            "interception",
            "prompt",
            "session",
            "search_page",
            "search_ids",
            "label",
        ] {
            let scans = [format!("Seq Scan on {table} "), format!("SCAN {table}\"")];
            assert!(!scans.iter().any(|scan| plan.contains(scan)), "{sql}\n{plan}");
        }
        // What is open is a short list, and so are the processes.
        let has_open = sql.contains("FROM open x");
        let has_processes = sql.contains("FROM instance i");
        for alias in ["x", "p", "q", "s", "i", "f", "u", "l"] {
            if (alias == "x" && has_open) || (alias == "i" && has_processes) {
                continue;
            }
            assert!(!plan.contains(&format!("SCAN {alias}\"")), "{sql}\n{plan}");
        }
    }
}
