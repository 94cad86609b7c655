//! Absolute-form requests (`GET http://host/path`): forwarded under the same policy and guard as tunnels.
//!
//! In comes a request whose URI names the host; out goes the host's reply as it streams. `Host` is made from the
//! URI (RFC 9112 section 3.2.2), hop-by-hop and `Proxy-*` fields stay here, both ways. One connection a request:
//! a connection that is reused could mix up two callers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bridged::activity::Activity;
use bridged::headers;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::authority::{Authority, AuthorityError, HTTP_PORT};
use crate::dial;
use crate::policy;
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::reply::{EndOnDrop, Forwarded, Reply};
use crate::rules::Rules;
use crate::upstream_proxy::{Chain, ChainError};
use crate::watched::Watched;
use crate::wire::Wire;

/// Forwards a request.
pub(crate) async fn forward(
    (proxy, rules): (&Arc<Proxy>, &Rules),
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<Reply>, Refusal> {
    let target = target(request.uri())?;
    check_coding(&request)?;
    let caller = policy::judge_clear((proxy, rules), &target, request.headers(), peer).await?;
    let slot = proxy.slots.take(caller, rules.most_tunnels())?;
    let chain = rules.chain_for(&target, &proxy.listeners)?;
    let wire = match chain {
        Some(chain) => chain.open(proxy).await?,
        None => Wire::from(dial::direct(proxy, rules, &target).await?),
    };
    proxy.metrics.forwarded.increment(1);
    let mut request = request;
    rules.snapshot.identity.strip(request.headers_mut());
    let request = outgoing(request, &target, chain);
    let (response, connection) = exchange(proxy, wire, request, rules.config.tunnel_idle).await?;
    if chain.is_some() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(ChainError::Credentials.into());
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::Switched);
    }
    let (mut head, body) = response.into_parts();
    head.headers = headers::to_client(&head.headers);
    head.version = Version::HTTP_11;
    let forwarded = Forwarded {
        body,
        _connection: connection,
        _slot: slot,
    };
    Ok(Response::from_parts(head, Reply::Forwarded(Box::new(forwarded))))
}

fn target(uri: &Uri) -> Result<Authority, Refusal> {
    if uri.scheme_str() != Some("http") {
        return Err(Refusal::Scheme);
    }
    let authority = uri.authority().ok_or(AuthorityError::Host)?;
    Ok(Authority::parse_or(authority.as_str(), HTTP_PORT)?)
}

/// Whatever else a body is encoded with would be lost with the field that says so.
fn check_coding<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::Coding),
    }
}

/// The request as it goes on: to the host itself in origin form, to another proxy in absolute form.
fn outgoing<B>(request: Request<B>, target: &Authority, chain: Option<&Chain>) -> Request<B> {
    let (mut head, body) = request.into_parts();
    let mut fields = http::HeaderMap::with_capacity(head.headers.len() + 2);
    let host = target.without(HTTP_PORT);
    // A parsed target has only characters that a field may have.
    if let Ok(host) = HeaderValue::from_str(&host) {
        fields.insert(HOST, host);
    }
    if let Some(value) = chain.and_then(|chain| chain.settings().authorization()) {
        fields.insert(PROXY_AUTHORIZATION, value);
    }
    fields.extend(headers::to_upstream(&head.headers));
    head.headers = fields;
    head.version = Version::HTTP_11;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = match chain {
        Some(_) => format!("http://{host}{path}"),
        None => path.to_owned(),
    };
    head.uri = uri.parse().unwrap_or_default();
    Request::from_parts(head, body)
}

/// Sends the request and waits for the head of its reply. The connection lives on for the reply's body.
async fn exchange(
    proxy: &Arc<Proxy>,
    wire: Wire,
    request: Request<Incoming>,
    idle: Duration,
) -> Result<(Response<Incoming>, EndOnDrop), Refusal> {
    let wire = Watched::new(wire, &proxy.metrics);
    let activity = wire.activity();
    let handshake = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(wire));
    let (mut sender, connection) = handshake.await.map_err(Refusal::Broken)?;
    let driver = drive(connection, activity.clone(), idle);
    let connection = EndOnDrop::from(proxy.app.tracker.spawn(driver));
    match sender.send_request(request).await {
        Ok(response) => Ok((response, connection)),
        Err(_) if activity.is_silent(idle) => Err(Refusal::Slow),
        Err(error) => Err(Refusal::Broken(error)),
    }
}

async fn drive(connection: impl Future<Output = hyper::Result<()>>, activity: Arc<Activity>, idle: Duration) {
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "a forwarded connection ended");
            }
        }
        () = activity.silent_for(idle) => tracing::debug!("a forwarded request fell silent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_without_credentials_are_forwarded() {
        for (uri, want) in [
            ("http://example.test/x?y", Some("example.test:80")),
            ("HTTP://Example.TEST:8080", Some("example.test:8080")),
            ("http://[2001:db8::1]/", Some("[2001:db8::1]:80")),
            ("https://example.test/", None),
            ("ftp://example.test/", None),
            ("http://user:pass@example.test/", None),
            ("http://2130706433/", None),
            ("http://example.test:0/", None),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let target = target(&uri).ok().map(|target| target.to_string());
            assert_eq!(target.as_deref(), want, "{uri}");
        }
    }

    #[test]
    fn host_comes_from_the_uri_and_credentials_stay_here() {
        let request = Request::get("http://example.test:80/a?b")
            .header(HOST, "other.test")
            .header(PROXY_AUTHORIZATION, "Basic eDp5")
            .header("proxy-connection", "keep-alive")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-kept", "1")
            .body(())
            .unwrap();
        let target = target(request.uri()).unwrap();
        let request = outgoing(request, &target, None);
        assert_eq!(request.uri(), "/a?b");
        let fields: Vec<_> = request.headers().iter().collect();
        let expected = [("host", "example.test"), ("x-kept", "1")];
        assert_eq!(fields.len(), expected.len(), "{fields:?}");
        for (name, value) in expected {
            assert_eq!(request.headers()[name], value);
        }
    }

    #[test]
    fn codings_other_than_chunked_are_refused() {
        for (values, want) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["gzip, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["identity"], false),
        ] {
            let mut request = Request::new(());
            for value in values {
                let value = HeaderValue::from_static(value);
                request.headers_mut().append(TRANSFER_ENCODING, value);
            }
            assert_eq!(check_coding(&request).is_ok(), want, "{values:?}");
        }
    }
}
