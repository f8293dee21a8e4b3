//! Writes after a journal is opened again, and removed routes.

use super::{START, delivered, ids, members, miss, purge, request, rules, sent, whom};
use crate::{
    JobId,
    core::{Change, Core, Entry, Leg, Receipt, Reconciliation, RouteId, Write},
};

use std::collections::HashSet;

fn journalled() -> (Core, RouteId) {
    let mut core = Core::new(super::limits(), true, 1);
    let route = core.route("purges", rules());
    core.members(START, members(&[("a", true), ("b", true)]));
    (core, route)
}

/// Takes a request that both missed.
fn take(core: &mut Core, route: RouteId, id: u64) {
    miss(core, route, id, request("PUT", &format!("/{id}"), "x"), START, &["a", "b"]);
}

/// The journal answers everything that it was given.
fn answer(core: &mut Core, ok: bool) {
    for write in core.take_writes() {
        core.written(START, write.receipt, ok);
    }
}

/// All turns of it.
fn reconcile(core: &mut Core, on_disk: &[Entry]) {
    let mut with = Reconciliation::new(on_disk);
    while !core.reconcile(&mut with) {}
}

fn entry(job: u64, index: u32, attempts: u32) -> Entry {
    Entry { job: JobId::new(job), index, attempts }
}

fn written(core: &mut Core) -> Vec<(u64, &'static str)> {
    let name = |write: &Write| match &write.change {
        Change::Put(stored) => {
            assert_eq!(stored.owed.len(), 2, "all that is owed of it");
            "put"
        }
        Change::Tried { .. } => "tried",
        Change::Settled { index, last } => {
            assert!((*index, *last) == (0, false), "the other one is still owed");
            "settled"
        }
        Change::Withdrawn => "withdrawn",
    };
    let writes = core.take_writes();
    assert!(writes.iter().all(|write| write.receipt == Receipt::None), "nobody waits for them");
    writes.iter().map(|write| (write.job.get(), name(write))).collect()
}

#[test]
fn a_journal_that_is_opened_again_is_told_what_differs_and_nothing_else() {
    let (mut core, route) = journalled();
    for id in 1..=5 {
        take(&mut core, route, id);
    }
    answer(&mut core, true);
    // The disk fails: this one is not taken, whatever the disk has of it.
    take(&mut core, route, 6);
    answer(&mut core, false);
    // This one waits for the journal.
    take(&mut core, route, 7);
    // The first one was sent; those that came later wait behind it.
    let both = |job, attempts| [entry(job, 0, attempts), entry(job, 1, attempts)];
    let mut on_disk = [both(1, 1), both(2, 0), both(6, 0), both(9, 4)].concat();
    on_disk.extend([entry(3, 0, 0), entry(3, 1, 7), entry(5, 0, 0)]);
    assert_eq!(core.take_writes().len(), 1, "of the one that waits");
    reconcile(&mut core, &on_disk);
    let expected =
        [(3, "tried"), (4, "put"), (5, "put"), (6, "withdrawn"), (6, "withdrawn"), (9, "withdrawn"), (9, "withdrawn")];
    assert_eq!(written(&mut core), expected);
    reconcile(&mut core, &[]);
    let all: Vec<_> = (1..=5).map(|id| (id, "put")).collect();
    assert_eq!(written(&mut core), all, "a new file gets all that was acknowledged");
}

#[test]
fn an_end_that_was_not_written_is_made_up_for() {
    let (mut core, route) = journalled();
    take(&mut core, route, 1);
    answer(&mut core, true);
    let copies = sent(&mut core, START + 5_000);
    let first = copies.iter().find(|copy| &*copy.whom.key == "a").unwrap();
    core.tried(START + 5_000, first.attempt, delivered());
    answer(&mut core, false);
    reconcile(&mut core, &[entry(1, 0, 1), entry(1, 1, 1)]);
    assert_eq!(written(&mut core), [(1, "settled")]);
}

#[test]
fn deliveries_of_a_removed_route_wait_until_it_is_back() {
    let mut core = Core::new(super::limits(), false, 1);
    let (route, other) = (core.route("purges", rules()), core.route("other", rules()));
    core.members(START, members(&[("a", true)]));
    for (id, route) in [(1, route), (2, other), (3, route)] {
        let legs = vec![(whom("a"), Leg::Behind)];
        core.defer(START, JobId::new(id), (route, START), purge(&format!("/{id}")), legs).unwrap();
    }
    core.use_routes(&HashSet::from([other]));
    let copies = sent(&mut core, START + 1_000);
    assert_eq!(ids(&copies), [2]);
    core.tried(START + 1_000, copies[0].attempt, delivered());
    assert!(sent(&mut core, START + 2_000).is_empty());
    assert!(core.arrive(JobId::new(4), route, "a"), "it is still owed");
    core.leave(JobId::new(4), route, "a");
    core.route("purges", rules());
    let copies = sent(&mut core, START + 3_000);
    assert_eq!(ids(&copies), [1]);
    core.tick(START + 3_600_000);
    assert_eq!(core.owed().0, 1, "and it is given up when it is too old");
}
