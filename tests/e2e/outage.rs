//! What is recorded while things break: the program is killed, the database is away, the spool is full. Strict
//! durability promises that a reply which a client saw to its end is on record, whole and once.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::cases;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::load::Load;
use crate::postgres::Postgres;

const CASE: cases::Case = cases::CHAT;

/// Rounds of killing; `CAUSEWAY_KILLS` asks for more.
pub(crate) fn rounds() -> usize {
    let asked = std::env::var("CAUSEWAY_KILLS").ok();
    asked.map_or(10, |text| text.parse().expect("CAUSEWAY_KILLS is a number"))
}

/// All items of a list by their id; fails if any is there twice.
pub(crate) async fn all(gateway: &Gateway, list: &str) -> HashMap<String, Value> {
    let mut records = HashMap::new();
    let base = format!(
        "/api/v1/{list}{}limit=1000",
        if list.contains('?') { '&' } else { '?' }
    );
    let mut path = base.clone();
    loop {
        let page = gateway.api(&path).await;
        for item in page["items"].as_array().unwrap() {
            let id = item["id"].as_str().unwrap().to_owned();
            assert!(records.insert(id, item.clone()).is_none(), "twice: {item}");
        }
        match page["next"].as_str() {
            Some(next) => path = format!("{base}&cursor={next}"),
            None => return records,
        }
    }
}

