//! Releases: what is asked, and that nothing is released but what is this process's own.

use std::time::{Duration, Instant};

use controlplane::lease::{Cause, LockKind, NotLeading, SteppedDown, TermEvent, Timing, WriteError};
use futures::future::join_all;
use kube::api::DeleteParams;
use kubekit::fault_proxy::Fault;
use runtime::boot_time::BootTime;
use testkit::eventually::within;

use super::{Bed, Verb, quick, slow};

/// Longer than anything here takes that is not held back.
const LONG: Duration = Duration::from_secs(60);
/// What is held back arrives by so much later: time enough for a busy machine to see that nothing else is asked meanwhile, and less than
/// a request and a release may take (3 s each).
const HELD_BACK: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn the_end_of_the_process_reads_and_frees_every_kind_of_lock() {
    let bed = Bed::new("release").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        let candidate = bed.candidate("baz", lock, slow()).await;
        candidate.leads().await;
        let before = bed.record(resource).await.expect("it was made");
        let election = candidate.election.clone();
        let asked = candidate.stop().await;
        assert_eq!(asked, ["get", "create", "get", "update"], "{lock}");
        let record = bed.record(resource).await.expect("it is there");
        assert_eq!((&record["holderIdentity"], &record["leaseDurationSeconds"]), (&"".into(), &1.into()), "{lock}");
        assert_eq!(record["leaseTransitions"], before["leaseTransitions"], "{lock}");
        assert_eq!((election.now().leading, election.now().leader), (false, None));
        assert!(election.leadership().claim().is_err());

        // It is free at once.
        let next = bed.candidate("bing", lock, slow()).await;
        let view = next.leads().await;
        assert_eq!(view.own_term().map(|term| term.transitions), Some(1), "{lock}");
        next.stop().await;
    };
    join_all(super::SINGLE.map(run)).await;
    for said in ["baz became leader", "baz stopped leading", "bing became leader", "bing stopped leading"] {
        testkit::eventually!(format!("three times {said}"), bed.events().await, |events| {
            events.iter().filter(|event| *event == said).count() == 3
        });
    }
}

#[tokio::test]
async fn a_lock_that_is_gone_is_not_made_again() {
    let bed = Bed::new("release-gone").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    bed.api("leases").await.delete("example", &DeleteParams::default()).await.expect("an administrator may");
    assert_eq!(candidate.stop().await, ["get", "create", "get"]);
    assert!(bed.record("leases").await.is_none());
}

