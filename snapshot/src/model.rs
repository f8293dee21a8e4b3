//! The values a snapshot is made of: plain data, no I/O, no clock.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use crate::{Chunks, ClusterName, ContentHash, Place, Spoken, Version, version::ContentHasher};

/// A whole, immutable view of every cluster, ordered by name.
///
/// Cloning it costs one reference count: unchanged clusters and unchanged parts of the map are shared between versions.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) version: Version,
    pub(crate) clusters: OrdMap<ClusterName, Arc<Cluster>>,
}

/// A named set of endpoints, in canonical order (addresses, then names) and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// First, because clusters that differ are mostly told apart by it.
    hash: ContentHash,
    name: ClusterName,
    /// Each is shared with the next version of the cluster that has it as well, and so is a chunk if its source keeps it.
    endpoints: Chunks<Arc<Endpoint<Place>>>,
    /// Why there is no endpoint, if the source knows.
    why_empty: Option<Box<str>>,
}

/// One server of a cluster, with what is known about it. Endpoints from Kubernetes have an address; an endpoint of a
/// cluster has a [`Place`], which may be a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint<A = SocketAddr> {
    /// Where it listens.
    pub address: A,
    /// Whether it should get requests.
    pub conditions: Conditions,
    /// Its host name (`EndpointSlice.endpoints[].hostname`, or the name it was resolved from).
    pub hostname: Option<Arc<str>>,
    /// The pod behind it (`EndpointSlice.endpoints[].targetRef`).
    pub pod: Option<PodRef>,
    /// The node it runs on (`EndpointSlice.endpoints[].nodeName`).
    pub node: Option<Arc<str>>,
    /// The zone it runs in (`EndpointSlice.endpoints[].zone`).
    pub zone: Option<Arc<str>>,
    /// The Service that it belongs to, shared by all of its endpoints.
    pub service: Option<Arc<ServiceRef>>,
    /// The protocol that it speaks, if its source says so.
    pub spoken: Spoken,
}

/// The conditions of an endpoint, with the meaning of `EndpointSlice.endpoints[].conditions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// Accepts requests; a Service sends traffic to it. In Kubernetes an unset value counts as true.
    pub ready: bool,
    /// Able to serve, also while terminating.
    pub serving: bool,
    /// Shutting down.
    pub terminating: bool,
}

/// The pod behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID, which differs between pods of the same name. Empty if the source does not know it.
    pub uid: Arc<str>,
}

/// The Service that an endpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Snapshot {
    /// The version of this snapshot.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cluster of that name.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// All clusters, ordered by name.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// The names of the clusters that are another one than in a former snapshot, or are in one of them only. Parts of the map that both
    /// share are not looked at.
    pub fn changed_since<'a>(&'a self, former: &'a Self) -> impl Iterator<Item = &'a ClusterName> {
        former.clusters.diff(&self.clusters).map(|item| match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. } => name,
        })
    }

    /// How many clusters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether there is no cluster.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }
}

impl Cluster {
    /// A cluster of these endpoints, put into canonical order. Of several at one place the most useful is kept: ready
    /// before serving before the rest, then one that is said to speak TLS, then the smallest by content, so that the choice
    /// does not depend on order. Two names, or a name and an address, that lead to the same address first are one endpoint
    /// as well.
    #[must_use]
    pub fn new<E: Into<Endpoint<Place>>>(name: ClusterName, endpoints: Vec<E>) -> Self {
        let canonical = |endpoint: Endpoint<Place>| Endpoint { address: endpoint.address.canonical(), ..endpoint };
        let mut endpoints: Vec<_> = endpoints.into_iter().map(|endpoint| canonical(endpoint.into())).collect();
        endpoints.sort_by(|a, b| a.address.cmp(&b.address).then_with(|| a.rank().cmp(&b.rank())));
        endpoints.dedup_by(|later, first| later.address.is_namesake(&first.address));
        if endpoints.last().is_some_and(|last| matches!(last.address, Place::Name(_))) {
            let by_tls = |endpoint: &Endpoint<Place>| endpoint.spoken.is_tls() == Some(true);
            let first = |endpoint: &Endpoint<Place>| endpoint.address.addresses().first().copied();
            let secure: HashSet<_> = endpoints.iter().filter(|endpoint| by_tls(endpoint)).filter_map(first).collect();
            let mut kept = HashSet::new();
            endpoints.retain(|endpoint| {
                first(endpoint).is_none_or(|at| (by_tls(endpoint) || !secure.contains(&at)) && kept.insert(at))
            });
        }
        let hash = endpoints.iter().fold(ContentHash::default(), |all, endpoint| all.with(endpoint.hash()));
        let hash = hash_of(&name, endpoints.len(), hash);
        Self { hash, name, endpoints: endpoints.into_iter().map(Arc::new).collect(), why_empty: None }
    }

