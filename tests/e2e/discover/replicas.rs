//! Two replicas with one target: one writes, and after it is killed the other one writes in a later term.

use export::sink::Manifest;
use kubekit::cluster;
use rustix::process::Signal;
use serde_json::Value;
use testkit::minio;
use tokio::process::Command;

use super::bed::{Store, account, put, text};
use crate::process::Fanfare;

/// Reads the manifest.
async fn manifest(store: &Store) -> Option<Manifest> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let to = directory.path().join("manifest");
    let from = format!("s3://{}/edge.yml.manifest", store.bucket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bridge", "--once", "--from", &from, "--to", text(&to)]).envs(store.environment());
    let pulled = Fanfare::spawn(command).finish().await;
    (pulled.code == Some(0)).then(|| Manifest::parse(&std::fs::read(&to).expect("it is there")).expect("it is one"))
}

#[tokio::test]
async fn the_one_that_leads_writes_and_the_other_one_takes_over() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let store = Store::new(minio::shared().await);
    store.make().await;
    let place = format!("s3://{}/edge.yml", store.bucket);
    let spawn = async |id: &str| {
        let id = format!("--leader-elect-id={id}");
        let space = format!("--leader-elect-resource-namespace={ns}");
        let arguments = [
            "discover",
            "--select=k8s-service-discovery=yes",
            "-n",
            ns,
            "-k",
            text(account.kubeconfig_path()),
            "--to",
            &place,
            "-m=127.0.0.1:0",
            "--debounce=50ms",
            "--leader-elect",
            "--leader-elect-resource-name=fanfare-discover",
            "--leader-elect-lease-duration=9s",
            "--leader-elect-renew-deadline=6s",
            "--leader-elect-retry-period=500ms",
            &id,
            &space,
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(arguments).env_remove("KUBECONFIG").envs(store.environment());
        let mut fanfare = Fanfare::spawn(command);
        fanfare.wait_listening().await;
        fanfare
    };
    let first = spawn("a").await;
    store.until("edge.yml", 2).await;
    let before = manifest(&store).await.expect("replicas keep one");
    let second = spawn("b").await;
    second.wait_ready().await;
    put(&cluster, ns, "web", 3).await;
    store.until("edge.yml", 3).await;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/fanfare-discover");
    let holder = async || {
        let lease: Option<Value> = cluster.read(&lease).await;
        lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(String::from)).unwrap_or_default()
    };
    assert_eq!(holder().await, "a");

    first.signal(Signal::KILL);
    put(&cluster, ns, "web", 5).await;
    store.until("edge.yml", 5).await;
    assert_eq!(holder().await, "b");
    let after = manifest(&store).await.expect("it is there");
    let term = |manifest: &Manifest| manifest.term.clone().expect("replicas have terms");
    assert_eq!(term(&before).uid, term(&after).uid);
    assert!(term(&after).transitions > term(&before).transitions && after.version > before.version);

    // A drain releases the lease.
    second.signal(Signal::TERM);
    let ended = second.finish().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    testkit::eventually!("the lease to be free", holder().await, |holder| holder.is_empty());
}
