//! The search index after kills in the middle of its writing: nothing half-made stays, and every prompt is found by
//! its own words.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::bytes::Bytes;
use serde_json::Value;

use crate::beside::Beside;
use crate::cases;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::load::Load;
use crate::outage::{all, on_postgres, rounds};
use crate::postgres::Postgres;

const CASE: cases::Case = cases::CHAT;
/// Words that prompts share, of which each has so many: a segment of a second's prompts takes several transactions.
const SHARED: u64 = 24_000;
const EACH: u64 = 500;
/// A segment that is being written, and one that was replaced, in the database.
const UNFINISHED: u8 = 0;
const REPLACED: u8 = 2;
/// Segments, and what is wrong with the index, as numbers that must be zero: segments that are not whole, pages and
/// chunks of ids without a segment, and whole segments that lack what their documents need.
const FAULTS: [(&str, &str); 5] = [
    (
        "segments that are not whole",
        "SELECT count(*) FROM search_segment WHERE state <> 1",
    ),
    (
        "pages of no segment",
        "SELECT count(*) FROM search_page WHERE segment NOT IN (SELECT id FROM search_segment)",
    ),
    (
        "chunks of no segment",
        "SELECT count(*) FROM search_ids WHERE segment NOT IN (SELECT id FROM search_segment)",
    ),
    (
        "whole segments without a page",
        "SELECT count(*) FROM search_segment s
         WHERE s.state = 1 AND NOT EXISTS (SELECT 1 FROM search_page p WHERE p.segment = s.id)",
    ),
    (
        // 112 documents a chunk, of 16 bytes each; 64 chunks a group, with 32 bytes of marks for each in a row with a
        // number below zero; and 32 bytes of the guide for a group.
        "whole segments that lack chunks",
        "SELECT count(*) FROM search_segment s
         LEFT JOIN (SELECT segment, count(*) AS chunks, max(chunk) AS last, sum(length(ids)) AS bytes
            FROM search_ids WHERE chunk >= 0 GROUP BY segment) i ON i.segment = s.id
         LEFT JOIN (SELECT segment, count(*) AS groups, min(chunk) AS last, sum(length(ids)) AS bytes
            FROM search_ids WHERE chunk < 0 GROUP BY segment) g ON g.segment = s.id
         WHERE s.state = 1 AND (s.docs = 0 OR coalesce(i.chunks, 0) <> (s.docs + 111) / 112
            OR i.last <> i.chunks - 1 OR i.bytes <> s.docs * 16
            OR coalesce(g.groups, 0) <> (i.chunks + 63) / 64 OR g.last <> -g.groups
            OR g.bytes <> i.chunks * 32 OR length(s.guide) <> g.groups * 32)",
    ),
];

/// A word that nothing but the prompt of this number has.
fn own_word(number: u64) -> String {
    format!("own{}", letters(number))
}

fn letters(number: u64) -> String {
    (0..5)
        .map(|place| char::from(b'a' + (number / 26_u64.pow(place) % 26) as u8))
        .collect()
}

fn prompt(number: u64) -> String {
    let mut text = own_word(number);
    for place in 0..EACH {
        let shared = (number * EACH + place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        text += " some";
        text += &letters(shared % SHARED);
    }
    text
}

/// Gives each request its own prompt; `next` is the number of the next one.
fn requests(next: &Arc<AtomicU64>) -> impl Fn() -> Bytes + Clone + Send + Sync + 'static {
    let next = next.clone();
    move || {
        let mut request: Value = serde_json::from_slice(CASE.request).unwrap();
        let number = next.fetch_add(1, Ordering::SeqCst);
        request["messages"].as_array_mut().unwrap().last_mut().unwrap()["content"] = prompt(number).into();
        request.to_string().into()
    }
}

/// Waits until there is a segment in this state.
async fn has(beside: &Beside, state: u8) {
    let sql = format!("SELECT count(*) FROM search_segment WHERE state = {state}");
    eventually("a half-made segment", async || {
        (beside.counts(&[&sql]).await[0] > 0).then_some(())
    })
    .await;
}

/// Waits until the index is at rest, and fails unless it is whole then.
async fn rests(beside: &Beside, gateway: &Gateway) {
    let sql = FAULTS.map(|(_, sql)| sql);
    let counts = eventually("the index to be at rest", async || {
        let behind = gateway.metric("causeway_records_unindexed").await;
        let counts = beside.counts(&sql).await;
        (behind == 0 && counts[0] == 0).then_some(counts)
    })
    .await;
    for ((what, _), count) in FAULTS.iter().zip(counts) {
        assert_eq!(count, 0, "{what}");
    }
}

/// Kills the program while the search index is written, and looks at the index afterwards.
async fn survives(mut gateway: Gateway, beside: Beside, rounds: usize) {
    let next = Arc::<AtomicU64>::default();
    let mut whole = Vec::new();
    for round in 0..rounds {
        let load = Load::asking(&gateway, CASE, 2, requests(&next));
        match round % 4 {
            1 => has(&beside, REPLACED).await,
            // Odd moments: before a segment is written, in the middle of it, and after.
            3 => tokio::time::sleep(Duration::from_millis(150 + (round as u64 * 7_919) % 700)).await,
            _ => has(&beside, UNFINISHED).await,
        }
        gateway.kill_9();
        whole.extend(load.stop().await.whole);
        gateway.restart().await;
    }
    assert!(whole.len() > rounds, "there was load: {}", whole.len());
    rests(&beside, &gateway).await;
    check_words(&gateway, next.load(Ordering::SeqCst), &whole).await;
}

/// Fails unless each prompt on record is found by its own word, once and alone, and the words of no other find any.
async fn check_words(gateway: &Gateway, asked: u64, whole: &[String]) {
    let records = all(gateway, "interceptions").await;
    for id in whole {
        assert!(records.contains_key(id), "{id} is lost");
    }
    let mut seen = HashSet::new();
    for number in 0..asked {
        let path = format!("/api/v1/interceptions?q={}", own_word(number));
        let page = gateway.api(&path).await;
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["prompt"], *prompt(number), "{number}");
            let id = item["id"].as_str().unwrap().to_owned();
            assert!(seen.insert(id), "twice: {item}");
        }
    }
    let lost = records.keys().filter(|id| !seen.contains(*id));
    assert_eq!(lost.count(), 0, "of {} on record", records.len());
    assert_eq!(seen.len(), records.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_whole_after_every_kill() {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let beside = Beside::of(&gateway);
    survives(gateway, beside, rounds().div_ceil(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_whole_after_every_kill_on_postgres() {
    let Some(server) = Postgres::start() else { return };
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = on_postgres(&server, &fake, &[]).await;
    let beside = Beside::at(&server.url("records")).await;
    survives(gateway, beside, rounds().div_ceil(3)).await;
}
