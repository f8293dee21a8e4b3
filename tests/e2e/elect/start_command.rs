//! A start command that ends before its term, or does not exist, and the policies for it.

use kubekit::cluster::{self, Account};
use rustix::process::Signal;
use serde_json::Value;
use testkit::client;

use super::{candidate, elect, json, until_leading};
use crate::process::Fanfare;

struct Bed {
    cluster: cluster::Shared,
    namespace: String,
    account: Account,
}

impl Bed {
    async fn new() -> Self {
        let cluster = cluster::shared().await;
        let namespace = cluster.namespace("elect").await;
        let account = candidate(&cluster, &namespace).await;
        Self { cluster, namespace, account }
    }

    fn elect(&self, id: &str, flags: &[&str]) -> Fanfare {
        elect(self.account.kubeconfig_path(), &self.namespace, id, &[&["-label=false"], flags].concat())
    }

    async fn holder(&self) -> Value {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/example", self.namespace);
        self.cluster.read(&lease).await.expect("it is there")["spec"]["holderIdentity"].clone()
    }
}

async fn ready(fanfare: &Fanfare) -> (u16, String) {
    let answer = client::get(fanfare.listening("for elect").await, "/readyz").await.complete();
    (answer.status, answer.text())
}

async fn counted(fanfare: &Fanfare, metric: &str) -> bool {
    let metrics = client::get(fanfare.listening("for elect").await, "/metrics").await.text();
    metrics.lines().any(|line| line.starts_with(metric) && !line.ends_with(" 0"))
}

#[tokio::test]
async fn a_leader_without_its_start_command_lets_somebody_else_lead() {
    for (command, why, result) in [
        ("sh -c 'exit 3'", "the start command has failed (exit status: 3)", "failed"),
        ("/nowhere/program", "the start command could not be started (cannot start /nowhere/program", "not_started"),
    ] {
        let bed = Bed::new().await;
        let one = bed.elect("one", &["-on-start", command]);
        let log = one.stderr.wait("it to fail", |log| log.contains(why)).await;
        assert!(log.contains("step-down"), "{log}");
        let two = bed.elect("two", &["-on-start=sleep 1000"]);
        until_leading(&two, true).await;
        testkit::eventually!("one to know it", json(&one, "/").await, |brief| brief["leader"] == "two");
        let (status, text) = ready(&one).await;
        assert!(status == 503 && text.contains(why), "{status} {text}");
        let ends = format!("fanfare_election_start_command_ends_total{{name=\"example\",result=\"{result}\"}}");
        testkit::eventually!(&ends, counted(&one, &ends).await, |counted| *counted);
        let running = "fanfare_election_start_command_running{";
        testkit::eventually!("two's command to run", counted(&two, running).await, |counted| *counted);
        testkit::eventually!("two to be ready", ready(&two).await.0, |status| *status == 200);
    }
}

#[tokio::test]
async fn a_command_that_does_something_once_may_keep_the_lead() {
    let bed = Bed::new().await;
    let one = bed.elect("one", &["-on-start=true", "-on-start-exit=keep"]);
    one.stderr.wait("its end", |log| log.contains("the start command has ended")).await;
    let term = until_leading(&one, true).await["transitions"].clone();
    testkit::eventually!("it to be ready", ready(&one).await.0, |status| *status == 200);
    one.signal(Signal::TERM);
    let finished = one.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    // A failure is reported nevertheless.
    let two = bed.elect("two", &["-on-start=false", "-on-start-exit=keep"]);
    testkit::eventually!("the failure to be told", ready(&two).await, |(status, text)| *status == 503
        && text.contains("has failed (exit status: 1)"));
    let state = until_leading(&two, true).await;
    assert_eq!(state["transitions"].as_u64(), term.as_u64().map(|term| term + 1), "it leads, in its first term");
}

#[tokio::test]
async fn a_process_that_ends_with_its_command_gives_the_lease_back() {
    let bed = Bed::new().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stopped = folder.path().join("stopped");
    let stop = format!("-on-stop=touch {}", stopped.display());
    let one = bed.elect("one", &["-on-start=sh -c 'exit 3'", "-on-start-exit=exit", &stop]);
    let finished = one.finish().await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("the start command of election example has failed (exit status: 3)"),
        "{}",
        finished.stderr
    );
    assert!(stopped.exists(), "its term ended in order");
    assert_eq!(bed.holder().await, "");
}
