//! Rule 6: whichever region of the file is damaged, readable jobs are kept, and no job appears that was not there.

use super::common::{Told, job, put, settled};

use std::{collections::BTreeMap, fs, path::Path};

use redeliver::{Stored, journal::Journal};
use tempfile::tempdir;

const JOBS: u64 = 60;
/// What a record begins with.
const MAGIC: [u8; 4] = [0xF0, b'o', b'w', 0x9D];
/// A page of the store.
const REGION: usize = 4096;

fn written(directory: &Path) -> BTreeMap<u64, Stored> {
    let told = Told::new();
    let journal = Journal::start(directory, told.clone()).unwrap();
    told.jobs();
    let mut owed = BTreeMap::new();
    for id in 1..=JOBS {
        journal.write(vec![put(id, 300)]);
        owed.insert(id, job(id, 300));
        assert!(told.taken(id));
        // The oldest are delivered, and one in the middle.
        if id == 40 {
            for done in (1..=10).chain([20]) {
                journal.write(vec![settled(done, 0, false), settled(done, 1, true)]);
                owed.remove(&done);
            }
        }
    }
    journal.close();
    owed
}

#[test]
fn rule_6_every_region_damaged_in_turn_costs_no_more_than_what_is_in_it() {
    let directory = tempdir().unwrap();
    let owed = written(directory.path());
    let intact = fs::read(directory.path().join("journal.redb")).unwrap();
    let seed = testkit::seed::random();
    let mut rng = fastrand::Rng::with_seed(seed);
    let regions: Vec<usize> = (0..intact.len()).step_by(REGION).filter(|at| used(&intact[*at..])).collect();
    assert!(regions.len() > 10, "{} regions are used", regions.len());
    let mut damaged = 0;
    for at in regions {
        let place = tempdir().unwrap();
        let mut bytes = intact.clone();
        let end = (at + REGION).min(bytes.len());
        let lost = records(&bytes, at, end);
        bytes[at..end].iter_mut().for_each(|byte| *byte = rng.u8(..));
        fs::write(place.path().join("journal.redb"), &bytes).unwrap();

        let told = Told::new();
        let journal = Journal::start(place.path(), told.clone()).unwrap();
        let found = told.jobs();
        let damage = told.wait("it is open", |state| Some(state.damage.clone()));
        for job in &found {
            let right = match owed.get(&job.id.get()) {
                Some(right) => right.clone(),
                // At-least-once delivery: a finished job may come back unchanged.
                None if damage.is_some() => super::job(job.id.get(), 300),
                None => panic!("region {at}: {job:?} was not owed"),
            };
            let parts = job.owed.iter().all(|one| right.owed.contains(one));
            assert!(job.request == right.request && parts, "region {at}: {job:?}");
        }
        let kept = found.iter().filter(|job| owed.contains_key(&job.id.get())).count();
        match &damage {
            None => assert_eq!(found.iter().collect::<Vec<_>>(), owed.values().collect::<Vec<_>>(), "region {at}"),
            Some(damage) => {
                damaged += 1;
                assert_eq!(fs::read(&damage.aside).unwrap().len(), intact.len(), "region {at}: it is all there aside");
                assert!(kept + lost >= owed.len(), "region {at}: {kept} of {} kept, {lost} were in it", owed.len());
            }
        }
        // The new file is a journal like any other.
        journal.write(vec![put(1_000, 10)]);
        assert!(told.taken(1_000));
        journal.close();
        let again = Told::new();
        let journal = Journal::start(place.path(), again.clone()).unwrap();
        assert_eq!(again.jobs().len(), found.len() + 1, "region {at}");
        journal.close();
    }
    assert!(damaged > 5, "{damaged} regions mattered");
}

/// The files of a journal as a killed process leaves them: the store before and after its last commit, and the number of commits.
fn killed(directory: &Path) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let told = Told::new();
    let journal = Journal::start(directory, told.clone()).unwrap();
    told.jobs();
    let mut copies = Vec::new();
    for id in 1..=30 {
        journal.write(vec![put(id, 300)]);
        assert!(told.taken(id));
        copies.push(fs::read(directory.join("journal.redb")).unwrap());
    }
    let commits = fs::read(directory.join("journal.commits")).unwrap();
    journal.close();
    let (last, before) = (copies.pop().unwrap(), copies.pop().unwrap());
    (before, last, commits)
}

