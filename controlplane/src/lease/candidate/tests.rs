//! The rules of the candidate, each with both of its halves, and client-go's own table.

use kube::core::DynamicObject;

use super::*;
use crate::lease::{LockKind, store::SimulatedLock};

const SECOND: Duration = Duration::from_secs(1);

/// A candidate, a lock, and two clocks that only the test moves.
struct Bed {
    candidate: Candidate,
    store: SimulatedLock,
    now: Now,
    /// What was asked in the last try.
    asked: Vec<&'static str>,
}

fn timing() -> Timing {
    // A claim of 12 s, exclusive for 13.5 s.
    Timing::new(15 * SECOND, 10 * SECOND, 2 * SECOND).expect("client-go's defaults")
}

impl Bed {
    fn new(lock: LockKind) -> Self {
        let now = Now {
            boot: BootTime::since_boot(1_000 * SECOND),
            wall: "2026-01-02T03:04:05.678901Z".parse().expect("a time"),
        };
        let candidate = Candidate::new("baz", timing(), "p1".into());
        Self { candidate, store: SimulatedLock::new(lock), now, asked: Vec::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot = self.now.boot + time;
        self.now.wall += time;
    }

    /// One try, with every answer at once.
    fn attempt(&mut self) -> Outcome {
        let request = self.candidate.begin(self.now);
        self.asked.clear();
        self.go_on(request)
    }

    fn go_on(&mut self, mut request: Request) -> Outcome {
        loop {
            let (verb, answer) = self.store.serve(&request);
            self.asked.push(verb);
            match self.candidate.answered(answer, self.now) {
                Next::Ask(next) => request = next,
                Next::Done(outcome) => return outcome,
            }
        }
    }

    fn led_by(&mut self, holder: &str, seconds: i64) {
        let (at, transitions) = (Some(self.now.wall), self.store.record().transitions);
        let record = Record {
            holder: holder.into(),
            lease_seconds: seconds,
            acquired: at,
            renewed: at,
            transitions,
            writer: None,
        };
        self.store.overwrite(&record);
    }

    fn leading(lock: LockKind) -> Self {
        let mut bed = Self::new(lock);
        assert_eq!(bed.attempt(), Outcome::Acquired);
        bed
    }

    fn transitions(&self) -> u64 {
        self.candidate.claim().expect("it leads").term.transitions
    }

    fn leader(&self) -> Option<Arc<str>> {
        self.candidate.status(None).view(self.now.boot, "baz").leader
    }
}

const SINGLE: [LockKind; 3] = [LockKind::Leases, LockKind::ConfigMaps, LockKind::Endpoints];
const ALL: [LockKind; 5] = [
    LockKind::Leases,
    LockKind::ConfigMaps,
    LockKind::Endpoints,
    LockKind::ConfigMapsLeases,
    LockKind::EndpointsLeases,
];

#[test]
fn acquires_where_there_is_no_object() {
    for lock in ALL {
        let bed = Bed::leading(lock);
        assert_eq!(bed.asked, ["get", "create"], "{lock}");
        let record = bed.store.record();
        assert_eq!((record.holder.as_str(), record.lease_seconds, record.transitions), ("baz", 15, 0), "{lock}");
        assert_eq!(bed.leader().as_deref(), Some("baz"));
    }
}

#[test]
fn acquires_an_object_without_a_record() {
    for lock in SINGLE {
        let mut bed = Bed::new(lock);
        let (resource, _) = crate::lease::lock::kinds(lock).remove(0);
        let mut object = DynamicObject::new("lock", &resource).data(serde_json::json!({}));
        object.metadata.resource_version = Some("0".into());
        bed.store.objects[0] = Some(object);
        assert_eq!(bed.attempt(), Outcome::Acquired, "{lock}");
        assert_eq!((bed.asked.as_slice(), bed.transitions()), (["get", "update"].as_slice(), 1), "{lock}");
    }
}

#[test]
fn a_lease_counts_as_long_as_its_record_says_from_the_moment_at_which_it_was_seen_to_change() {
    for lock in ALL {
        let mut bed = Bed::new(lock);
        // What the holder's clock says does not matter.
        bed.now.wall += 3_600 * SECOND;
        bed.led_by("bing", 3);
        bed.now.wall -= 7_200 * SECOND;
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Following, ["get"].as_slice()), "{lock}");
        assert_eq!(bed.leader().as_deref(), Some("bing"));
        bed.pass(3 * SECOND - Duration::from_nanos(1));
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        // Renewed: it counts anew.
        bed.led_by("bing", 3);
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        bed.pass(SECOND);
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        // Edited: that renews nothing.
        bed.store.label();
        bed.pass(2 * SECOND);
        assert_eq!(bed.leader(), None, "nobody says who leads now");
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Acquired, ["get", "update"].as_slice()), "{lock}");
        assert_eq!(bed.transitions(), 1, "{lock}");
    }
}

