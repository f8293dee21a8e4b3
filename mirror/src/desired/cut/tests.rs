//! Rule: any cut of the same endpoints into slices gives the same mirror.

use std::{collections::BTreeSet, sync::Arc};

use controlplane::index::ServiceKey;
use proptest::prelude::*;

use super::*;

fn port(name: &str, number: i32) -> PortFacts {
    PortFacts { name: name.into(), protocol: "TCP".into(), number: Some(number), app_protocol: None }
}

fn slice(ports: &[PortFacts], endpoints: Vec<(Address, Attributes)>) -> Arc<Slice> {
    Arc::new(Slice {
        service: ServiceKey { namespace: "shop".into(), name: "web".into() },
        family: AddressFamily::V4,
        ports: ports.into(),
        endpoints: endpoints.into(),
        unusable: 0,
    })
}

/// With every port that there is.
fn all(slices: &[Arc<Slice>]) -> Vec<Set> {
    cut(slices, |_port| true)
}

fn address(n: u32) -> Address {
    Address { ip: std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), hostname: None }
}

fn ready() -> Attributes {
    Attributes { unready: false, unserving: false, terminating: false, zone: None }
}

fn endpoints(hosts: impl IntoIterator<Item = u32>) -> Vec<(Address, Attributes)> {
    hosts.into_iter().map(|n| (address(n), ready())).collect()
}

/// What one endpoint looks like in a test: its number, ports it serves, and what is said about it.
type Pod = (u32, Vec<usize>, (bool, bool, bool), Option<u8>);

const PORTS: [(&str, i32); 4] = [("http", 8080), ("http", 9090), ("grpc", 9000), ("", 53)];

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let ports = proptest::sample::subsequence(vec![0, 1, 2, 3], 0..=4);
    let pod = (0..400_u32, ports, any::<(bool, bool, bool)>(), proptest::option::of(0..3_u8));
    proptest::collection::vec(pod, 0..300).prop_map(|mut pods| {
        pods.sort();
        pods.dedup_by_key(|pod| pod.0);
        pods
    })
}

/// The ports and the endpoints of a slice.
type Cut = (Vec<PortFacts>, Vec<(Address, Attributes)>);

/// Cuts pods into slices as a controller might: by chance, each pod once for every group of ports that a slice can have.
fn cut_by_chance(pods: &[Pod], seed: u64) -> Vec<Arc<Slice>> {
    let mut rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &{
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes
    });
    let mut slices: Vec<Cut> = Vec::new();
    for (number, ports, (unready, unserving, terminating), zone) in pods {
        let said = Attributes {
            unready: *unready,
            unserving: *unserving,
            terminating: *terminating,
            zone: zone.map(|zone| format!("zone-{zone}").into()),
        };
        // Its ports in one slice, or each in one of its own.
        let together = rng.next_u32().is_multiple_of(2) && !(ports.contains(&0) && ports.contains(&1));
        let groups: Vec<Vec<PortFacts>> = if ports.is_empty() || together {
            vec![ports.iter().map(|port_| port(PORTS[*port_].0, PORTS[*port_].1)).collect()]
        } else {
            ports.iter().map(|port_| vec![port(PORTS[*port_].0, PORTS[*port_].1)]).collect()
        };
        for group in groups {
            // Sometimes twice: an endpoint on its way from one slice to another.
            for _ in 0..=u32::from(rng.next_u32().is_multiple_of(8)) {
                let fits = |(ports, pods): &&mut (Vec<PortFacts>, Vec<_>)| *ports == group && pods.len() < 100;
                let mut open: Vec<_> = slices.iter_mut().filter(|slice| fits(slice)).collect();
                let choice = rng.next_u32() as usize % (open.len() + 1);
                match open.get_mut(choice) {
                    Some((_ports, pods)) => pods.push((address(*number), said.clone())),
                    None => slices.push((group.clone(), vec![(address(*number), said.clone())])),
                }
            }
        }
    }
    let mut all: Vec<Arc<Slice>> = slices.into_iter().map(|(ports, pods)| slice(&ports, pods)).collect();
    let turn = rng.next_u32() as usize % (all.len().max(1));
    all.rotate_left(turn);
    all
}

