//! The journal while its process is killed and while its disk fails.
//!
//! The program starts itself again: as a process that is killed, and in a mount namespace with a small disk of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

#[path = "../common/mod.rs"]
mod common;

use common::{Told, job, put, settled};

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use redeliver::{
    JobId, Redelivery, Sender,
    core::{Copy, Leg, Verdict},
    journal::{Health, Journal},
    rules::{Limits, Order, Rules},
    view::{JobState, Query},
};
use tempfile::tempdir;
use testkit::eventually;
use tokio::sync::watch;

/// The variable with the role of a child process.
const ROLE: &str = "REDELIVER_DISK_TEST";
/// The variable with the number of kills.
const KILLS: &str = "FANFARE_KILLS";

fn main() {
    let directory = env::args().nth(1).unwrap_or_default();
    match env::var(ROLE).as_deref() {
        Ok("killed") => be_killed(Path::new(&directory)),
        Ok("full") => full(Path::new(&directory)),
        Ok("read-only") => read_only(Path::new(&directory)),
        Ok("compared") => compared(Path::new(&directory)),
        _ => {
            for (name, test) in [
                ("rule_1_what_was_acknowledged_survives_kill_9", kills as fn()),
                ("rule_6_a_full_disk_is_said_and_gone_on_from", || on_a_small_disk("full")),
                ("rule_6_a_read_only_disk_is_said_and_gone_on_from", || on_a_small_disk("read-only")),
                ("rule_6_what_a_disk_missed_is_made_up_for_when_it_is_back", || on_a_small_disk("compared")),
            ] {
                println!("test {name} ...");
                test();
                println!("test {name} ... ok");
            }
            println!("test result: ok. 4 passed; 0 failed");
        }
    }
}

/// Writes jobs until it is killed, and prints the acknowledged ones.
fn be_killed(directory: &Path) {
    let told = Told::new();
    let journal = Journal::start(directory, told.clone()).unwrap();
    let mut out = std::io::stdout();
    let next = told.jobs().iter().map(|job| job.id.get()).max().unwrap_or_default() + 1;
    let first: u64 = env::args().nth(2).unwrap().parse().unwrap();
    for id in first.max(next).. {
        writeln!(out, "asked {id}").unwrap();
        journal.write(vec![put(id, 200)]);
        if id % 8 == 0 {
            assert!(told.taken(id), "and with it all before");
            writeln!(out, "acknowledged {id}").unwrap();
        }
        if id % 16 == 0 {
            // Delivered to both, in one transaction or two.
            let done = id - 3;
            let before = told.wait("", |state| Some(state.receipts));
            writeln!(out, "settling {done}").unwrap();
            journal.write(vec![settled(done, 0, false), settled(done, 1, true)]);
            told.wait("it is settled", |state| (state.receipts >= before + 2).then_some(()));
            writeln!(out, "settled {done}").unwrap();
        }
    }
}

fn kills() {
    let kills = env::var(KILLS).ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let mut rng = fastrand::Rng::with_seed(testkit::seed::random());
    let directory = tempdir().unwrap();
    let (mut asked, mut acknowledged, mut settled) = (0_u64, BTreeSet::new(), BTreeSet::new());
    let mut maybe = BTreeSet::new();
    for _ in 0..kills {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(directory.path()).arg((asked + 1).to_string()).env(ROLE, "killed").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut killed = false;
        let first = asked + 1;
        let mut left = rng.u32(1..200);
        // Everything that it has printed before its death counts, even if it is read later.
        while let Some(Ok(line)) = lines.next() {
            let (word, id) = line.split_once(' ').unwrap();
            let id: u64 = id.parse().unwrap();
            match word {
                "asked" => asked = id,
                "acknowledged" => acknowledged.extend(first.max(id - 7)..=id),
                "settling" => {
                    maybe.insert(id);
                }
                "settled" => {
                    settled.insert(id);
                }
                other => panic!("{other}"),
            }
            left = left.saturating_sub(1);
            if left == 0 && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the process ended by itself");
        judge(directory.path(), asked, &acknowledged, &maybe, &settled);
    }
}

fn judge(directory: &Path, asked: u64, acknowledged: &BTreeSet<u64>, maybe: &BTreeSet<u64>, settled: &BTreeSet<u64>) {
    let told = Told::new();
    let journal = Journal::start(directory, told.clone()).unwrap();
    let found = told.jobs();
    assert!(told.wait("", |state| Some(state.damage.clone())).is_none(), "a kill damages nothing");
    journal.close();
    let ids: BTreeSet<u64> = found.iter().map(|job| job.id.get()).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ids.contains(id) && !maybe.contains(id)).collect();
    assert!(lost.is_empty(), "rule 1: acknowledged and lost: {lost:?}");
    let back: Vec<_> = ids.intersection(settled).collect();
    assert!(back.is_empty(), "rule 2: settled and back: {back:?}");
    for found in &found {
        let id = found.id.get();
        assert!(id <= asked, "{id} was never asked");
        let right = job(id, 200);
        assert!(*found == right || maybe.contains(&id), "{found:?}");
    }
}

