//! An AI call on its way to the upstream, until a reply's head is there for the client.
//!
//! `send` tries: the same instance again after a passing failure, the next of the gateway's keys after a 429 or 401,
//! another instance where the operator has named one. What no attempt can better goes to the client as it came.
//! Invariant: nothing is sent again once a byte of a reply has gone to the client, and no attempt is without leave of
//! the breakers.

use std::time::{Duration, SystemTime};

use http::{Request, Response};
use http_body_util::Full;
use providers::throttle;
use tokio::time::Instant;

use super::call::Call;
use super::way::{Leave, Way};
use crate::app::App;
use crate::body::RequestBody;
use crate::breaker;
use crate::credential::{Asked, Lesson};
use crate::record::{Finish, Outcome, Recording};
use crate::refusal::Refusal;
use crate::upstream::{self, CallWatch, Upstream, UpstreamBody, UpstreamError};

/// Longest time that a failure's answer waits for its record.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// Attempts of one call, whatever the reason: keys, retries and instances together.
const MOST_ATTEMPTS: u32 = 8;
/// The first wait before a retry where the upstream asks for none; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

type Sent = Result<Response<UpstreamBody>, Refusal>;

/// What an attempt's outcome calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It is the answer.
    None,
    /// The gateway's key was refused.
    Key,
    /// It may well pass; with the wait that the upstream asks for.
    Passing(Option<Duration>),
}

/// Sends a call, or answers it from here where the instance is simulated.
pub(super) async fn send(app: &App, way: &mut Way<'_>, call: &mut Call, recording: &mut Recording) -> Sent {
    let began = Instant::now();
    let sent = attempts(app, way, call, recording).await;
    recording.waited(began.elapsed());
    sent
}

async fn attempts(app: &App, way: &mut Way<'_>, call: &mut Call, recording: &mut Recording) -> Sent {
    let (mut left, mut retries) = (MOST_ATTEMPTS, 0);
    loop {
        let Some(Leave {
            instance,
            call: watch,
        }) = way.leave.take()
        else {
            return Ok(simulated(app, call, recording));
        };
        left -= 1;
        let last = left == 0 || !way.has_more();
        let sent = way
            .upstream
            .send_admitted(instance, &way.target, request(call, last))
            .await;
        let sent = answered(app, way.upstream, sent);
        let now = app.clock.now();
        if let Some(watch) = judge(watch, &sent, now) {
            recording.watch(watch);
        }
        let trouble = trouble(way, &sent, now);
        if last || trouble == Trouble::None {
            return sent;
        }
        if let Some(sent) = go_on(way, call, (trouble, sent), &mut retries).await {
            return sent;
        }
        recording.retried();
        recording.moved(&way.upstream.name, &way.credential.hint, || {
            let model = call.inspection.model.as_deref();
            app.metrics
                .call(&way.upstream.name, call.api, model, call.client.name)
        });
    }
}

/// Prepares the next attempt; where there is none, gives back the answer.
async fn go_on(
    way: &mut Way<'_>,
    call: &mut Call,
    (trouble, sent): (Trouble, Sent),
    retries: &mut u32,
) -> Option<Sent> {
    let headers = &mut call.parts.headers;
    let answer = match trouble {
        Trouble::None => return Some(sent),
        Trouble::Key => match way.another_key(headers) {
            Ok(()) => return None,
            Err(refusal) => Err(refusal),
        },
        Trouble::Passing(asked) => {
            let wait = pause(*retries, asked, breaker::jitter());
            if *retries < way.retries() && wait <= way.upstream.retry.longest_wait {
                // The reply is kept until there is leave to ask for another.
                tokio::time::sleep(wait).await;
                if way.again().is_ok() {
                    *retries += 1;
                    return None;
                }
            }
            sent
        }
    };
    if way.elsewhere(headers) {
        *retries = 0;
        return None;
    }
    Some(answer)
}

/// The wait before a retry: what the upstream asks for, at least a doubling one, spread so that clients that failed
/// together do not come back together.
fn pause(retries: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let grown = FIRST_WAIT.saturating_mul(1 << retries.min(8));
    asked.unwrap_or_default().max(grown.mul_f64(0.5)) + grown.mul_f64(0.5 * jitter)
}

