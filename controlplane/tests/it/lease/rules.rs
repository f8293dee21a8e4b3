//! What client-go does not promise: whose claim it is, until when, and that nothing revives it.

use std::time::{Duration, Instant};

use controlplane::lease::{Cause, ElectionView, Elector, LockKind, TermEvent, Timing, WriteError};
use futures::future::join_all;
use kubekit::fault_proxy::Fault;
use runtime::{boot_time::BootTime, readiness::Readiness};
use testkit::eventually::within;

use super::{ANNOTATION, Bed, RIGHTS, Verb, about_the_lock, grant, quick, slow};

#[tokio::test]
async fn a_claim_ends_by_itself_while_the_api_server_hangs_and_before_anybody_else_leads() {
    let bed = Bed::new("hang").await;
    let ms = Duration::from_millis;
    // Much time is left between the end of the claim and the moment at which somebody else can lead.
    let timing = Timing::new(ms(12_000), ms(2_400), ms(400)).expect("they fit");
    let (first, mut terms) = bed.participated("baz", LockKind::Leases, timing).await;
    let term = first.leads().await.own_term().cloned().expect("it leads");
    let second = bed.candidate("bing", LockKind::Leases, timing).await;
    second.until("the leader is seen", |view| view.leader.as_deref() == Some("baz")).await;
    let leadership = first.election.leadership();

    first.proxy.hang();
    let cut = leadership.write(Duration::from_secs(60), async |_| std::future::pending::<Result<(), ()>>().await);
    let cut = within("the write is cut", cut).await;
    assert!(matches!(cut, Err(WriteError::Deadline(limit)) if limit <= timing.claim()), "{cut:?}");
    let view = first.now();
    assert_eq!((view.leading, view.leader, view.valid_for), (false, None, Duration::ZERO));
    assert!(leadership.claim().is_err());
    assert!(!second.now().leading, "nobody else leads yet");
    assert!(matches!(terms.next().await, Some(TermEvent::Began(_))));
    let ended = within("the end", terms.next()).await;
    let Some(TermEvent::Ended(ending)) = ended else { panic!("the term ends: {ended:?}") };
    assert_eq!((&ending.term, ending.cause), (&term, Cause::Expired));
    // What is to be stopped has until shortly before the lease can pass on.
    let left = ending.stop_by.saturating_since(BootTime::now());
    assert!(left > Duration::ZERO && left <= timing.exclusive() - timing.claim(), "{left:?}");
    drop(ending);

    let next = second.leads().await;
    assert_eq!(next.own_term().map(|term| term.transitions), Some(term.transitions + 1));
    let problem = first.now().problem.expect("it is known what is wrong");
    assert!(problem.contains("no answer within 1.2s"), "half the renew deadline: {problem}");

    // What was held back arrives now: it revives nothing.
    first.proxy.restore();
    let view = first.until("the new leader is seen", |view| view.leader.as_deref() == Some("bing")).await;
    assert!(!view.leading);
    assert!(second.now().leading);
}

#[tokio::test]
async fn a_holder_that_was_away_leads_again_in_a_new_term() {
    let bed = Bed::new("away").await;
    let candidate = bed.candidate("baz", LockKind::ConfigMaps, quick()).await;
    let term = candidate.leads().await.own_term().cloned().expect("it leads");
    candidate.proxy.cut();
    candidate.does_not_lead().await;
    candidate.proxy.restore();
    // The record is its own: nobody else can have led, and it need not wait.
    let view = candidate.leads().await;
    assert_eq!(view.own_term().map(|now| (now.uid.clone(), now.transitions)), Some((term.uid, term.transitions + 1)));
}

#[tokio::test]
async fn answers_that_are_lost_cost_nothing() {
    let bed = Bed::new("lost-answers").await;
    let candidate = bed.candidate("baz", LockKind::ConfigMaps, slow()).await;
    let term = candidate.leads().await.own_term().cloned();
    let lost = [Fault::ResetAnswer, Fault::ResetAnswer].map(Some);
    candidate.proxy.script(|call| call.is(Verb::Update, "configmaps"), lost);
    assert_eq!(candidate.asked(6).await, ["get", "create", "update", "get", "update", "update"]);
    let view = candidate.until("it is renewed", |view| view.renewals >= 2).await;
    assert_eq!(view.own_term().cloned(), term, "it has recognised what it wrote");
}

#[tokio::test]
async fn a_second_process_with_the_same_identity_waits_and_counts_a_transition() {
    let bed = Bed::new("same-identity").await;
    let run = async |lock: LockKind| {
        let first = bed.candidate("baz", lock, quick()).await;
        let led = first.leads().await;
        // Killed: nothing is released.
        first.task.abort();
        let started = Instant::now();
        let second = bed.candidate("baz", lock, quick()).await;
        let view = second.until("the lock is read", |view| view.known).await;
        assert_eq!(
            (view.leading, view.leader.as_deref()),
            (false, None),
            "{lock}: it is not told that it leads itself"
        );
        let view = second.leads().await;
        assert!(started.elapsed() >= quick().lease(), "{lock}: {:?}", started.elapsed());
        assert_eq!(
            view.own_term().map(|term| term.transitions),
            led.own_term().map(|term| term.transitions + 1),
            "{lock}"
        );
    };
    join_all([LockKind::Leases, LockKind::ConfigMaps].map(run)).await;
}

