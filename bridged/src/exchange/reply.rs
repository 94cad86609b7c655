//! A reply on its way back: a tap reads it, the relay carries it.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, Version, response};
use providers::{ReplyHead, Tap, TapLimits, UsageChunkFilter};

use crate::app::App;

use crate::body::ReplyBody;
use crate::config::{Content, OnAbort};
use crate::drain::Drain;
use crate::headers;
use crate::record::Recording;
use crate::relay::{Relay, Terms};
use crate::upstream::{Upstream, UpstreamBody};

/// The client's reply: the head at once, the body through the tap.
pub(super) fn relay(
    app: &App,
    upstream: &Upstream,
    response: Response<UpstreamBody>,
    mut recording: Recording,
    hides_usage: bool,
) -> Response<ReplyBody> {
    let status = response.status();
    recording.answered(status.as_u16());
    let tap = tap(&recording, &response);
    let hidden = (hides_usage && is_plain_stream(&response)).then(UsageChunkFilter::default);
    let (mut parts, body) = to_client(response);
    if hidden.is_some() {
        // What passes is shorter than what comes.
        parts.headers.remove(CONTENT_LENGTH);
    }
    let terms = Terms {
        succeeded: status.is_success(),
        idle: upstream.idle_timeout(),
        hidden,
        drain: drain(app, upstream),
    };
    let relay = Relay::new(body, tap, recording, terms);
    Response::from_parts(parts, ReplyBody::Tapped(Box::new(relay)))
}

/// How a reply of this instance is read on without its client; `None`: not at all.
pub(super) fn drain(app: &App, upstream: &Upstream) -> Option<Drain> {
    let OnAbort::Drain { timeout, max_bytes } = upstream.calls.on_abort else {
        return None;
    };
    Some(Drain {
        timeout,
        max_bytes,
        slots: app.drains.clone(),
        running: app.metrics.drains.clone(),
        tracker: app.tracker.clone(),
        stopping: app.stopping.clone(),
    })
}

/// Whether a reply is a stream of events that can be read as it comes.
fn is_plain_stream(response: &Response<UpstreamBody>) -> bool {
    let headers = response.headers();
    let begins = |value: &HeaderValue| {
        let media_type = value.as_bytes().get(..17).unwrap_or_default();
        media_type.eq_ignore_ascii_case(b"text/event-stream")
    };
    response.status().is_success()
        && headers.get(CONTENT_TYPE).is_some_and(begins)
        && headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn tap(recording: &Recording, response: &Response<UpstreamBody>) -> Tap {
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let head = ReplyHead {
        status: response.status().as_u16(),
        content_type: text(CONTENT_TYPE),
        content_encoding: text(CONTENT_ENCODING),
    };
    Tap::new(recording.api(), &head, tap_limits(recording))
}

/// What a tap keeps of the reply to a recorded call.
pub(crate) fn tap_limits(recording: &Recording) -> TapLimits {
    TapLimits {
        keep_output: recording.content() == Content::Full,
        request_text: recording.request_text(),
        ..TapLimits::default()
    }
}

/// The head as the client gets it.
pub(crate) fn to_client(response: Response<UpstreamBody>) -> (response::Parts, UpstreamBody) {
    let (mut parts, body) = response.into_parts();
    parts.headers = headers::to_client(&parts.headers);
    parts.version = Version::HTTP_11;
    (parts, body)
}
