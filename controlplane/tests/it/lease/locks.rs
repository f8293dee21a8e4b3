//! Locks of two objects, for fleets that migrate.

use controlplane::lease::{LockKind, UNKNOWN};
use futures::future::join_all;

use super::{Bed, quick, slow};

const PAIRS: [(LockKind, LockKind, &str); 2] = [
    (LockKind::ConfigMapsLeases, LockKind::ConfigMaps, "configmaps"),
    (LockKind::EndpointsLeases, LockKind::Endpoints, "endpoints"),
];

#[tokio::test]
async fn both_objects_say_the_same_and_both_are_released() {
    for (pair, _, resource) in PAIRS {
        let bed = Bed::new("pair").await;
        let candidate = bed.candidate("baz", pair, slow()).await;
        let view = candidate.leads().await;
        assert_eq!(candidate.asked(4).await, ["get", "get", "create", "create"], "{pair}");
        let (first, second) = (bed.record(resource).await.expect("made"), bed.record("leases").await.expect("made"));
        for field in ["holderIdentity", "leaseDurationSeconds", "leaseTransitions"] {
            assert_eq!(first[field], second[field], "{pair}: {field}");
        }
        let lease = bed.api("leases").await.get("example").await.expect("made");
        assert_eq!(view.own_term().map(|term| term.uid.to_string()), lease.metadata.uid, "{pair}");
        candidate.stop().await;
        for resource in [resource, "leases"] {
            assert_eq!(bed.record(resource).await.expect("there")["holderIdentity"], "", "{pair}");
        }
    }
}

#[tokio::test]
async fn a_fleet_migrates_without_a_gap() {
    let run = async |(pair, old, _): (LockKind, LockKind, &str)| {
        let bed = Bed::new("migrate").await;
        // Old candidates know the first object only, those of the next release both, the last ones only the Lease.
        let mut transitions = Vec::new();
        for lock in [old, pair, LockKind::Leases] {
            let candidate = bed.candidate(lock.as_str(), lock, quick()).await;
            let view = candidate.leads().await;
            transitions.push(view.own_term().map(|term| term.transitions));
            let others = if lock == pair { vec![old, LockKind::Leases] } else { vec![pair] };
            for other in others {
                let other = bed.candidate("other", other, quick()).await;
                let seen = other.until("the lock is read", |view| view.known).await;
                assert!(!seen.leading, "{lock} holds it against {}", other.election.name());
                other.stop().await;
            }
            candidate.stop().await;
        }
        assert!(transitions.is_sorted_by(|a, b| a < b), "{pair}: {transitions:?}");
    };
    join_all(PAIRS.map(run)).await;
}

#[tokio::test]
async fn two_holders_are_none_and_waited_out() {
    let bed = Bed::new("differ").await;
    bed.write("configmaps", Some(("bing", 1))).await;
    bed.write("leases", Some(("bong", 2))).await;
    let candidate = bed.candidate("baz", LockKind::ConfigMapsLeases, quick()).await;
    let view = candidate.until("somebody is seen", |view| view.leader.is_some()).await;
    assert_eq!(view.leader.as_deref(), Some(UNKNOWN));
    let view = candidate.leads().await;
    assert_eq!(view.own_term().map(|term| term.transitions), Some(5));
    assert_eq!(bed.record("configmaps").await.expect("there")["holderIdentity"], "baz");
    assert_eq!(bed.record("leases").await.expect("there")["holderIdentity"], "baz");
}