/// Everything said in some slices, as a set: endpoint, port, attributes.
fn said(sets: &[Set]) -> BTreeSet<(Address, Option<PortFacts>, Attributes)> {
    let mut all = BTreeSet::new();
    for set in sets {
        for (address, attributes) in &set.endpoints {
            let portless = set.ports.is_empty().then_some(None);
            for port in set.ports.iter().cloned().map(Some).chain(portless) {
                assert!(all.insert((address.clone(), port, attributes.clone())), "{address:?} is there twice");
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn any_cut_of_the_same_endpoints_gives_the_same_mirror(pods in pods(), one: u64, other: u64) {
        let (one, other) = (all(&cut_by_chance(&pods, one)), all(&cut_by_chance(&pods, other)));
        prop_assert_eq!(&one, &other);
        // Nothing is lost, nothing is made up.
        let mut expected = BTreeSet::new();
        for (number, ports, (unready, unserving, terminating), zone) in &pods {
            let zone = zone.map(|zone| format!("zone-{zone}").into());
            let said = Attributes { unready: *unready, unserving: *unserving, terminating: *terminating, zone };
            let ports = ports.iter().map(|it| Some(port(PORTS[*it].0, PORTS[*it].1)));
            let portless = ports.len() == 0;
            for port in ports.chain(portless.then_some(None)) {
                expected.insert((address(*number), port, said.clone()));
            }
        }
        prop_assert_eq!(said(&one), expected);
        let mut places = BTreeSet::new();
        for set in &one {
            prop_assert!(set.endpoints.len() <= MAX_ENDPOINTS && !set.endpoints.is_empty());
            let names: BTreeSet<&str> = set.ports.iter().map(|port| &*port.name).collect();
            prop_assert_eq!(names.len(), set.ports.len(), "names within a slice are unique");
            prop_assert!(places.insert(set.place.clone()), "{} is there twice", set.place);
        }
    }

    #[test]
    fn one_endpoint_more_changes_one_slice_or_splits_it(count in 1..2000_u32, extra in 5000..9000_u32) {
        let ports = [port("http", 8080)];
        let before = all(&[slice(&ports, endpoints(0..count))]);
        let after = all(&[slice(&ports, endpoints((0..count).chain([extra])))]);
        let same = before.iter().filter(|set| after.contains(set)).count();
        prop_assert!(before.len() - same <= 1, "{} of {} slices change", before.len() - same, before.len());
    }
}

#[test]
fn slices_are_well_filled() {
    let ports = [port("http", 8080)];
    for count in [1, 100, 101, 1000, 5000, 50_000] {
        let sets = all(&[slice(&ports, endpoints(0..count))]);
        let average = count as usize / sets.len();
        assert!(count <= 100 && sets.len() == 1 || average >= 45, "{count} endpoints in {} slices", sets.len());
    }
}

#[test]
fn an_endpoint_in_two_slices_counts_once_as_the_more_useful_one_says() {
    let ports = [port("http", 8080)];
    let leaving = Attributes { unready: true, terminating: true, ..ready() };
    let both = [slice(&ports, vec![(address(1), leaving)]), slice(&ports, vec![(address(1), ready())])];
    let expected = vec![(address(1), ready())];
    assert_eq!(all(&both)[0].endpoints, expected);
    assert_eq!(all(&[both[1].clone(), both[0].clone()])[0].endpoints, expected);
}

#[test]
fn ports_that_change_their_number_are_in_slices_of_their_own() {
    let old = slice(&[port("http", 8080)], endpoints([1]));
    let new = slice(&[port("http", 9090)], endpoints([1, 2]));
    let sets = all(&[old, new]);
    let found: Vec<(Option<i32>, usize)> = sets.iter().map(|set| (set.ports[0].number, set.endpoints.len())).collect();
    assert_eq!(found, [(Some(8080), 1), (Some(9090), 2)]);
}

#[test]
fn two_pods_of_one_node_are_two_endpoints() {
    let named = |name: &str| (Address { hostname: Some(name.into()), ..address(1) }, ready());
    let sets = all(&[slice(&[port("a", 1)], vec![named("db-0")]), slice(&[port("a", 2)], vec![named("db-1")])]);
    assert_eq!(sets.iter().map(|set| set.endpoints.len()).sum::<usize>(), 2);
}

#[test]
fn equal_hashes_end_in_chunks() {
    let same: Vec<(u64, Address, Attributes)> = (0..250).map(|n| (7, address(n), ready())).collect();
    let mut sizes = Vec::new();
    split(&same, 0, "x".into(), &mut |_place, leaf| sizes.push(leaf.len()));
    assert_eq!(sizes, [100, 100, 50]);
}

/// Names of slices follow from it: a new version would otherwise write every slice anew.
#[test]
fn the_hash_never_changes() {
    assert_eq!(mix(b""), 0xf52a_15e9_a9b5_e89b);
}

#[test]
fn an_endpoint_without_a_wanted_port_is_left_out_and_one_without_ports_is_not() {
    let slices = [
        slice(&[port("http", 8080), port("grpc", 9000)], endpoints([1])),
        slice(&[port("grpc", 9000)], endpoints([2])),
        slice(&[], endpoints([3])),
    ];
    let sets = cut(&slices, |port| &*port.name != "grpc");
    let found: Vec<_> = sets.iter().map(|set| (set.ports.clone(), set.endpoints.clone())).collect();
    assert_eq!(found, [(vec![], endpoints([3])), (vec![port("http", 8080)], endpoints([1]))]);
}
