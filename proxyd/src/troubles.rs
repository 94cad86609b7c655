//! What the proxy notices of clients that fail, and what each sign means.
//!
//! In come failed handshakes, refusals and connections that ended before anything was asked; out go entries of
//! `bridged::troubles`. Every sign names its cure, because nobody at the client's end sees more than "connection
//! error".

use std::io;
use std::net::IpAddr;

use bridged::identity::IdentityError;
use bridged::troubles::Sign;
use rustls::{AlertDescription, InvalidMessage};

use crate::proxy::Proxy;
use crate::refusal::Refusal;

impl Proxy {
    /// Remembers that `peer`, on its way to `host`, showed `sign`.
    pub(crate) fn trouble(&self, peer: IpAddr, host: &str, sign: &'static Sign) {
        let app = &self.app;
        let providers = app.providers();
        let provider = providers.of_host(host).map(|upstream| &*upstream.name);
        app.metrics.trouble(provider, sign.reason);
        app.troubles
            .note(app.clock.micros(), peer.to_canonical(), host, sign);
    }

    /// Remembers that `peer` has reached `host`.
    pub(crate) fn reached(&self, peer: IpAddr, host: &str) {
        self.app.troubles.solved(peer.to_canonical(), host);
    }

    /// Remembers a refusal, if it is one that the client's user can cure.
    pub(crate) fn refused(&self, peer: IpAddr, host: Option<&str>, refusal: &Refusal) {
        if let Some(sign) = of_refusal(refusal) {
            self.trouble(peer, host.unwrap_or_default(), sign);
        }
    }
}

/// What a failed handshake with a client means.
pub(crate) fn of_handshake(error: &io::Error) -> &'static Sign {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => &NOT_TLS,
        None if error.kind() == io::ErrorKind::UnexpectedEof => &CLIENT_LEFT,
        _ => &HANDSHAKE,
    }
}

fn of_alert(alert: AlertDescription) -> &'static Sign {
    match alert {
        AlertDescription::UnknownCA => &UNKNOWN_CA,
        AlertDescription::BadCertificate => &BAD_CERTIFICATE,
        AlertDescription::CertificateUnknown => &CERTIFICATE_UNKNOWN,
        AlertDescription::CertificateExpired => &CERTIFICATE_EXPIRED,
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => &OLD_TLS,
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => &CLIENT_LEFT,
        _ => &HANDSHAKE,
    }
}

fn of_refusal(refusal: &Refusal) -> Option<&'static Sign> {
    Some(match refusal {
        Refusal::Identity(IdentityError::Missing) => &TOKEN_MISSING,
        Refusal::Identity(IdentityError::Unknown) => &TOKEN_UNKNOWN,
        Refusal::InClear => &IN_CLEAR,
        Refusal::Scheme | Refusal::Form | Refusal::Target(_) => &BAD_TARGET,
        Refusal::Port => &PORT,
        Refusal::Host | Refusal::Denied => &HOST,
        Refusal::Address => &ADDRESS,
        Refusal::Loop => &LOOP,
        Refusal::Resolve(_) => &NO_NAME,
        Refusal::Dial(_) | Refusal::Slow | Refusal::Chain(_) => &UNREACHABLE,
        _ => return None,
    })
}

const TRUST: &str = "let it trust the gateway's CA: `causeway env --client NAME` prints the variable or setting \
                     (NODE_EXTRA_CA_CERTS for Node, SSL_CERT_FILE for Python and Go, CODEX_CA_CERTIFICATE for \
                     Codex), `causeway ca install` the way into the system's store";

