//! A writer that is killed during a write leaves the old file or the new one, never a part.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use export::sink::{S3Options, Sink, Target};
use testkit::process::{Group, Mark};

use crate::bed::{self, Bed, document, writer};

/// Set in the killed process: the target, and the store's address.
const TARGET: &str = "EXPORT_KILLED_TARGET";
const ENDPOINT: &str = "EXPORT_KILLED_ENDPOINT";

/// The number of kills.
const KILLS: usize = 12;

/// Longer than any test; the process ends by itself if nobody kills it.
const LIFE: Duration = Duration::from_secs(60);

fn texts() -> [String; 2] {
    ["first ", "2nd "].map(|word| word.repeat(400_000))
}

/// The inner run: writes until it is killed.
async fn write_on(mut sink: Sink) {
    let (texts, until) = (texts(), Instant::now() + LIFE);
    for n in 0.. {
        if Instant::now() > until {
            return;
        }
        let put = sink.put(&[document("", texts[n % 2].clone())], &writer("killed"), None).await;
        put.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn spawn(test: &str, target: &Target, endpoint: Option<&str>) -> (Child, Group) {
    let binary = env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture"]).env(TARGET, target.to_string()).stdout(Stdio::null());
    if let Some(endpoint) = endpoint {
        command.env(ENDPOINT, endpoint);
    }
    let mark = Mark::on(&mut command);
    let child = command.spawn().expect("the test binary can be run");
    let group = Group::led_by(child.id(), mark);
    (child, group)
}

/// Kills it repeatedly, and checks the file each time.
async fn kill_often(test: &str, bed: &Bed) {
    let texts = texts();
    for n in 0..KILLS {
        bed.write("edge.yml", "before").await;
        let endpoint = bed.connect.s3.endpoint.as_deref();
        let (mut child, _group) = spawn(test, &bed.target("edge.yml"), endpoint);
        let seen = testkit::eventually!("a first write", bed.text("edge.yml").await, |text| {
            text.as_deref() != Some("before")
        });
        assert!(seen.is_some_and(|seen| texts.contains(&seen)), "the first write is whole");
        // The kill must come at any moment of a write, which takes some milliseconds, so its time is varied.
        std::thread::sleep(Duration::from_millis(n as u64 * 2));
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
        let left = bed.text("edge.yml").await.expect("it is there");
        assert!(texts.contains(&left), "a part of {} bytes was left", left.len());
    }
    let mut sink = bed.open("edge.yml", false);
    sink.put(&[document("", "after")], &writer("a"), None).await.expect("the next one goes on");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("after"));
}

#[tokio::test]
async fn a_file_is_whole_and_nothing_is_left_beside_it() {
    let bed = bed::file().await;
    if let Ok(target) = env::var(TARGET) {
        let target: Target = target.parse().expect("a valid place");
        return write_on(target.open(&bed.connect).expect("it can be used")).await;
    }
    kill_often(testkit::test_name!(), &bed).await;
    let left: Vec<_> = std::fs::read_dir(bed.directory().join("made")).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn an_object_is_whole() {
    if let (Ok(target), Ok(endpoint)) = (env::var(TARGET), env::var(ENDPOINT)) {
        let mut bed = bed::file().await;
        let (access, secret) = testkit::minio::Minio::KEYS;
        bed.connect.s3 =
            S3Options { endpoint: Some(endpoint), keys: Some((access.into(), secret.into())), ..S3Options::default() };
        let target: Target = target.parse().expect("a valid place");
        return write_on(target.open(&bed.connect).expect("it can be used")).await;
    }
    let bed = bed::minio().await;
    let mut sink = bed.open("edge.yml", false);
    sink.put(&[document("", "before")], &writer("a"), None).await.expect("the bucket is made");
    kill_often(testkit::test_name!(), &bed).await;
}