#[test]
fn a_lease_that_does_not_say_how_long_it_lasts_counts_like_one_of_ours() {
    for seconds in [0, -5] {
        let mut bed = Bed::new(LockKind::ConfigMaps);
        bed.led_by("bing", seconds);
        assert_eq!(bed.attempt(), Outcome::Following);
        bed.pass(15 * SECOND - Duration::from_nanos(1));
        assert_eq!(bed.attempt(), Outcome::Following);
        bed.pass(Duration::from_nanos(1));
        assert_eq!(bed.attempt(), Outcome::Acquired);
    }
}

#[test]
fn a_released_lease_is_free_at_once_and_the_transition_is_counted() {
    for lock in ALL {
        let mut bed = Bed::new(lock);
        bed.led_by("", 1);
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Acquired, ["get", "update"].as_slice()), "{lock}");
        assert_eq!(bed.transitions(), 1, "{lock}");
    }
}

#[test]
fn renewing_asks_nothing_but_one_update_and_keeps_the_term() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        let before = bed.store.record();
        for _ in 0..3 {
            bed.pass(2 * SECOND);
            assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Renewed { fast: true }, ["update"].as_slice()));
        }
        let after = bed.store.record();
        assert_eq!((before.acquired, before.transitions), (after.acquired, after.transitions), "{lock}");
        assert!(after.renewed > before.renewed, "{lock}");
        assert_eq!(bed.candidate.claim().map(|claim| claim.ends), Some(bed.now.boot + 12 * SECOND));
    }
}

#[test]
fn an_update_that_conflicts_with_an_edit_looks_and_renews() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        bed.store.label();
        bed.pass(2 * SECOND);
        assert_eq!(bed.attempt(), Outcome::Renewed { fast: false }, "{lock}");
        assert_eq!(bed.asked, ["update", "get", "update"], "{lock}");
        let labels = bed.store.objects[0].as_ref().and_then(|object| object.metadata.labels.as_ref());
        assert!(labels.is_some_and(|labels| labels.contains_key("edited")), "{lock}");
        bed.pass(2 * SECOND);
        assert_eq!(bed.attempt(), Outcome::Renewed { fast: true }, "{lock}");
    }
}

#[test]
fn every_write_changes_the_record_that_followers_compare() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        let before = bed.store.read().expect("it is there").raw();
        // In the same second, which is all that annotations tell.
        bed.pass(Duration::from_millis(1));
        bed.attempt();
        assert_ne!(bed.store.read().expect("it is there").raw(), before, "{lock}");
    }
}

#[test]
fn a_claim_is_reckoned_from_before_the_write_was_sent_and_ends_by_the_clock() {
    for lock in ALL {
        let mut bed = Bed::new(lock);
        let Request::Read = bed.candidate.begin(bed.now) else { panic!("it reads first") };
        let Next::Ask(create) = bed.candidate.answered(Answer::Lock(None), bed.now) else { panic!("it creates") };
        let sent = bed.now.boot;
        bed.pass(3 * SECOND);
        assert_eq!(bed.go_on(create), Outcome::Acquired);
        assert_eq!(bed.candidate.claim().map(|claim| claim.ends), Some(sent + 12 * SECOND), "{lock}");

        bed.pass(9 * SECOND - Duration::from_nanos(1));
        assert_eq!(bed.leader().as_deref(), Some("baz"));
        bed.pass(Duration::from_nanos(1));
        // Without anything being told to anybody.
        assert_eq!(bed.leader(), None, "{lock}");
        bed.candidate.tick(bed.now.boot);
        assert!(bed.candidate.claim().is_none());
        assert_eq!(
            bed.candidate.lost().map(|lost| (lost.cause, lost.exclusive)),
            Some((Cause::Expired, sent + 13 * SECOND + SECOND / 2))
        );
    }
}

