//! A cluster under construction, of which single endpoints change: a new version costs the chunks in which something has changed.

use std::{mem, net::SocketAddr, sync::Arc};

use crate::{Chunks, Cluster, ClusterName, ContentHash, Endpoint, Place, chunks::CHUNK};

/// Endpoints at addresses, each address once.
#[derive(Debug, Default)]
pub struct Assembly {
    /// In the order of their addresses; none is empty.
    parts: Vec<Part>,
    /// The sum of the hashes of the endpoints.
    hash: ContentHash,
}

/// Endpoints with neighbouring addresses.
#[derive(Debug)]
struct Part {
    /// As they were in the last cluster, unless something has changed.
    shared: Option<Arc<[Arc<Endpoint<Place>>]>>,
    /// What they are now, if something has.
    changed: Vec<Arc<Endpoint<Place>>>,
}

// === impl Assembly ===

impl Assembly {
    /// Puts an endpoint at its address, or removes what is there. The address must be canonical.
    pub fn set(&mut self, address: SocketAddr, endpoint: Option<Arc<Endpoint<Place>>>) {
        let at = self.part_of(&address);
        let place = self.parts.get(at).map(|part| part.place_of(&address));
        let former = match (place, endpoint) {
            (None, None) | (Some(Err(_)), None) => return,
            (None, Some(endpoint)) => {
                self.hash = self.hash.with(endpoint.hash());
                self.parts.push(Part::of(vec![endpoint]));
                return;
            }
            (Some(Ok(place)), None) => Some(self.parts[at].change().remove(place)),
            (Some(Ok(place)), Some(endpoint)) => {
                self.hash = self.hash.with(endpoint.hash());
                Some(mem::replace(&mut self.parts[at].change()[place], endpoint))
            }
            (Some(Err(place)), Some(endpoint)) => {
                self.hash = self.hash.with(endpoint.hash());
                self.parts[at].change().insert(place, endpoint);
                None
            }
        };
        if let Some(former) = former {
            self.hash = self.hash.without(former.hash());
        }
        self.fit(at);
    }

    /// Whether there is no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The endpoint at an address.
    #[must_use]
    pub fn get(&self, address: &SocketAddr) -> Option<&Arc<Endpoint<Place>>> {
        let part = self.parts.get(self.part_of(address))?;
        part.place_of(address).ok().map(|place| &part.endpoints()[place])
    }

    /// The cluster of these endpoints.
    #[must_use]
    pub fn cluster(&mut self, name: ClusterName) -> Cluster {
        let chunks = self.parts.iter_mut().map(Part::share).collect();
        Cluster::assembled(name, Chunks::of(chunks), self.hash)
    }

    /// The place of the part in which an address is, if it is anywhere: the last one that does not begin after it.
    fn part_of(&self, address: &SocketAddr) -> usize {
        self.parts.partition_point(|part| part.first().is_some_and(|first| first <= *address)).saturating_sub(1)
    }

    /// Divides a part that has become too large, and joins one that has become small with the next one.
    fn fit(&mut self, at: usize) {
        let len = self.parts[at].endpoints().len();
        if len == 0 {
            self.parts.remove(at);
        } else if len > CHUNK {
            // Full ones stay behind where addresses come in their order.
            let is_last = at + 1 == self.parts.len();
            let rest = self.parts[at].change().split_off(if is_last { CHUNK } else { len / 2 });
            self.parts.insert(at + 1, Part::of(rest));
        } else if len < CHUNK / 4 && self.parts.get(at + 1).is_some_and(|next| len + next.endpoints().len() <= CHUNK) {
            let mut next = self.parts.remove(at + 1);
            self.parts[at].change().append(next.change());
        }
    }
}

// === impl Part ===

impl Part {
    fn of(endpoints: Vec<Arc<Endpoint<Place>>>) -> Self {
        Self { shared: None, changed: endpoints }
    }

    fn endpoints(&self) -> &[Arc<Endpoint<Place>>] {
        self.shared.as_deref().unwrap_or(&self.changed)
    }

    fn first(&self) -> Option<SocketAddr> {
        self.endpoints().first().map(|endpoint| endpoint.first_address())
    }

    /// The place of the endpoint at this address, or else where it would be.
    fn place_of(&self, address: &SocketAddr) -> Result<usize, usize> {
        self.endpoints().binary_search_by(|endpoint| endpoint.first_address().cmp(address))
    }

    fn change(&mut self) -> &mut Vec<Arc<Endpoint<Place>>> {
        if let Some(shared) = self.shared.take() {
            self.changed = shared.to_vec();
        }
        &mut self.changed
    }

    fn share(&mut self) -> Arc<[Arc<Endpoint<Place>>]> {
        self.shared.get_or_insert_with(|| mem::take(&mut self.changed).into()).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Conditions;

    fn name() -> ClusterName {
        ClusterName::new("c").unwrap()
    }

    fn endpoint(number: u16, conditions: Conditions) -> (SocketAddr, Arc<Endpoint<Place>>) {
        let [high, low] = number.to_be_bytes();
        let endpoint = Endpoint { conditions, ..Endpoint::ready(([192, 0, high, low], 80).into()) };
        (endpoint.address, Arc::new(Endpoint::from(endpoint)))
    }

    /// A number below another one, the next of a sequence that begins anew for each seed.
    fn next(seed: &mut u64, below: u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    }

    #[test]
    fn a_cluster_is_the_same_whether_it_is_made_at_once_or_change_by_change() {
        for begin in 0..20 {
            let (mut seed, mut assembly, mut expected) = (begin, Assembly::default(), BTreeMap::new());
            for step in 0..2000 {
                // It grows first, and shrinks then.
                let (address, endpoint) = endpoint(
                    next(&mut seed, 500) as u16,
                    [Conditions::READY, Conditions::NOT_READY][next(&mut seed, 2) as usize],
                );
                let is_added = next(&mut seed, 10) < if step < 1000 { 8 } else { 1 };
                if is_added {
                    expected.insert(address, endpoint.clone());
                } else {
                    expected.remove(&address);
                }
                assembly.set(address, is_added.then_some(endpoint));
                assert_eq!(assembly.get(&address), expected.get(&address));
                assert_eq!(assembly.is_empty(), expected.is_empty());
                if next(&mut seed, 50) == 0 {
                    let cluster = assembly.cluster(name());
                    let at_once = expected.values().map(|endpoint| Endpoint::clone(endpoint)).collect();
                    assert_eq!(cluster, Cluster::new(name(), at_once), "seed {begin}, step {step}");
                    assert!(cluster.endpoints().chunks().iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
                }
            }
        }
    }

    #[test]
    fn versions_share_the_chunks_in_which_nothing_has_changed() {
        let mut assembly = Assembly::default();
        for number in 0..10_000 {
            let (address, endpoint) = endpoint(number, Conditions::READY);
            assembly.set(address, Some(endpoint));
        }
        let before = assembly.cluster(name());
        let (address, changed) = endpoint(5_000, Conditions::NOT_READY);
        assembly.set(address, Some(changed));
        let after = assembly.cluster(name());
        let [before, after] = [&before, &after].map(|cluster| cluster.endpoints().chunks());
        assert_eq!(before.len(), 10_000_usize.div_ceil(CHUNK));
        let differ = before.iter().zip(after).filter(|(before, after)| !Arc::ptr_eq(before, after)).count();
        assert_eq!((before.len(), differ), (after.len(), 1));
    }
}