/// The request of one attempt; before the last the call keeps what the next one needs.
fn request(call: &mut Call, last: bool) -> Request<RequestBody> {
    let parts = if last {
        let (nothing, ()) = Request::new(()).into_parts();
        std::mem::replace(&mut call.parts, nothing)
    } else {
        call.parts.clone()
    };
    Request::from_parts(parts, RequestBody::Full(Full::new(call.body.clone())))
}

fn simulated(app: &App, call: &Call, recording: &Recording) -> Response<UpstreamBody> {
    let reply_id = recording.id().simple().to_string();
    let reply = providers::simulate(call.api, &call.inspection, &call.body, &reply_id, app.clock.now());
    upstream::simulated(reply)
}

fn trouble(way: &Way<'_>, sent: &Sent, now: SystemTime) -> Trouble {
    match sent {
        Ok(response) => {
            let (status, headers) = (response.status().as_u16(), response.headers());
            let lesson = way
                .credential
                .learn(way.upstream, Asked::Call, (status, headers), now);
            match lesson {
                Lesson::TryAnother => Trouble::Key,
                Lesson::None if throttle::is_transient(status) => {
                    Trouble::Passing(throttle::retry_after(headers, now))
                }
                Lesson::None => Trouble::None,
            }
        }
        Err(Refusal::Upstream {
            error: UpstreamError::Dial(_),
            ..
        }) => Trouble::Passing(None),
        // It may have been carried out, and paid for.
        Err(_) => Trouble::None,
    }
}

/// Tells the model's breaker how the attempt went; what is left to see is in the body.
fn judge(watch: CallWatch, sent: &Sent, now: SystemTime) -> Option<CallWatch> {
    match sent {
        Ok(response) => {
            let status = response.status();
            if throttle::is_failure(status.as_u16()) {
                let wait = throttle::retry_after(response.headers(), now);
                watch.failed("status", Some(status.as_u16()), wait);
                return None;
            }
            // What is wrong with the request or its credential says nothing about the model.
            (!status.is_client_error()).then(|| watch.answered())
        }
        Err(Refusal::Upstream {
            error: error @ UpstreamError::Broken(_),
            ..
        }) => {
            watch.failed(error.kind(), None, None);
            None
        }
        Err(_) => None,
    }
}

/// Ends the record of a request that the upstream did not answer.
pub(super) async fn fail(mut recording: Recording, refusal: Refusal) -> Refusal {
    recording.answered(refusal.status());
    let finish = Finish::failed(Outcome::Failed, refusal.code(), refusal.to_string());
    if let Some(committed) = recording.finish(finish) {
        // The answer must not depend on the store.
        let _ = tokio::time::timeout(COMMIT_WAIT, committed).await;
    }
    refusal
}

/// Counts what the upstream answered; no answer becomes a refusal.
pub(crate) fn answered(
    app: &App,
    upstream: &Upstream,
    sent: Result<Response<UpstreamBody>, UpstreamError>,
) -> Sent {
    let provider = || upstream.name.to_string();
    match sent {
        Ok(response) => {
            app.metrics
                .upstream_response(&upstream.name, response.status().as_u16());
            Ok(response)
        }
        Err(UpstreamError::Open { wait }) => Err(Refusal::CircuitOpen {
            provider: provider(),
            model: None,
            wait,
        }),
        Err(error) => {
            app.metrics.upstream_error(&upstream.name, error.kind());
            Err(Refusal::Upstream {
                provider: provider(),
                error,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_never_shorter_than_asked() {
        let millis = |retries, asked, jitter| pause(retries, asked, jitter).as_millis();
        assert_eq!(millis(0, None, 0.0), 125);
        assert_eq!(millis(0, None, 1.0), 250);
        assert_eq!(millis(1, None, 1.0), 500);
        assert_eq!(millis(2, None, 0.0), 500);
        assert_eq!(millis(0, Some(Duration::from_secs(3)), 0.0), 3_000);
        assert_eq!(millis(0, Some(Duration::from_secs(3)), 1.0), 3_125);
        assert_eq!(millis(u32::MAX, None, 1.0), 64_000);
    }
}
