//! The journal on real files: committed jobs are recovered, whatever happens to the file.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod formats;

use common::{Told, job, put, settled};

use std::{sync::Arc, thread};

use redeliver::{
    JobId,
    core::{Change, Receipt, Write},
    journal::{Health, Journal},
};
use tempfile::tempdir;

#[test]
fn rule_1_pending_deliveries_survive_and_settled_ones_do_not_return() {
    let directory = tempdir().unwrap();
    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    assert!(told.jobs().is_empty());
    journal.write((1..=4).map(|id| put(id, 100)).collect());
    journal.write(vec![settled(1, 0, false), settled(2, 1, false), settled(2, 0, true)]);
    let whom = Arc::new(job(3, 0).owed[0].1.clone());
    let tried = Change::Tried { index: 0, whom, attempts: 7 };
    journal.write(vec![Write { job: JobId::new(3), change: tried, receipt: Receipt::None }]);
    journal.close();

    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    let (mut one, mut three) = (job(1, 100), job(3, 100));
    one.owed.remove(0);
    three.owed[0].2 = 7;
    assert_eq!(told.jobs(), [one, three, job(4, 100)]);
    journal.close();
}

#[test]
fn rule_1_many_requests_share_a_commit() {
    const THREADS: u64 = 20;
    const EACH: u64 = 50;
    let directory = tempdir().unwrap();
    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    told.jobs();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || (0..EACH).for_each(|id| journal.write(vec![put(1 + thread * EACH + id, 10)])));
        }
    });
    let commits = told.wait("all are written", |state| {
        (state.written.len() as u64 == THREADS * EACH).then_some(state.commits as u64)
    });
    assert!(commits < THREADS * EACH, "{commits} commits");
    journal.close();
}

#[test]
fn rule_6_a_second_one_waits_for_the_lock_and_takes_over() {
    let directory = tempdir().unwrap();
    let (old, new) = (Told::new(), Told::new());
    let first = Journal::start(directory.path(), old.clone()).unwrap();
    old.jobs();
    first.write(vec![put(1, 10)]);
    assert!(old.taken(1));
    let second = Journal::start(directory.path(), new.clone()).unwrap();
    new.wait("it waits", |state| state.health.contains(&Health::Waiting).then_some(()));
    first.write(vec![put(2, 10)]);
    assert!(old.taken(2), "the first one goes on meanwhile");
    first.close();
    assert_eq!(new.jobs(), [job(1, 10), job(2, 10)]);
    second.write(vec![put(3, 10)]);
    assert!(new.taken(3));
    second.close();
}

#[test]
fn a_directory_that_cannot_be_made_is_named_and_tried_again() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "no directory").unwrap();
    let told = Told::new();
    let journal = Journal::start(&path.join("journal"), told.clone()).unwrap();
    let error = told.wait("it fails", |state| match state.health.first() {
        Some(Health::Failed(error)) => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    journal.write(vec![put(1, 10)]);
    assert!(!told.taken(1));
    std::fs::remove_file(&path).unwrap();
    assert!(told.jobs().is_empty(), "what was not acknowledged is not there");
    journal.write(vec![put(2, 10)]);
    assert!(told.taken(2));
    journal.close();
}
