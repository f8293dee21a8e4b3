//! The order in which the addresses of one name are tried: RFC 6724 section 6, then alternating families (RFC 8305).

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// With more addresses than this, which only a list of endpoints has, no source address is determined for each.
const MAX_PROBED: usize = 64;

/// RFC 6724 section 2.1: prefix, its length, precedence, label. The longest prefix counts.
const POLICY: [(Ipv6Addr, u32, u8, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128, 50, 0),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35, 4),
    (Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
    (Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];

/// Sorts the addresses into the order in which this host should try them. Equal sets give equal orders.
pub(super) fn sort(addresses: &mut Vec<IpAddr>) {
    sort_by(addresses, source);
}

fn sort_by(addresses: &mut Vec<IpAddr>, source: impl Fn(IpAddr) -> Option<IpAddr>) {
    addresses.sort_unstable();
    addresses.dedup();
    if (2..=MAX_PROBED).contains(&addresses.len()) {
        addresses.sort_by_cached_key(|address| rank(*address, source(*address)));
    }
    let Some(first) = addresses.first().map(IpAddr::is_ipv4) else { return };
    let (own, other): (Vec<IpAddr>, Vec<IpAddr>) = addresses.drain(..).partition(|ip| ip.is_ipv4() == first);
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    while own.len() + other.len() > 0 {
        addresses.extend(own.next());
        addresses.extend(other.next());
    }
}

/// The rank by the applicable rules, in their order; the smallest comes first. Rules 3, 4 and 7 concern deprecated and home
/// addresses and tunnels, about which the system gives no information.
fn rank(to: IpAddr, from: Option<IpAddr>) -> impl Ord {
    let (precedence, label) = policy(to);
    let common = match (to, from) {
        (IpAddr::V6(to), Some(IpAddr::V6(from))) => (to.to_bits() ^ from.to_bits()).leading_zeros(),
        _ => 0,
    };
    (
        from.is_none(),                                   // 1: those that cannot be reached last
        from.is_none_or(|from| scope(from) != scope(to)), // 2: a source of the same scope
        from.is_none_or(|from| policy(from).1 != label),  // 5: a source with the same label
        Reverse(precedence),                              // 6
        scope(to),                                        // 8: the smaller scope
        Reverse(common),                                  // 9: the longest common prefix
        to,                                               // 10 leaves it open
    )
}

fn policy(ip: IpAddr) -> (u8, u8) {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
    .to_bits();
    let within = |prefix: Ipv6Addr, length: u32| (bits ^ prefix.to_bits()).leading_zeros() >= length;
    let found = POLICY.iter().find(|(prefix, length, ..)| within(*prefix, *length));
    found.map_or((40, 1), |(_, _, precedence, label)| (*precedence, *label))
}

/// RFC 4291 section 2.7 and RFC 6724 section 3.2: 2 is link-local, 5 site-local, 14 global.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => 2,
        IpAddr::V4(_) => 14,
        IpAddr::V6(ip) if ip.is_multicast() => ip.octets()[1] & 0xf,
        IpAddr::V6(ip) if ip.is_loopback() || ip.segments()[0] & 0xffc0 == 0xfe80 => 2,
        IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfec0 => 5,
        IpAddr::V6(_) => 14,
    }
}

/// The source address that the system would use. Nothing is sent.
fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(to: &[&str], from: &[(&str, &str)]) -> Vec<String> {
        let mut to: Vec<IpAddr> = to.iter().map(|text| text.parse().unwrap()).collect();
        sort_by(&mut to, |to| from.iter().find(|(key, _)| *key == to.to_string()).map(|(_, ip)| ip.parse().unwrap()));
        to.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_examples_of_rfc_6724_section_10_2() {
        let from = [("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")];
        assert_eq!(sorted(&["2001:db8:1::1", "198.51.100.121"], &from), ["2001:db8:1::1", "198.51.100.121"]);
        let from = [("2001:db8:1::1", "fe80::1"), ("198.51.100.121", "198.51.100.117")];
        assert_eq!(sorted(&["2001:db8:1::1", "198.51.100.121"], &from), ["198.51.100.121", "2001:db8:1::1"]);
        let from = [("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4")];
        assert_eq!(sorted(&["2001:db8:1::1", "10.1.2.3"], &from), ["2001:db8:1::1", "10.1.2.3"]);
        let from = [("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2")];
        assert_eq!(sorted(&["2001:db8:1::1", "2002:c633:6401::1"], &from), ["2002:c633:6401::1", "2001:db8:1::1"]);
    }

    #[test]
    fn unreachable_addresses_come_last_and_families_alternate() {
        assert_eq!(sorted(&["2001:db8::1", "192.0.2.1"], &[("192.0.2.1", "192.0.2.9")]), ["192.0.2.1", "2001:db8::1"]);
        let from = [("2001:db8::1", "2001:db8::9"), ("2001:db8::2", "2001:db8::9"), ("192.0.2.1", "192.0.2.9")];
        let to = ["192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::1"];
        assert_eq!(sorted(&to, &from), ["2001:db8::1", "192.0.2.1", "2001:db8::2"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_does_not_depend_on_that_of_the_answer(mut ips: Vec<IpAddr>) {
            let (mut one, mut other) = (ips.clone(), ips.iter().rev().copied().collect());
            sort(&mut one);
            sort(&mut other);
            prop_assert_eq!(&one, &other);
            one.sort_unstable();
            ips.sort_unstable();
            ips.dedup();
            prop_assert_eq!(one, ips);
        }
    }
}