#[test]
fn an_answer_before_the_end_renews_the_claim_and_a_later_one_does_not_revive_it() {
    for (late, outcome) in
        [(Duration::ZERO, Outcome::Failed), (Duration::from_nanos(1), Outcome::Renewed { fast: true })]
    {
        let mut bed = Bed::leading(LockKind::Leases);
        bed.pass(4 * SECOND);
        let renewal = bed.candidate.begin(bed.now);
        let (_, answer) = bed.store.serve(&renewal);
        bed.pass(8 * SECOND - late);
        let Next::Done(ended) = bed.candidate.answered(answer, bed.now) else { panic!("it is over") };
        assert_eq!(ended, outcome);
        assert_eq!(bed.candidate.claim().is_some(), outcome != Outcome::Failed);
        assert_eq!(bed.leader().is_some(), outcome != Outcome::Failed);
    }
    // What it leads again is another term, although it never stopped being the holder.
    let mut bed = Bed::leading(LockKind::Leases);
    bed.pass(12 * SECOND);
    assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Acquired, ["get", "update"].as_slice()));
    assert_eq!(bed.transitions(), 1);
}

#[test]
fn an_acquisition_that_is_answered_after_its_claim_has_ended_is_none() {
    let mut bed = Bed::new(LockKind::Leases);
    bed.candidate.begin(bed.now);
    let Next::Ask(create) = bed.candidate.answered(Answer::Lock(None), bed.now) else { panic!("it creates") };
    bed.pass(12 * SECOND);
    assert_eq!(bed.go_on(create), Outcome::Failed);
    assert!(bed.candidate.claim().is_none());
    assert_eq!(bed.attempt(), Outcome::Acquired, "but the record is known to be its own");
}

#[test]
fn a_write_whose_answer_is_lost_is_recognised() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        bed.pass(2 * SECOND);
        let renewal = bed.candidate.begin(bed.now);
        bed.store.serve(&renewal);
        let Next::Ask(Request::Read) = bed.candidate.answered(Answer::Failed, bed.now) else {
            panic!("{lock}: it looks")
        };
        assert_eq!(bed.go_on(Request::Read), Outcome::Renewed { fast: false }, "{lock}");
        assert_eq!(bed.transitions(), 0, "{lock}");

        let mut bed = Bed::new(lock);
        bed.candidate.begin(bed.now);
        let Next::Ask(create) = bed.candidate.answered(Answer::Lock(None), bed.now) else {
            panic!("{lock}: it creates")
        };
        bed.store.serve(&create);
        assert!(matches!(bed.candidate.answered(Answer::Failed, bed.now), Next::Done(Outcome::Failed)), "{lock}");
        assert_eq!((bed.attempt(), bed.transitions()), (Outcome::Acquired, 1), "{lock}");
    }
}

#[test]
fn another_process_with_our_identity_is_waited_out_like_any_other() {
    for lock in ALL {
        let mut first = Bed::leading(lock);
        // The process comes back with the identity it had: the record is not its own.
        let mut bed = Bed { candidate: Candidate::new("baz", timing(), "p2".into()), ..Bed::new(lock) };
        bed.store = first.store.clone();
        assert_eq!((bed.attempt(), bed.leader()), (Outcome::Following, None), "{lock}: it is not told as ours");
        bed.pass(15 * SECOND);
        assert_eq!((bed.attempt(), bed.transitions()), (Outcome::Acquired, 1), "{lock}");
        // The one before finds out.
        first.store = bed.store.clone();
        first.pass(2 * SECOND);
        assert_eq!(first.attempt(), Outcome::Lost, "{lock}");
        assert_eq!(first.candidate.lost().map(|lost| lost.cause), Some(Cause::Overtaken), "{lock}");
    }
}