/// Runs a part of this program with a tmpfs of a few megabytes.
fn on_a_small_disk(role: &str) {
    let directory = tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=8m none "$1" && exec "$0" "$1""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(env::current_exe().unwrap()).arg(directory.path()).env(ROLE, role);
    let status = command.status().expect("unshare (util-linux) is there");
    assert!(status.success(), "{role}: {status}; permission to make user namespaces is needed");
}

/// Fills the disk, goes on, and makes room again.
fn full(directory: &Path) {
    let told = Told::new();
    let journal = Journal::start(&directory.join("journal"), told.clone()).unwrap();
    told.jobs();
    let mut next = 1;
    let mut kept = Vec::new();
    let mut write = |told: &Told| {
        let id = next;
        next += 1;
        journal.write(vec![put(id, 100_000)]);
        let taken = told.taken(id);
        if taken {
            kept.push(id);
        }
        taken
    };
    assert!(write(&told));
    fs::write(directory.join("filler"), vec![1; 3 << 20]).unwrap();
    while write(&told) {}
    let error = told.wait("it fails", |state| match state.health.last() {
        Some(Health::Failed(error)) => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains("No space left"), "{error}");
    fs::remove_file(directory.join("filler")).unwrap();
    told.wait("it goes on", |state| (state.health.last() == Some(&Health::Open)).then_some(()));
    assert!(write(&told));
    journal.close();
    is_there(&directory.join("journal"), &kept);
}

fn remount(directory: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", how]).arg(directory).status().expect("mount is there");
    assert!(status.success(), "mount -o {how}: {status}");
}

/// Begins on a disk that cannot be written, goes on when it can, and has it taken away once more.
fn read_only(directory: &Path) {
    let path = directory.join("journal");
    remount(directory, "remount,ro");
    let told = Told::new();
    let journal = Journal::start(&path, told.clone()).unwrap();
    let error = told.wait("it fails", |state| match state.health.last() {
        Some(Health::Failed(error)) => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains("Read-only file system"), "{error}");
    journal.write(vec![put(1, 100)]);
    assert!(!told.taken(1));
    remount(directory, "remount,rw");
    assert!(told.jobs().is_empty());
    journal.write(vec![put(2, 100)]);
    assert!(told.taken(2));
    journal.close();
    is_there(&path, &[2]);
}

/// Completes deliveries and refuses requests while the disk fails; afterwards the journal has exactly the pending deliveries.
fn compared(directory: &Path) {
    let path = directory.join("journal");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let start = async || {
            let redelivery = Redelivery::start(Limits::default(), Some(&path), fastrand::u64(..)).unwrap();
            let route = redelivery.route("purges", Rules { order: Order::None, ..Rules::default() });
            redelivery.until_read().await;
            (redelivery, route)
        };
        let miss = async |redelivery: &Redelivery, route, body: usize| {
            let request = Arc::unwrap_or_clone(job(1, body).request);
            redelivery
                .arrival(route, Instant::now())
                .defer(request, vec![(job(1, 0).owed[0].1.clone(), Leg::Behind)])
                .await
        };
        let state = |redelivery: &Redelivery| serde_json::to_value(redelivery.journal()).unwrap()["state"].clone();
        let (redelivery, route) = start().await;
        let mut taken = Vec::new();
        for _ in 0..100 {
            taken.push(miss(&redelivery, route, 100).await.unwrap());
        }
        fs::write(directory.join("filler"), vec![1; 3 << 20]).unwrap();
        while let Ok(more) = miss(&redelivery, route, 100_000).await {
            taken.push(more);
        }
        // This cannot be written until the journal is opened again, and nothing keeps it until then.
        for id in taken.drain(..90) {
            assert!(redelivery.delete(id));
        }
        for _ in 0..1_000 {
            taken.extend(miss(&redelivery, route, 100).await);
        }
        fs::remove_file(directory.join("filler")).unwrap();
        eventually!("the journal", state(&redelivery), |state| state == "open");
        taken.push(miss(&redelivery, route, 100).await.unwrap());
        redelivery.run(&Nobody, watch::Sender::new(None).subscribe(), async {}).await;
        drop(redelivery);
        let (redelivery, _) = start().await;
        let found =
            redelivery.jobs(&Query { limit: Some(1_000), state: Some(JobState::Owed), ..Query::default() }).jobs;
        let mut found: Vec<JobId> = found.iter().map(|job| job.id().parse().unwrap()).collect();
        found.reverse();
        assert_eq!(found, taken, "what is owed, and nothing else");
        redelivery.run(&Nobody, watch::Sender::new(None).subscribe(), async {}).await;
    });
}

/// Sends nothing.
struct Nobody;

impl Sender for Nobody {
    async fn send(&self, _copy: Copy) -> Verdict {
        Verdict::Cancelled
    }
}

fn is_there(path: &Path, ids: &[u64]) {
    let told = Told::new();
    let journal = Journal::start(path, told.clone()).unwrap();
    let found: Vec<u64> = told.jobs().iter().map(|job| job.id.get()).collect();
    assert_eq!(found, ids, "what was taken is there, and what was answered as a failure is not");
    assert!(told.wait("", |state| Some(state.damage.clone())).is_none());
    journal.close();
}
