//! Tests of the command: it sees the last state of every change, one run at a time.

use super::*;

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into() }
}

const DEBOUNCE: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn changes_within_the_debounce_are_one_run_and_do_not_postpone_it() {
    let mut pending = Pending::new();
    let start = Instant::now();
    pending.add(BTreeSet::new(), DEBOUNCE);
    assert_eq!(pending.at, None, "nothing has changed");
    pending.add([key("a")].into(), DEBOUNCE);
    tokio::time::advance(Duration::from_secs(1)).await;
    pending.add([key("b")].into(), DEBOUNCE);
    assert_eq!(pending.at, Some(start + DEBOUNCE));
    assert_eq!(pending.changed, [key("a"), key("b")].into());
}

#[tokio::test(start_paused = true)]
async fn a_failed_command_runs_again_with_growing_delays() {
    let mut pending = Pending::new();
    let mut delays = Vec::new();
    for _ in 0..8 {
        pending.settle(false, [key("a")].into());
        delays.push(pending.at.take().expect("it is to run again") - Instant::now());
    }
    assert!(delays[0] <= TICK && delays.iter().all(|delay| *delay <= MAX_RETRY_DELAY), "{delays:?}");
    assert!(delays[7] > delays[0], "{delays:?}");
    assert_eq!(pending.changed, [key("a")].into(), "undelivered changes are kept");
    pending.changed.clear();
    pending.settle(true, [key("a")].into());
    assert!(pending.at.is_none() && pending.changed.is_empty());
}
