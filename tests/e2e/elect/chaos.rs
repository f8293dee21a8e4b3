//! A mixed fleet with faults: our and client-go's candidates on one lock, and none says that it leads when it does not.
//!
//! The proof is in `kubekit/src/interop/audit.rs`. `FANFARE_HANDOVERS` is the number of hand-overs, and `FANFARE_SEED` repeats a
//! run.

mod fleet;

use std::time::{Duration, Instant};

use fleet::Fleet;
use kubekit::{
    cluster,
    interop::{ClientGo, Election, turns},
};

use super::number;

/// The shortest ttl.
const TTL: Duration = Duration::from_secs(2);

/// The default number of hand-overs.
const QUICK: u64 = 6;

/// Three of ours and two of client-go's on one lock of this type.
async fn survive(lock_type: &str, of: ClientGo, seed: u64) {
    let (wanted, seed) = (number("FANFARE_HANDOVERS", QUICK), testkit::seed::fixed(seed));
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("chaos").await;
    let election = Election { lock_type, namespace: &namespace, name: "example", ttl: TTL };
    let mut fleet = Fleet::start(&cluster, election, of, seed).await;
    let began = Instant::now();
    for (turn, number) in turns(seed, TTL).zip(1_u64..) {
        // Who wins is chance: a few more where none of ours has taken over by then.
        if number > wanted && fleet.has_passed_to_ours() {
            break;
        }
        println!("{lock_type}: {:?}: turn {number}: {turn:?}", began.elapsed());
        fleet.run_turn(turn).await;
    }
    let audit = fleet.finish().await.audit();
    println!("{lock_type}, seed {seed}, {:?}: {audit}", began.elapsed());
    for (number, undermined) in audit.undermined.iter().enumerate().take(3) {
        println!("undermined {number}: {undermined}");
    }
    assert!(audit.problems.is_empty(), "seed {seed}: {:#?}", audit.problems);
    assert!(audit.hand_overs as u64 >= wanted, "{audit}");
    assert!(audit.affirmed > 0 && audit.denied > 0 && audit.to_ours > 0, "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_wrong_in_a_mixed_fleet_on_one_lease() {
    survive("leases", ClientGo::V0_35, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_wrong_in_a_mixed_fleet_on_one_config_map() {
    survive("configmaps", ClientGo::V0_23, 2).await;
}
