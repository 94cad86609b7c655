//! An AI call on its way to the upstream, and what comes of it when no reply does.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use providers::{Route, Transport};
use uuid::Uuid;

use super::call::Call;
use crate::app::App;
use crate::body::RequestBody;
use crate::record::{Finish, Outcome, Recording};
use crate::refusal::Refusal;
use crate::upstream::{self, Upstream, UpstreamBody, UpstreamError};

/// Longest time that a failure's answer waits for its record.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// Sends a call, or answers it from here where the instance is simulated.
pub(super) async fn send(
    app: &App,
    upstream: &Upstream,
    route: &Route,
    call: Call,
    id: Uuid,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    if upstream.instance.kind.transport() == Transport::Simulated {
        let reply_id = id.simple().to_string();
        let reply = providers::simulate(call.api, &call.inspection, &call.body, &reply_id, app.clock.now());
        return Ok(upstream::simulated(reply));
    }
    let request = Request::from_parts(call.parts, RequestBody::Full(Full::new(call.body)));
    upstream.send(&route.target, request).await
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
) -> Result<Response<UpstreamBody>, Refusal> {
    match sent {
        Ok(response) => {
            app.metrics
                .upstream_response(&upstream.name, response.status().as_u16());
            Ok(response)
        }
        Err(error) => {
            app.metrics.upstream_error(&upstream.name, error.kind());
            Err(Refusal::Upstream {
                provider: upstream.name.to_string(),
                error,
            })
        }
    }
}