#[tokio::test]
async fn a_request_takes_half_the_renew_deadline_also_while_acquiring() {
    let bed = Bed::new("request").await;
    let candidate = bed.candidate("baz", LockKind::Leases, quick()).await;
    candidate.proxy.always(|call| call.is(Verb::Create, "leases"), Fault::Drop);
    let first = candidate.proxy.wait(1, |call| call.verb == Verb::Create).await.remove(0);
    let calls = candidate.proxy.wait(2, |call| about_the_lock(call) && call.at > first.at).await;
    let (took, request, retry) = (calls[0].at - first.at, quick().request(), quick().retry_period());
    assert!(took >= request + retry, "{took:?}");
    // A retry period is stretched by up to 2.2; the rest is for a slow machine.
    assert!(took < request + retry.mul_f64(2.2) + Duration::from_secs(10), "{took:?}");
    assert!(candidate.now().problem.is_some_and(|problem| problem.contains("no answer within 1.2s")));
    candidate.proxy.clear();
    candidate.leads().await;
    assert_eq!(candidate.now().problem, None);
}

#[tokio::test]
async fn a_missing_right_is_named_until_it_is_there() {
    let reading = "[{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create]}]";
    let bed = Bed::with_rights("rights", "[]").await;
    let readiness = Readiness::new();
    let gate = readiness.register("election");
    let gated = |elector: Elector| elector.with_gate(gate);
    let candidate = bed.candidate_with("baz", LockKind::Leases, quick(), gated).await;
    let named = |verb: &'static str| {
        move |problem: &str| problem.contains(&format!("the verb \"{verb}\" on leases.coordination.k8s.io"))
    };
    candidate.until("get is named", |view| view.problem.as_deref().is_some_and(named("get"))).await;
    assert!(readiness.check().is_err_and(|why| named("get")(&why)));

    grant(&bed.cluster, &bed.namespace, reading).await;
    candidate.leads().await;
    assert!(readiness.is_ready());
    candidate.until("update is named", |view| view.problem.as_deref().is_some_and(named("update"))).await;
    candidate.does_not_lead().await;

    // Without the right to report events nothing is missing but they.
    let rights = reading.replace("create]", "create, update]");
    grant(&bed.cluster, &bed.namespace, &rights).await;
    let view = candidate.leads().await;
    assert_eq!(view.problem, None);
    assert_eq!(bed.events().await, Vec::<String>::new());
    assert!(RIGHTS.contains("events"), "elsewhere they are reported");
}

#[tokio::test]
async fn a_lock_that_is_deleted_ends_the_term() {
    let bed = Bed::new("deleted").await;
    let (candidate, mut terms) = bed.participated("baz", LockKind::Leases, quick()).await;
    let term = candidate.leads().await.own_term().cloned().expect("it leads");
    assert!(matches!(terms.next().await, Some(TermEvent::Began(_))));
    bed.api("leases").await.delete("example", &Default::default()).await.expect("an administrator may");
    let ended = within("the end", terms.next()).await;
    assert!(matches!(&ended, Some(TermEvent::Ended(ending)) if ending.cause == Cause::Deleted), "{ended:?}");
    // No new term before the last one is over.
    candidate.proxy.wait(6, about_the_lock).await;
    assert!(!candidate.now().leading && bed.record("leases").await.is_none());
    drop(ended);
    let view = candidate.leads().await;
    let now = view.own_term().expect("it leads");
    assert_ne!(now.uid, term.uid);
    assert_eq!(now.transitions, 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_left_alone() {
    let bed = Bed::new("malformed").await;
    let broken = format!(
        "{{kind: ConfigMap, apiVersion: v1, metadata: {{name: example, namespace: {}, annotations: {{{ANNOTATION}: '{{'}}}}}}",
        bed.namespace
    );
    bed.cluster.apply_yaml(&broken).await.expect("the API server does not read it");
    let candidate = bed.candidate("baz", LockKind::ConfigMaps, quick()).await;
    let view = candidate.until("the problem is named", |view| view.problem.is_some()).await;
    let problem = view.problem.unwrap_or_default();
    assert!(
        problem.contains(&format!("configmaps {}/example", bed.namespace)) && problem.contains(ANNOTATION),
        "{problem}"
    );
    assert!(problem.contains("repair the lock"), "{problem}");
    assert!(candidate.asked(3).await.iter().all(|verb| *verb == "get"));

    bed.write("configmaps", Some(("", 1))).await;
    assert_eq!(candidate.leads().await.problem, None);
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_named() {
    let bed = Bed::new("unauthorized").await;
    let candidate = bed.candidate("baz", LockKind::Leases, quick()).await;
    candidate.leads().await;
    candidate.proxy.always(about_the_lock, Fault::Answer(401));
    let named = |view: &ElectionView| {
        view.problem.as_deref().is_some_and(|problem| problem.contains("does not accept the credentials"))
    };
    candidate.until("the problem is named", named).await;
    candidate.does_not_lead().await;
    candidate.proxy.clear();
    assert_eq!(candidate.leads().await.problem, None);
}
