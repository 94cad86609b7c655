//! What the running gateway has noticed of clients that failed.

use std::time::Duration;

use bridged::clock::Micros;
use serde::Deserialize;

use super::Finding;
use super::subject::Subject;
use crate::probe;
use crate::running::Running;

/// How long a trouble counts as wrong; later it is history.
const RECENT: Duration = Duration::from_secs(15 * 60);

/// What is read of `GET /api/v1/troubles`.
#[derive(Debug, Deserialize)]
struct Listed {
    items: Vec<Trouble>,
}

/// A trouble as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Trouble {
    last_at: String,
    count: u64,
    explanation: String,
    cure: String,
    solved: bool,
}

/// What the gateway lists: read before any check, because checks are clients too.
pub(super) async fn read(running: &Running, token: &str) -> Option<Vec<Trouble>> {
    let answer = probe::get(running.bridge, "/api/v1/troubles", Some(token)).await;
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    let listed: Listed = serde_json::from_slice(&answer.body).ok()?;
    Some(listed.items)
}

/// Every trouble that its client has not got over since.
pub(super) fn unsolved(subject: &Subject) -> Vec<Finding> {
    let Some(troubles) = &subject.troubles else {
        return Vec::new();
    };
    let unsolved: Vec<_> = troubles.iter().filter(|trouble| !trouble.solved).collect();
    if unsolved.is_empty() {
        return vec![Finding::fine("no client has failed lately")];
    }
    let since = Micros(Micros::from(subject.now).0 - i64::try_from(RECENT.as_micros()).unwrap_or(i64::MAX));
    unsolved
        .into_iter()
        .map(|trouble| explain(trouble, since))
        .collect()
}

fn explain(trouble: &Trouble, since: Micros) -> Finding {
    let Trouble { last_at, count, .. } = trouble;
    let often = if *count == 1 {
        String::new()
    } else {
        format!(", {count} times")
    };
    let explanation = crate::table::printable(&trouble.explanation);
    let text = format!("{explanation} ({last_at}{often})");
    if Micros::parse(last_at).is_some_and(|last| last >= since) {
        Finding::wrong(text, trouble.cure.clone())
    } else {
        Finding::hint(text)
    }
}