    /// A cluster of endpoints in canonical order, each place once, given the sum of their hashes.
    pub(crate) fn assembled(name: ClusterName, endpoints: Chunks<Arc<Endpoint<Place>>>, sum: ContentHash) -> Self {
        Self { hash: hash_of(&name, endpoints.len(), sum), name, endpoints, why_empty: None }
    }

    /// A cluster without endpoints, and the reason.
    #[must_use]
    pub fn empty(name: ClusterName, why: &str) -> Self {
        let hash = ContentHasher::default().text(name.as_str()).number(0).text(why).finish();
        Self { name, endpoints: Chunks::default(), why_empty: Some(why.into()), hash }
    }

    /// Why there is no endpoint, if that is known.
    #[must_use]
    pub fn why_empty(&self) -> Option<&str> {
        self.why_empty.as_deref()
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Every known endpoint, whatever its conditions, in canonical order.
    #[must_use]
    pub fn endpoints(&self) -> &Chunks<Arc<Endpoint<Place>>> {
        &self.endpoints
    }

    /// Shares the endpoints with a former version of the cluster that are the same there.
    pub(crate) fn share_with(&mut self, former: &Self) {
        let mut former = former.endpoints.iter().peekable();
        // A chunk that its source keeps has what stays in it from the version before.
        for endpoint in self.endpoints.chunks_mut().iter_mut().filter_map(Arc::get_mut).flatten() {
            while former.next_if(|former| former.address < endpoint.address).is_some() {}
            if let Some(same) = former.next_if(|former| **former == *endpoint) {
                endpoint.clone_from(same);
            }
        }
    }

    /// The hash of name and endpoints: the cluster's version.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.hash
    }
}

impl<A> Endpoint<A> {
    /// An endpoint without further attributes.
    fn bare(address: A, conditions: Conditions) -> Self {
        let (hostname, pod, node, zone, service) = (None, None, None, None, None);
        Self { address, conditions, hostname, pod, node, zone, service, spoken: Spoken::Unspecified }
    }
}

impl Endpoint {
    /// A ready endpoint of which only the address is known.
    #[must_use]
    pub fn ready(address: SocketAddr) -> Self {
        Self::bare(address, Conditions::READY)
    }
}

/// The hash of a cluster, given the sum of the hashes of its endpoints, so that a change of one costs no more than itself.
fn hash_of(name: &ClusterName, endpoints: usize, sum: ContentHash) -> ContentHash {
    ContentHasher::default().text(name.as_str()).number(endpoints as u64).number(sum.as_number()).finish()
}

impl Endpoint<Place> {
    /// The address that is tried first; 0.0.0.0:0 if there is none.
    pub(crate) fn first_address(&self) -> SocketAddr {
        self.address.addresses().first().copied().unwrap_or_else(|| ([0, 0, 0, 0], 0).into())
    }

