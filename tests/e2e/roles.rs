//! A command line for every role that needs Kubernetes.

use std::path::Path;

use serde_json::{Value, json};

/// Writes a kubeconfig for an API server that refuses connections, without which every role runs on. Returns its path.
pub(crate) fn kubeconfig(folder: &Path, user: &Value) -> String {
    let path = folder.join("kubeconfig");
    let file = json!({
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "x",
    });
    std::fs::write(&path, file.to_string()).expect("it can be written");
    path.display().to_string()
}

/// The arguments of each role, with what its log says that it listens for. `to` is the target of an export.
pub(crate) fn with_kubernetes(kubeconfig: &str, to: &str) -> Vec<(&'static str, Vec<String>)> {
    let roles: [(&str, &[&str]); 5] = [
        ("to broadcast", &["broadcast", "-s", "shop/web", "-i", "127.0.0.1:0", "-k", kubeconfig, "-m", "127.0.0.1:0"]),
        ("for elect", &["elect", "-election=e", "-http=127.0.0.1:0", "-kubeconfig", kubeconfig]),
        ("for endpoints", &["endpoints", "--service", "web", "--listen", "127.0.0.1:0", "--kubeconfig", kubeconfig]),
        (
            "for the admin API",
            &["discover", "--select", "a=b", "--to", to, "--kubeconfig", kubeconfig, "-m", "127.0.0.1:0"],
        ),
        (
            "for mirror",
            &[
                "mirror",
                "-label-selector=a=b",
                "-svc-prefix=west",
                "-mirror-ns=m",
                "-listen=127.0.0.1:0",
                "-target-kube-config",
                kubeconfig,
                "-kube-config",
                kubeconfig,
            ],
        ),
    ];
    roles
        .into_iter()
        .map(|(purpose, arguments)| (purpose, arguments.iter().map(|it| (*it).to_owned()).collect()))
        .collect()
}
