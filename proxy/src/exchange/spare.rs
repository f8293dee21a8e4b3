//! A pool of used exchanges per thread, with their memory: legs and their lists, wakers, window, heads. A request allocates nothing
//! for its legs if the pool has an exchange.

use std::cell::RefCell;

use super::Exchange;
use crate::buffers;

/// The most exchanges in the pool of a thread.
const MAX_SPARE_EXCHANGES: usize = 64;

/// The most legs of a pooled exchange.
pub(super) const MAX_SPARE_LEGS: usize = 64;

/// The most capacity of an unused list, in entries.
pub(super) const SPARE_LIST_ENTRIES: usize = 32;

thread_local! {
    // Boxed, because exchanges are always boxed, and moving one out of its box would cost more.
    #[expect(clippy::vec_box, reason = "an exchange is put aside without being moved")]
    static SPARE: RefCell<Vec<Box<Exchange>>> = const { RefCell::new(Vec::new()) };
}

/// The exchange that was put aside last, which may still be in the CPU's cache.
pub(super) fn take() -> Option<Box<Exchange>> {
    SPARE.with_borrow_mut(Vec::pop)
}

/// Puts an empty one aside.
pub(super) fn give(exchange: Box<Exchange>) {
    // The list does not exist any more when the thread ends.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MAX_SPARE_EXCHANGES {
            spare.push(exchange);
        }
    });
}

/// Drops all pooled exchanges and buffers of this thread. To be called periodically, because pooled exchanges keep their last route
/// and targets alive, and memory should shrink after a peak.
pub fn forget() {
    let forgotten = SPARE.take();
    drop(forgotten);
    buffers::forget();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use snapshot::{Chunks, ClusterName, Endpoint};

    use super::*;
    use crate::{
        config::{Changes, Limits, Policy, Route},
        exchange::{Request, budget::Budget, window::Coding},
        table::RouteEntry,
        target::{Target, WireProtocol},
    };

    fn route(members: u8) -> Arc<RouteEntry> {
        let member = |last| {
            let endpoint = Endpoint::ready(([192, 0, 2, last], 80).into());
            Arc::new(Target::new(Arc::new(endpoint.into()), WireProtocol::Http1, 1))
        };
        Arc::new(RouteEntry {
            config: Arc::new(Route {
                name: "all".into(),
                matches: "/*".parse().unwrap(),
                cluster: ClusterName::new("c").unwrap(),
                changes: Changes::default(),
                policy: Policy::default(),
            }),
            cluster: None,
            members: (0..members).map(member).collect(),
            known: Chunks::default(),
            own: Vec::new(),
            why_empty: Box::default(),
            via: "me".into(),
            metrics: Arc::default(),
            owed: None,
        })
    }

    #[test]
    fn the_next_request_has_the_legs_of_the_last_but_nothing_of_what_was_in_them() {
        let (route, budget, limits) = (route(10), Budget::new(1 << 20), Limits::default());
        let request = Request {
            method: b"GET",
            is_idempotent: true,
            coding: Coding::Identity,
            has_body: false,
            wants_report: false,
            excerpt: 0,
            worker: 0,
            is_grpc: false,
            time_left: None,
        };
        let begun = || {
            let mut exchange = Exchange::new(&route, &request, &budget, &limits);
            exchange.begin(|head| head.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n"));
            exchange
        };
        let mut one = begun();
        let place = (std::ptr::from_ref(&*one), one.legs.as_ptr(), one.head.as_ptr());
        one.abort(
            crate::outcome::Outcome::Cancelled,
            crate::proxy_error::ProxyError::HttpRequestError,
            "the test is over",
        );
        assert!(one.is_over());
        one.put_aside();
        assert!(route.members.iter().all(|member| member.inflight() == 0));
        let two = begun();
        assert_eq!((std::ptr::from_ref(&*two), two.legs.as_ptr(), two.head.as_ptr()), place);
        assert!(two.legs.len() == 10 && two.legs.iter().all(|leg| leg.result().is_none() && leg.counted().is_none()));
        assert_eq!((two.quorum.failed, &two.head[..]), (0, b"GET / HTTP/1.1\r\n\r\n".as_slice()));
    }
}