#[test]
fn a_record_that_only_looks_like_ours_is_not() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        // client-go with the same identity keeps acquire time and transitions.
        bed.pass(Duration::from_millis(1));
        let record = Record { renewed: Some(bed.now.wall), ..bed.store.record() };
        bed.store.overwrite(&record);
        assert_eq!(bed.attempt(), Outcome::Lost, "{lock}");
        assert_eq!(bed.asked, ["update", "get"], "{lock}: nothing was overwritten");

        // Not even a copy of it, in an object that was made anew.
        let mut bed = Bed::leading(lock);
        let held = bed.store.read().expect("it is there");
        bed.store.delete();
        let copied = bed.store.write(None, &Record { writer: Some("p1-1".into()), ..held.record() });
        assert!(copied.is_some());
        assert_eq!(bed.attempt(), Outcome::Lost, "{lock}");
    }
}

#[test]
fn a_lock_that_disappears_ends_the_term_and_frees_no_lease_that_runs() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        bed.store.delete();
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Lost, ["update", "get"].as_slice()), "{lock}");
        assert_eq!(bed.candidate.lost().map(|lost| lost.cause), Some(Cause::Deleted), "{lock}");
        assert_eq!(bed.attempt(), Outcome::Acquired, "{lock}: it was its own");

        let mut bed = Bed::new(lock);
        bed.led_by("bing", 3);
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        bed.store.delete();
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Following, ["get"].as_slice()), "{lock}");
        bed.pass(3 * SECOND);
        assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Acquired, ["get", "create"].as_slice()), "{lock}");
    }
}

#[test]
fn transitions_that_are_set_back_count_on_from_where_they_were() {
    for lock in ALL {
        let mut bed = Bed::new(lock);
        bed.led_by("bing", 3);
        let record = Record { transitions: 7, ..bed.store.record() };
        bed.store.overwrite(&record);
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        bed.store.overwrite(&Record::default());
        assert_eq!((bed.attempt(), bed.transitions()), (Outcome::Acquired, 8), "{lock}");
        // Those of another lock begin anew.
        bed.store.delete();
        assert_eq!(bed.attempt(), Outcome::Lost, "{lock}");
        assert_eq!((bed.attempt(), bed.transitions()), (Outcome::Acquired, 0), "{lock}");
    }
}

#[test]
fn unknown_fields_of_a_record_are_kept() {
    let mut bed = Bed::new(LockKind::Leases);
    bed.led_by("", 1);
    let object = bed.store.objects[0].as_mut().expect("it is there");
    object.data["spec"]["strategy"] = "OldestEmulationVersion".into();
    object.data["spec"]["preferredHolder"] = "bing".into();
    assert_eq!(bed.attempt(), Outcome::Acquired);
    let spec = &bed.store.objects[0].as_ref().expect("it is there").data["spec"];
    assert_eq!((&spec["strategy"], &spec["preferredHolder"]), (&"OldestEmulationVersion".into(), &"bing".into()));
    assert_eq!(spec["holderIdentity"], "baz");
}

#[test]
fn a_release_frees_only_the_own_record() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        bed.candidate.resign(Cause::ShutDown);
        assert_eq!(bed.leader(), None, "{lock}: at once");
        assert!(bed.candidate.holds());
        bed.pass(SECOND);
        let held = bed.store.read();
        let record = bed.candidate.release(held.as_ref(), bed.now).expect("it is ours");
        let held = bed.store.write(held.as_ref(), &record).expect("nobody is in between");
        bed.candidate.released(&held, bed.now.boot);
        let released = bed.store.record();
        assert_eq!((released.holder.as_str(), released.lease_seconds, released.transitions), ("", 1, 0), "{lock}");
        assert_eq!(released.acquired, released.renewed);
        assert!(!bed.candidate.holds());
        assert!(bed.candidate.release(Some(&held), bed.now).is_none(), "{lock}: it is free already");

        // Somebody has taken over in the meantime, perhaps under our name.
        for holder in ["bing", "baz"] {
            let mut bed = Bed::leading(lock);
            bed.candidate.resign(Cause::ShutDown);
            bed.pass(SECOND);
            bed.led_by(holder, 15);
            assert!(bed.candidate.release(bed.store.read().as_ref(), bed.now).is_none(), "{lock}: {holder} holds it");
            assert!(!bed.candidate.holds());
        }
        let mut bed = Bed::leading(lock);
        bed.candidate.resign(Cause::ShutDown);
        assert!(bed.candidate.release(None, bed.now).is_none(), "{lock}: it is gone");
    }
}

