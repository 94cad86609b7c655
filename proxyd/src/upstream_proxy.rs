//! The organisation's own proxy, which tunnels may have to go through: CONNECT to it, over TCP or TLS, with Basic
//! credentials.
//!
//! Only what is not intercepted goes this way. The credentials are in no message, log line or `Debug` output.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bridged::secret::Secret;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::authority::{Authority, HTTP_PORT, HTTPS_PORT};
use crate::dial;
use crate::hosts::HostList;
use crate::proxy::{Proxy, ProxyError};
use crate::refusal::Refusal;
use crate::reply::{EndOnDrop, Reply};
use crate::wire::Wire;

/// Deadline for reaching the proxy, TLS included.
const DIAL: Duration = Duration::from_secs(10);
/// Deadline for its answer to a CONNECT; it dials in this time.
const ANSWER: Duration = Duration::from_secs(10);
/// Above it, the head of its answer is read no further, in bytes.
const HEAD_LIMIT: usize = 64 << 10;

/// `upstream-proxy` and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamProxy {
    /// Where it is.
    pub(crate) address: Authority,
    /// Whether it is spoken to over TLS.
    pub(crate) tls: bool,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
    /// Trusted beside the system's roots.
    pub(crate) ca: Option<PathBuf>,
    /// What is reached without it.
    pub(crate) exempt: HostList,
}

impl UpstreamProxy {
    /// Reads `http://USER:PASSWORD@HOST:PORT` or the same with `https`.
    pub fn parse(url: &Secret) -> Option<UpstreamProxy> {
        let uri: Uri = url.expose().trim().parse().ok()?;
        let (tls, default) = match uri.scheme_str()? {
            "http" => (false, HTTP_PORT),
            "https" => (true, HTTPS_PORT),
            _ => return None,
        };
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return None;
        }
        let authority = uri.authority()?.as_str();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let authorization = match user {
            Some(user) => Some(Secret::new(basic(user)?)),
            None => None,
        };
        Some(UpstreamProxy {
            address: Authority::parse_or(place, default).ok()?,
            tls,
            authorization,
            ca: None,
            exempt: HostList::default(),
        })
    }

    /// The value of `Proxy-Authorization` for this proxy.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.authorization.as_ref()?.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// The Basic credentials in `user:password`, percent-encoded as URLs have them.
fn basic(user_info: &str) -> Option<String> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let (mut pair, password) = (percent_decoded(user)?, percent_decoded(password)?);
    // RFC 7617 section 2: the first colon ends the name.
    if pair.is_empty() || pair.contains(&b':') {
        return None;
    }
    pair.push(b':');
    pair.extend(password);
    Some(format!("Basic {}", STANDARD.encode(pair)))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

/// Why the organisation's proxy opened no way to a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChainError {
    /// It cannot be reached.
    #[error("the organisation's proxy cannot be reached")]
    Unreachable(#[source] Box<Refusal>),
    /// TLS with it failed.
    #[error("TLS with the organisation's proxy failed")]
    Tls(#[source] io::Error),
    /// It did not answer in time.
    #[error("the organisation's proxy did not answer in time")]
    Slow,
    /// What it says is no answer to a CONNECT.
    #[error("the organisation's proxy did not answer in HTTP")]
    Broken(#[source] hyper::Error),
    /// It does not know the gateway.
    #[error("the organisation's proxy does not accept the gateway's credentials")]
    Credentials,
    /// It refused.
    #[error("the organisation's proxy answered {}", .0.as_u16())]
    Refused(StatusCode),
}

impl ChainError {
    /// A 407 of that proxy is never passed on: the client would be asked for a password that is not its own.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            ChainError::Slow => StatusCode::GATEWAY_TIMEOUT,
            ChainError::Refused(status @ (StatusCode::FORBIDDEN | StatusCode::GATEWAY_TIMEOUT)) => *status,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            ChainError::Unreachable(_) | ChainError::Tls(_) => "upstream_proxy_unreachable",
            ChainError::Slow => "upstream_proxy_timeout",
            ChainError::Broken(_) => "upstream_proxy_broken",
            ChainError::Credentials => "upstream_proxy_credentials",
            ChainError::Refused(_) => "upstream_proxy_refused",
        }
    }
}

/// The organisation's proxy, ready for use.
pub(crate) struct Chain {
    settings: UpstreamProxy,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chain").field(&self.settings).finish()
    }
}

impl Chain {
    /// Loads what TLS needs, if the proxy is spoken to over TLS.
    pub(crate) fn new(settings: UpstreamProxy) -> Result<Chain, ProxyError> {
        let tls = match settings.tls {
            true => Some((
                connector(settings.ca.as_deref())?,
                server_name(&settings.address)?,
            )),
            false => None,
        };
        Ok(Chain { settings, tls })
    }

    pub(crate) fn settings(&self) -> &UpstreamProxy {
        &self.settings
    }

    /// A connection to the proxy itself.
    pub(crate) async fn open(&self, proxy: &Proxy) -> Result<Wire, ChainError> {
        tokio::time::timeout(DIAL, self.connect(proxy))
            .await
            .unwrap_or(Err(ChainError::Slow))
    }

