//! A turn ends a bounded number of deliveries, because live requests wait for its end; and what is left for later turns changes
//! neither order nor who gets what.

use super::{START, delivered, ids, limits, members, miss, missed, owed, purge, request, rules, sent, whom};
use crate::{
    JobId, Stored,
    core::{Change, Core, Entry, Event, Leg, Reconciliation, RouteId, State, Write},
    rules::{Gone, Limits, Order, Rules},
};

use std::{sync::Arc, time::Duration};

/// The bound of these tests.
const PER_TURN: usize = 10;
/// Several turns, and a part of one.
const MANY: u64 = 35;

fn core(rules: Rules, journalled: bool) -> (Core, RouteId) {
    let mut core = Core::new(Limits { per_turn: PER_TURN, ..limits() }, journalled, 1);
    let route = core.route("purges", rules);
    core.members(START, members(&[("a", true)]));
    (core, route)
}

/// How the deliveries of a turn have ended, which are no more than the bound.
fn turn(core: &mut Core) -> Vec<State> {
    let ended: Vec<State> = core.take_events().iter().map(|Event { state, .. }| *state).collect();
    assert!(ended.len() <= PER_TURN, "{} in one turn", ended.len());
    core.check();
    ended
}

/// Turns until nothing is left to do, and how many deliveries ended in them.
fn turns(core: &mut Core, now: u64) -> (usize, usize) {
    let (mut count, mut ended) = (0, 0);
    loop {
        let done = core.tick(now);
        count += 1;
        ended += turn(core).len();
        if done {
            return (count, ended);
        }
        assert!(core.wake_at().is_some_and(|at| at <= now), "the next turn follows at once");
    }
}

#[test]
fn what_becomes_too_old_at_once_is_given_up_in_turns_and_none_of_it_is_sent_meanwhile() {
    let (mut core, route) = core(Rules { keep: Duration::from_secs(10), ..rules() }, false);
    for id in 1..=MANY {
        miss(&mut core, route, id, request("PUT", "/x", "value"), START, &["a"]);
    }
    let late = START + 10_000;
    assert!(core.next(late).is_none(), "the first turn leaves some");
    let first = turn(&mut core).len();
    assert_eq!(first, PER_TURN);
    assert!(!core.is_clear() && core.arrive(JobId::new(100), route, "a"), "live requests wait until then");
    core.leave(JobId::new(100), route, "a");
    let (_, rest) = turns(&mut core, late);
    assert_eq!(first + rest, MANY as usize);
    assert!(core.is_clear() && sent(&mut core, late).is_empty());
}

#[test]
fn many_done_jobs_are_forgotten_in_turns() {
    let (mut core, route) = core(rules(), false);
    for id in 1..=MANY {
        miss(&mut core, route, id, purge(&format!("/{id}")), START, &["a"]);
    }
    while let Some(copy) = core.next(START + 1_000) {
        core.tried(START + 1_000, copy.attempt, delivered());
        turn(&mut core);
    }
    let late = START + 3_700_000;
    assert!(!core.tick(late));
    assert_eq!(core.jobs.len(), MANY as usize - PER_TURN);
    turns(&mut core, late);
    assert!(core.jobs.is_empty());
}

#[test]
fn what_an_endpoint_that_has_gone_is_owed_is_dropped_in_turns_also_if_it_returns_meanwhile() {
    let (mut core, route) = core(Rules { gone: Gone::Drop, ..rules() }, false);
    let keep = core.route("keep", rules());
    for id in 1..=MANY {
        miss(&mut core, route, id, request("PUT", &format!("/{}", id % 3), "value"), START, &["a"]);
    }
    miss(&mut core, keep, MANY + 1, request("PUT", "/1", "value"), START, &["a"]);
    core.members(START + 1_000, members(&[]));
    let mut dropped = turn(&mut core);
    assert_eq!(dropped.len(), PER_TURN);
    core.members(START + 1_000, members(&[("a", true)]));
    dropped.extend(turn(&mut core));
    miss(&mut core, route, 100, request("PUT", "/1", "later"), START + 1_000, &["a"]);
    let first = loop {
        let copy = core.next(START + 9_000);
        dropped.extend(turn(&mut core));
        if let Some(copy) = copy {
            break copy;
        }
    };
    assert_eq!(dropped, vec![State::Dropped; MANY as usize], "nothing is sent to it before that is over");
    assert_eq!(owed(&core, "a"), [MANY + 1, 100], "what the other route keeps, and what came after its return");
    core.tried(START + 9_000, first.attempt, delivered());
    let mut sent = [vec![first.job.get()], ids(&sent(&mut core, START + 9_000))].concat();
    sent.sort_unstable();
    assert_eq!(sent, [MANY + 1, 100]);
}

#[test]
fn a_copy_that_stands_for_many_ends_them_in_turns_and_is_on_its_way_until_then() {
    let (mut core, route) = core(rules(), false);
    for id in 1..=MANY {
        miss(&mut core, route, id, purge("/x"), START, &["a"]);
    }
    let copy = core.next(START + 1_000).unwrap();
    assert_eq!(copy.job.get(), MANY);
    core.tried(START + 1_000, copy.attempt, missed());
    let copy = core.next(START + 9_000).unwrap();
    assert_eq!(copy.job.get(), MANY, "and again after a failure");
    miss(&mut core, route, MANY + 1, request("PUT", "/x", "later"), START + 9_000, &["a"]);
    core.tried(START + 9_000, copy.attempt, delivered());
    assert_eq!(turn(&mut core).len(), PER_TURN);
    assert!(core.arrive(JobId::new(100), route, "a"), "live requests wait");
    core.leave(JobId::new(100), route, "a");
    assert!(core.next(START + 9_000).is_none(), "and so does what is behind it");
    turn(&mut core);
    turns(&mut core, START + 9_000);
    assert_eq!(owed(&core, "a"), [MANY + 1]);
    assert_eq!(ids(&sent(&mut core, START + 9_000)), [MANY + 1]);
}

