//! Rule: a change of one endpoint allocates in proportion to what has changed, however many endpoints there are.

use std::sync::Arc;

use proxy::{
    bench::setup::{self, Tables},
    config::Route,
};
use snapshot::{Change, Cluster, ClusterName, Conditions, Endpoint};
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