    /// The hash of all attributes.
    pub(crate) fn hash(&self) -> ContentHash {
        let Self { address, conditions, hostname, pod, node, zone, service, spoken } = self;
        let Conditions { ready, serving, terminating } = *conditions;
        let pod = |part: fn(&PodRef) -> &str| pod.as_ref().map(part);
        let hasher = ContentHasher::default();
        let place = match address {
            Place::Address(_) | Place::Found(_) => hasher.number(0),
            Place::Name(_) => hasher.number(1).text(&address.to_string()).optional(address.problem()),
        };
        let addresses = address.addresses();
        addresses
            .iter()
            .fold(place.number(addresses.len() as u64), |place, address| place.address(*address))
            .number(u64::from(ready) | u64::from(serving) << 1 | u64::from(terminating) << 2)
            .optional(hostname.as_deref())
            .optional(pod(|pod| &pod.namespace))
            .optional(pod(|pod| &pod.name))
            .optional(pod(|pod| &pod.uid))
            .optional(node.as_deref())
            .optional(zone.as_deref())
            .optional(service.as_ref().map(|service| &*service.namespace))
            .optional(service.as_ref().map(|service| &*service.name))
            .number(spoken.number())
            .finish()
    }

    /// An endpoint of which only the place is known. It is ready, unless its name does not resolve.
    #[must_use]
    pub fn at(place: Place) -> Self {
        let conditions = if place.problem().is_some() { Conditions::NOT_READY } else { Conditions::READY };
        Self::bare(place, conditions)
    }
}

impl From<Endpoint> for Endpoint<Place> {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint { address, conditions, hostname, pod, node, zone, service, spoken } = endpoint;
        Self { address: address.into(), conditions, hostname, pod, node, zone, service, spoken }
    }
}

impl<A> Endpoint<A> {
    /// A readable name: the pod's name, else the host name, if there is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| &*pod.name).or(self.hostname.as_deref())
    }

    /// Whether it is the more useful of two endpoints at the same place.
    #[must_use]
    pub fn is_preferred_to(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }

    /// The order in which one of several endpoints at the same place is chosen: the most useful first.
    fn rank(&self) -> impl Ord + '_ {
        let c = self.conditions;
        let pod = self.pod.as_ref().map(|p| (&p.namespace, &p.name, &p.uid));
        let usefulness = (!c.ready, !c.serving, c.terminating);
        // TLS wins over clear text: requests to a place with TLS must not be downgraded because another source says so.
        let in_clear = self.spoken.is_tls() != Some(true);
        (usefulness, in_clear, self.spoken, pod, &self.hostname, &self.node, &self.zone, &self.service)
    }
}

