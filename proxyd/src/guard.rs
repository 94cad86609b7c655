//! Which addresses a tunnel may reach: nothing inside the organisation or the machine unless the operator says
//! so (server-side request forgery).
//!
//! It judges the very address that is dialled, after name look-up, so that no name can lead around it.

use std::net::IpAddr;

use bridged::cidr::Cidr;

/// Addresses that are not public (IANA special-purpose registries, RFC 6890 and successors).
const DENIED: [Cidr; 33] = [
    Cidr::v4(0, 0, 0, 8),
    Cidr::v4(10, 0, 0, 8),
    Cidr::v4(100, 64, 0, 10),
    Cidr::v4(127, 0, 0, 8),
    Cidr::v4(169, 254, 0, 16),
    Cidr::v4(172, 16, 0, 12),
    Cidr::v4(192, 0, 0, 24),
    Cidr::v4(192, 0, 2, 24),
    Cidr::v4(192, 88, 99, 24),
    Cidr::v4(192, 168, 0, 16),
    Cidr::v4(198, 18, 0, 15),
    Cidr::v4(198, 51, 100, 24),
    Cidr::v4(203, 0, 113, 24),
    Cidr::v4(224, 0, 0, 4),
    Cidr::v4(240, 0, 0, 4),
    // Unspecified, loopback and IPv4-compatible addresses.
    Cidr::v6(0, 0, 0, 96),
    Cidr::v6(0x64, 0xff9b, 0, 96),
    Cidr::v6(0x64, 0xff9b, 1, 48),
    Cidr::v6(0x100, 0, 0, 64),
    Cidr::v6(0x2001, 0, 0, 32),
    Cidr::v6(0x2001, 2, 0, 48),
    Cidr::v6(0x2001, 0x10, 0, 28),
    Cidr::v6(0x2001, 0x20, 0, 28),
    Cidr::v6(0x2001, 0xdb8, 0, 32),
    Cidr::v6(0x2002, 0, 0, 16),
    Cidr::v6(0x3fff, 0, 0, 20),
    Cidr::v6(0x5f00, 0, 0, 16),
    Cidr::v6(0xfc00, 0, 0, 7),
    Cidr::v6(0xfe80, 0, 0, 10),
    Cidr::v6(0xfec0, 0, 0, 10),
    Cidr::v6(0xff00, 0, 0, 8),
    Cidr::v6(0x100, 0, 1, 64),
    Cidr::v6(0x2620, 0x4f, 0x8000, 48),
];

/// Judges addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    exceptions: Vec<Cidr>,
}

impl Guard {
    /// A guard that lets `exceptions` through.
    pub fn new(exceptions: Vec<Cidr>) -> Guard {
        Guard { exceptions }
    }

    /// Whether a tunnel may reach `address`. An IPv4 address inside an IPv6 one is judged as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exceptions.iter().any(|network| network.contains(address))
            || !DENIED.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_denied_in_every_disguise() {
        let guard = Guard::new(Vec::new());
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!guard.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
        ] {
            assert!(guard.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn exceptions_open_their_network_only() {
        let guard = Guard::new(vec![Cidr::parse("127.0.0.0/8").unwrap()]);
        assert!(guard.allows("127.9.9.9".parse().unwrap()));
        assert!(guard.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!guard.allows("10.0.0.1".parse().unwrap()));
        for text in ["10.0.0.0/33", "fc00::/129", "10.0.0.0/", "ten/8", ""] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
        assert!(
            Cidr::parse("0.0.0.0/0")
                .unwrap()
                .contains("8.8.8.8".parse().unwrap())
        );
    }
}
