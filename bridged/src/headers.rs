//! The header rules: what goes to an upstream, what comes back to a client.
//!
//! Both directions build a new map in the old order, because removal from a `HeaderMap` reorders it. Names
//! that this project owns are constants here. Invariant: no internal header and no gateway token ever passes
//! `to_upstream`.

use http::header::{
    ALT_SVC, CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

use crate::token;

/// The gateway token, apart from the user's own credentials.
pub const GATEWAY_TOKEN: HeaderName = HeaderName::from_static("x-coder-ai-governance-token");
/// Anthropic's and some others' key header.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The request's id, on every reply.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-causeway-request-id");
/// Why the gateway itself refused, in one word.
pub const REASON: HeaderName = HeaderName::from_static("x-causeway-reason");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Prefixes of internal headers; `HeaderName` is lower-case already.
const INTERNAL: [&str; 4] = ["x-coder-", "coder-", "x-ai-bridge-actor", "proxy-"];

/// The client's headers as an upstream gets them: less hop-by-hop ones (RFC 9110 section 7.6.1, including those
/// that `Connection` names), `Host`, `Expect` (answered here already), internal ones, and every value that
/// holds a gateway token.
pub fn to_upstream(client: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(client);
    // One place more for the Host that is put in front.
    let mut out = HeaderMap::with_capacity(client.len() + 1);
    for (name, value) in client {
        if *name == TE && takes_trailers(value) && !out.contains_key(TE) {
            // The one thing that `TE` may still ask of the next hop, whether `Connection` names it or not.
            out.append(TE, HeaderValue::from_static("trailers"));
            continue;
        }
        let dropped = is_hop_by_hop(name)
            || *name == HOST
            || *name == EXPECT
            || INTERNAL.iter().any(|prefix| name.as_str().starts_with(prefix))
            || named.iter().any(|text| name.as_str().eq_ignore_ascii_case(text))
            || token::appears_in(value.as_bytes());
        if !dropped {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Whether a header can carry a provider's key: it goes upstream and means nothing else.
pub fn may_carry_a_key(name: &HeaderName) -> bool {
    let other = [HOST, EXPECT, COOKIE, TE].contains(name) || name.as_str().starts_with("content-");
    !(other || is_hop_by_hop(name) || INTERNAL.iter().any(|prefix| name.as_str().starts_with(prefix)))
}

/// The upstream's headers as the client gets them: less hop-by-hop ones and `Alt-Svc`, which would lead the
/// client around the proxy.
pub fn to_client(upstream: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(upstream);
    let mut out = HeaderMap::with_capacity(upstream.len() + 1);
    for (name, value) in upstream {
        let dropped = is_hop_by_hop(name)
            || *name == ALT_SVC
            || named.iter().any(|text| name.as_str().eq_ignore_ascii_case(text));
        if !dropped {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// A copy without the fields that `drop` names; removal from a map would reorder the rest.
pub(crate) fn less(headers: &HeaderMap, drop: impl Fn(&HeaderName, &HeaderValue) -> bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, value)| !drop(name, value)) {
        out.append(name.clone(), value.clone());
    }
    out
}

/// `Trailer` is not among them: it announces fields that pass on with the body.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HTTP2_SETTINGS,
    ]
    .contains(name)
}

fn takes_trailers(value: &HeaderValue) -> bool {
    let codings = value.as_bytes().split(|byte| *byte == b',');
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Joins the fields into which HTTP/2 may split `Cookie`; HTTP/1 knows but one (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        map.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn internal_and_hop_by_hop_headers_stay_here() {
        let token = token::generate().unwrap();
        let bearer = format!("Bearer {}", token.expose());
        let client = map(&[
            ("Host", "api.openai.com"),
            ("X-Coder-AI-Governance-Token", "x"),
            ("X-Coder-Anything", "x"),
            ("Coder-Session-Token", "x"),
            ("X-AI-Bridge-Actor-ID", "x"),
            ("Proxy-Authorization", "x"),
            ("Proxy-Connection", "keep-alive"),
            ("Connection", "close, X-Private"),
            ("X-Private", "x"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
            ("Authorization", &bearer),
            ("anthropic-beta", "a,b"),
            ("TE", "trailers"),
            ("session_id", "1"),
            ("User-Agent", "codex"),
        ]);
        assert_eq!(
            names(&to_upstream(&client)),
            ["anthropic-beta", "te", "session_id", "user-agent"]
        );
    }

    #[test]
    fn nothing_but_trailers_is_asked_of_the_next_hop() {
        for (lines, want) in [
            (&[("TE", "Trailers"), ("Connection", "TE")][..], Some("trailers")),
            (
                &[("TE", "deflate;q=0.5, trailers"), ("TE", "trailers")],
                Some("trailers"),
            ),
            (&[("TE", "gzip")], None),
            (&[("TE", "trailers;q=1")], None),
        ] {
            let sent = to_upstream(&map(lines));
            let all: Vec<&str> = sent.get_all(TE).iter().map(|te| te.to_str().unwrap()).collect();
            assert_eq!(all, want.into_iter().collect::<Vec<_>>(), "{lines:?}");
        }
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = map(&[
            ("cookie", "a=1"),
            ("x", "y"),
            ("cookie", "b=2"),
            ("cookie", "c=3"),
        ]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(headers[COOKIE], "a=1; b=2; c=3");
    }

    #[test]
    fn a_users_own_credential_passes() {
        let client = map(&[
            ("Authorization", "Bearer sk-user"),
            ("x-api-key", "k"),
            ("Cookie", "a=b"),
        ]);
        assert_eq!(
            names(&to_upstream(&client)),
            ["authorization", "x-api-key", "cookie"]
        );
    }

    #[test]
    fn replies_lose_what_leads_around_the_proxy() {
        let upstream = map(&[
            ("alt-svc", "h3=\":443\""),
            ("connection", "keep-alive"),
            ("retry-after", "3"),
            ("x-github-request-id", "1"),
        ]);
        assert_eq!(
            names(&to_client(&upstream)),
            ["retry-after", "x-github-request-id"]
        );
    }
}