impl Conditions {
    /// Ready and serving.
    pub const READY: Self = Self { ready: true, serving: true, terminating: false };
    /// Present, but not ready.
    pub const NOT_READY: Self = Self { ready: false, serving: false, terminating: false };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Recheck, Scheme};

    #[test]
    fn why_there_is_no_endpoint_is_part_of_the_content() {
        let name = ClusterName::new("c").unwrap();
        let (one, other) = (Cluster::empty(name.clone(), "a"), Cluster::empty(name.clone(), "b"));
        assert_eq!((one.why_empty(), one.endpoints().len()), (Some("a"), 0));
        assert!(
            one != other
                && one.hash() != other.hash()
                && one.hash() != Cluster::new(name, Vec::<Endpoint>::new()).hash()
        );
    }

    #[test]
    fn order_and_duplicates_do_not_depend_on_arrival() {
        let name = ClusterName::new("c").unwrap();
        let a = Endpoint::ready("192.0.2.1:80".parse().unwrap());
        let b = Endpoint::ready("192.0.2.2:80".parse().unwrap());
        let gone = Endpoint { conditions: Conditions::NOT_READY, ..a.clone() };
        let one = Cluster::new(name.clone(), vec![b.clone(), gone.clone(), a.clone()]);
        let two = Cluster::new(name, vec![a.clone(), b.clone(), gone]);
        assert_eq!(one, two);
        assert_eq!(one.hash(), two.hash());
        let kept = [a, b].map(|kept| Arc::new(Endpoint::from(kept)));
        assert!(one.endpoints().iter().eq(&kept), "the ready namesake is kept");
    }

    #[test]
    fn of_two_entries_for_one_address_the_one_with_tls_counts() {
        let at = |spoken| Endpoint { spoken, ..Endpoint::ready("192.0.2.1:80".parse().unwrap()) };
        let said = [
            Spoken::Unspecified,
            Spoken::by_app_protocol("h2c"),
            Spoken::by_app_protocol("https"),
            Spoken::Scheme(Scheme::Http),
        ];
        for turn in 0..said.len() {
            let mut endpoints: Vec<_> = said.into_iter().map(at).collect();
            endpoints.rotate_left(turn);
            let cluster = Cluster::new(ClusterName::new("c").unwrap(), endpoints);
            let kept: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.spoken).collect();
            assert_eq!(kept, [Spoken::by_app_protocol("https")]);
        }
        let named = Place::resolved("a".into(), 80, vec!["192.0.2.1:80".parse().unwrap()], Recheck::default());
        let named = Endpoint { spoken: Spoken::Scheme(Scheme::Https), ..Endpoint::at(named) };
        let cluster = Cluster::new(ClusterName::new("c").unwrap(), vec![named, at(Spoken::Unspecified).into()]);
        let kept: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(kept, ["a:80"]);
    }

    #[test]
    fn one_address_is_one_endpoint_however_it_is_written_and_by_whichever_name_it_is_reached() {
        let cluster = |places: Vec<Place>| {
            let endpoints = places.into_iter().map(Endpoint::at).collect();
            let cluster = Cluster::new(ClusterName::new("c").unwrap(), endpoints);
            cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
        };
        let address = |text: &str| Place::from(text.parse::<SocketAddr>().unwrap());
        let named = |name: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            Place::resolved(name.into(), 80, addresses, Recheck::default())
        };
        assert_eq!(cluster(vec![address("[::ffff:127.0.0.1]:80"), address("127.0.0.1:80")]), ["127.0.0.1:80"]);
        assert_eq!(cluster(vec![named("a", &["127.0.0.1:80"]), address("127.0.0.1:80")]), ["127.0.0.1:80"]);
        let dual = named("b", &["[::1]:80", "127.0.0.1:80"]);
        assert_eq!(cluster(vec![dual.clone(), dual, named("a", &["[::1]:80"])]), ["a:80"]);
        let gone = |name: &str| Place::unresolved(name.into(), 80, "NXDOMAIN".into(), Recheck::default());
        assert_eq!(cluster(vec![gone("b"), gone("a"), gone("b")]), ["a:80", "b:80"], "each is missed on its own");
    }

    #[test]
    fn everything_about_an_endpoint_is_in_the_hash_of_its_cluster() {
        let bare = Endpoint::ready("192.0.2.1:80".parse().unwrap());
        let pod = PodRef { namespace: "shop".into(), name: "a".into(), uid: "1".into() };
        let service =
            |namespace: &str, name: &str| Arc::new(ServiceRef { namespace: namespace.into(), name: name.into() });
        let others = [
            Endpoint { address: "192.0.2.1:81".parse().unwrap(), ..bare.clone() },
            Endpoint { conditions: Conditions::NOT_READY, ..bare.clone() },
            Endpoint { conditions: Conditions { terminating: true, ..Conditions::READY }, ..bare.clone() },
            Endpoint { hostname: Some("a".into()), ..bare.clone() },
            Endpoint { node: Some("a".into()), ..bare.clone() },
            Endpoint { zone: Some("a".into()), ..bare.clone() },
            Endpoint { zone: Some("".into()), ..bare.clone() },
            Endpoint { pod: Some(pod.clone()), ..bare.clone() },
            Endpoint { pod: Some(PodRef { uid: "2".into(), ..pod }), ..bare.clone() },
            Endpoint { service: Some(service("shop", "a")), ..bare.clone() },
            Endpoint { service: Some(service("a", "shop")), ..bare.clone() },
            Endpoint { spoken: Spoken::Scheme(Scheme::Http), ..bare.clone() },
            Endpoint { spoken: Spoken::Scheme(Scheme::Https), ..bare.clone() },
            Endpoint { spoken: Spoken::by_app_protocol("http"), ..bare.clone() },
            Endpoint { spoken: Spoken::by_app_protocol("https"), ..bare.clone() },
            Endpoint { spoken: Spoken::by_app_protocol("h2c"), ..bare.clone() },
            Endpoint { spoken: Spoken::by_app_protocol("grpc"), ..bare.clone() },
            bare,
        ];
        let hashes = others.map(|endpoint| Cluster::new(ClusterName::new("c").unwrap(), vec![endpoint]).hash());
        let different: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
    }
}
