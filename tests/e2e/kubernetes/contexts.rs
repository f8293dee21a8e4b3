//! Kubeconfigs as kubectl has them: where they are looked for, several that are merged, and their contexts.

use std::path::Path;

use kubekit::cluster;
use serde_json::{Value, json};
use tokio::process::Command;

use super::bed::{Bed, hosts, ready, slice, v4};
use crate::process::Fanfare;

/// A kubeconfig of a cluster that is nowhere, whose context is the current one, and the contexts of a good one without their cluster.
fn several(account: &Path) -> (Value, Value) {
    let good = std::fs::read_to_string(account).expect("it can be read");
    let good: Value = serde_json::from_str(&good).expect("it is written as JSON");
    let (cluster, user) = (&good["clusters"][0]["name"], &good["users"][0]["name"]);
    let first = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [
            {"name": "away", "context": {"cluster": "nowhere", "user": "nobody"}},
            {"name": "here", "context": {"cluster": cluster, "user": user}},
        ],
        "users": good["users"],
    });
    let second = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "unused", "clusters": good["clusters"],
    });
    (first, second)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "2", "-s", "default/cache"]);
    command.args(arguments).env_remove("KUBECONFIG").env_remove("HOME");
    command
}

#[test]
fn contexts_of_merged_kubeconfigs_are_used_wherever_kubectl_would_find_them() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), "{port: 8080}")).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (first, second) = several(bed.account.kubeconfig_path());
        let path = |name: &str| folder.path().join(name).to_str().expect("a path of ASCII").to_owned();
        std::fs::write(path("first"), first.to_string()).expect("it can be written");
        std::fs::write(path("second"), second.to_string()).expect("it can be written");
        let list = format!("{}:{}:{}", path("first"), path("missing"), path("second"));

        let mut merged = command(&["--context", "here"]);
        merged.env("KUBECONFIG", &list);
        let home = folder.path().join(".kube");
        std::fs::create_dir(&home).expect("it can be made");
        let mut whole = first.clone();
        whole["clusters"]
            .as_array_mut()
            .expect("a list")
            .extend(second["clusters"].as_array().cloned().expect("a list"));
        std::fs::write(home.join("config"), whole.to_string()).expect("it can be written");
        let mut at_home = command(&[]);
        at_home.env("HOME", folder.path()).env("FANFARE_CONTEXT", "here");
        for command in [merged, at_home] {
            let mut fanfare = Fanfare::spawn(command);
            fanfare.wait_listening().await;
            fanfare.wait_ready().await;
            assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
        }

        let mut send = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        send.args(["send", "PURGE", "/sent", "-s", "default/cache", "--context", "here"]).env_remove("HOME");
        send.env("KUBECONFIG", &list);
        let sent = Fanfare::spawn(send).finish().await;
        assert_eq!(sent.code, Some(0), "{}{}", sent.stdout, sent.stderr);
        assert!(bed.pod(v4(1, 8080)).requests().iter().any(|request| request.target == "/sent"));

        let mut unknown = command(&["--context", "elsewhere"]);
        unknown.env("KUBECONFIG", &list);
        let refused = Fanfare::spawn(unknown).finish().await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("it has no context \"elsewhere\""), "{}", refused.stderr);
        let nowhere = Fanfare::spawn(command(&["--context", "here"])).finish().await;
        assert_eq!(nowhere.code, Some(1), "{}", nowhere.stderr);
    });
}
