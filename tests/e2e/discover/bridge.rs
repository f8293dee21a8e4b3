//! `fanfare bridge`: from the store to the directory of a load balancer elsewhere.

use kubekit::cluster;
use rustix::process::Signal;
use testkit::minio;
use tokio::process::Command;

use super::bed::{Store, account, put, text};
use crate::process::{Fanfare, run};

#[tokio::test]
async fn files_of_an_export_arrive_by_the_bridge() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let store = Store::new(minio::shared().await);
    let place = format!("s3://{}/edge.yml", store.bucket);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let to = format!("{}/dynamic/", directory.path().display());
    let spawn = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(arguments).env_remove("KUBECONFIG").envs(store.environment());
        Fanfare::spawn(command)
    };
    let bridge = spawn(&["bridge", "--from", &place, "--to", &to, "--interval=50ms", "--require-manifest"]);
    let discover = spawn(&[
        "discover",
        "--select=k8s-service-discovery=yes",
        "-n",
        ns,
        "-k",
        text(account.kubeconfig_path()),
        "--to",
        &place,
        "--s3-create-bucket",
        "--manifest",
        "-m=127.0.0.1:0",
        "--debounce=50ms",
    ]);
    let file = directory.path().join("dynamic/edge.yml");
    let servers = || std::fs::read_to_string(&file).map(|text| text.matches("url: ").count()).unwrap_or_default();
    testkit::eventually!("the first pull", servers(), |servers| *servers == 2);
    put(&cluster, ns, "web", 5).await;
    testkit::eventually!("the next pull", servers(), |servers| *servers == 5);
    // Another process writes to the store.
    store.write("edge.yml", "not what the manifest says").await;
    bridge.stderr.wait("the mismatch to be told", |log| log.contains("does not match its manifest")).await;
    assert_eq!(servers(), 5);
    for process in [discover, bridge] {
        process.signal(Signal::TERM);
        let ended = process.finish().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn once_pulls_and_tells_by_its_status() {
    let store = Store::new(minio::shared().await);
    store.write("edge.yml", "here").await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (from, to) = (format!("s3://{}/edge.yml", store.bucket), directory.path().join("edge.yml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bridge", "--once", "--from", &from, "--to", text(&to)]).envs(store.environment());
    assert_eq!(Fanfare::spawn(command).finish().await.code, Some(0));
    assert_eq!(std::fs::read_to_string(&to).expect("it is there"), "here");
    let told = run(["bridge", "--once", "--from", "/nowhere/x", "--to", "s3://bucket/key"]).await;
    assert_eq!(told.code, Some(64), "{}", told.stderr);
}
