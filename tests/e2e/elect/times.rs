//! Measures the time of a hand-over, for our and client-go's candidates.
//!
//! `FANFARE_HANDOVER_ROUNDS` is the number of measurements, and `FANFARE_TTL` the ttl in seconds.

use std::time::Duration;

use kubekit::{
    cluster,
    interop::{ClientGo, Election, Record, Records},
};
use rustix::process::Signal;
use testkit::{
    boot_time,
    eventually::{Wait, scaled, within_time},
};

use super::{
    contender::{Contender, Kind, account},
    number,
};

const OURS: Kind = Kind::Ours;
const CLIENT_GO: Kind = Kind::ClientGo(ClientGo::V0_35);

/// The times from the signal until the other one's record was seen.
async fn measure(kind: Kind, signal: Signal, rounds: u64, ttl: Duration) -> Vec<Duration> {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("times").await;
    let election = Election { lock_type: "leases", namespace: &namespace, name: "example", ttl };
    let records = Records::watch(&cluster, &election).await;
    let account = account(&cluster, &namespace).await;
    let start = async |number: u64| {
        let id = format!("c-{number}");
        (Contender::start(kind, account.kubeconfig_path(), &id, &election).await, id)
    };
    let patience = scaled(10 * ttl);
    let mut leader = start(0).await;
    let leads = |id: &str| {
        let id = id.to_owned();
        move |record: &Record| record.holder == id
    };
    within_time(patience, "the first to lead", records.until(leads(&leader.1))).await;
    let mut times = Vec::new();
    for round in 1..=rounds {
        let next = start(round).await;
        let mut wait = Wait::new();
        while !next.0.knows(&leader.1) {
            assert!(wait.pause().await, "the next one does not see who leads");
        }
        // The signal comes at a random point between two renewals.
        let phase = ttl.mul_f64(round as f64 / (3 * rounds) as f64);
        tokio::time::sleep(ttl / 3 + phase).await;
        let at = boot_time::now();
        leader.0.signal(signal);
        within_time(patience, "the next one to lead", records.until(leads(&next.1))).await;
        let versions = records.versions();
        let first = versions.iter().find(|version| version.record.holder == next.1).expect("the wait above ensures it");
        times.push(first.seen - at);
        leader = next;
    }
    times.sort_unstable();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_takes_no_longer_than_client_gos_own() {
    let rounds = number("FANFARE_HANDOVER_ROUNDS", 1);
    let ttl = Duration::from_secs(number("FANFARE_TTL", 5));
    let [ours_term, ours_kill, theirs_term, theirs_kill] = {
        let measured = tokio::join!(
            measure(OURS, Signal::TERM, rounds, ttl),
            measure(OURS, Signal::KILL, rounds, ttl),
            measure(CLIENT_GO, Signal::TERM, rounds, ttl),
            measure(CLIENT_GO, Signal::KILL, rounds, ttl),
        );
        measured.into()
    };
    println!("\n| ttl {ttl:?}, {rounds} rounds | least | median | most |\n|---|---|---|---|");
    for (what, times) in [
        ("`fanfare elect`, SIGTERM", &ours_term),
        ("client-go 0.35, SIGTERM", &theirs_term),
        ("`fanfare elect`, SIGKILL", &ours_kill),
        ("client-go 0.35, SIGKILL", &theirs_kill),
    ] {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|place| seconds(times[place]));
        println!("| {what} | {least} | {median} | {most} |");
    }
    // A released lease is acquired at the other one's next attempt; after a kill the lease has to expire first.
    let looks = ttl.mul_f64(2.2 / 6.0);
    assert!(ours_term.iter().all(|time| *time < ttl), "{ours_term:?}");
    assert!(ours_kill.iter().all(|time| *time > ttl / 2 && *time < 2 * ttl + looks), "{ours_kill:?}");
}
