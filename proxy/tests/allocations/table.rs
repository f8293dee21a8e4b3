//! Rule: a change of one endpoint allocates in proportion to what has changed, however many endpoints there are.

use std::sync::Arc;

use proxy::{
    bench::setup::{self, Tables},
    config::Route,
};
use snapshot::{Assembly, Change, Cluster, ClusterName, Conditions, Endpoint};
use stats_alloc::{Region, Stats};

use crate::{COUNTING, alone};

/// The endpoints of each route.
const PER_ROUTE: u32 = 100;

fn name(route: u32) -> ClusterName {
    ClusterName::new(format!("kube:shop/cache-{route}:http")).expect("a valid name")
}

/// The cluster of a route, whose first endpoint has these conditions.
fn cluster(route: u32, first: Conditions) -> Arc<Cluster> {
    let endpoints = (0..PER_ROUTE).map(|number| {
        let ip = std::net::Ipv4Addr::from_bits(u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + route * 128 + number);
        let conditions = if number == 0 { first } else { Conditions::READY };
        Endpoint { conditions, ..Endpoint::ready((ip, 80).into()) }
    });
    Arc::new(Cluster::new(name(route), endpoints.collect()))
}

/// What a change of one endpoint allocates, from the new cluster to the table in which its route has it.
fn change_of_one(routes: u32) -> Stats {
    let route = |number: u32| {
        let matches = format!("/{number}").parse().expect("a match");
        Route { matches, ..setup::route(&format!("route-{number}"), name(number).as_str()) }
    };
    let mut config = setup::config((0..routes).map(route).collect());
    config.threads = 2;
    let (publisher, reader) = snapshot::channel();
    publisher.apply((0..routes).map(|route| Change::Set(cluster(route, Conditions::READY))));
    let mut tables = Tables::new(config, reader);
    let first = tables.next(None).table;
    let region = Region::new(COUNTING);
    publisher.apply([Change::Set(cluster(routes / 2, Conditions::NOT_READY))]);
    let built = tables.next(Some(&first));
    let allocated = region.change();
    let changed = first.routes().zip(built.table.routes()).filter(|(before, now)| !Arc::ptr_eq(before, now));
    let changed: Vec<_> = changed.map(|(_, now)| now).collect();
    assert_eq!((changed.len(), built.gone.len()), (1, 1), "one route, and one target");
    assert_eq!((changed[0].members.len(), changed[0].known.len()), (PER_ROUTE as usize - 1, PER_ROUTE as usize));
    allocated
}

#[test]
fn a_change_of_one_endpoint_allocates_for_its_own_cluster_and_a_pointer_for_each_route() {
    let _turn = alone();
    let (few, many) = (change_of_one(10), change_of_one(1000));
    // Nodes of the persistent map: a few more where it is deeper. What other threads of this program allocate meanwhile is among them.
    assert!(many.allocations <= few.allocations + 20, "{few:?} {many:?}");
    assert!(many.allocations <= 3 * PER_ROUTE as usize, "{many:?}");
    let pointers = 2 * 1000 * size_of::<usize>();
    assert!(many.bytes_allocated <= few.bytes_allocated + pointers + 16 * 1024, "{few:?} {many:?}");
}

/// What a change of one endpoint of a cluster allocates, from its source to the table.
fn change_in_one_cluster(endpoints: u32) -> Stats {
    let mut config = setup::config(vec![setup::route("route", name(0).as_str())]);
    config.threads = 2;
    let endpoint = |number: u32, conditions| {
        let ip = std::net::Ipv4Addr::from_bits(u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + number);
        let endpoint = Endpoint { conditions, ..Endpoint::ready((ip, 80).into()) };
        (endpoint.address, Some(Arc::new(endpoint.into())))
    };
    let mut assembly = Assembly::default();
    for number in 0..endpoints {
        let (address, endpoint) = endpoint(number, Conditions::READY);
        assembly.set(address, endpoint);
    }
    let (publisher, reader) = snapshot::channel();
    publisher.apply([Change::Set(Arc::new(assembly.cluster(name(0))))]);
    let mut tables = Tables::new(config, reader);
    let first = tables.next(None).table;
    let region = Region::new(COUNTING);
    let (address, changed) = endpoint(endpoints / 2, Conditions::NOT_READY);
    assembly.set(address, changed);
    publisher.apply([Change::Set(Arc::new(assembly.cluster(name(0))))]);
    let built = tables.next(Some(&first));
    let allocated = region.change();
    let routes = [&first, &built.table].map(|table| table.routes().next().expect("there is one").clone());
    let [former, known] = routes.each_ref().map(|route| route.known.chunks());
    let differ = former.iter().zip(known).filter(|(former, known)| !Arc::ptr_eq(former, known)).count();
    assert_eq!((former.len(), differ, built.gone.len()), (known.len(), 1, 1), "one chunk, and one target");
    assert_eq!((routes[1].members.len(), routes[1].known.len()), (endpoints as usize - 1, endpoints as usize));
    allocated
}

#[test]
fn a_change_of_one_endpoint_of_a_large_cluster_allocates_for_its_neighbours_and_a_byte_for_each_other_one() {
    let _turn = alone();
    let (few, many) = (change_in_one_cluster(1_000), change_in_one_cluster(100_000));
    // What other threads of this program allocate meanwhile is among them.
    assert!(many.allocations <= few.allocations + 20 && many.allocations <= 100, "{few:?} {many:?}");
    assert!(many.bytes_allocated <= few.bytes_allocated + 100_000, "{few:?} {many:?}");
}
