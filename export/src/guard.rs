//! The shrink guard: keeps endpoints that have vanished without a deletion event, if there are many of them.
//!
//! Rule: it concerns losses that are inferred from a complete list or a restart (more than 10 and more than 30 %), never deletions
//! that the watch has reported.
//!
//! Pure: catalogs and `now` in, catalogs out.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    catalog::{Catalog, Entry},
    guard::LossLimit,
    index::ServiceKey,
};
use imbl::ordmap::DiffItem;
use serde::Serialize;

/// The number of endpoints that may always vanish, because small exports change by large shares.
pub const ALWAYS_PERMITTED: usize = LossLimit::DEFAULT.count;

/// How many endpoints may vanish without a deletion event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// The largest share of all endpoints, 0 to 1, where it is more than [`ALWAYS_PERMITTED`]; 1 permits everything.
    pub max_shrink: f64,
    /// For how long an empty result that no deletion explains is held back.
    pub empty_hold: Duration,
}

/// The guard of one export, from one catalog to the next.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    /// The last catalog, including the endpoints that were kept.
    accepted: Catalog,
    empty_since: Option<Instant>,
}

/// A catalog after the guard, ready for export.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The catalog, including the endpoints that are kept.
    pub catalog: Catalog,
    /// How many endpoints are kept, and why; `None` where none are.
    pub held: Option<Held>,
}

/// Endpoints that are kept although no list has them any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Their number.
    pub endpoints: usize,
    /// The reason, and what to do about it.
    pub why: String,
    /// When to decide again even if nothing has changed.
    pub again: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_shrink: LossLimit::DEFAULT.share, empty_hold: Duration::from_secs(30) }
    }
}

impl Limits {
    /// Whether `lost` of `of` endpoints may vanish at once.
    pub fn permit(&self, lost: usize, of: usize) -> bool {
        LossLimit { count: ALWAYS_PERMITTED, share: self.max_shrink }.permits(lost, of)
    }

    pub(crate) fn explain(&self, lost: usize, of: usize) -> String {
        let percent = (self.max_shrink * 100.0).round();
        format!(
            "{lost} of {of} endpoints are gone without a deletion event, more than --max-shrink {percent} % permits: they are \
             kept. To remove them, restart with --max-shrink 100%"
        )
    }
}

impl Guard {
    /// A guard without a catalog.
    pub fn new(limits: Limits) -> Self {
        Self { limits, accepted: Catalog::default(), empty_since: None }
    }

    /// Decides about the next catalog. `inferred` says whether the loss of an endpoint is inferred from a complete list.
    pub fn admit(
        &mut self,
        next: &Catalog,
        inferred: impl Fn(&ServiceKey, SocketAddr) -> bool,
        now: Instant,
    ) -> Admitted {
        let mut kept: Vec<(ServiceKey, Arc<Entry>)> = Vec::new();
        let (mut lost, mut unlisted) = (0, 0);
        // Only the differences are looked at.
        for difference in self.accepted.services.diff(&next.services) {
            let (key, entry, there) = match difference {
                DiffItem::Add(..) => continue,
                DiffItem::Update { old: (key, entry), new: (_, there) } => (key, entry, Some(there)),
                DiffItem::Remove(key, entry) => (key, entry, None),
            };
            let had = addresses(entry);
            if there.is_none() && next.unlisted.contains(&key.namespace) {
                // Its namespace has no complete list at the moment.
                unlisted += had.len();
                kept.push((key.clone(), entry.clone()));
                continue;
            }
            let has = there.map(|there| addresses(there)).unwrap_or_default();
            let gone = had.difference(&has).filter(|address| inferred(key, **address)).count();
            if gone > 0 {
                lost += gone;
                kept.push((key.clone(), entry.clone()));
            }
        }
        let empty = lost > 0 && next.services.values().all(|entry| addresses(entry).is_empty());
        let empty_since = *self.empty_since.get_or_insert(now);
        let until = empty_since + self.limits.empty_hold;
        let of = if lost == 0 { 0 } else { self.accepted.services.values().map(|entry| addresses(entry).len()).sum() };
        let why = if !self.limits.permit(lost, of) {
            Some((self.limits.explain(lost, of), None))
        } else if empty && now < until {
            let seconds = self.limits.empty_hold.as_secs_f64();
            let why = format!(
                "all {lost} endpoints are gone without a deletion event: they are kept for {seconds} s (--empty-hold)"
            );
            Some((why, Some(until)))
        } else {
            None
        };
        if !empty {
            self.empty_since = None;
        }
        let mut catalog = next.clone();
        let held = match why {
            Some((why, again)) => Some(Held { endpoints: lost + unlisted, why, again }),
            None => {
                kept.retain(|(key, _)| !next.services.contains_key(key) && next.unlisted.contains(&key.namespace));
                let names = next.unlisted.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
                let why = || format!("there is no complete list of {names}: the endpoints known there are kept");
                (unlisted > 0).then(|| Held { endpoints: unlisted, why: why(), again: None })
            }
        };
        for (key, entry) in kept {
            catalog.services.insert(key, entry);
        }
        self.accepted = catalog.clone();
        Admitted { catalog, held }
    }
}

fn addresses(entry: &Entry) -> BTreeSet<SocketAddr> {
    entry.view.ports().flat_map(|port| entry.view.endpoints(port)).map(|endpoint| endpoint.address).collect()
}

