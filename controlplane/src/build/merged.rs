//! The endpoints of many Services as those of one cluster, in which each address and each pod occurs once: kept up to date by what changes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use snapshot::{Assembly, Endpoint, Place};

/// The endpoints of one Service, ordered by address, each address once.
pub(super) type Part = Vec<Arc<Endpoint<Place>>>;

/// A pod, by its UID, and a port.
type PodPort = (Arc<str>, u16);

/// The merged endpoints.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The endpoints of all Services at each address.
    candidates: BTreeMap<SocketAddr, Vec<Arc<Endpoint<Place>>>>,
    /// The addresses that Services have of a pod for one port, in order, each as often as Services have it. Most pods have one, so this is a
    /// list and no map.
    pods: HashMap<PodPort, Vec<SocketAddr>>,
    /// Addresses to decide anew.
    changed: BTreeSet<SocketAddr>,
    pub(super) chosen: Assembly,
}

// === impl Merged ===

impl Merged {
    /// Replaces the endpoints of one Service. Returns the part to give here the next time: endpoints that are the same stay.
    pub(super) fn replace(&mut self, former: Part, next: Part) -> Part {
        let mut former = former.into_iter().peekable();
        let mut part = Vec::with_capacity(next.len());
        for endpoint in next {
            while let Some(gone) = former.next_if(|former| address(former) < address(&endpoint)) {
                self.remove(&gone);
            }
            match former.next_if(|former| address(former) == address(&endpoint)) {
                Some(same) if same == endpoint => part.push(same),
                other => {
                    other.iter().for_each(|former| self.remove(former));
                    self.add(&endpoint);
                    part.push(endpoint);
                }
            }
        }
        former.for_each(|gone| self.remove(&gone));
        self.decide();
        part
    }

    fn add(&mut self, endpoint: &Arc<Endpoint<Place>>) {
        let at = address(endpoint);
        // Without room for more: mostly there is one.
        self.candidates.entry(at).or_insert_with(|| Vec::with_capacity(1)).push(endpoint.clone());
        self.changed.insert(at);
        if let Some(pod) = pod_port(endpoint) {
            let addresses = self.pods.entry(pod).or_insert_with(|| Vec::with_capacity(1));
            self.changed.extend(addresses.first());
            let place = addresses.partition_point(|address| *address < at);
            addresses.insert(place, at);
        }
    }

    fn remove(&mut self, endpoint: &Arc<Endpoint<Place>>) {
        let at = address(endpoint);
        if let Some(candidates) = self.candidates.get_mut(&at) {
            candidates.retain(|candidate| !Arc::ptr_eq(candidate, endpoint));
            if candidates.is_empty() {
                self.candidates.remove(&at);
            }
        }
        self.changed.insert(at);
        let Some(pod) = pod_port(endpoint) else { return };
        let Some(addresses) = self.pods.get_mut(&pod) else { return };
        if let Ok(place) = addresses.binary_search(&at) {
            addresses.remove(place);
        }
        self.changed.extend(addresses.first());
        if addresses.is_empty() {
            self.pods.remove(&pod);
        }
    }

    /// Chooses anew at the addresses that have changed: of several addresses of a pod for the same port one counts, IPv4 before IPv6,
    /// and of several endpoints at one address the most useful.
    fn decide(&mut self) {
        for at in std::mem::take(&mut self.changed) {
            let candidates = self.candidates.get(&at).into_iter().flatten();
            // IPv4 addresses order before IPv6 ones.
            let is_first = |pod: &PodPort| self.pods.get(pod).and_then(|addresses| addresses.first()) == Some(&at);
            let kept = candidates.filter(|endpoint| pod_port(endpoint).is_none_or(|pod| is_first(&pod)));
            let chosen = kept.min_by(|one, other| match (one.is_preferred_to(other), other.is_preferred_to(one)) {
                (true, _) => Ordering::Less,
                (_, true) => Ordering::Greater,
                _ => Ordering::Equal,
            });
            if self.chosen.get(&at) != chosen {
                let chosen = chosen.cloned();
                self.chosen.set(at, chosen);
            }
        }
    }
}

/// The address of an endpoint from Kubernetes, which has one.
pub(super) fn address(endpoint: &Endpoint<Place>) -> SocketAddr {
    endpoint.address.addresses().first().copied().unwrap_or_else(|| ([0, 0, 0, 0], 0).into())
}

fn pod_port(endpoint: &Endpoint<Place>) -> Option<PodPort> {
    let uid = endpoint.pod.as_ref().map(|pod| pod.uid.clone()).filter(|uid| !uid.is_empty())?;
    Some((uid, address(endpoint).port()))
}
