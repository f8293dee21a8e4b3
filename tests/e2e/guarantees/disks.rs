//! A journal whose disk is full or cannot be written: requests fail as they did without it, and nothing else does.
//!
//! Each test runs itself again in a mount namespace with a small disk of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testkit::{
    client::{self, Response},
    eventually::scaled,
    origin::{Origin, Reply},
    packages,
    process::{Process, tail},
};

use super::bed::{arguments, metric, until_all_have_everything};
use crate::process::Fanfare;

/// Set in the inner run, to the test's name and where the disk is.
const INNER: &str = "FANFARE_SMALL_DISK";
/// How long an inner run may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is written to fill the disk, besides the journal.
const FILLER: usize = 3 << 20;

/// Runs a test with a tmpfs of 8 MiB.
fn on_a_small_disk(name: &str, test: impl AsyncFnOnce(PathBuf)) {
    if let Ok(inner) = env::var(INNER)
        && let Some((inner, disk)) = inner.split_once(' ')
        && inner == name
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.expect("the system has room for a runtime").block_on(test(disk.into()));
    }
    let disk = tempfile::tempdir().expect("a temporary folder");
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let script = r#"mount -t tmpfs -o size=8m none "$1" && exec "$0" --exact "$2" --nocapture --test-threads=1"#;
    let mut command = Command::new(packages::program("unshare").unwrap_or_else(|e| panic!("{e}")));
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(env::current_exe().expect("the test binary has a path")).arg(disk.path()).arg(name);
    command.env(INNER, format!("{name} {}", disk.path().display()));
    let mut process = Process::spawn_command(command, output.path()).unwrap_or_else(|e| panic!("{e}"));
    let until = Instant::now() + scaled(PATIENCE);
    let status = loop {
        match process.ended() {
            None if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            ended => break ended,
        }
    };
    drop(process);
    let text = tail(output.path(), usize::MAX);
    println!("{text}");
    let status = status.unwrap_or_else(|| panic!("`{name}` did not end within {PATIENCE:?}"));
    assert!(status.success(), "{status}: permission to make user namespaces is needed, or the test failed, see above");
    assert!(text.contains("test result: ok. 1 passed"), "no test is called `{name}`");
}

fn remount(disk: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", how]).arg(disk).status().expect("mount is there");
    assert!(status.success(), "mount -o {how}: {status}");
}

/// Two endpoints, of which the second is down, and Fanfare before them.
struct Scene {
    well: Origin,
    down: Origin,
    arguments: Vec<String>,
    fanfare: Fanfare,
    /// The targets of requests whose answers named a job.
    acknowledged: Vec<String>,
    asked: usize,
}

impl Scene {
    async fn start(journal: &Path) -> Self {
        let [well, down] = [Origin::start(Reply::ok("well")), Origin::start(Reply::ok("well again"))];
        down.stop_listening().await;
        let arguments = arguments(&[well.address(), down.address()], journal, &[]);
        let fanfare = Fanfare::serve(&arguments).await;
        Self { well, down, arguments, fanfare, acknowledged: Vec::new(), asked: 0 }
    }

    /// A request that the second endpoint misses. Whoever is well gets it in any case.
    async fn put(&mut self) -> Response {
        self.asked += 1;
        let target = format!("/{}", self.asked);
        let body = vec![b'x'; 100_000];
        let answer = client::request(self.fanfare.address(), "PUT", &target, &[], &body).await.complete();
        if answer.headers.get("x-broadcast-job").is_some() {
            assert_eq!(answer.status, 202, "{answer}");
            self.acknowledged.push(target);
        } else {
            assert!([502, 503].contains(&answer.status), "the plain failure: {answer}");
        }
        let got = self.well.wait_requests(self.asked).await;
        assert_eq!(got.len(), self.asked, "live requests go on");
        answer
    }

    async fn is_writable(&self) -> bool {
        metric(&self.fanfare, "fanfare_journal_writable").await == Some(1.0)
    }

    /// The process is killed, and the endpoint comes back: it gets what was acknowledged, and nothing else.
    async fn judge(mut self) {
        self.fanfare.signal(Signal::KILL);
        self.fanfare.exit().await;
        self.down.listen_again().await;
        let fanfare = Fanfare::serve(&self.arguments).await;
        until_all_have_everything(&fanfare).await;
        let got: Vec<String> = self.down.requests().into_iter().map(|request| request.complete().target).collect();
        assert_eq!(got, self.acknowledged);
    }
}

#[test]
fn a_full_disk_is_the_plain_failure_and_what_was_acknowledged_is_kept() {
    on_a_small_disk(testkit::test_name!(), async |disk| {
        let mut scene = Scene::start(&disk.join("journal")).await;
        scene.fanfare.wait_ready().await;
        fs::write(disk.join("filler"), vec![1; FILLER]).expect("there is room for it");
        while scene.put().await.status == 202 {}
        assert!(!scene.acknowledged.is_empty(), "before it is full, there is room");
        testkit::eventually!("the metric to say so", scene.is_writable().await, |writable| !writable);
        scene.fanfare.stderr.wait("the reason", |log| log.contains("No space left on device")).await;
        scene.fanfare.wait_ready().await;
        assert_ne!(scene.put().await.status, 202);
        fs::remove_file(disk.join("filler")).expect("it is there");
        testkit::eventually!("the journal to be written again", scene.put().await.status, |status| *status == 202);
        testkit::eventually!("the metric to say so", scene.is_writable().await, |writable| *writable);
        scene.judge().await;
    });
}

#[test]
fn a_disk_that_cannot_be_written_is_the_plain_failure_until_it_can() {
    on_a_small_disk(testkit::test_name!(), async |disk| {
        remount(&disk, "remount,ro");
        let mut scene = Scene::start(&disk.join("journal")).await;
        scene.fanfare.wait_ready().await;
        assert_eq!(scene.put().await.status, 502);
        testkit::eventually!("the metric to say so", scene.is_writable().await, |writable| !writable);
        scene.fanfare.stderr.wait("the reason", |log| log.contains("Read-only file system")).await;
        remount(&disk, "remount,rw");
        testkit::eventually!("the journal to be written", scene.put().await.status, |status| *status == 202);
        scene.judge().await;
    });
}
