//! client-go's own table for one try to acquire or renew: what is asked, in which order, and what comes of it.

use std::time::{Duration, Instant};

use controlplane::lease::LockKind;
use futures::future::join_all;
use kube::api::PostParams;
use kubekit::fault_proxy::Fault;
use serde_json::{Value, json};

use super::{ANNOTATION, Bed, NAME, SINGLE, Verb, about_the_lock, slow};

#[tokio::test]
async fn acquire_from_no_object() {
    let bed = Bed::new("no-object").await;
    for (lock, resource) in SINGLE {
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.leads().await;
        assert_eq!(candidate.asked(2).await, ["get", "create"], "{lock}");
        assert_eq!((view.leader.as_deref(), view.own_term().map(|term| term.transitions)), (Some("baz"), Some(0)));
        let record = bed.record(resource).await.expect("it was made");
        assert_eq!((&record["holderIdentity"], &record["leaseDurationSeconds"]), (&"baz".into(), &12.into()), "{lock}");
        assert_eq!(record["leaseTransitions"], 0, "{lock}");
    }
    let events = testkit::eventually!("the events", bed.events().await, |events| events.len() == 3);
    assert!(events.iter().all(|event| event == "baz became leader"), "{events:?}");
}

#[tokio::test]
async fn acquire_from_an_object_without_a_record() {
    let bed = Bed::new("no-record").await;
    for (lock, resource) in SINGLE {
        bed.write(resource, None).await;
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.leads().await;
        assert_eq!(candidate.asked(2).await, ["get", "update"], "{lock}");
        assert_eq!(view.own_term().map(|term| term.transitions), Some(1), "{lock}");
    }
}

#[tokio::test]
async fn acquire_from_an_unled_object_and_keep_what_is_not_known() {
    let bed = Bed::new("unled").await;
    for (lock, resource) in SINGLE {
        bed.write(resource, Some(("", 1))).await;
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.leads().await;
        assert_eq!(candidate.asked(2).await, ["get", "update"], "{lock}");
        assert_eq!(view.own_term().map(|term| term.transitions), Some(5), "{lock}");
        let record = bed.record(resource).await.expect("it is there");
        assert!(resource == "leases" || record["new"] == json!([1]), "{lock}: {record}");
    }
}

#[tokio::test]
async fn acquire_from_an_object_with_an_empty_record() {
    let bed = Bed::new("empty-record").await;
    for (lock, resource) in SINGLE {
        let (metadata, spec) = match resource {
            "leases" => (json!({"name": NAME}), json!({})),
            _ => (json!({"name": NAME, "annotations": {ANNOTATION: "{}"}}), Value::Null),
        };
        let object = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a valid object");
        let params = PostParams::default();
        bed.api(resource).await.create(&params, &object).await.expect("an administrator may create it");
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.leads().await;
        assert_eq!(candidate.asked(2).await, ["get", "update"], "{lock}");
        assert_eq!((view.leader.as_deref(), view.own_term().map(|term| term.transitions)), (Some("baz"), Some(1)));
    }
}

