//! The ports of a gateway: each is a socket that was passed, or opened at the address of the configuration.
//!
//! All are taken together, before anything is made. What they really listen on is checked again: a passed socket
//! must not make the open relay that the configuration refuses. `gateway` serves on them.

use std::net::SocketAddr;

use bridged::serve;
use tokio::net::TcpListener;

use crate::config::{self, Config};
use crate::failure::Failure;
use crate::gateway::Addresses;
use crate::systemd::Sockets;

/// One of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Proxy,
    ProxyTls,
    Bridge,
    Metrics,
}

impl Port {
    pub(crate) const ALL: [Port; 4] = [Port::Proxy, Port::ProxyTls, Port::Bridge, Port::Metrics];

    /// What a passed socket for it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Port::Proxy => "proxy",
            Port::ProxyTls => "proxy-tls",
            Port::Bridge => "bridge",
            Port::Metrics => "metrics",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Port::Proxy => "proxy.listen",
            Port::ProxyTls => "proxy.tls.listen",
            Port::Bridge => "bridge.listen",
            Port::Metrics => "metrics.listen",
        }
    }
}

/// Every port of a gateway, open.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) proxy: TcpListener,
    pub(crate) proxy_tls: Option<TcpListener>,
    pub(crate) bridge: TcpListener,
    pub(crate) metrics: TcpListener,
}

impl Ports {
    /// Takes every port. Fails if one is busy, or a passed socket cannot be served as `config` says.
    pub(crate) async fn open(config: &Config, mut sockets: Sockets) -> Result<Ports, Failure> {
        let passed = &mut sockets;
        let ports = Ports {
            proxy: listen(Port::Proxy, config.proxy.listen, passed).await?,
            bridge: listen(Port::Bridge, config.bridge.listen, passed).await?,
            metrics: listen(Port::Metrics, config.bridge.metrics_listen, passed).await?,
            proxy_tls: match &config.proxy.tls {
                Some(tls) => Some(listen(Port::ProxyTls, tls.listen, passed).await?),
                None => None,
            },
        };
        if sockets.take(Port::ProxyTls).is_some() {
            return Err(Failure::usage(
                "a socket `proxy-tls` was passed, and [proxy.tls] is missing",
            ));
        }
        config::refuse_exposure(&config.proxy, ports.addresses()?.of_proxy())?;
        Ok(ports)
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> Result<Addresses, Failure> {
        Ok(Addresses {
            proxy: local(&self.proxy)?,
            proxy_tls: self.proxy_tls.as_ref().map(local).transpose()?,
            bridge: local(&self.bridge)?,
            metrics: local(&self.metrics)?,
        })
    }
}

async fn listen(port: Port, address: SocketAddr, passed: &mut Sockets) -> Result<TcpListener, Failure> {
    if let Some(socket) = passed.take(port) {
        let adopted = socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket));
        let text = format!("the passed socket `{}` cannot be used", port.name());
        return adopted.map_err(|error| Failure::because(&text, error));
    }
    let text = format!("{} must be changed or its port freed", port.key());
    let opened = serve::listen(address).await;
    opened.map_err(|error| Failure::because(&text, error))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::because("a listener has no address", error))
}
