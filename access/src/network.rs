//! Networks of clients, and which addresses count as one client.

use std::net::IpAddr;

use ipnet::IpNet;

/// One client by its address: an IPv4 address, or the /64 network of an IPv6 address, because a client usually has all addresses of
/// such a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    /// An address of IPv4.
    V4(u32),
    /// A network of IPv6.
    V6(u64),
}

/// The length of the prefix of IPv4-mapped IPv6 addresses.
const MAPPED: u8 = 96;

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The network of this text: `10.0.0.0/8`, or a single address. IPv4-mapped IPv6 networks are those of IPv4, as which their addresses count.
#[must_use]
pub fn parse(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let (address, length) = (network.addr().to_canonical(), network.prefix_len());
    match (network, address) {
        (IpNet::V6(_), IpAddr::V4(_)) if length >= MAPPED => IpNet::new(address, length - MAPPED).ok(),
        _ => Some(network),
    }
}

/// Whether an address is in one of these networks. An IPv4-mapped IPv6 address counts as IPv4.
#[must_use]
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_mapped_addresses_and_networks_are_those_of_ipv4() {
        for (text, meant) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::ffff:10.0.0.1", Some("10.0.0.1/32")),
            ("::/0", Some("::/0")),
            ("::ffff:0:0/90", Some("::ffff:0:0/90")),
            ("fe80::1%eth0", None),
            ("10.0.0.0/33", None),
            ("", None),
        ] {
            assert_eq!(parse(text), meant.map(|meant| meant.parse().expect("a network")), "{text}");
        }
        let networks = [parse("::ffff:10.0.0.0/104").expect("a network")];
        for address in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(is_in(address.parse().expect("an address"), &networks), "{address}");
        }
    }
}
