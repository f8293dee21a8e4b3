//! A damaged journal, and disks that cannot be written: requests go on, and it is said.

use std::path::Path;

use rustix::process::Signal;
use tempfile::tempdir;
use testkit::{client, eventually};
use tokio::process::Command;

use super::bed::{Bed, FLAGS, journal, owe, put};
use crate::process::Fanfare;

async fn metrics(fanfare: &Fanfare) -> String {
    client::get(fanfare.admin(), "/metrics").await.complete().text()
}

#[tokio::test]
async fn a_damaged_journal_moves_aside_and_is_named() {
    let (bed, directory) = (Bed::new().await, tempdir().unwrap());
    let fanfare = bed.serve_with(directory.path(), &[]).await;
    owe(&fanfare, "/kept").await;
    fanfare.signal(Signal::TERM);
    fanfare.finish().await;
    // The head of the store is overwritten; its records are found by a search.
    let file = directory.path().join("journal.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..64].fill(0xA5);
    std::fs::write(&file, &bytes).unwrap();

    let fanfare = bed.serve_with(directory.path(), &[]).await;
    let shown = eventually!("the journal", journal(&fanfare).await, |journal| journal["state"] != "opening");
    let aside = shown["damaged"]["file"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert_eq!((&shown["state"], &shown["damaged"]["kept"]), (&"open".into(), &1.into()));
    assert_eq!(std::fs::read(&aside).unwrap(), bytes);
    fanfare.stderr.wait("the name of the file", |log| log.contains(&aside)).await;
    assert!(metrics(&fanfare).await.contains("fanfare_journal_damaged_total 1\n"));
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/kept"]);
}

/// Starts the process in its own mount namespace, with its journal on a small disk.
async fn on_a_disk(bed: &Bed, directory: &Path, options: &str) -> Fanfare {
    let script = r#"mount -t tmpfs -o "$2" none "$1" && shift 2 && exec "$@""#;
    let endpoints = bed.addresses().map(|address| address.to_string()).join(",");
    let journal = directory.join("journal");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(directory).arg(options);
    command.arg(env!("CARGO_BIN_EXE_fanfare")).args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0"]);
    command.args(["--threads", "1", "--endpoints", &endpoints, "--redeliver-journal"]).arg(journal).args(FLAGS);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    fanfare
}

#[tokio::test]
async fn on_a_disk_that_cannot_be_written_the_answer_is_the_plain_failure_and_it_stays_ready() {
    for (options, why) in [("ro", "Read-only file system"), ("size=4k", "No space left")] {
        let (bed, directory) = (Bed::new().await, tempdir().unwrap());
        let fanfare = on_a_disk(&bed, directory.path(), options).await;
        for target in ["/1", "/2"] {
            let answer = put(&fanfare, target).await.expect_status(502);
            assert!(answer.header("x-broadcast-job").is_none(), "{answer}");
            assert!(!answer.header("x-broadcast-result").unwrap().contains("deferred"), "{answer}");
        }
        let shown = eventually!("the failure", journal(&fanfare).await, |journal| journal["state"] == "failed");
        assert!(shown["error"].as_str().unwrap().contains(why), "{shown}");
        let unwritable = |told: &String| told.contains("fanfare_journal_writable 0\n");
        eventually!("the metric of the failure", metrics(&fanfare).await, unwritable);
        eventually!("the two that were refused", metrics(&fanfare).await, |told| told
            .contains("result=\"refused\"} 2\n"));
        fanfare.wait_ready().await;
        bed.come_back().await;
        put(&fanfare, "/3").await.expect_status(200);
        let log = fanfare.stderr.wait("the warning", |log| log.contains("the journal cannot be written")).await;
        assert_eq!(log.matches("the journal cannot be written").count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_process_is_not_ready_before_its_journal_is_read() {
    let (bed, directory) = (Bed::new().await, tempdir().unwrap());
    // The lock file is a pipe: nobody can open it to write before somebody has opened it to read.
    let lock = directory.path().join("journal.lock");
    testkit::named_pipe::make(&lock);
    let journal = directory.path().to_str().unwrap();
    let fanfare = Fanfare::broadcast(&bed.addresses(), &[&FLAGS[..], &["--redeliver-journal", journal]].concat()).await;
    let ready = async || client::get(fanfare.admin(), "/-/ready").await.complete();
    let unready = eventually!("the reason", ready().await.text(), |text| text.contains("is still being read"));
    assert!(unready.contains(journal), "{unready}");
    assert_eq!(ready().await.status, 503);
    let refused = put(&fanfare, "/early").await.expect_status(503);
    assert!(refused.text().contains(journal), "{refused}");
    let _reading = std::fs::File::options().read(true).write(true).open(&lock).unwrap();
    fanfare.wait_ready().await;
    owe(&fanfare, "/later").await;
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/later"]);
}
