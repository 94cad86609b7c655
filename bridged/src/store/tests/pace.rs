//! Requests that do not wait for commits, and a writer that is slower than they are.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn without_waiting_for_commits_requests_come_no_faster_than_records_are_written() {
    let config = RecordConfig {
        content: Content::Prompts,
        durability: Durability::Relaxed,
        when_full: WhenFull::Refuse,
        spool_max: 1 << 20,
    };
    let metrics = Metrics::new().unwrap().record;
    let (queue, mut jobs) = mpsc::channel(8);
    let recorder = Recorder::new(queue, config, metrics, TaskTracker::new(), Gate::default());
    for _ in 0..5 {
        recorder.start(started("ann", None, "hello")).await.unwrap();
    }
    let mut next = Box::pin(recorder.start(started("ann", None, "hello")));
    let waits = timeout(Duration::from_millis(50), &mut next).await;
    assert!(waits.is_err(), "more than half of the queue is taken");
    jobs.recv().await.unwrap();
    timeout(Duration::from_secs(30), next).await.unwrap().unwrap();
}
