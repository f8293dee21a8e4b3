//! The claim at the moment of the write. Rule: no write without a claim that outlasts the write's own deadline.

use std::{
    future::pending,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::Instant,
};

use testkit::eventually::within;
use tokio::{
    sync::oneshot,
    task::{JoinSet, yield_now},
};

use super::*;
use crate::lease::election::{Claimed, ElectionStatus, Seen};

const LONG: Duration = Duration::from_secs(3_600);

fn term(transitions: u64) -> Term {
    Term { uid: "uid".into(), transitions }
}

/// What the elector makes known.
fn set(election: &Election, claim: Option<(u64, BootTime)>) {
    let record = claim.map(|(transitions, ends)| Seen {
        holder: "baz".into(),
        since: None,
        term: term(transitions),
        valid_until: ends + LONG,
    });
    let since = "2026-01-02T03:04:05Z".parse().expect("a time");
    let claim = claim.map(|(transitions, ends)| Claimed { term: term(transitions), since, ends });
    election.shared().status.send_modify(|status| {
        let record = record.or(status.record.take());
        *status = ElectionStatus { record, claim, known: true, ..ElectionStatus::default() };
    });
}

fn election() -> Election {
    Election::new("example", "baz").0
}

#[tokio::test]
async fn a_process_without_an_election_always_leads() {
    let mut alone = Leadership::alone();
    assert_eq!(alone.claim().map(|claim| (claim.term, claim.remaining)), Ok((None, Duration::MAX)));
    let done = alone.write(Duration::from_millis(1), async |_| Ok::<_, ()>(7)).await;
    assert!(matches!(done, Ok(7)));
    let slow = alone.write(Duration::from_millis(1), async |_| pending::<Result<(), ()>>().await).await;
    assert!(matches!(slow, Err(WriteError::Deadline(_))));
    assert!(tokio::time::timeout(Duration::from_millis(20), alone.changed()).await.is_err());
}

#[tokio::test]
async fn a_claim_ends_by_the_clock_without_any_message() {
    let election = election();
    let leadership = election.leadership();
    assert!(leadership.claim().is_err());
    let lasts = Duration::from_secs(1);
    let ends = BootTime::now() + lasts;
    set(&election, Some((3, ends)));
    let claim = leadership.claim().expect("it leads");
    assert!(claim.remaining <= lasts && claim.term == Some(term(3)), "{claim:?}");
    assert_eq!(election.now().leader.as_deref(), Some("baz"));
    sleep_until(ends).await;
    assert!(leadership.claim().is_err());
    let view = election.now();
    assert_eq!((view.leading, view.leader, view.valid_for, view.term), (false, None, Duration::ZERO, Some(term(3))));
}

#[tokio::test]
async fn a_process_that_was_stopped_finds_no_claim_and_goes_on_with_no_write() {
    let election = election();
    let leadership = election.leadership();
    set(&election, Some((3, BootTime::now() + Duration::from_millis(1_000))));
    let (answer, answered) = oneshot::channel();
    let mut went_on = false;
    let write = leadership.write(LONG, async |_| {
        let _ = answered.await;
        went_on = true;
        Ok::<_, ()>(())
    });
    // As SIGSTOP does: nothing of this process runs, and when it goes on, everything is there at once.
    tokio::spawn(async {
        std::thread::sleep(Duration::from_millis(1_100));
        let _ = answer.send(());
    });
    let done = write.await;
    assert!(matches!(done, Err(WriteError::Deadline(_))), "{done:?}");
    assert!(!went_on, "the clock comes before the write");
    assert!(leadership.claim().is_err());
}

#[tokio::test]
async fn a_write_is_cut_after_its_limit_or_at_the_end_of_the_claim_whichever_comes_first() {
    let election = election();
    let leadership = election.leadership();
    for (claim, limit) in [(1_500, 500), (500, 1_500)] {
        let started = Instant::now();
        set(&election, Some((1, BootTime::now() + Duration::from_millis(claim))));
        let cut = leadership.write(Duration::from_millis(limit), async |_| pending::<Result<(), ()>>().await).await;
        let Err(WriteError::Deadline(after)) = cut else { panic!("it is cut: {cut:?}") };
        assert!(after <= Duration::from_millis(500) && started.elapsed() >= after, "{after:?}");
    }
    set(&election, Some((1, BootTime::now() + LONG)));
    let failed = leadership.write(LONG, async |_| Err::<(), _>("no")).await;
    assert!(matches!(failed, Err(WriteError::Failed("no"))));
    assert_eq!(election.shared().writes.in_flight(), 0, "all are over");
}

#[tokio::test]
async fn a_write_under_way_is_counted_before_the_claim_is_looked_at() {
    let election = election();
    let leadership = election.leadership();
    set(&election, Some((1, BootTime::now() + LONG)));
    let counted = leadership.write(LONG, async |_| Ok::<_, ()>(election.shared().writes.in_flight())).await;
    assert!(matches!(counted, Ok(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_is_under_way_when_a_release_has_waited_for_all_however_threads_meet() {
    let election = election();
    let (writing, writes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let ended = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let leadership = election.leadership();
        let (writing, writes, ended) = (Arc::clone(&writing), Arc::clone(&writes), Arc::clone(&ended));
        writers.spawn(async move {
            while !ended.load(SeqCst) {
                let done = leadership.write(LONG, async |_| {
                    writing.fetch_add(1, SeqCst);
                    yield_now().await;
                    writing.fetch_sub(1, SeqCst);
                    Ok::<_, ()>(())
                });
                writes.fetch_add(usize::from(done.await.is_ok()), SeqCst);
                yield_now().await;
            }
        });
    }
    for round in 0..100 {
        set(&election, Some((round, BootTime::now() + LONG)));
        let before = writes.load(SeqCst);
        testkit::eventually!("a write", writes.load(SeqCst), |now| *now > before);
        // As a release does.
        set(&election, None);
        election.shared().writes.wait_idle(LONG).await;
        assert_eq!(writing.load(SeqCst), 0, "round {round}");
    }
    ended.store(true, SeqCst);
    while let Some(writer) = within("the writers", writers.join_next()).await {
        writer.expect("it does not panic");
    }
}

#[tokio::test]
async fn a_change_is_told_once_also_the_end_by_the_clock() {
    let election = election();
    let mut leadership = election.leadership();
    set(&election, Some((1, BootTime::now() + LONG)));
    within("the claim", leadership.changed()).await;
    // Renewed: nothing has changed.
    set(&election, Some((1, BootTime::now() + LONG + LONG)));
    assert!(tokio::time::timeout(Duration::from_millis(20), leadership.changed()).await.is_err());
    set(&election, Some((2, BootTime::now() + Duration::from_secs(1))));
    within("another term", leadership.changed()).await;
    within("its end", leadership.changed()).await;
    assert!(leadership.claim().is_err());
}

#[tokio::test]
async fn a_watch_reports_changes_and_on_request_renewals() {
    let election = election();
    let (mut changes, mut updates) = (election.watch(), election.watch());
    assert!(!changes.told().known);
    set(&election, Some((1, BootTime::now() + LONG)));
    assert!(within("a change", changes.changed()).await.leading);
    assert!(within("an update", updates.updated()).await.leading);
    set(&election, Some((1, BootTime::now() + LONG + LONG)));
    assert!(within("a renewal", updates.updated()).await.valid_for > LONG);
    assert!(tokio::time::timeout(Duration::from_millis(20), changes.changed()).await.is_err());
    set(&election, None);
    let view = within("the end", changes.changed()).await;
    assert_eq!((view.leading, view.leader), (false, None));
}