#[test]
fn rule_6_damage_to_the_last_commit_before_a_crash_is_told_from_a_commit_that_was_cut_off() {
    let directory = tempdir().unwrap();
    let (before, last, commits) = killed(directory.path());
    let seed = testkit::seed::random();
    let mut rng = fastrand::Rng::with_seed(seed);
    let changed = |at: &usize| before.get(*at..*at + REGION) != last.get(*at..*at + REGION);
    let regions: Vec<usize> = (0..last.len()).step_by(REGION).filter(changed).collect();
    let mut missing = 0;
    for at in regions {
        let place = tempdir().unwrap();
        let mut bytes = last.clone();
        let end = (at + REGION).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte = rng.u8(..));
        fs::write(place.path().join("journal.redb"), &bytes).unwrap();
        fs::write(place.path().join("journal.commits"), &commits).unwrap();
        let told = Told::new();
        let journal = Journal::start(place.path(), told.clone()).unwrap();
        let found = told.jobs().len();
        let damage = told.wait("it is open", |state| Some(state.damage.clone()));
        assert!(found == 30 || damage.is_some(), "region {at}: {found} of 30, and not a word");
        missing += usize::from(damage.is_some_and(|damage| damage.error.contains("last commits are missing")));
        // What follows is counted on: the next process misses nothing.
        journal.write(vec![put(1_000, 10)]);
        assert!(told.taken(1_000));
        drop(journal);
        let again = Told::new();
        let journal = Journal::start(place.path(), again.clone()).unwrap();
        assert_eq!(again.jobs().len(), found + 1, "region {at}");
        assert_eq!(again.wait("it is open", |state| Some(state.damage.clone())), None, "region {at}");
        journal.close();
    }
    assert!(missing > 0, "no region was of the last commit alone");

    // A commit that was cut off has not been noted, and a journal that somebody has removed lacks nothing.
    for (bytes, found) in [(Some(&last), 30), (None, 0)] {
        let place = tempdir().unwrap();
        if let Some(bytes) = bytes {
            fs::write(place.path().join("journal.redb"), bytes).unwrap();
        }
        fs::write(place.path().join("journal.commits"), &commits).unwrap();
        let told = Told::new();
        let journal = Journal::start(place.path(), told.clone()).unwrap();
        assert_eq!(told.jobs().len(), found);
        assert_eq!(told.wait("it is open", |state| Some(state.damage.clone())), None);
        journal.close();
    }
}

#[test]
fn rule_6_a_process_that_ends_while_it_replaces_a_damaged_file_loses_nothing() {
    let directory = tempdir().unwrap();
    let owed = written(directory.path());
    // The damaged file is aside, and the new one does not have its name yet.
    let path = directory.path().join("journal.redb");
    fs::rename(&path, directory.path().join("journal.redb.new")).unwrap();
    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    assert_eq!(told.jobs().iter().collect::<Vec<_>>(), owed.values().collect::<Vec<_>>());
    assert!(path.exists() && !directory.path().join("journal.redb.new").exists());
    journal.close();
}

#[test]
fn rule_6_a_file_that_is_cut_or_something_else_moves_aside() {
    for bytes in [b"not a journal at all".to_vec(), vec![0; 10_000], vec![0xFF; 100]] {
        let directory = tempdir().unwrap();
        fs::write(directory.path().join("journal.redb"), &bytes).unwrap();
        let told = Told::new();
        let journal = Journal::start(directory.path(), told.clone()).unwrap();
        assert!(told.jobs().is_empty());
        let damage = told.wait("it is open", |state| state.damage.clone());
        assert_eq!(fs::read(damage.aside).unwrap(), bytes);
        journal.close();
    }
    let directory = tempdir().unwrap();
    let owed = written(directory.path());
    let path = directory.path().join("journal.redb");
    let intact = fs::read(&path).unwrap();
    let end = intact.len() - REGION;
    fs::write(&path, &intact[..end]).unwrap();
    let lost = records(&intact, end, intact.len());
    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    let kept = told.jobs().iter().filter(|job| owed.contains_key(&job.id.get())).count();
    assert!(kept + lost >= owed.len(), "{kept} of {} kept, {lost} were in what was cut off", owed.len());
    journal.close();
}

/// Whether there is anything.
fn used(region: &[u8]) -> bool {
    region[..REGION.min(region.len())].iter().any(|byte| *byte != 0)
}

/// How many records begin in a region or before it: each that is damaged costs at most one job.
fn records(bytes: &[u8], at: usize, end: usize) -> usize {
    let before = bytes[..at].windows(4).rposition(|window| window == MAGIC).map_or(0, |_| 1);
    before + bytes[at..end].windows(4).filter(|window| *window == MAGIC).count()
}
