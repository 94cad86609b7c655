//! Networks: an address with the number of its leading bits that count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8`, `fc00::/7` or a single address.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Cidr { base, bits })
    }

    /// The network `a.b.c.0/bits`.
    pub const fn v4(a: u8, b: u8, c: u8, bits: u8) -> Cidr {
        Cidr {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)),
            bits,
        }
    }

    /// The network `first:second:third::/bits`.
    pub const fn v6(first: u16, second: u16, third: u16, bits: u8) -> Cidr {
        Cidr {
            base: IpAddr::V6(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)),
            bits,
        }
    }

    /// Whether `address` lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differ = u32::from(base) ^ u32::from(address);
                differ.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differ = u128::from(base) ^ u128::from(address);
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}
