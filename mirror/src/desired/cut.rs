//! Which endpoint stands in which slice: a function of the endpoints alone.
//!
//! Rules: at most [`MOST`] endpoints in a slice. A slice has one address family and one set of ports. An endpoint that
//! comes or goes changes one slice, or splits or joins two, and leaves all others as they are: the endpoints of one port
//! set are the leaves of a tree, by the bits of their addresses' hashes.

use std::collections::BTreeMap;

use crate::index::{Address, AddressFamily, Attributes, PortFacts, Slice};

/// Most endpoints in a slice. The API server's own controller makes them as big; consumers are used to it.
pub(super) const MOST: usize = 100;

/// One slice to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// Its place among its Service's slices: stays the same while the set of ports does.
    pub(super) place: String,
    pub(super) family: AddressFamily,
    pub(super) ports: Vec<PortFacts>,
    /// In order of their addresses.
    pub(super) endpoints: Vec<(Address, Attributes)>,
}

type Endpoints = BTreeMap<Address, Attributes>;

/// Merges a Service's slices and cuts them anew, with those of their ports that are wanted. An endpoint of which no port is
/// wanted is left out; one of which nothing is said about ports is not.
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
    // What is said about each endpoint on each port. One that two slices have counts once, as the more useful of the two
    // says: for a moment, while a controller moves it, it is in both.
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

/// Ports that can stand in one slice have names of their own. Namesakes (a rollout that changes a port's number) are
/// spread over several.
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

/// Hands out leaves of at most [`MOST`] endpoints, which are sorted by their hashes.
fn split(
    endpoints: &[(u64, Address, Attributes)],
    depth: u32,
    place: String,
    leaf: &mut impl FnMut(String, &[(u64, Address, Attributes)]),
) {
    if endpoints.len() <= MOST {
        if !endpoints.is_empty() {
            leaf(place, endpoints);
        }
        return;
    }
    if depth == u64::BITS {
        // Equal hashes, which only somebody who wants them gets.
        for (number, chunk) in endpoints.chunks(MOST).enumerate() {
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

/// Of the address alone, so that an endpoint whose conditions change stays where it is.
fn hash(address: &Address) -> u64 {
    let text = format!("{}/{}", address.ip, address.hostname.as_deref().unwrap_or_default());
    mix(text.as_bytes())
}

/// FNV-1a, and a last step that spreads it over all bits. Names depend on it: it must never change.
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
