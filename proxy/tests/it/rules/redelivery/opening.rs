//! Rule: until the journal is read, nobody knows what goes first: requests that need it are refused with the reason.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tempfile::tempdir;
use testkit::{eventually, origin::Reply};

use super::redelivering;
use crate::fixture::{assert_made_up, origins, over};

/// A journal whose lock file is a pipe: nobody can open it to write before somebody has opened it to read.
struct Held(PathBuf);

impl Held {
    fn new(directory: &Path) -> Self {
        let lock = directory.join("journal.lock");
        testkit::named_pipe::make(&lock);
        Self(lock)
    }

    fn open(&self) -> File {
        // Opening a pipe to read and to write waits for nobody.
        File::options().read(true).write(true).open(&self.0).unwrap()
    }
}

/// So that a failed test does not wait for the journal.
impl Drop for Held {
    fn drop(&mut self) {
        self.open();
    }
}

#[tokio::test]
async fn until_the_journal_is_read_requests_that_need_it_are_refused_and_others_are_served() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let directory = tempdir().unwrap();
    let path = directory.path().to_owned();
    let setup = over(&[&a, &b]).policy(|policy| redelivering(policy, |redeliver| redeliver.journal = Some(path)));
    let (proxy, held) = {
        let held = Held::new(directory.path());
        (setup.start_at_once(), held)
    };
    for require in ["PUT", "PURGE"] {
        let answer = proxy.request(require, "/needs-it", &[], b"").await.complete();
        let body = assert_made_up(&answer, 503, "proxy_internal_error");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains(directory.path().to_str().unwrap()) && detail.contains("being read"), "{detail}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    proxy.get("/does-not").await.expect_status(200);
    assert_eq!(proxy.handle.routes()[0].unread_journal.as_deref(), Some(directory.path()));
    let _reading = held.open();
    eventually!("the journal is read", proxy.request("PUT", "/taken", &[], b"").await.status, |status| *status == 200);
    assert_eq!(proxy.handle.routes()[0].unread_journal, None);
    for origin in [&a, &b] {
        let targets: Vec<String> = origin.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, ["/does-not", "/taken"], "nothing of what was refused was sent");
    }
}
