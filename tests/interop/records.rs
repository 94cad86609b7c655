//! What is on record of a client, held against what it did.

use serde_json::Value;

use super::Mode;
use super::play::Api;
use crate::fake::FakeProvider;
use crate::harness::{Gateway, eventually};

/// Checks the records of every scenario; the number of calls.
pub(super) async fn check(
    gateway: &Gateway,
    fake: &FakeProvider,
    tag: &str,
    mode: Mode,
    api: &Api,
    scenarios: &Value,
) -> usize {
    let all = finished(gateway).await;
    // A client that tries again sooner than it was told is refused by the gateway, and that is on record too.
    let reached = |record: &&Value| record["outcome"] != "refused";
    let of_api = |record: &&Value| reached(record) && record["api"] == api.name;
    let calls = all.iter().filter(of_api).count();
    for scenario in scenarios.as_object().unwrap().keys() {
        let mark = format!("{tag} {} [{scenario}]", api.name);
        let mut found: Vec<_> = all
            .iter()
            .filter(of_api)
            .filter(|record| prompt(record).contains(&mark))
            .collect();
        found.sort_by_key(|record| record["started_at"].to_string());
        let first = *found
            .first()
            .unwrap_or_else(|| panic!("{mark} is not on record: {all:#?}"));
        for record in &found {
            assert_eq!(record["mode"], mode.name(), "{record}");
            assert_eq!(record["provider"], api.provider, "{record}");
        }
        check_scenario(scenario, first, &found, &all);
    }
    let played = fake
        .requests()
        .iter()
        .filter(|seen| seen.method == "POST")
        .count();
    assert_eq!(
        all.iter().filter(reached).count(),
        played,
        "every call that reached the provider is on record, once"
    );
    calls
}

fn check_scenario(scenario: &str, first: &Value, found: &[&Value], all: &[Value]) {
    let last = *found.last().unwrap();
    let outcome = |record: &Value| {
        (
            record["status"].as_u64(),
            record["outcome"].as_str().unwrap().to_owned(),
        )
    };
    let completed = (Some(200), "completed".to_owned());
    match scenario {
        "plain" | "stream" => {
            assert_eq!(found.len(), 1, "{found:#?}");
            assert_eq!(outcome(first), completed, "{first}");
            assert_eq!(first["stream"], scenario == "stream", "{first}");
            let usage = &first["usage"][0];
            assert_eq!(
                (&usage["input"], &usage["output"]),
                (&11.into(), &7.into()),
                "{first}"
            );
        }
        "tools" => {
            let call = &first["tool_calls"][0];
            assert_eq!(call["name"], "get_weather", "{first}");
            let answers = |record: &&Value| record["thread_parent_id"] == first["id"];
            let second = all.iter().find(answers);
            let second = second.unwrap_or_else(|| panic!("no call answers the tool's: {all:#?}"));
            assert_eq!(
                (outcome(first), outcome(second)),
                (completed.clone(), completed),
                "{second}"
            );
        }
        "error" => {
            assert_eq!(outcome(first), (Some(400), "failed".to_owned()), "{first}");
        }
        "limited" => {
            assert_eq!(found.len(), 2, "{found:#?}");
            assert_eq!(first["status"], 429, "{first}");
            assert_eq!(outcome(last), completed, "{last}");
        }
        "abort" => assert_eq!(first["outcome"], "aborted", "{first}"),
        other => panic!("{other}?"),
    }
}

fn prompt(record: &Value) -> String {
    record["prompt"].to_string()
}

/// All records, once none is open any more.
async fn finished(gateway: &Gateway) -> Vec<Value> {
    eventually("the end of every call", async || {
        let all = gateway.list("/api/v1/interceptions?limit=1000").await;
        let is_over = |record: &Value| !record["outcome"].is_null();
        all.iter().all(is_over).then_some(all)
    })
    .await
}
