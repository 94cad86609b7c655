//! A reply on its way back: a tap reads it, the relay carries it.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{Response, Version, response};
use providers::{ReplyHead, Tap, TapLimits};

use crate::body::ReplyBody;
use crate::config::Content;
use crate::headers;
use crate::record::Recording;
use crate::relay::Relay;
use crate::upstream::{Upstream, UpstreamBody};

/// The client's reply: the head at once, the body through the tap.
pub(super) fn relay(
    upstream: &Upstream,
    response: Response<UpstreamBody>,
    mut recording: Recording,
) -> Response<ReplyBody> {
    let status = response.status();
    recording.answered(status.as_u16());
    let tap = tap(&recording, &response);
    let (parts, body) = to_client(response);
    let relay = Relay::new(body, tap, recording, status.is_success(), upstream.idle_timeout());
    Response::from_parts(parts, ReplyBody::Tapped(Box::new(relay)))
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