    async fn connect(&self, proxy: &Proxy) -> Result<Wire, ChainError> {
        let tcp = dial::configured(proxy, &self.settings.address)
            .await
            .map_err(|refusal| ChainError::Unreachable(Box::new(refusal)))?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Wire::from(tcp));
        };
        let stream = connector.connect(name.clone(), tcp).await;
        Ok(Wire::from(TlsStream::from(stream.map_err(ChainError::Tls)?)))
    }

    /// A tunnel through the proxy to `target`. What the target said already is the first to be read from it.
    pub(crate) async fn tunnel(&self, proxy: &Proxy, target: &Authority) -> Result<Wire, Refusal> {
        let wire = self.open(proxy).await?;
        let answer = tokio::time::timeout(ANSWER, self.ask(proxy, wire, target)).await;
        Ok(answer.unwrap_or(Err(ChainError::Slow))?)
    }

    async fn ask(&self, proxy: &Proxy, wire: Wire, target: &Authority) -> Result<Wire, ChainError> {
        let handshake = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake::<_, Reply>(TokioIo::new(wire));
        let (mut sender, connection) = handshake.await.map_err(ChainError::Broken)?;
        let _connection = EndOnDrop::from(proxy.app.tracker.spawn(connection.with_upgrades()));
        let response = sender.send_request(self.request(target)).await;
        let response = response.map_err(ChainError::Broken)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(ChainError::Credentials),
            status => return Err(ChainError::Refused(status)),
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(ChainError::Broken)?;
        match upgraded.downcast::<TokioIo<Wire>>() {
            Ok(parts) => {
                let mut wire = parts.io.into_inner();
                wire.unread(parts.read_buf);
                Ok(wire)
            }
            // Not reached: the connection was made of a `Wire`.
            Err(upgraded) => Ok(Wire::from_upgraded(upgraded)),
        }
    }

    fn request(&self, target: &Authority) -> Request<Reply> {
        let text = target.to_string();
        let mut request = Request::new(Reply::empty());
        *request.method_mut() = Method::CONNECT;
        if let (Ok(uri), Ok(host)) = (text.parse(), HeaderValue::from_str(&text)) {
            *request.uri_mut() = uri;
            request.headers_mut().insert(HOST, host);
        }
        if let Some(value) = self.settings.authorization() {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        request
    }
}

/// Whether a name means this machine wherever it is looked up (RFC 6761 section 6.3).
pub(crate) fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

fn server_name(address: &Authority) -> Result<ServerName<'static>, ProxyError> {
    ServerName::try_from(address.host.to_string()).map_err(|_| ProxyError::UpstreamProxyName)
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, ProxyError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let failed = || ProxyError::UpstreamProxyCa {
            path: path.to_owned(),
        };
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|_| failed())?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(failed());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Option<(String, bool, Option<String>)> {
        let proxy = UpstreamProxy::parse(&Secret::new(url))?;
        let value = proxy
            .authorization()
            .map(|value| value.to_str().unwrap().to_owned());
        Some((proxy.address.to_string(), proxy.tls, value))
    }

    #[test]
    fn proxy_urls_are_read_with_their_credentials() {
        let basic = |pair: &str| Some(format!("Basic {}", STANDARD.encode(pair)));
        for (url, address, tls, authorization) in [
            ("http://proxy.corp:3128", "proxy.corp:3128", false, None),
            ("http://proxy.corp", "proxy.corp:80", false, None),
            ("https://proxy.corp/", "proxy.corp:443", true, None),
            (
                "http://u:p@proxy.corp:3128",
                "proxy.corp:3128",
                false,
                basic("u:p"),
            ),
            ("http://u@proxy.corp:3128", "proxy.corp:3128", false, basic("u:")),
            (
                "https://dom%5Cu:p%40ss%3a%C3%A9@[2001:db8::1]:8443",
                "[2001:db8::1]:8443",
                true,
                basic("dom\\u:p@ss:é"),
            ),
        ] {
            assert_eq!(
                parse(url),
                Some((address.to_owned(), tls, authorization)),
                "{url}"
            );
        }
    }

    #[test]
    fn other_urls_are_no_proxies() {
        for url in [
            "",
            "proxy.corp:3128",
            "socks5://proxy.corp:1080",
            "http://proxy.corp:3128/path",
            "http://proxy.corp:3128?x",
            "http://proxy.corp:0",
            "http://:3128",
            "http://u:p%4@proxy.corp",
            "http://u%3A:p@proxy.corp",
            "http://:p@proxy.corp",
        ] {
            assert_eq!(parse(url), None, "{url}");
        }
    }

    #[test]
    fn credentials_never_print() {
        let proxy = UpstreamProxy::parse(&Secret::new("http://user:hunter2@proxy.corp:3128")).unwrap();
        let text = format!("{proxy:?}");
        let encoded = STANDARD.encode("user:hunter2");
        assert!(!text.contains("hunter2") && !text.contains(&encoded), "{text}");
        assert!(text.contains("proxy.corp"), "{text}");
        assert_eq!(format!("{:?}", proxy.authorization().unwrap()), "Sensitive");
    }
}
