//! The headers of a WebSocket's handshake, on its way to the upstream and back.
//!
//! In come a client's headers, over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441); out go those of an HTTP/1.1
//! handshake, and back those of an answer in the client's version. Invariant: on a socket of AI calls no extension
//! is offered and none is accepted, so that its frames stay readable.

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};

use crate::body::ReplyBody;
use crate::exchange;
use crate::headers;
use crate::refusal::Refusal;
use crate::upstream::UpstreamBody;

/// What a server appends to the key (RFC 6455 section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake with an upstream.
#[derive(Debug)]
pub(super) struct Handshake {
    /// The key that was made here, because HTTP/2 has none.
    key: Option<HeaderValue>,
    /// Whether the socket carries AI calls.
    bridged: bool,
    over_http2: bool,
}

impl Handshake {
    /// Begins one; its headers come with it.
    pub(super) fn begin(
        client: &HeaderMap,
        over_http2: bool,
        bridged: bool,
    ) -> Result<(Handshake, HeaderMap), Refusal> {
        let mut out = headers::to_upstream(client);
        if bridged {
            // What is to be recorded must stay readable; compression is the client's offer, not its need.
            out = without(&out, &SEC_WEBSOCKET_EXTENSIONS);
        }
        out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let key = if over_http2 { Some(new_key()?) } else { None };
        if let Some(key) = &key {
            // HTTP/2 has neither key nor version of its own (RFC 8441 section 5).
            out.insert(SEC_WEBSOCKET_KEY, key.clone());
            out.entry(SEC_WEBSOCKET_VERSION)
                .or_insert(HeaderValue::from_static("13"));
        }
        let handshake = Handshake {
            key,
            bridged,
            over_http2,
        };
        Ok((handshake, out))
    }

    /// Whether an answer that switches does so as it was asked to. The client judges its own key.
    pub(super) fn is_accepted(&self, answer: &HeaderMap) -> bool {
        let agreed = !self.bridged || !answer.contains_key(SEC_WEBSOCKET_EXTENSIONS);
        agreed && self.key.as_ref().is_none_or(|key| answers_key(answer, key))
    }

    /// The client's answer where the upstream gave another than 101; none if the client would misread it.
    pub(super) fn refused(&self, response: Response<UpstreamBody>) -> Option<Response<ReplyBody>> {
        if self.over_http2 && response.status().is_success() {
            // To the client it would mean that the socket is open.
            return None;
        }
        let (parts, body) = exchange::to_client(response);
        Some(Response::from_parts(parts, ReplyBody::Passed(Box::new(body))))
    }

    /// The answer that opens the socket.
    pub(super) fn opened(&self, response: Response<UpstreamBody>) -> Response<ReplyBody> {
        let (mut parts, _) = exchange::to_client(response);
        if self.over_http2 {
            parts.status = StatusCode::OK;
            parts.headers = without(&parts.headers, &SEC_WEBSOCKET_ACCEPT);
        } else {
            let head = &mut parts.headers;
            head.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            head.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Response::from_parts(parts, ReplyBody::empty())
    }
}

/// Whether a list field has an element, whatever its case.
pub(super) fn names(headers: &HeaderMap, field: &HeaderName, element: &str) -> bool {
    headers
        .get_all(field)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
}

/// A copy without a field; removal would reorder the rest.
fn without(headers: &HeaderMap, field: &HeaderName) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| *name != field) {
        out.append(name.clone(), value.clone());
    }
    out
}

fn new_key() -> Result<HeaderValue, Refusal> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| Refusal::NoRandomness)?;
    HeaderValue::from_str(&STANDARD.encode(nonce)).map_err(|_| Refusal::NoRandomness)
}

/// Whether the upstream has read the key (RFC 6455 section 4.1).
fn answers_key(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(ACCEPT_SUFFIX);
    let want = STANDARD.encode(hash.finish());
    headers
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_some_and(|value| value.as_bytes() == want.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        let mut headers = HeaderMap::new();
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert!(!answers_key(&headers, &key));
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        assert!(answers_key(&headers, &key));
        assert!(!answers_key(&headers, &HeaderValue::from_static("x")));
    }

    #[test]
    fn only_a_bridged_socket_loses_its_compression() {
        let mut client = HeaderMap::new();
        let deflate = HeaderValue::from_static("permessage-deflate");
        client.insert(SEC_WEBSOCKET_EXTENSIONS, deflate.clone());
        client.insert("x-codex-turn-state", HeaderValue::from_static("s"));
        for (over_http2, bridged) in [(false, false), (false, true), (true, false), (true, true)] {
            let (handshake, asked) = Handshake::begin(&client, over_http2, bridged).unwrap();
            assert_eq!(asked.contains_key(SEC_WEBSOCKET_EXTENSIONS), !bridged);
            assert_eq!(handshake.key.as_ref(), asked.get(SEC_WEBSOCKET_KEY));
            assert_eq!(handshake.key.is_some(), over_http2);
            assert_eq!(asked["x-codex-turn-state"], "s");
            assert_eq!(
                (&asked[CONNECTION], &asked[UPGRADE]),
                (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
            );
            let mut answer = HeaderMap::new();
            answer.insert(SEC_WEBSOCKET_EXTENSIONS, deflate.clone());
            assert_eq!(
                handshake.is_accepted(&answer),
                !bridged && !over_http2,
                "an extension that was not offered ends the handshake"
            );
        }
    }
}
