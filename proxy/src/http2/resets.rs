//! How many streams a client address may reset, on however many connections: who opens another connection as soon as one is
//! ended gets no further than with one (CVE-2023-44487).
//!
//! The memory is fixed however many addresses there are: two rows of cells, in each of which an address has one that it
//! shares with others, in each row with different ones. It is refused only where both are used up. The rows are hashed with
//! keys of this process, so that nobody can choose addresses that share the cells of somebody else.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use access::{
    network::ClientNetwork,
    token_bucket::{TokenBucket, nanoseconds},
};
use tokio::time::Instant;

/// Resets that may come at once from one address, and how many more each second: those of ten connections, as many clients may
/// stand behind one address.
const BURST: u32 = 2_000;
const PER_SECOND: u32 = 200;

/// Cells of a row: with that, 64 KiB in all.
const CELLS: usize = 4_096;
const ROWS: usize = 2;

/// The bucket of a cell.
const BUCKET: TokenBucket = TokenBucket::per_second(PER_SECOND, BURST);

/// The resets of all client addresses.
#[derive(Debug)]
pub(crate) struct AddressResets {
    began: Instant,
    keys: [RandomState; ROWS],
    /// When the bucket of each cell will be full, in nanoseconds since the beginning.
    cells: Box<[AtomicU64]>,
}

impl Default for AddressResets {
    fn default() -> Self {
        let cells = std::iter::repeat_with(AtomicU64::default).take(ROWS * CELLS).collect();
        Self { began: Instant::now(), keys: std::array::from_fn(|_| RandomState::new()), cells }
    }
}

impl AddressResets {
    /// A stream was reset by a client with that address; false where that was one too many.
    pub(crate) fn take(&self, client: IpAddr, now: Instant) -> bool {
        let client = ClientNetwork::from(client);
        let now = nanoseconds(now.saturating_duration_since(self.began));
        let mut is_left = false;
        for (row, keys) in self.keys.iter().enumerate() {
            let cell = keys.hash_one(client) as usize % CELLS;
            let taken = self.cells[row * CELLS + cell]
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| BUCKET.take(full_at, now).ok());
            // Each row counts, also where another one has decided.
            is_left |= taken.is_ok();
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many resets of an address pass at this time.
    fn passed(resets: &AddressResets, client: &str, now: Instant) -> u32 {
        let client = client.parse().unwrap();
        (0..10_000).take_while(|_| resets.take(client, now)).count() as u32
    }

    #[test]
    fn an_address_has_a_burst_and_gets_more_with_time() {
        let resets = AddressResets::default();
        let start = resets.began + Duration::from_secs(10);
        assert_eq!(passed(&resets, "192.0.2.1", start), BURST);
        assert_eq!(passed(&resets, "192.0.2.1", start), 0);
        assert_eq!(passed(&resets, "::ffff:192.0.2.1", start), 0, "the same address in IPv6");
        assert_eq!(passed(&resets, "192.0.2.2", start), BURST, "another address");
        assert_eq!(passed(&resets, "192.0.2.1", start + Duration::from_secs(2)), 2 * PER_SECOND);
        assert_eq!(
            passed(&resets, "192.0.2.1", start + Duration::from_secs(3_600)),
            BURST,
            "never more than the burst"
        );
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let resets = AddressResets::default();
        let now = resets.began;
        assert_eq!(passed(&resets, "2001:db8:1:2::1", now), BURST);
        assert_eq!(passed(&resets, "2001:db8:1:2:ffff::2", now), 0);
        assert_eq!(passed(&resets, "2001:db8:1:3::1", now), BURST);
    }

    #[test]
    fn hundreds_of_greedy_addresses_take_nothing_from_others() {
        // Of 400 greedy ones about a tenth of each row is used up: nearly nobody shares both of his cells with them.
        let resets = AddressResets::default();
        let now = resets.began;
        for n in 0..400_u32 {
            passed(&resets, &std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), now);
        }
        let honest = (0..1_000_u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from(0xc000_0200 + n)));
        let refused = honest.filter(|address| !resets.take(*address, now)).count();
        assert!(refused < 60, "{refused} of 1,000 were refused, where about 9 are to be expected");
    }
}
