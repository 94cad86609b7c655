//! The process's own listeners, so that the proxy does not connect to itself: a request that loops comes back
//! until every socket is used up.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Where this process listens.
#[derive(Clone, Debug, Default)]
pub struct Listeners(Vec<SocketAddr>);

impl Listeners {
    /// The listeners of a process: their addresses after binding.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Listeners {
        Listeners(addresses.into_iter().collect())
    }

    /// Whether a connection to `address` would arrive at one of them.
    pub(crate) fn contain(&self, address: SocketAddr) -> bool {
        self.0
            .iter()
            .any(|own| own.port() == address.port() && is_reached(own.ip(), address.ip()))
    }
}

fn is_reached(own: IpAddr, dialled: IpAddr) -> bool {
    let (own, dialled) = (own.to_canonical(), dialled.to_canonical());
    // Who dials 0.0.0.0 or :: arrives at loopback.
    let at_loopback = dialled.is_unspecified() || dialled.is_loopback();
    own == dialled
        || (dialled.is_unspecified() && own.is_loopback())
        || (own.is_unspecified() && (at_loopback || is_this_machine(dialled)))
}

/// Only an address of this machine can be bound to.
fn is_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_known_in_every_spelling() {
        for (own, dialled, want) in [
            ("127.0.0.1:8888", "127.0.0.1:8888", true),
            ("127.0.0.1:8888", "127.0.0.1:8889", false),
            ("127.0.0.1:8888", "127.0.0.2:8888", false),
            ("127.0.0.1:8888", "[::ffff:127.0.0.1]:8888", true),
            ("127.0.0.1:8888", "0.0.0.0:8888", true),
            ("[::1]:8888", "[::1]:8888", true),
            ("0.0.0.0:8888", "127.0.0.1:8888", true),
            ("0.0.0.0:8888", "127.3.2.1:8888", true),
            ("0.0.0.0:8888", "192.0.2.1:8888", false),
            ("[::]:8888", "127.0.0.1:8888", true),
            ("[::]:8888", "[::]:8888", true),
            ("192.0.2.7:8888", "127.0.0.1:8888", false),
        ] {
            let listeners = Listeners::new([own.parse().unwrap()]);
            assert_eq!(
                listeners.contain(dialled.parse().unwrap()),
                want,
                "{own} and {dialled}"
            );
        }
    }
}