#[test]
fn a_release_knows_a_renewal_that_was_still_under_way() {
    for lock in ALL {
        let mut bed = Bed::leading(lock);
        bed.pass(2 * SECOND);
        let renewal = bed.candidate.begin(bed.now);
        bed.candidate.resign(Cause::ShutDown);
        let (_, answer) = bed.store.serve(&renewal);
        assert!(matches!(bed.candidate.answered(answer, bed.now), Next::Done(Outcome::Failed)), "{lock}");
        assert!(bed.candidate.claim().is_none(), "{lock}: it does not lead again");
        assert!(bed.candidate.release(bed.store.read().as_ref(), bed.now).is_some(), "{lock}");
    }
}

#[test]
fn a_candidate_that_has_resigned_or_rests_only_follows() {
    let mut bed = Bed::leading(LockKind::Leases);
    bed.candidate.resign(Cause::SteppedDown);
    bed.candidate.rest_until(bed.now.boot + 15 * SECOND);
    bed.led_by("", 1);
    assert_eq!((bed.attempt(), bed.asked.as_slice()), (Outcome::Following, ["get"].as_slice()), "it has resigned");
    bed.candidate.stand(true);
    assert_eq!(bed.attempt(), Outcome::Following, "it rests");
    bed.pass(15 * SECOND);
    assert_eq!(bed.attempt(), Outcome::Acquired);
}

#[test]
fn two_locks_must_agree() {
    for lock in [LockKind::ConfigMapsLeases, LockKind::EndpointsLeases] {
        // A candidate that knows only the first one holds it.
        let mut bed = Bed::new(lock);
        bed.led_by("bing", 3);
        bed.store.objects[1] = None;
        assert_eq!((bed.attempt(), bed.leader().as_deref()), (Outcome::Following, Some("bing")), "{lock}");
        bed.pass(3 * SECOND);
        assert_eq!(bed.attempt(), Outcome::Acquired, "{lock}: and the second one is made");
        assert!(bed.store.objects.iter().all(Option::is_some));

        // They name different holders: nobody knows who leads, and both are waited out, the longer one too.
        let mut bed = Bed::new(lock);
        bed.led_by("bing", 3);
        let first = bed.store.objects[0].clone();
        bed.led_by("bong", 9);
        bed.store.objects[0] = first;
        assert_eq!(
            (bed.attempt(), bed.leader().as_deref()),
            (Outcome::Following, Some(crate::lease::UNKNOWN)),
            "{lock}"
        );
        bed.pass(9 * SECOND - Duration::from_nanos(1));
        assert_eq!(bed.attempt(), Outcome::Following, "{lock}");
        bed.pass(Duration::from_nanos(1));
        assert_eq!(bed.attempt(), Outcome::Acquired, "{lock}");

        // One that knows only the second one has taken it from us: we have lost.
        let mut bed = Bed::leading(lock);
        let first = bed.store.objects[0].clone();
        bed.led_by("bong", 9);
        bed.store.objects[0] = first;
        bed.store.label();
        assert_eq!(bed.attempt(), Outcome::Lost, "{lock}");
    }
}

#[test]
fn terms_are_ordered_within_the_uid_of_the_lock_that_stays() {
    let bed = Bed::leading(LockKind::ConfigMapsLeases);
    let lease = bed.store.objects[1].as_ref().and_then(|object| object.metadata.uid.clone());
    assert_eq!(bed.candidate.claim().map(|claim| claim.term.uid.to_string()), lease);
}