#[cfg(test)]
mod tests {
    use controlplane::index::Index;
    use serde_json::json;

    use super::*;

    /// Services by name, each with so many endpoints.
    fn catalog(services: &[(&str, u8)]) -> Catalog {
        let mut index = Index::default();
        for (service, endpoints) in services {
            let (namespace, name) = service.split_once('/').expect("namespace/name");
            let endpoints: Vec<_> =
                (0..*endpoints).map(|n| json!({"addresses": [format!("10.0.{}.{n}", name.len())]})).collect();
            let slice = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 80}],
            });
            index.apply(&serde_json::from_value(slice).expect("a valid slice"));
        }
        let entry = |(key, view): (ServiceKey, _)| {
            (key.clone(), Arc::new(Entry { key, facts: controlplane::catalog::Facts::default(), view }))
        };
        let entries = index.views().into_iter().map(entry);
        let mut catalog = Catalog::default();
        catalog.services = entries.collect();
        catalog.sequence = 1;
        catalog
    }

    fn count(admitted: &Admitted) -> usize {
        admitted.catalog.services.values().map(|entry| addresses(entry).len()).sum()
    }

    fn guard() -> Guard {
        Guard::new(Limits::default())
    }

    const SEEN: fn(&ServiceKey, SocketAddr) -> bool = |_, _| false;
    const INFERRED: fn(&ServiceKey, SocketAddr) -> bool = |_, _| true;

    #[test]
    fn deletions_that_were_seen_pass_however_many() {
        let (mut guard, now) = (guard(), Instant::now());
        assert_eq!(count(&guard.admit(&catalog(&[("a/b", 100), ("a/ccc", 100)]), SEEN, now)), 200);
        let after = guard.admit(&catalog(&[]), SEEN, now);
        assert_eq!((count(&after), after.held), (0, None));
    }

    #[test]
    fn inferred_losses_are_kept_if_they_are_many_and_a_large_share() {
        for (before, after, kept) in
            [(100, 71, false), (100, 70, false), (100, 69, true), (20, 10, false), (20, 9, true), (11, 0, true)]
        {
            let (mut guard, now) = (guard(), Instant::now());
            guard.admit(&catalog(&[("a/b", before), ("a/ccc", 1)]), INFERRED, now);
            let admitted = guard.admit(&catalog(&[("a/b", after), ("a/ccc", 1)]), INFERRED, now);
            // The other Service has one endpoint more, which is not lost.
            let share_is_large = kept && f64::from(before - after) / f64::from(before + 1) > 0.3;
            assert_eq!(admitted.held.is_some(), share_is_large, "{before} to {after}");
            let expected = if share_is_large { before } else { after };
            assert_eq!(count(&admitted), usize::from(expected) + 1, "{before} to {after}");
        }
    }

    #[test]
    fn new_endpoints_are_added_to_kept_ones() {
        let (mut guard, now) = (guard(), Instant::now());
        guard.admit(&catalog(&[("a/b", 50), ("a/ccc", 5)]), INFERRED, now);
        let admitted = guard.admit(&catalog(&[("a/ccc", 6), ("a/dddd", 3)]), INFERRED, now);
        assert_eq!(count(&admitted), 50 + 6 + 3);
        let held = admitted.held.expect("50 of 55 are gone");
        assert_eq!(held.endpoints, 50);
        assert!(held.why.contains("50 of 55") && held.why.contains("--max-shrink 30 %"), "{}", held.why);
        // Their deletion is reported after all.
        let admitted = guard.admit(&catalog(&[("a/ccc", 6), ("a/dddd", 3)]), SEEN, now);
        assert_eq!((count(&admitted), admitted.held), (9, None));
    }

    #[test]
    fn an_empty_list_is_held_for_a_while_even_if_few_were_there() {
        let (mut guard, now) = (guard(), Instant::now());
        guard.admit(&catalog(&[("a/b", 3)]), INFERRED, now);
        let admitted = guard.admit(&catalog(&[]), INFERRED, now);
        assert_eq!(count(&admitted), 3);
        let again = admitted.held.expect("it is held").again.expect("for a while");
        assert_eq!(again, now + Duration::from_secs(30));
        assert_eq!(count(&guard.admit(&catalog(&[]), INFERRED, now + Duration::from_secs(29))), 3);
        assert_eq!(count(&guard.admit(&catalog(&[]), INFERRED, now + Duration::from_secs(30))), 0);
    }

    #[test]
    fn a_namespace_without_a_list_keeps_what_was_known_of_it() {
        let (mut guard, now) = (guard(), Instant::now());
        guard.admit(&catalog(&[("a/b", 3), ("c/dd", 3)]), SEEN, now);
        let mut next = catalog(&[("a/b", 2)]);
        next.unlisted = Arc::new(BTreeSet::from(["c".into()]));
        let admitted = guard.admit(&next, SEEN, now);
        assert_eq!(count(&admitted), 5);
        assert!(admitted.held.is_some_and(|held| held.endpoints == 3 && held.why.contains("no complete list of c")));
    }

    #[test]
    fn everything_may_go_where_that_is_permitted() {
        let mut guard = Guard::new(Limits { max_shrink: 1.0, empty_hold: Duration::ZERO });
        guard.admit(&catalog(&[("a/b", 200)]), INFERRED, Instant::now());
        assert_eq!(count(&guard.admit(&catalog(&[]), INFERRED, Instant::now())), 0);
    }
}
