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
    // Unspecified, loopback, IPv4-compatible and IPv4-translated addresses.
    Cidr::v6(0, 0, 0, 64),
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

    /// Whether the first and the last address of each network are let through.
    fn ends(networks: &[(&str, &str)]) -> Vec<(String, bool)> {
        let guard = Guard::new(Vec::new());
        let ends = networks.iter().flat_map(|(first, last)| [first, last]);
        ends.map(|text| (text.to_string(), guard.allows(text.parse().unwrap())))
            .collect()
    }

    #[test]
    fn every_special_network_is_denied_from_its_first_address_to_its_last() {
        for (address, allowed) in ends(&[
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::1"),
            ("::7f00:1", "::255.255.255.255"),
            ("::ffff:10.0.0.0", "::ffff:127.0.0.1"),
            ("::ffff:0:127.0.0.1", "::ffff:0:255.255.255.255"),
            ("64:ff9b::", "64:ff9b::ffff:ffff"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("100::", "100::ffff:ffff:ffff:ffff"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ]) {
            assert!(!allowed, "{address}");
        }
    }

    #[test]
    fn public_addresses_beside_them_are_not() {
        for (address, allowed) in ends(&[
            ("1.0.0.0", "9.255.255.255"),
            ("11.0.0.0", "100.63.255.255"),
            ("100.128.0.0", "126.255.255.255"),
            ("128.0.0.0", "169.253.255.255"),
            ("169.255.0.0", "172.15.255.255"),
            ("172.32.0.0", "191.255.255.255"),
            ("192.0.1.0", "192.0.1.255"),
            ("192.0.3.0", "192.88.98.255"),
            ("192.88.100.0", "192.167.255.255"),
            ("192.169.0.0", "198.17.255.255"),
            ("198.20.0.0", "198.51.99.255"),
            ("198.51.101.0", "203.0.112.255"),
            ("203.0.114.0", "223.255.255.255"),
            ("2001:200::", "2001:db7:ffff::"),
            ("2003::", "2606:4700::1111"),
            ("::ffff:1.1.1.1", "::ffff:8.8.8.8"),
        ]) {
            assert!(allowed, "{address}");
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