#[tokio::test]
async fn acquire_from_an_object_that_is_released_while_it_is_watched() {
    let bed = Bed::new("released").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        bed.write(resource, Some(("bing", 60))).await;
        let candidate = bed.candidate("baz", lock, slow()).await;
        candidate.until("the holder is seen", |view| view.leader.as_deref() == Some("bing")).await;
        bed.write(resource, Some(("", 1))).await;
        let view = candidate.leads().await;
        assert_eq!((view.leader.as_deref(), view.own_term().map(|term| term.transitions)), (Some("baz"), Some(5)));
        let asked = candidate.all_asked();
        assert_eq!(asked.iter().position(|verb| *verb == "update"), Some(asked.len() - 1), "{lock}: {asked:?}");
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn a_creation_that_fails_is_tried_again_from_the_start() {
    let bed = Bed::new("create-error").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        let candidate = bed.candidate("baz", lock, slow()).await;
        let wanted = resource.to_owned();
        let faults = [500, 409, 403].map(|status| Some(Fault::Answer(status)));
        candidate.proxy.script(move |call| call.is(Verb::Create, &wanted), faults);
        candidate.leads().await;
        let asked = candidate.all_asked();
        // The first try may be over before the script is there.
        assert!(["get", "create"].repeat(4).starts_with(&asked[..asked.len().min(8)]), "{lock}: {asked:?}");
        assert_eq!(candidate.now().problem, None, "{lock}");
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn fields_that_others_write_beside_the_record_are_kept() {
    let bed = Bed::new("labels").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        let candidate = bed.candidate("baz", lock, slow()).await;
        let term = candidate.leads().await.own_term().cloned();
        bed.edit(resource, 1).await;
        let view = candidate.until("it is renewed twice", |view| view.renewals >= 4).await;
        assert_eq!((view.own_term().cloned(), view.problem), (term, None), "{lock}");
        let metadata = bed.api(resource).await.get(NAME).await.expect("it is there").metadata;
        assert_eq!(metadata.labels.expect("some")["edited"], "1", "{lock}");
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn writes_of_others_beside_the_record_do_not_renew_it() {
    let bed = Bed::new("edited").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        bed.write(resource, Some(("bing", 2))).await;
        let candidate = bed.candidate("baz", lock, slow()).await;
        let edits = async {
            // Without an end. The pause is how often somebody edits, several times in each period of the lease.
            for edit in 0.. {
                bed.edit(resource, edit).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            view = candidate.leads() => assert_eq!(view.own_term().map(|term| term.transitions), Some(5), "{lock}"),
            () = edits => {}
        }
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn acquire_from_a_led_object_when_its_own_lease_duration_is_over() {
    let bed = Bed::new("led").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        bed.write(resource, Some(("bing", 2))).await;
        let started = Instant::now();
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.until("the holder is seen", |view| view.leader.is_some()).await;
        assert_eq!((view.leading, view.leader.as_deref()), (false, Some("bing")));
        let view = candidate.leads().await;
        assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(view.own_term().map(|term| term.transitions), Some(5));
        let mut asked = candidate.all_asked();
        assert_eq!((asked.pop(), asked.pop()), (Some("update"), Some("get")));
        assert!(!asked.is_empty() && asked.iter().all(|verb| *verb == "get"), "{asked:?}");
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn do_not_acquire_from_an_object_that_is_led() {
    let bed = Bed::new("led-acked").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        bed.write(resource, Some(("bing", 60))).await;
        let candidate = bed.candidate("baz", lock, slow()).await;
        let view = candidate.until("the holder is seen", |view| view.leader.is_some()).await;
        assert_eq!((view.leading, view.leader.as_deref()), (false, Some("bing")));
        assert!(view.valid_for > Duration::from_secs(50), "{view:?}");
        assert_eq!(candidate.asked(2).await, ["get", "get"]);
        assert_eq!(candidate.now().leader.as_deref(), Some("bing"));
        assert_eq!(candidate.stop().await.iter().filter(|verb| **verb != "get").count(), 0, "nothing was released");
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn renew_with_one_update_each() {
    let bed = Bed::new("renew").await;
    let run = async |(lock, resource): (LockKind, &str)| {
        let candidate = bed.candidate("baz", lock, slow()).await;
        let led = candidate.leads().await;
        let first = bed.record(resource).await.expect("it was made");
        assert_eq!(candidate.asked(4).await, ["get", "create", "update", "update"]);
        let view = candidate.until("it is renewed twice", |view| view.renewals >= 3).await;
        assert!(view.same_lead(&led) && view.valid_until > led.valid_until, "{view:?}");
        let last = bed.record(resource).await.expect("it is there");
        assert_eq!(
            (&first["acquireTime"], &first["leaseTransitions"]),
            (&last["acquireTime"], &last["leaseTransitions"])
        );
        assert_ne!(last["renewTime"], last["acquireTime"]);
    };
    join_all(SINGLE.map(run)).await;
}

#[tokio::test]
async fn fall_back_to_reading_when_the_update_conflicts() {
    let bed = Bed::new("fallback").await;
    let candidate = bed.candidate("baz", LockKind::Leases, slow()).await;
    candidate.proxy.script(|call| call.is(Verb::Update, "leases"), [None, Some(Fault::Answer(409))]);
    let term = candidate.leads().await.own_term().cloned();
    let asked = candidate.asked(7).await;
    assert_eq!(asked, ["get", "create", "update", "update", "get", "update", "update"]);
    let view = candidate.until("it is renewed", |view| view.renewals >= 4).await;
    assert_eq!((view.own_term().cloned(), view.problem), (term, None), "a conflict is no problem");
    let slow_path = crate::bed::metric(&["leader_election_slowpath_total{", "name=\"example\""]);
    assert!(slow_path >= Some(1.0), "{slow_path:?}");
    assert_eq!(candidate.proxy.count(|call| about_the_lock(call) && call.verb == Verb::Get), 2);
}
