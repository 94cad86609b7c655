//! What the running gateway has noticed of clients that failed.

use serde::Deserialize;

use super::Finding;
use super::subject::Subject;
use crate::probe;

/// What is read of `GET /api/v1/troubles`.
#[derive(Debug, Deserialize)]
struct Listed {
    items: Vec<Trouble>,
}

#[derive(Debug, Deserialize)]
struct Trouble {
    last_at: String,
    count: u64,
    explanation: String,
    cure: String,
    solved: bool,
}

/// Every trouble that its client has not got over since.
pub(super) async fn unsolved(subject: &Subject) -> Vec<Finding> {
    let Some((running, token)) = subject.reachable() else {
        return Vec::new();
    };
    let answer = probe::get(running.bridge, "/api/v1/troubles", Some(token)).await;
    let Some(listed) = answer
        .ok()
        .filter(|answer| answer.status == 200)
        .and_then(|answer| serde_json::from_slice::<Listed>(&answer.body).ok())
    else {
        return Vec::new();
    };
    let unsolved: Vec<_> = listed.items.iter().filter(|trouble| !trouble.solved).collect();
    if unsolved.is_empty() {
        return vec![Finding::fine("no client has failed lately")];
    }
    unsolved.into_iter().map(explain).collect()
}

fn explain(trouble: &Trouble) -> Finding {
    let Trouble { last_at, count, .. } = trouble;
    let often = if *count == 1 {
        String::new()
    } else {
        format!(", {count} times")
    };
    let explanation = crate::table::printable(&trouble.explanation);
    Finding::wrong(format!("{explanation} ({last_at}{often})"), trouble.cure.clone())
}