#[test]
fn a_copy_stands_for_what_it_stood_for_when_it_was_sent_whatever_comes_between() {
    let (mut core, route) = core(Rules { order: Order::None, ..rules() }, false);
    for id in [10, 20, 30] {
        miss(&mut core, route, id, purge("/x"), START, &["a"]);
    }
    let copy = core.next(START + 1_000).unwrap();
    assert_eq!(copy.job.get(), 30);
    // An equal one and another one that arrived earlier, and became jobs only now.
    miss(&mut core, route, 5, purge("/x"), START + 1_000, &["a"]);
    miss(&mut core, route, 25, request("PUT", "/x", "value"), START + 1_000, &["a"]);
    core.check();
    core.tried(START + 1_000, copy.attempt, delivered());
    core.check();
    assert_eq!(owed(&core, "a"), [5, 25], "it stood for 10 and 20");
    assert_eq!(ids(&sent(&mut core, START + 9_000)), [5, 25]);
}

#[test]
fn what_a_deleted_copy_stood_for_is_not_forgotten() {
    for end in [delivered(), missed()] {
        let (mut core, route) = core(rules(), false);
        for id in 1..=3 {
            miss(&mut core, route, id, purge("/x"), START, &["a"]);
        }
        let copy = core.next(START + 1_000).unwrap();
        assert!(core.delete(START + 1_000, copy.job));
        core.check();
        core.tried(START + 1_000, copy.attempt, end);
        core.check();
        assert_eq!(ids(&sent(&mut core, START + 9_000)), [2]);
    }
}

fn stored(id: u64) -> Stored {
    Stored {
        id: JobId::new(id),
        route: "purges".into(),
        arrived: START,
        expires: START + 1_000_000,
        request: Arc::new(request("PUT", "/x", "value")),
        owed: vec![(0, whom("a"), 1)],
    }
}

#[test]
fn while_jobs_of_the_journal_are_recovered_in_turns_nothing_goes_before_them() {
    let (mut core, route) = core(rules(), false);
    // A second process has kept this one in memory, while it waited for the journal.
    miss(&mut core, route, 100, request("PUT", "/x", "own"), START, &["a"]);
    core.hold("purges", whom("a"));
    core.recover(START, stored(1));
    assert!(core.next(START + 5_000).is_none(), "the rest is not there yet");
    assert!(core.arrive(JobId::new(101), route, "a"), "a live request waits");
    core.leave(JobId::new(101), route, "a");
    core.recover(START, stored(2));
    core.let_go("purges", "a");
    let mut order = Vec::new();
    while let Some(copy) = core.next(START + 5_000) {
        order.push(copy.job.get());
        core.tried(START + 5_000, copy.attempt, delivered());
    }
    assert_eq!(order, [1, 2, 100]);
    assert!(core.is_clear());
}

#[test]
fn an_endpoint_that_is_held_and_turns_out_to_be_owed_nothing_is_forgotten() {
    let (mut core, route) = core(rules(), false);
    core.hold("purges", whom("a"));
    assert!(!core.is_clear() && core.arrive(JobId::new(5), route, "a"));
    core.leave(JobId::new(5), route, "a");
    core.let_go("purges", "a");
    assert!(core.is_clear());
}

#[test]
fn a_journal_is_compared_in_turns_and_what_changes_between_them_is_written_once() {
    let (mut core, route) = core(rules(), true);
    for id in 1..=MANY {
        miss(&mut core, route, id, request("PUT", &format!("/{id}"), "value"), START, &["a"]);
    }
    for write in core.take_writes() {
        core.written(START, write.receipt, true);
    }
    // The journal has lost the even ones, and has some that nobody knows.
    let mut on_disk: Vec<Entry> = (1..=MANY)
        .filter(|id| id % 2 == 1)
        .chain(1_000..1_025)
        .map(|id| Entry { job: JobId::new(id), index: 0, attempts: u32::from(id == 1) })
        .collect();
    on_disk.reverse();
    let mut with = Reconciliation::new(&on_disk);
    let (mut put, mut withdrawn, mut counts) = (Vec::new(), 0, Vec::new());
    let mut note = |writes: Vec<Write>| {
        counts.push(writes.len());
        for write in writes {
            match write.change {
                Change::Put(_) => put.push(write.job.get()),
                Change::Withdrawn => withdrawn += 1,
                change => panic!("{change:?}"),
            }
        }
    };
    assert!(!core.reconcile(&mut with));
    note(core.take_writes());
    assert!(core.delete(START, JobId::new(MANY - 1)), "which the journal has lost, and which is not compared yet");
    core.take_writes();
    while !core.reconcile(&mut with) {
        note(core.take_writes());
    }
    note(core.take_writes());
    assert_eq!(put, (1..MANY - 1).filter(|id| id % 2 == 0).collect::<Vec<_>>());
    assert_eq!(withdrawn, 25);
    assert!(counts.iter().all(|count| *count <= PER_TURN), "{counts:?}");
}

#[test]
fn a_pending_leg_of_a_held_endpoint_that_ends_is_no_job_of_the_journal() {
    let (mut core, route) = core(rules(), false);
    core.defer(START, JobId::new(7), (route, START), purge("/x"), vec![(whom("a"), Leg::Pending)]).unwrap();
    core.hold("purges", whom("a"));
    core.ended(START, JobId::new(7), "a", 1, delivered());
    assert!(!core.is_clear(), "the endpoint is held");
    core.let_go("purges", "a");
    assert!(core.is_clear());
}