/// Fails unless every reply that was seen whole is on record, whole.
async fn check_whole(gateway: &Gateway, ids: &[String]) {
    let records = all(gateway, "interceptions").await;
    for id in ids {
        let record = records.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(record["outcome"], "completed", "{record}");
        assert_eq!(record["prompt"], cases::PROMPT, "{record}");
        assert_eq!(record["usage"].as_array().unwrap().len(), 1, "{record}");
    }
    let sessions = all(gateway, "sessions").await;
    let counted: u64 = sessions
        .values()
        .map(|session| session["interceptions"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, records.len() as u64, "sessions count what is there");
}

/// Waits until everything is in the store, and fails unless the books balance by the metrics alone.
async fn check_books(gateway: &Gateway) {
    eventually("the spool to be empty", async || {
        let waiting = gateway.metric("causeway_records_in_spool").await;
        (waiting == 0).then_some(())
    })
    .await;
    let mut of = HashMap::new();
    for name in ["started", "ended", "recovered", "written", "lost", "refused"] {
        let metric = format!("causeway_records_{name}_total");
        of.insert(name, gateway.metric(&metric).await);
    }
    let queued = gateway.metric("causeway_records_queued").await;
    assert_eq!(
        of["started"] + of["ended"] + of["recovered"],
        of["written"] + of["lost"] + of["refused"] + queued,
        "{of:?}"
    );
    assert_eq!(of["started"], of["ended"], "nothing is in flight");
    assert_eq!(gateway.metric("causeway_records_unaccounted").await, 0);
}

pub(crate) async fn on_postgres(
    server: &Postgres,
    fake: &FakeProvider,
    record: &[(&'static str, &str)],
) -> Gateway {
    let mut settings = Settings::in_front_of(fake).env("CAUSEWAY_STORE__URL", server.database("records"));
    for (name, value) in record {
        settings = settings.env(name, (*value).to_owned());
    }
    Gateway::start(settings).await
}

/// Kills the program at odd moments under load and checks after each restart.
async fn kill_again_and_again(mut gateway: Gateway, rounds: usize) {
    let mut whole = Vec::new();
    for round in 0..rounds {
        let load = Load::on(&gateway, CASE, 6);
        // Odd moments, the same in each run: from the middle of the first commits to a full stride.
        let moment = 20 + (round as u64 * 7_919) % 180;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        gateway.kill_9();
        whole.extend(load.stop().await.whole);
        gateway.restart().await;
    }
    assert!(whole.len() > rounds, "there was load: {}", whole.len());
    eventually("what was open to be aborted", async || {
        let open = gateway
            .list("/api/v1/interceptions?limit=1000&status=in_flight")
            .await;
        open.is_empty().then_some(())
    })
    .await;
    check_whole(&gateway, &whole).await;
    check_books(&gateway).await;
    gateway.prints("as they were written", &["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_replies_survive_every_kill() {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    kill_again_and_again(gateway, rounds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_replies_survive_every_kill_on_postgres() {
    let Some(server) = Postgres::start() else { return };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = on_postgres(&server, &fake, &[]).await;
    kill_again_and_again(gateway, rounds() / 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_goes_unnoticed() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let mut gateway = on_postgres(&server, &fake, &[]).await;
    let load = Load::on(&gateway, CASE, 6);
    grows("some replies", || load.whole(), 50).await;
    server.stop();
    grows("replies without the database", || load.whole(), 200).await;
    // A crash in the middle of the outage: what was spooled must come back.
    let mut seen = load.stop().await;
    gateway.kill_9();
    server.resume();
    gateway.restart().await;
    let load = Load::on(&gateway, CASE, 6);
    grows("some replies", || load.whole(), 50).await;
    server.stop();
    grows("replies without the database", || load.whole(), 200).await;
    server.resume();
    grows("replies with it", || load.whole(), 200).await;
    let later = load.stop().await;
    assert_eq!((seen.refused, later.refused), (0, 0), "nobody noticed");
    seen.whole.extend(later.whole);
    check_books(&gateway).await;
    assert!(gateway.metric("causeway_records_recovered_total").await > 0);
    assert!(gateway.metric("causeway_records_spooled_total").await > 0);
    assert_eq!(gateway.metric("causeway_records_lost_total").await, 0);
    check_whole(&gateway, &seen.whole).await;
    gateway.prints("as they were written", &["audit", "verify"]);
    let log = String::from_utf8(gateway.stderr()).unwrap();
    assert!(!log.contains("hunter2"), "no password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_without_its_database_and_serves_once_it_is_there() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let mut gateway = on_postgres(&server, &fake, &[]).await;
    gateway.kill_9();
    server.stop();
    gateway.restart().await;
    let load = Load::on(&gateway, CASE, 2);
    grows("refusals while no token can be proved", || load.refused(), 5).await;
    server.resume();
    grows("replies", || load.whole(), 20).await;
    let seen = load.stop().await;
    // What was spooled meanwhile is in the store when the books balance.
    check_books(&gateway).await;
    check_whole(&gateway, &seen.whole).await;
}

/// Waits until a count has grown by `more`.
async fn grows(what: &str, count: impl Fn() -> usize, more: usize) {
    let before = count();
    eventually(what, async || (count() >= before + more).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_and_loses_nothing() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = on_postgres(&server, &fake, &[("CAUSEWAY_RECORD__SPOOL_MAX", "100KiB")]).await;
    let load = Load::on(&gateway, CASE, 6);
    grows("some replies", || load.whole(), 20).await;
    server.stop();
    grows("refusals", || load.refused(), 20).await;
    server.resume();
    grows("replies again", || load.whole(), 100).await;
    let seen = load.stop().await;
    check_books(&gateway).await;
    assert!(gateway.metric("causeway_records_refused_total").await >= 20);
    assert_eq!(gateway.metric("causeway_records_lost_total").await, 0);
    check_whole(&gateway, &seen.whole).await;
    gateway.prints("as they were written", &["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_may_lose_records_that_are_counted() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let record = [
        ("CAUSEWAY_RECORD__SPOOL_MAX", "20KiB"),
        ("CAUSEWAY_RECORD__WHEN_FULL", "drop"),
    ];
    let gateway = on_postgres(&server, &fake, &record).await;
    let load = Load::on(&gateway, CASE, 6);
    grows("some replies", || load.whole(), 20).await;
    server.stop();
    eventually("lost records", async || {
        (gateway.metric("causeway_records_lost_total").await > 20).then_some(())
    })
    .await;
    server.resume();
    grows("replies again", || load.whole(), 100).await;
    assert_eq!(load.stop().await.refused, 0, "everybody is served");
    check_books(&gateway).await;
    gateway.prints("as they were written", &["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_prove_delete_and_erase() {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let settings = Settings::in_front_of(&fake).env("CAUSEWAY_RETENTION__CONTENT", "30d".to_owned());
    let gateway = Gateway::start(settings).await;
    let load = Load::on(&gateway, CASE, 2);
    grows("some replies", || load.whole(), 10).await;
    let seen = load.stop().await;
    let file = gateway.data_dir().join("checkpoint.json");
    let file = file.to_str().unwrap();
    gateway.prints("", &["audit", "checkpoint", "--output", file]);
    gateway.prints("0 interceptions lost their texts", &["vacuum"]);
    let erased = format!("{} interceptions of admin are erased", seen.whole.len());
    gateway.prints(&erased, &["erase", "--user", "admin"]);
    gateway.prints("as they were written", &["audit", "verify", "--checkpoint", file]);
    let record = gateway.find_record(&seen.whole[0]).await.unwrap();
    assert_eq!(
        (&record["prompt"], &record["erased"]),
        (&Value::Null, &Value::Bool(true))
    );
}
