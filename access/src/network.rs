//! Which addresses count as one client.

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

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Whether an address is in one of these networks. An IPv4-mapped IPv6 address counts as IPv4.
#[must_use]
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
