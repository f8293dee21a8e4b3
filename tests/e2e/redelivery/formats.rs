//! Journals in the format of another version of Fanfare: nothing is started with them, and nothing is lost.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tempfile::tempdir;

use super::{
    bed::{Bed, FLAGS, ids, owe},
    reload::{redeliver, text},
};
use crate::{
    config_file::{ConfigFile, reload},
    process::run,
};

/// An empty record with its checksum, in the format before and in the one after that of this version.
const OLDER: &[u8] = b"\xf0ow\x9d\x00\x03\x00\x00\x00\x00\x01\x01\x01\x01\x36\x58\x65\x0d";
const NEWER: &[u8] = b"\xf0ow\x9d\x02\x03\x00\x00\x00\x00\x01\x01\x01\x01\x0b\x88\x90\x09";

/// The files of a journal, with their contents.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    let read = |path: PathBuf| (path.display().to_string(), fs::read(path).expect("a file"));
    let mut files: Vec<_> = entries.map(|entry| read(entry.path())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_start_with_a_journal_of_a_newer_version_is_refused_and_its_deliveries_are_kept() {
    let (bed, directory) = (Bed::new().await, tempdir().unwrap());
    let fanfare = bed.serve_with(directory.path(), &[]).await;
    owe(&fanfare, "/kept").await;
    fanfare.signal(Signal::TERM);
    fanfare.finish().await;
    let path = directory.path().join("journal.redb");
    let own = fs::read(&path).unwrap();
    fs::write(&path, [&own, NEWER].concat()).unwrap();
    let before = files(directory.path());

    let endpoints = bed.addresses().map(|address| address.to_string()).join(",");
    let base = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints", &endpoints];
    let journal = ["--redeliver-journal", directory.path().to_str().unwrap()];
    let ended = run([&base[..], &FLAGS, &journal].concat()).await;
    let told = format!("--redeliver-journal: {} has format 2, which a newer version of Fanfare wrote", path.display());
    assert!(ended.stderr.contains(&told) && ended.stderr.contains("run that version"), "{}", ended.stderr);
    assert_eq!((ended.code, files(directory.path())), (Some(64), before));

    // With the version that wrote it, they arrive.
    fs::write(&path, own).unwrap();
    let _fanfare = bed.serve_with(directory.path(), &[]).await;
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/kept"]);
}

#[tokio::test]
async fn a_file_that_names_a_journal_of_another_version_is_refused_by_check_start_and_reload() {
    let (bed, file) = (Bed::new().await, ConfigFile::missing());
    let (good, other) = (redeliver(&file, "j", ""), redeliver(&file, "other", ""));
    file.write(&text(&bed, &[("a", &good)]));
    let fanfare = file.serve().await;
    let id = owe(&fanfare, "/a").await;
    let directory = file.folder().join("other");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("journal.redb"), OLDER).unwrap();
    let before = files(&directory);

    file.write(&text(&bed, &[("a", &good), ("b", &other)]));
    let told = "broadcast[0].routes[1].redeliver.journal: ";
    let why = "has format 0, which an older version of Fanfare wrote, and this one reads format 1";
    let checked = run(["check".as_ref(), file.path.as_os_str()]).await;
    let started = run(file.arguments()).await;
    for ended in [checked, started] {
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        assert!(ended.stderr.contains(told) && ended.stderr.contains(why), "{}", ended.stderr);
    }
    reload(&fanfare, "refused", 1).await;
    fanfare.stderr.wait("the reason", |log| log.contains(told) && log.contains(why)).await;
    assert_eq!(files(&directory), before);
    fanfare.wait_ready().await;
    assert_eq!(ids(&fanfare, "owed").await, [id]);
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/a"]);
}
