//! A configuration file that changes while something is owed.

use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{client, eventually};

use super::bed::{Bed, ids, jobs, owe};
use crate::process::Fanfare;

struct File {
    folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join("fanfare.yaml"), folder }
    }

    /// Replaces the file in one step. A route matches the path of its name.
    fn write(&self, bed: &Bed, routes: &[(&str, &str)]) {
        let endpoints = bed.addresses().map(|address| format!("'{address}'")).join(", ");
        let route = |(name, more): &(&str, &str)| {
            format!("    - {{name: {name}, match: {{path: /{name}}}, to: {{endpoints: [{endpoints}]}}, {more}}}\n")
        };
        let routes: String = routes.iter().map(route).collect();
        let text = format!(
            "admin: {{listen: '127.0.0.1:0'}}\nthreads: 1\nbroadcast:\n  - listen: 127.0.0.1:0\n    routes:\n{routes}"
        );
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(&new, &self.path).expect("it can be renamed");
    }

    async fn serve(&self) -> Fanfare {
        let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), self.path.as_os_str()]).await;
        fanfare.wait_ready().await;
        fanfare
    }

    /// The settings of redelivery of a route, with a journal of this name in the folder.
    fn redeliver(&self, journal: &str, more: &str) -> String {
        let journal = self.folder.path().join(journal);
        format!("redeliver: {{for: 1h, backoff: 20ms..200ms, journal: {}, {more}}}", journal.display())
    }
}

async fn reloaded(fanfare: &Fanfare, result: &str, count: u32) {
    let wanted = format!("fanfare_config_reloads_total{{result=\"{result}\"}} {count}\n");
    fanfare.signal(Signal::HUP);
    eventually!(format!("reload {count}"), client::get(fanfare.admin(), "/metrics").await.text(), |text| text
        .contains(&wanted));
}

#[tokio::test]
async fn a_reload_keeps_pending_deliveries() {
    let (bed, file) = (Bed::new().await, File::new());
    file.write(&bed, &[("a", &file.redeliver("j", ""))]);
    let fanfare = file.serve().await;
    let id = owe(&fanfare, "/a").await;
    file.write(&bed, &[("a", &format!("{}, on_deferred: 202", file.redeliver("j", "max_jobs: 5")))]);
    reloaded(&fanfare, "applied", 1).await;
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&id));
    let answer = client::request(fanfare.address(), "PUT", "/a", &[], b"").await.complete().expect_status(202);
    let second = answer.header("x-broadcast-job").unwrap().to_owned();
    bed.come_back().await;
    assert_eq!(bed.delivered(2).await, ["/a", "/a"]);
    eventually!("both are done", ids(&fanfare, "done").await, |done| *done == [id.clone(), second.clone()]);
}

#[tokio::test]
async fn deliveries_of_a_route_that_left_the_file_wait_until_it_is_back() {
    let (bed, file) = (Bed::new().await, File::new());
    let on = file.redeliver("j", "");
    file.write(&bed, &[("a", &on), ("b", &on)]);
    let fanfare = file.serve().await;
    let (a, b) = (owe(&fanfare, "/a").await, owe(&fanfare, "/b").await);
    file.write(&bed, &[("b", &on)]);
    reloaded(&fanfare, "applied", 1).await;
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, ["/b"]);
    eventually!("the one is done", ids(&fanfare, "done").await, |done| *done == [b.clone()]);
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&a), "the other one waits");
    file.write(&bed, &[("a", &on), ("b", &on)]);
    reloaded(&fanfare, "applied", 2).await;
    assert_eq!(bed.delivered(2).await, ["/b", "/a"]);
    eventually!("both are done", ids(&fanfare, "done").await.len(), |done| *done == 2);
}

#[tokio::test]
async fn the_journal_cannot_change_and_no_pending_delivery_is_forgotten() {
    let (bed, file) = (Bed::new().await, File::new());
    file.write(&bed, &[("a", &file.redeliver("j", "")), ("b", "require: any")]);
    let fanfare = file.serve().await;
    let id = owe(&fanfare, "/a").await;
    file.write(&bed, &[("a", &file.redeliver("k", "")), ("b", "require: any")]);
    reloaded(&fanfare, "refused", 1).await;
    let log = fanfare.stderr.text();
    let told =
        "where missed requests are kept (another journal, or redelivery where there was none) cannot change while";
    assert!(log.contains(told), "{log}");
    // A route without redelivery: its deliveries are kept.
    file.write(&bed, &[("a", "require: all"), ("b", "require: any")]);
    reloaded(&fanfare, "applied", 1).await;
    assert_eq!(ids(&fanfare, "owed").await, std::slice::from_ref(&id));
    assert_eq!(jobs(&fanfare, "").await["journals"][0]["state"], "open");
    let path = format!("/-/jobs/{id}");
    client::request(fanfare.admin(), "DELETE", &path, &[], b"").await.complete().expect_status(204);
    assert_eq!(ids(&fanfare, "owed").await, [""; 0]);
}
