//! A cluster under construction, of which single endpoints change: a new version costs pointers for what stays.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{Cluster, ClusterName, ContentHash, Endpoint, Place};

/// Endpoints at addresses, each address once.
#[derive(Debug, Default)]
pub struct Assembly {
    endpoints: BTreeMap<SocketAddr, Part>,
    /// The sum of their hashes.
    hash: ContentHash,
}

#[derive(Debug)]
struct Part {
    endpoint: Arc<Endpoint<Place>>,
    hash: ContentHash,
}

// === impl Assembly ===

impl Assembly {
    /// Puts an endpoint at its address, or removes what is there. The address must be canonical.
    pub fn set(&mut self, address: SocketAddr, endpoint: Option<Arc<Endpoint<Place>>>) {
        let part = endpoint.map(|endpoint| Part { hash: endpoint.hash(), endpoint });
        if let Some(part) = &part {
            self.hash = self.hash.with(part.hash);
        }
        let former = match part {
            Some(part) => self.endpoints.insert(address, part),
            None => self.endpoints.remove(&address),
        };
        if let Some(former) = former {
            self.hash = self.hash.without(former.hash);
        }
    }

    /// Whether there is no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The endpoint at an address.
    #[must_use]
    pub fn get(&self, address: &SocketAddr) -> Option<&Arc<Endpoint<Place>>> {
        self.endpoints.get(address).map(|part| &part.endpoint)
    }

    /// The cluster of these endpoints.
    #[must_use]
    pub fn cluster(&self, name: ClusterName) -> Cluster {
        let endpoints = self.endpoints.values().map(|part| part.endpoint.clone()).collect();
        Cluster::assembled(name, endpoints, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conditions;

    #[test]
    fn a_cluster_is_the_same_whether_it_is_made_at_once_or_change_by_change() {
        let name = || ClusterName::new("c").unwrap();
        let endpoint = |last: u8, conditions| {
            let endpoint = Endpoint { conditions, ..Endpoint::ready(([192, 0, 2, last], 80).into()) };
            (endpoint.address, Arc::new(Endpoint::from(endpoint)))
        };
        let mut assembly = Assembly::default();
        for last in [3, 1, 2] {
            let (address, endpoint) = endpoint(last, Conditions::NOT_READY);
            assembly.set(address, Some(endpoint));
        }
        let (address, changed) = endpoint(2, Conditions::READY);
        assembly.set(address, Some(changed));
        assembly.set(endpoint(3, Conditions::READY).0, None);
        let at_once = [endpoint(1, Conditions::NOT_READY), endpoint(2, Conditions::READY)];
        let at_once = at_once.map(|(_, endpoint)| Endpoint::clone(&endpoint)).to_vec();
        assert_eq!(assembly.cluster(name()), Cluster::new(name(), at_once));
    }
}
