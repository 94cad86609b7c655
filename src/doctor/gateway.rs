//! The gateway as a client meets it: its port, its door, its certificate, its protocols.

use std::io;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use super::subject::Subject;
use super::{Finding, files, tls};
use crate::failure;
use crate::probe::{self, ConnectError};

/// A gateway runs and takes requests.
pub(super) async fn runs(subject: &Subject) -> Vec<Finding> {
    if let Some((running, error)) = &subject.hangs {
        let (pid, address) = (running.pid, running.metrics);
        return vec![Finding::wrong(
            format!("process {pid} does not answer on {address}: {error}"),
            format!("look into its log; if it hangs, end it (kill {pid}) and start it again"),
        )];
    }
    let (Some(running), Some(readiness)) = (&subject.running, &subject.readiness) else {
        return vec![does_not_run(subject).await];
    };
    let (pid, proxy) = (running.pid, running.proxy);
    let log = "look into its log, or start it again";
    let says = String::from_utf8_lossy(&readiness.body).trim().to_owned();
    if readiness.status != 200 {
        return vec![Finding::wrong(format!("process {pid} is not ready: {says}"), log)];
    }
    let mut findings = vec![match probe::within(TcpStream::connect(proxy)).await {
        Ok(_) => Finding::fine(format!("process {pid} listens on {proxy}")),
        Err(error) => Finding::wrong(format!("its proxy port {proxy} cannot be reached: {error}"), log),
    }];
    // It serves, and something is amiss.
    let reasons = says.lines().filter(|line| line.starts_with("degraded: "));
    findings.extend(reasons.map(Finding::hint));
    findings
}

async fn does_not_run(subject: &Subject) -> Finding {
    let folder = subject.config.data_dir.display();
    let text = format!("no gateway runs on {folder}");
    for (key, address) in [
        ("proxy.listen", subject.config.proxy.listen),
        ("bridge.listen", subject.config.bridge.listen),
        ("metrics.listen", subject.config.bridge.metrics_listen),
    ] {
        if TcpListener::bind(address)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        {
            return Finding::wrong(
                format!("{text}, and another program listens on {address}"),
                format!(
                    "if that is a gateway, name its folder with --data-dir; else end that program, or set {key} to \
                     another port"
                ),
            );
        }
    }
    Finding::wrong(
        text,
        "start `causeway serve`, or start the client with `causeway run -- …`, which brings its own gateway",
    )
}

/// The token opens the proxy.
pub(super) async fn knows_the_token(subject: &Subject) -> Vec<Finding> {
    let path = subject.place.token.display();
    let Some(token) = &subject.token else {
        let cure = "start `causeway serve` once: it makes the first token";
        return vec![Finding::wrong(format!("{path} cannot be read"), cure)];
    };
    let Some(running) = &subject.running else {
        return Vec::new();
    };
    opens(subject, running.proxy, token, &format!("the token in {path}")).await
}

/// Whether `token`, told as `name`, opens the proxy at `proxy` for a claimed host.
pub(super) async fn opens(
    subject: &Subject,
    proxy: std::net::SocketAddr,
    token: &str,
    name: &str,
) -> Vec<Finding> {
    let Some((host, port)) = subject.claimed() else {
        return Vec::new();
    };
    let target = format!("{host}:{port}");
    vec![match probe::connect(proxy, &target, Some(token)).await {
        Ok(_) => Finding::fine(format!("the proxy takes {name}")),
        Err(ConnectError::Refused { status: 407, .. }) => Finding::wrong(
            format!("the proxy does not take {name}: it is unknown, expired or revoked"),
            "make a new one with `causeway token create --user NAME`, and use it as the password of the proxy's URL",
        ),
        Err(error) => Finding::wrong(
            format!("CONNECT {target} fails: {}", failure::chain(&error)),
            "look into the gateway's log for the reason",
        ),
    }]
}

/// What the process signs with is what the file says.
pub(super) async fn signs_with_the_ca(subject: &Subject) -> Vec<Finding> {
    let (Some(running), Ok(own)) = (&subject.running, tls::certificates(&subject.place.ca)) else {
        return Vec::new();
    };
    let Ok(answer) = probe::get(running.bridge, "/ca.pem", None).await else {
        return Vec::new();
    };
    let shown: Vec<_> = CertificateDer::pem_slice_iter(&answer.body).flatten().collect();
    let path = subject.place.ca.display();
    vec![if files::holds(&shown, &own) {
        Finding::fine(format!("the gateway signs with the CA in {path}"))
    } else {
        Finding::wrong(
            format!("the gateway signs with another CA than that in {path}"),
            format!("have it read the file again: kill -HUP {}", running.pid),
        )
    }]
}

/// An intercepted connection to `host` as a client that trusts the CA alone opens it.
async fn intercepted(
    subject: &Subject,
    protocols: &[&[u8]],
) -> Option<(String, io::Result<TlsStream<TcpStream>>)> {
    let (running, token) = subject.reachable()?;
    let (host, port) = subject.claimed()?;
    let tcp = probe::connect(running.proxy, &format!("{host}:{port}"), Some(token))
        .await
        .ok()?;
    let own = tls::certificates(&subject.place.ca).ok()?;
    Some((host.to_owned(), tls::connect(tcp, host, own, protocols).await))
}

/// Certificate and HTTP/2 of an intercepted host.
pub(super) async fn intercepts(subject: &Subject) -> Vec<Finding> {
    let Some((host, stream)) = intercepted(subject, &[b"h2", b"http/1.1"]).await else {
        return Vec::new();
    };
    match stream {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            vec![Finding::fine(format!(
                "{host} is intercepted with a certificate of the CA, over HTTP/2"
            ))]
        }
        Ok(_) => vec![Finding::wrong(
            format!("{host} is intercepted without HTTP/2"),
            "look for another proxy between this machine and the gateway",
        )],
        Err(error) => vec![Finding::wrong(
            format!("TLS with {host} through the gateway fails: {error}"),
            "if the CA was replaced, have the gateway read it again (SIGHUP); else look for another proxy in between",
        )],
    }
}

/// A WebSocket's opening goes through to the upstream and an answer comes back.
pub(super) async fn passes_upgrades(subject: &Subject) -> Vec<Finding> {
    let Some((host, Ok(stream))) = intercepted(subject, &[b"http/1.1"]).await else {
        return Vec::new();
    };
    let request = Request::get("/")
        .header("host", &host)
        .header("user-agent", "causeway-doctor")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "Y2F1c2V3YXktZG9jdG9yIQ==")
        .body(Full::<Bytes>::default());
    let Ok(request) = request else {
        return Vec::new();
    };
    let cure = "if the upstream is reachable (below), look into the gateway's log";
    vec![match probe::send(stream, request).await {
        Ok(answer) => match answer.header("x-causeway-reason") {
            None => Finding::fine(format!(
                "{host} answers a WebSocket's opening with {}",
                answer.status
            )),
            Some(reason) => Finding::wrong(
                format!("a WebSocket's opening does not get to {host}: {reason}"),
                cure,
            ),
        },
        Err(error) => Finding::wrong(
            format!("a WebSocket's opening to {host} gets no answer: {error}"),
            cure,
        ),
    }]
}
