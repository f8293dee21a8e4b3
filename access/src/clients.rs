//! Exact counts of the open connections and requests of each client address, over all threads. The map is touched only when a
//! connection opens or closes.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use serde::Serialize;

/// The connected client addresses.
#[derive(Debug, Default)]
pub struct Clients {
    by_address: DashMap<IpAddr, Client>,
}

/// A client address with at least one connection.
#[derive(Debug, Default)]
struct Client {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

/// The counts of one client address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The address.
    pub address: IpAddr,
    /// Its connections.
    pub connections: usize,
    /// Its requests in flight.
    pub requests: usize,
}

/// A counted connection of a client, until it is dropped.
#[derive(Debug)]
pub struct Connected {
    clients: Arc<Clients>,
    address: IpAddr,
    requests: Arc<AtomicUsize>,
}

/// Counts the requests of a client.
#[derive(Clone, Debug)]
pub struct Requests(Arc<AtomicUsize>);

/// A counted request of a client, until it is dropped.
#[derive(Debug)]
pub struct Requesting<'a>(&'a AtomicUsize);

// === impl Clients ===

impl Clients {
    /// Counts a connection of this address; none if it already has `most`.
    pub fn connect(self: &Arc<Self>, address: IpAddr, most: Option<usize>) -> Option<Connected> {
        let address = address.to_canonical();
        let requests = match self.by_address.entry(address) {
            Entry::Occupied(mut entry) => {
                let client = entry.get_mut();
                if most.is_some_and(|most| client.connections >= most) {
                    return None;
                }
                client.connections += 1;
                client.requests.clone()
            }
            Entry::Vacant(entry) => {
                if most == Some(0) {
                    return None;
                }
                entry.insert(Client { connections: 1, ..Client::default() }).requests.clone()
            }
        };
        Some(Connected { clients: self.clone(), address, requests })
    }

    /// Connections of this address.
    #[must_use]
    pub fn connections_of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address.to_canonical()).map_or(0, |client| client.connections)
    }

    /// Requests of this address in flight.
    #[must_use]
    pub fn requests_of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address.to_canonical()).map_or(0, |client| client.requests.load(Ordering::Relaxed))
    }

    /// The counts of at most `most` client addresses, by falling number of connections.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<Counts> {
        let counts = |client: dashmap::mapref::multiple::RefMulti<'_, IpAddr, Client>| Counts {
            address: *client.key(),
            connections: client.connections,
            requests: client.requests.load(Ordering::Relaxed),
        };
        let mut all: Vec<Counts> = self.by_address.iter().map(counts).collect();
        all.sort_by_key(|counts| (std::cmp::Reverse((counts.connections, counts.requests)), counts.address));
        all.truncate(most);
        all
    }

    /// Addresses with at least one connection.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether no client is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }
}

// === impl Connected ===

impl Connected {
    /// A counter for the requests of this connection.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests(self.requests.clone())
    }
}

impl Requests {
    /// Counts a request until the returned guard is dropped.
    #[must_use]
    pub fn begin(&self) -> Requesting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Requesting(&self.0)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // The entry is locked from the decrement to the removal, so that a connection that opens meanwhile is not lost.
        self.clients.by_address.remove_if_mut(&self.address, |_, client| {
            client.connections -= 1;
            client.connections == 0
        });
    }
}

impl Drop for Requesting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_each_that_ends_makes_room() {
        let clients = Arc::<Clients>::default();
        let one = clients.connect(ADDRESS, Some(2)).expect("room");
        let two = clients.connect("::ffff:192.0.2.1".parse().expect("an address"), Some(2)).expect("room");
        assert!(clients.connect(ADDRESS, Some(2)).is_none());
        assert!(clients.connect([192, 0, 2, 2].into(), Some(2)).is_some(), "another address");
        assert!(clients.connect(ADDRESS, None).is_some(), "without a bound");
        drop(one);
        let three = clients.connect(ADDRESS, Some(2)).expect("room again");
        assert_eq!(clients.connections_of(ADDRESS), 2);
        drop((two, three));
        assert!(clients.is_empty(), "nothing is kept of who is not connected");
        assert!(clients.connect(ADDRESS, Some(0)).is_none() && clients.is_empty());
    }

    #[test]
    fn requests_are_counted_over_all_connections_of_an_address() {
        let clients = Arc::<Clients>::default();
        let (one, two) = (clients.connect(ADDRESS, None).unwrap(), clients.connect(ADDRESS, None).unwrap());
        let (of_one, of_two) = (one.requests(), two.requests());
        let (first, second) = (of_one.begin(), of_two.begin());
        assert_eq!(clients.requests_of(ADDRESS), 2);
        let other = clients.connect([192, 0, 2, 2].into(), None).unwrap();
        let busiest = Counts { address: ADDRESS, connections: 2, requests: 2 };
        assert_eq!((clients.busiest(1), clients.busiest(9).len()), (vec![busiest], 2));
        drop((first, other));
        assert_eq!(clients.requests_of(ADDRESS), 1);
        drop((one, two));
        assert_eq!((clients.requests_of(ADDRESS), clients.len()), (0, 0));
        drop(second);
    }

    #[test]
    fn counts_are_exact_whatever_threads_do() {
        const MOST: usize = 5;
        let clients = Arc::<Clients>::default();
        let there = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let (clients, there) = (&clients, &there);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let Some(connected) = clients.connect(ADDRESS, Some(MOST)) else { continue };
                        let now = there.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= MOST, "{now} in thread {thread}");
                        if round % 3 == 0 {
                            std::thread::yield_now();
                        }
                        there.fetch_sub(1, Ordering::SeqCst);
                        drop(connected);
                    }
                });
            }
        });
        assert!(clients.is_empty());
    }
}