static UNKNOWN_CA: Sign = Sign {
    reason: "unknown_ca",
    story: "aborted the handshake with `unknown_ca`: it does not trust this CA",
    cure: TRUST,
    fleeting: false,
};
static BAD_CERTIFICATE: Sign = Sign {
    reason: "bad_certificate",
    story: "aborted the handshake with `bad_certificate`: it does not trust this CA, or pins another",
    cure: TRUST,
    fleeting: false,
};
static CERTIFICATE_UNKNOWN: Sign = Sign {
    reason: "certificate_unknown",
    story: "aborted the handshake with `certificate_unknown`: it does not trust this CA",
    cure: TRUST,
    fleeting: false,
};
static CERTIFICATE_EXPIRED: Sign = Sign {
    reason: "certificate_expired",
    story: "aborted the handshake with `certificate_expired`: the CA has ended, or its clock is wrong",
    cure: "set the clocks of the client and of the gateway; `causeway ca show` tells how long the CA is valid",
    fleeting: false,
};
static OLD_TLS: Sign = Sign {
    reason: "handshake_failure",
    story: "and the gateway found no TLS version or cipher in common",
    cure: "update the client: TLS 1.2 is the oldest version that is spoken here",
    fleeting: false,
};
static CLIENT_LEFT: Sign = Sign {
    reason: "client_left",
    story: "closed the connection during the handshake without a word: some clients do so when they do not trust \
            this CA, others when they need the connection no more",
    cure: TRUST,
    fleeting: true,
};
/// The client said nothing for too long during a handshake.
pub(crate) static SLOW: Sign = Sign {
    reason: "handshake_timeout",
    story: "did not finish the handshake in time",
    cure: "look for a firewall or another proxy between the client and the gateway that holds connections back",
    fleeting: true,
};
static HANDSHAKE: Sign = Sign {
    reason: "handshake_failed",
    story: "sent what the gateway could not take for a TLS handshake",
    cure: "look for another program between the client and the gateway that changes what is sent",
    fleeting: false,
};
static NOT_TLS: Sign = Sign {
    reason: "not_tls",
    story: "spoke without TLS where TLS begins",
    cure: "use https:// in the client's base URL; a proxy with TLS is https://HOST:PORT, one without http://HOST:PORT",
    fleeting: false,
};
/// TLS began on the port that does not speak it.
pub(crate) static TLS_ON_PLAIN_PORT: Sign = Sign {
    reason: "tls_on_plain_port",
    story: "began TLS on the proxy port that speaks none",
    cure: "write the proxy's address with http://, or point the client to the port of [proxy.tls]",
    fleeting: false,
};
/// A connection was intercepted and nothing was asked on it.
pub(crate) static NO_REQUEST: Sign = Sign {
    reason: "no_request",
    story: "finished the handshake and left without a request: it may pin the provider's certificate, or have \
            opened the connection to have it ready",
    cure: "if the client does not work, let it trust the CA where it keeps its own list (`causeway env --client \
           NAME`); pinned certificates cannot be intercepted",
    fleeting: true,
};
static TOKEN_MISSING: Sign = Sign {
    reason: "token_missing",
    story: "sent a CONNECT without credentials",
    cure: "put a gateway token into the proxy's URL, http://x:TOKEN@HOST:PORT (a client that asks again with \
           credentials is in order)",
    fleeting: true,
};
static TOKEN_UNKNOWN: Sign = Sign {
    reason: "token_unknown",
    story: "sent credentials that are unknown, expired or revoked",
    cure: "make a new token with `causeway token create --user NAME` and put it into the proxy's URL",
    fleeting: false,
};
static IN_CLEAR: Sign = Sign {
    reason: "claimed_host_in_clear",
    story: "asked for an AI provider by http://, which would send keys in clear",
    cure: "use https:// in the client's base URL",
    fleeting: false,
};
static BAD_TARGET: Sign = Sign {
    reason: "bad_target",
    story: "asked for a target that is none",
    cure: "the proxy port is no web server and no base URL: set it as HTTPS_PROXY; base URLs begin with the \
           bridge's address",
    fleeting: false,
};
static PORT: Sign = Sign {
    reason: "port_not_allowed",
    story: "asked for a port that is not allowed",
    cure: "add the port to proxy.allowed-ports",
    fleeting: false,
};
static HOST: Sign = Sign {
    reason: "host_not_allowed",
    story: "asked for a host that the operator does not allow",
    cure: "add the host to proxy.allow-hosts or take it out of proxy.deny-hosts, if it is needed",
    fleeting: false,
};
static ADDRESS: Sign = Sign {
    reason: "address_not_allowed",
    story: "asked for a private address",
    cure: "add the host to the client's NO_PROXY, or its network to proxy.allow-private",
    fleeting: false,
};
static LOOP: Sign = Sign {
    reason: "loop",
    story: "asked the gateway for the gateway itself",
    cure: "add the gateway's address to the client's NO_PROXY",
    fleeting: false,
};
static NO_NAME: Sign = Sign {
    reason: "host_not_found",
    story: "asked for a host that cannot be found from here",
    cure: "check the name, and the name servers of the gateway's machine",
    fleeting: false,
};
static UNREACHABLE: Sign = Sign {
    reason: "host_unreachable",
    story: "asked for a host that cannot be reached from here",
    cure: "check the gateway's way out: firewall, or the organisation's proxy in proxy.upstream-proxy",
    fleeting: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_apart_from_silence_and_from_noise() {
        let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, want) in [
            (
                tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
                "unknown_ca",
            ),
            (
                tls(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)),
                "handshake_failure",
            ),
            (
                tls(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
                "not_tls",
            ),
            (io::Error::from(io::ErrorKind::UnexpectedEof), "client_left"),
            (
                io::Error::from(io::ErrorKind::ConnectionReset),
                "handshake_failed",
            ),
        ] {
            assert_eq!(of_handshake(&error).reason, want, "{error}");
        }
    }
}
