//! How endpoints are distributed over slices: a function of the endpoints alone.
//!
//! Rules: at most [`MAX_ENDPOINTS`] endpoints in a slice. A slice has one address family and one set of ports. An endpoint that
//! comes or goes changes one slice, or splits or joins two, and leaves all others as they are: the endpoints of one port
//! set are the leaves of a tree, by the bits of their addresses' hashes.

use std::collections::BTreeMap;

use crate::index::{Address, AddressFamily, Attributes, PortFacts, Slice};

/// The most endpoints in a slice, as with Kubernetes' own controller.
pub(super) const MAX_ENDPOINTS: usize = 100;

/// The content of one slice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// Its key among its Service's slices, which stays the same as long as the set of ports does.
    pub(super) place: String,
    pub(super) family: AddressFamily,
    pub(super) ports: Vec<PortFacts>,
    /// Ordered by address.
    pub(super) endpoints: Vec<(Address, Attributes)>,
}

type Endpoints = BTreeMap<Address, Attributes>;

/// Merges a Service's slices and cuts them anew, with the wanted ports. An endpoint without a wanted port is left out, unless its
/// slices say nothing about ports.
pub(super) fn cut(slices: &[impl AsRef<Slice>], wanted: impl Fn(&PortFacts) -> bool) -> Vec<Set> {
    let mut sets = Vec::new();
    let mut ordinals: BTreeMap<AddressFamily, usize> = BTreeMap::new();
    for ((family, ports), endpoints) in by_ports(slices, wanted) {
        let ordinal = ordinals.entry(family).or_default();
        let mut hashed: Vec<(u64, Address, Attributes)> =
            endpoints.into_iter().map(|(address, attributes)| (hash(&address), address, attributes)).collect();
        hashed.sort();
        let root = format!("{}-{ordinal}", family.as_str());
        split(&hashed, 0, root, &mut |place, leaf| {
            let mut endpoints: Vec<(Address, Attributes)> =
                leaf.iter().map(|(_hash, address, attributes)| (address.clone(), attributes.clone())).collect();
            endpoints.sort();
            sets.push(Set { place, family, ports: ports.clone(), endpoints });
        });
        *ordinal += 1;
    }
    sets
}

/// The endpoints by family and set of ports.
fn by_ports(
    slices: &[impl AsRef<Slice>],
    wanted: impl Fn(&PortFacts) -> bool,
) -> BTreeMap<(AddressFamily, Vec<PortFacts>), Endpoints> {
    // The attributes of each endpoint on each port. An endpoint in two slices, as for a moment while a controller moves it, counts
    // once, with the more useful attributes.
    let mut said: BTreeMap<(AddressFamily, Address), BTreeMap<Option<PortFacts>, Attributes>> = BTreeMap::new();
    for slice in slices {
        let slice = slice.as_ref();
        for (address, attributes) in &slice.endpoints {
            let on = said.entry((slice.family, address.clone())).or_default();
            let portless = slice.ports.is_empty().then_some(None);
            let ports = slice.ports.iter().filter(|port| wanted(port)).cloned();
            for port in ports.map(Some).chain(portless) {
                let known = on.entry(port).or_insert_with(|| attributes.clone());
                if *attributes < *known {
                    known.clone_from(attributes);
                }
            }
        }
    }
    let mut groups: BTreeMap<(AddressFamily, Vec<PortFacts>), Endpoints> = BTreeMap::new();
    for ((family, address), on) in said {
        let mut alike: BTreeMap<Attributes, Vec<Option<PortFacts>>> = BTreeMap::new();
        for (port, attributes) in on {
            alike.entry(attributes).or_default().push(port);
        }
        for (attributes, ports) in alike {
            for ports in without_namesakes(ports) {
                groups.entry((family, ports)).or_default().insert(address.clone(), attributes.clone());
            }
        }
    }
    groups
}

/// Splits ports into sets with unique names, which a slice requires. There are namesakes during a rollout that changes a port's number.
fn without_namesakes(ports: Vec<Option<PortFacts>>) -> Vec<Vec<PortFacts>> {
    let mut sets: Vec<Vec<PortFacts>> = Vec::new();
    for port in ports {
        let Some(port) = port else {
            sets.insert(0, Vec::new());
            continue;
        };
        match sets.iter_mut().find(|set| !set.is_empty() && set.iter().all(|other| other.name != port.name)) {
            Some(set) => set.push(port),
            None => sets.push(vec![port]),
        }
    }
    sets
}

/// Calls `leaf` for parts of at most [`MAX_ENDPOINTS`] endpoints. The endpoints are sorted by their hashes.
fn split(
    endpoints: &[(u64, Address, Attributes)],
    depth: u32,
    place: String,
    leaf: &mut impl FnMut(String, &[(u64, Address, Attributes)]),
) {
    if endpoints.len() <= MAX_ENDPOINTS {
        if !endpoints.is_empty() {
            leaf(place, endpoints);
        }
        return;
    }
    if depth == u64::BITS {
        // Equal hashes, which practically occur only on purpose.
        for (number, chunk) in endpoints.chunks(MAX_ENDPOINTS).enumerate() {
            leaf(format!("{place}.{number}"), chunk);
        }
        return;
    }
    let bit = 1_u64 << (u64::BITS - 1 - depth);
    let middle = endpoints.partition_point(|(hash, ..)| hash & bit == 0);
    let (zeros, ones) = endpoints.split_at(middle);
    let mark = if depth == 0 { "-" } else { "" };
    split(zeros, depth + 1, format!("{place}{mark}0"), leaf);
    split(ones, depth + 1, format!("{place}{mark}1"), leaf);
}

/// The hash of the address alone, so that an endpoint whose conditions change stays in its slice.
fn hash(address: &Address) -> u64 {
    let text = format!("{}/{}", address.ip, address.hostname.as_deref().unwrap_or_default());
    mix(text.as_bytes())
}

/// FNV-1a with a final step that spreads it over all bits. The names of slices depend on it, so it must never change.
pub(super) fn mix(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut mixed = fnv;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
