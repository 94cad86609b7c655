//! The way from here to the providers, and their clocks.

use std::io;
use std::time::Duration;

use bridged::clock::Micros;
use bridged::config::ProviderConfig;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use super::subject::Subject;
use super::{Finding, tls};
use crate::probe::{self, Answer};

/// How far two clocks may be apart before certificates and tokens suffer.
const APART: Duration = Duration::from_secs(120);

/// What hinders a request to a provider.
enum Hindrance {
    Name(io::Error),
    Connection(io::Error),
    Tls(io::Error),
    Reply(io::Error),
}

/// Every provider's host has an address, listens, shows a trusted certificate and answers.
pub(super) async fn are_reachable(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (provider, outcome) in ask_all(subject).await {
        let (name, host) = (&provider.instance.name, &provider.instance.base_url.host);
        findings.push(match outcome {
            Ok(answer) => Finding::fine(format!("{name}: {host} answers ({})", answer.status)),
            Err(hindrance) => explain(&format!("{name}: {host}"), &hindrance),
        });
    }
    findings
}

fn explain(what: &str, hindrance: &Hindrance) -> Finding {
    match hindrance {
        Hindrance::Name(error) => Finding::wrong(
            format!("{what} cannot be found: {error}"),
            "check the name servers of this machine",
        ),
        Hindrance::Connection(error) => Finding::wrong(
            format!("{what} cannot be reached: {error}"),
            "open the firewall for the gateway: requests to AI providers go out directly, never through \
             proxy.upstream-proxy",
        ),
        Hindrance::Tls(error) => Finding::wrong(
            format!("{what} shows a certificate that is not trusted: {error}"),
            "if another proxy of the organisation intercepts the gateway, add its CA to upstream.extra-ca; else set \
             the clock",
        ),
        Hindrance::Reply(error) => Finding::wrong(
            format!("{what} does not answer in HTTP: {error}"),
            "check base-url and connect-to of the provider",
        ),
    }
}

/// The providers' clocks and ours agree.
pub(super) async fn agree_on_the_time(subject: &Subject) -> Vec<Finding> {
    let here = Micros::from(subject.now).0;
    for (provider, outcome) in ask_all(subject).await {
        let Some(date) = outcome.ok().and_then(|answer| http_date(answer.header("date")?)) else {
            continue;
        };
        let seconds = (date.0 - here) / 1_000_000;
        let host = &provider.instance.base_url.host;
        if seconds.unsigned_abs() > APART.as_secs() {
            let word = if seconds > 0 { "behind" } else { "ahead of" };
            return vec![Finding::wrong(
                format!(
                    "this machine's clock is {} s {word} that of {host}",
                    seconds.unsigned_abs()
                ),
                "set the clock (NTP): certificates are made for the time that this machine tells",
            )];
        }
        return vec![Finding::fine(format!(
            "this machine and {host} agree within {} s",
            APART.as_secs()
        ))];
    }
    Vec::new()
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7), e.g. `Sun, 22 Nov 2026 08:30:00 GMT`.
fn http_date(text: &str) -> Option<Micros> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Micros::parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}

async fn ask_all(subject: &Subject) -> Vec<(&ProviderConfig, Result<Answer, Hindrance>)> {
    let mut trusted = rustls_native_certs::load_native_certs().certs;
    for path in &subject.config.bridge.upstream.extra_ca {
        trusted.extend(tls::certificates(path).unwrap_or_default());
    }
    let providers: Vec<_> = subject
        .config
        .bridge
        .providers
        .iter()
        .filter(|provider| provider.instance.base_url.scheme == providers::Scheme::Https)
        .collect();
    // All at once: each may take until its deadline.
    let outcomes = join_all(providers.iter().map(|provider| ask(provider, trusted.clone()))).await;
    providers.into_iter().zip(outcomes).collect()
}

/// Asks for nothing in particular: any answer will do.
async fn ask(provider: &ProviderConfig, trusted: Vec<CertificateDer<'static>>) -> Result<Answer, Hindrance> {
    let base = &provider.instance.base_url;
    let address = match provider.connect_to {
        Some(address) => address,
        None => {
            let found = probe::within(tokio::net::lookup_host((base.host.as_str(), base.port))).await;
            let mut found = found.map_err(Hindrance::Name)?;
            found
                .next()
                .ok_or_else(|| Hindrance::Name(io::Error::other("it has no address")))?
        }
    };
    let tcp = probe::within(TcpStream::connect(address))
        .await
        .map_err(Hindrance::Connection)?;
    let stream = tls::connect(tcp, &base.host, trusted, &[b"http/1.1"])
        .await
        .map_err(Hindrance::Tls)?;
    let request = Request::head("/")
        .header("host", &base.host)
        .header("user-agent", "causeway-doctor")
        .body(Full::<Bytes>::default())
        .map_err(|error| Hindrance::Reply(io::Error::other(error)))?;
    probe::send(stream, request).await.map_err(Hindrance::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let date = http_date("Sun, 22 Nov 2026 08:30:00 GMT").unwrap();
        assert_eq!(date.rfc3339(), "2026-11-22T08:30:00.000000Z");
        assert_eq!(http_date("yesterday"), None);
    }
}
