//! A journal that is damaged in any place: service begins, and nothing is sent that was never asked.

use std::{env, fs};

use rustix::process::Signal;
use testkit::{
    client,
    origin::{Origin, Reply},
    seed,
};

use super::bed::{arguments, metric, until_all_have_everything};
use crate::process::Fanfare;

/// `all`: every place is damaged in turn, and not only some.
const DAMAGE: &str = "FANFARE_DAMAGE";
/// How many places are damaged otherwise.
const SAMPLES: usize = 6;
/// What is damaged at once: a page of the store.
const PAGE: usize = 4096;
/// Requests that are delivered before, and that are owed when the process is killed.
const DELIVERED: usize = 12;
const OWED: usize = 40;

fn body(number: usize) -> String {
    format!("value {number} {}", "x".repeat(300))
}

async fn put(fanfare: &Fanfare, number: usize) {
    let answer =
        client::request(fanfare.address(), "PUT", &format!("/{number}"), &[], body(number).as_bytes()).await.complete();
    assert!(answer.status == 202 && answer.headers.get("x-broadcast-job").is_some(), "{answer}");
}

/// The journal of a process that was killed, and the note on its commits: some requests are delivered, the later ones owed to `down`.
async fn journal(well: &Origin, down: &Origin) -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut fanfare = Fanfare::serve(arguments(&[well.address(), down.address()], directory.path(), &[])).await;
    fanfare.wait_ready().await;
    down.stop_listening().await;
    for number in 0..DELIVERED {
        put(&fanfare, number).await;
    }
    down.listen_again().await;
    until_all_have_everything(&fanfare).await;
    down.stop_listening().await;
    down.reset_all().await;
    for number in DELIVERED..DELIVERED + OWED {
        put(&fanfare, number).await;
    }
    fanfare.signal(Signal::KILL);
    fanfare.exit().await;
    let [store, commits] = ["journal.redb", "journal.commits"].map(|name| fs::read(directory.path().join(name)));
    (store.expect("the journal is there"), commits.expect("so is the note"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_journal_is_damaged_service_begins_and_nothing_is_sent_that_was_never_asked() {
    let mut rng = fastrand::Rng::with_seed(seed::random());
    let [well, down] = [Origin::start(Reply::ok("well")), Origin::start(Reply::ok("well again"))];
    let (intact, commits) = journal(&well, &down).await;
    down.listen_again().await;
    let used = |at: &usize| intact[*at..].iter().take(PAGE).any(|byte| *byte != 0);
    let mut pages: Vec<usize> = (0..intact.len()).step_by(PAGE).filter(used).collect();
    assert!(pages.len() > SAMPLES, "{} pages are used", pages.len());
    if env::var(DAMAGE).as_deref() != Ok("all") {
        rng.shuffle(&mut pages);
        pages.truncate(SAMPLES);
    }
    let mut damaged = 0;
    for at in &pages {
        let mut bytes = intact.clone();
        let end = (at + PAGE).min(bytes.len());
        bytes[*at..end].iter_mut().for_each(|byte| *byte = rng.u8(..));
        damaged += usize::from(start_with((&bytes, &commits), *at, &well, &down).await);
    }
    println!("{} pages damaged, of which {damaged} mattered", pages.len());
}

/// Starts with this journal. Tells whether damage was found.
async fn start_with((bytes, commits): (&[u8], &[u8]), at: usize, well: &Origin, down: &Origin) -> bool {
    let directory = tempfile::tempdir().expect("a temporary folder");
    fs::write(directory.path().join("journal.redb"), bytes).expect("it can be written");
    fs::write(directory.path().join("journal.commits"), commits).expect("it can be written");
    let before = (well.requests().len(), down.requests().len());
    let fanfare = Fanfare::serve(arguments(&[well.address(), down.address()], directory.path(), &[])).await;
    fanfare.wait_ready().await;
    until_all_have_everything(&fanfare).await;
    let mut got = Vec::new();
    for request in down.requests().into_iter().skip(before.1) {
        let request = request.complete();
        let number: usize = request.target[1..].parse().unwrap_or_else(|e| panic!("page {at}: {request:?}: {e}"));
        assert!(number < DELIVERED + OWED && request.text() == body(number), "page {at}: never asked: {request:?}");
        got.push(number);
    }
    assert!(got.is_sorted(), "page {at}: in order: {got:?}");
    assert_eq!(well.requests().len(), before.0, "page {at}: who was owed nothing got something");
    let is_damaged = metric(&fanfare, "fanfare_journal_damaged_total").await == Some(1.0);
    if is_damaged {
        fanfare.stderr.wait("the damage", |log| log.contains("the journal is damaged")).await;
        let aside = fs::read_dir(directory.path()).expect("it can be listed").filter_map(|entry| {
            let entry = entry.expect("it can be listed");
            entry.file_name().to_str()?.contains(".damaged-").then(|| entry.path())
        });
        let aside: Vec<_> = aside.collect();
        assert_eq!(aside.len(), 1, "page {at}: what could not be read is aside");
        assert_eq!(fs::metadata(&aside[0]).expect("it is there").len(), bytes.len() as u64, "page {at}");
    } else {
        assert_eq!(got, (DELIVERED..DELIVERED + OWED).collect::<Vec<_>>(), "page {at}: undamaged, and not all");
    }
    // The journal may not know yet that nothing is owed.
    let live = async || client::request(fanfare.address(), "PUT", "/0", &[], body(0).as_bytes()).await.status;
    testkit::eventually!("a live request", live().await, |status| *status == 200);
    is_damaged
}