#[tokio::test]
async fn a_lock_of_another_holder_is_not_changed() {
    let bed = Bed::new("release-foreign").await;
    // Also under our own name: the acquire time is another one.
    for holder in ["bing", "baz"] {
        let candidate = bed.candidate("baz", LockKind::ConfigMaps, slow()).await;
        candidate.leads().await;
        bed.write("configmaps", Some((holder, 1))).await;
        let asked = candidate.stop().await;
        assert_eq!(asked.last(), Some(&"get"), "{asked:?}");
        assert_eq!(bed.record("configmaps").await.expect("it is there")["holderIdentity"], holder);
        bed.api("configmaps").await.delete("example", &DeleteParams::default()).await.expect("an administrator may");
    }
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    let bed = Bed::new("release-conflict").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    let conflicts = [409, 409, 503].map(|status| Some(Fault::Answer(status)));
    candidate.proxy.script(|call| call.is(Verb::Update, "leases"), conflicts);
    let asked = candidate.stop().await;
    let tries = ["get", "update"].repeat(4);
    assert_eq!(asked, [["get", "create"].as_slice(), &tries].concat());
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn a_renewal_under_way_is_waited_for() {
    let bed = Bed::new("release-drained").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    let late = Fault::Delay(HELD_BACK);
    candidate.proxy.script(|call| call.is(Verb::Update, "leases"), [Some(late)]);
    candidate.proxy.wait(1, |call| call.is(Verb::Update, "leases")).await;
    candidate.drain.start();
    candidate.does_not_lead().await;
    assert_eq!(candidate.proxy.count(|call| call.verb == Verb::Get), 1, "it does not ask before the answer is there");
    assert_eq!(candidate.stop().await, ["get", "create", "update", "get", "update"]);
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn a_renewal_that_is_not_answered_holds_nothing_up() {
    let bed = Bed::new("release-unanswered").await;
    // As long as with the usual periods: longer than a release may take.
    let ms = Duration::from_millis;
    let timing = Timing::new(ms(15_000), ms(10_000), ms(700)).expect("they fit");
    let candidate = bed.candidate("baz", LockKind::Leases, timing).await;
    candidate.leads().await;
    candidate.proxy.script(|call| call.is(Verb::Update, "leases"), [Some(Fault::DropAnswer)]);
    candidate.proxy.wait(1, |call| call.is(Verb::Update, "leases")).await;
    let started = Instant::now();
    assert_eq!(candidate.stop().await, ["get", "create", "update", "get", "update"]);
    assert!(started.elapsed() < timing.request(), "{:?}", started.elapsed());
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn a_look_under_way_is_waited_for_and_renews_nothing() {
    let bed = Bed::new("release-looking-again").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    candidate.proxy.script(|call| call.is(Verb::Update, "leases"), [Some(Fault::Answer(409))]);
    let late = Fault::DelayAnswer(HELD_BACK);
    candidate.proxy.script(|call| call.is(Verb::Get, "leases"), [Some(late)]);
    candidate.proxy.wait(2, |call| call.is(Verb::Get, "leases")).await;
    assert_eq!(candidate.stop().await, ["get", "create", "update", "get", "get", "update"]);
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn an_acquisition_under_way_is_waited_for_and_released() {
    let bed = Bed::new("release-acquiring").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    // Whatever it has asked by now, this is slow.
    candidate.proxy.always(|call| call.is(Verb::Create, "leases"), Fault::DelayAnswer(HELD_BACK));
    candidate.proxy.wait(1, |call| call.is(Verb::Create, "leases")).await;
    assert_eq!(candidate.stop().await, ["get", "create", "get", "update"]);
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn an_api_server_that_is_away_does_not_hold_up_the_end() {
    let bed = Bed::new("release-away").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    candidate.proxy.hang();
    let started = Instant::now();
    candidate.stop().await;
    assert!(started.elapsed() < slow().lease(), "{:?}", started.elapsed());
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "baz", "it runs out by itself");
}

#[tokio::test]
async fn the_claim_is_false_before_the_stop_and_the_lease_is_freed_after_it() {
    let bed = Bed::new("release-order").await;
    let (candidate, mut terms) = bed.participated("baz", LockKind::Leases, slow()).await;
    let view = candidate.leads().await;
    let term = view.own_term().cloned().expect("it leads");
    let began = within("the beginning", terms.next()).await;
    assert!(matches!(began, Some(TermEvent::Began(began)) if began == term));

    let drained = BootTime::now();
    candidate.drain.start();
    let ended = within("the end", terms.next()).await;
    let Some(TermEvent::Ended(ending)) = ended else { panic!("the term ends: {ended:?}") };
    assert_eq!((&ending.term, ending.cause), (&term, Cause::ShutDown));
    let given = Duration::from_secs(2);
    let stop_by = (ending.stop_by.saturating_since(drained), ending.stop_by.saturating_since(BootTime::now()));
    assert!(stop_by.0 >= given && stop_by.1 <= given, "{stop_by:?}");
    assert!(!candidate.now().leading, "the claim is false already");
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "baz", "and the lease still held");
    drop(ending);
    candidate.stop().await;
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn while_something_of_the_term_goes_on_the_lease_is_not_freed() {
    let bed = Bed::new("release-stuck").await;
    let (mut candidate, mut terms) = bed.participated("baz", LockKind::Leases, slow()).await;
    candidate.leads().await;
    assert!(matches!(terms.next().await, Some(TermEvent::Began(_))));
    let started = Instant::now();
    candidate.drain.start();
    let ended = within("the end", terms.next()).await;
    assert!(matches!(ended, Some(TermEvent::Ended(_))), "{ended:?}");
    within("it ends all the same", &mut candidate.task).await.expect("it does not panic");
    assert!(started.elapsed() < slow().lease(), "{:?}", started.elapsed());
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "baz");
    drop(ended);
}

#[tokio::test]
async fn a_guarded_write_under_way_is_waited_for_and_a_later_one_not_begun() {
    let bed = Bed::new("release-write").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    let mut leadership = candidate.election.leadership();
    assert!(matches!(leadership.write(LONG, async |_| Ok::<_, ()>(())).await, Err(WriteError::NotLeading(NotLeading))));
    let view = candidate.leads().await;
    within("the claim is told", leadership.changed()).await;

    let (go_on, held) = tokio::sync::oneshot::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let writer = leadership.clone();
    let write = tokio::spawn(async move {
        let claimed = writer.write(LONG, async |claim| {
            let _ = begun.send(claim.clone());
            held.await.map_err(|_gone| ())
        });
        claimed.await
    });
    let claim = within("the write begins", beginning).await.expect("it begins");
    assert_eq!(claim.term.as_ref(), view.own_term());
    assert!(claim.remaining <= slow().claim(), "{claim:?}");

    candidate.drain.start();
    within("the loss is told", leadership.changed()).await;
    assert!(leadership.claim().is_err());
    assert!(matches!(leadership.write(LONG, async |_| Ok::<_, ()>(())).await, Err(WriteError::NotLeading(NotLeading))));
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "baz", "the write is under way");
    go_on.send(()).expect("it waits");
    within("the write ends", write).await.expect("it does not panic").expect("it was in time");
    candidate.stop().await;
    assert_eq!(bed.record("leases").await.expect("it is there")["holderIdentity"], "");
}

#[tokio::test]
async fn a_candidate_that_stepped_down_does_not_lead_for_one_lease() {
    let bed = Bed::new("step-down").await;
    let first = bed.candidate("baz", LockKind::Leases, quick()).await;
    let led = first.leads().await;
    let second = bed.candidate("bing", LockKind::Leases, quick()).await;
    second.until("the leader is seen", |view| view.leader.as_deref() == Some("baz")).await;
    assert_eq!(second.election.step_down().await, Err(NotLeading));

    assert_eq!(within("it steps down", first.election.step_down()).await, Ok(SteppedDown::Released));
    assert!(!first.now().leading);
    let view = second.leads().await;
    assert_eq!(view.own_term().map(|term| term.transitions), led.own_term().map(|term| term.transitions + 1));

    // The other way, and nobody else wants it: it is led by nobody for one lease.
    first.stop().await;
    let started = Instant::now();
    assert_eq!(within("it steps down", second.election.step_down()).await, Ok(SteppedDown::Released));
    second.leads().await;
    assert!(started.elapsed() >= quick().lease(), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_candidate_that_never_led_leaves_nothing_behind() {
    let bed = Bed::new("release-looking").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.proxy.always(|call| call.is(Verb::Get, "leases"), Fault::DelayAnswer(HELD_BACK));
    candidate.proxy.wait(1, |call| call.is(Verb::Get, "leases")).await;
    assert_eq!(candidate.stop().await, ["get"]);
    assert!(bed.record("leases").await.is_none());
}
