//! Settings of redelivery on the command line and in the file, and refused ones.

use tempfile::tempdir;
use testkit::client;

use super::bed::{Bed, FLAGS, json};
use crate::process::run;

/// The shown configuration has the values of the flags, and can be pasted into a file.
#[tokio::test]
async fn flags_are_shown_and_can_be_checked_again() {
    let (bed, folder) = (Bed::new().await, tempdir().unwrap());
    let directory = folder.path().join("a/journal");
    let flags = ["--redeliver-methods", "PURGE,POST", "--redeliver-on", "5xx", "--redeliver-order", "none"];
    let more = ["--redeliver-gone", "drop", "--redeliver-identity", "address", "--redeliver-max-jobs", "5"];
    let fanfare = bed.serve_with(&directory, &[&flags[..], &more, &["--on-deferred", "202"]].concat()).await;
    let text = client::get(fanfare.admin(), "/-/config").await.complete().expect_status(200);
    let route = &json(&text)["broadcast"][0]["routes"][0];
    assert_eq!(route["on_deferred"], "202");
    let shown = &route["redeliver"];
    for (key, value) in
        [("for", "1h"), ("order", "none"), ("gone", "drop"), ("identity", "address"), ("max_bytes", "256MiB")]
    {
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    assert!(directory.is_dir(), "it is made");
    let file = folder.path().join("shown.yaml");
    std::fs::write(&file, text.text()).unwrap();
    let checked = run(["check".as_ref(), file.as_os_str()]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
}

#[tokio::test]
async fn invalid_settings_are_refused_by_flag() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (file, below) = (file.to_str().unwrap(), file.join("journal"));
    let below = below.to_str().unwrap();
    let on = &FLAGS[..];
    for (flags, told) in [
        (&["--redeliver-journal", "/j"][..], "--redeliver-journal: has no effect where nothing is sent again"),
        (&["--redeliver-methods", "POST"], "--redeliver-methods: has no effect where nothing is sent again"),
        (&["--on-deferred", "202"], "--on-deferred: has no effect where nothing is sent again"),
        (&[on, &["--redeliver-journal", file]].concat(), "--redeliver-journal: "),
        (&[on, &["--redeliver-journal", below]].concat(), "is a file; name a directory"),
        (&[on, &["--redeliver-max-jobs", "0"]].concat(), "--redeliver-max-jobs: must be at least 1"),
        (&[on, &["--redeliver-on", "connect,4xx"]].concat(), "--redeliver-on: \"4xx\" is neither an outcome"),
        (&["--redeliver", "0s"], "--redeliver: must be longer than 0s"),
        (
            &["--redeliver", "1h", "--redeliver-backoff", "2s..1s"],
            "--redeliver-backoff: \"2s..1s\" ends before it begins",
        ),
    ] {
        let base = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints", "192.0.2.1:80"];
        let ended = run([&base[..], flags].concat()).await;
        assert_eq!(ended.code, Some(64), "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{flags:?}: {}", ended.stderr);
    }
}
