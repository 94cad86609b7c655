//! What is done to learn a call's usage: a stream that would not report it is asked to, without its client noticing.
//!
//! The edit is one span of the body (`providers::include_usage`); the event that it brings is taken out of the reply
//! again. A body that is encoded, or whose digest is in the headers, goes as it is. An encoded reply could not be
//! filtered, so the edited request asks for a plain one.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};

use super::call::Call;
use crate::upstream::Upstream;

/// Headers that say what the body's bytes are.
const DIGESTS: [HeaderName; 3] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Asks for usage where that is possible and the client has not; true if the event that reports it is to be hidden.
pub(super) fn ask(upstream: &Upstream, call: &mut Call) -> bool {
    let asks = upstream.calls.include_usage && call.inspection.stream && may_be_edited(&call.parts.headers);
    let edit = asks
        .then(|| providers::include_usage(call.api, &call.body))
        .flatten();
    if let Some(edit) = &edit {
        call.body = Bytes::from(edit.apply(&call.body));
        let headers = &mut call.parts.headers;
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(call.body.len()));
        }
        if headers.contains_key(ACCEPT_ENCODING) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
    edit.is_some()
}

fn may_be_edited(headers: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
        && headers.get_all(ACCEPT_ENCODING).iter().all(takes_plain)
}

/// Whether `Accept-Encoding` leaves the choice of no encoding; `identity;q=0` and `*;q=0` forbid it.
fn takes_plain(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let forbids = |coding: &str| {
        let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameter.trim().strip_prefix("q=").map(str::parse::<f32>);
        matches!(name.trim(), "identity" | "*") && matches!(weight, Some(Ok(weight)) if weight <= 0.0)
    };
    !text.split(',').any(forbids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_edited_only_where_nobody_can_miss_a_byte() {
        for (name, value, want) in [
            ("accept-encoding", "gzip, deflate, br, zstd", true),
            ("accept-encoding", "gzip;q=1.0, identity;q=0.5", true),
            ("accept-encoding", "gzip, identity;q=0", false),
            ("accept-encoding", "gzip, *; q=0.0", false),
            ("content-encoding", "identity", true),
            ("content-encoding", "zstd", false),
            ("content-digest", "sha-256=:x:", false),
            ("user-agent", "x", true),
        ] {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(may_be_edited(&headers), want, "{name}: {value}");
        }
    }
}
