//! The own listeners of `endpoints`, `discover` and `elect`: tokens, TLS, and replaced certificates.

use std::net::SocketAddr;

use kubekit::cluster::{self, Shared};
use tempfile::TempDir;
use testkit::{
    client::{RawClient, Response, request},
    eventually,
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};

use crate::process::Fanfare;

const TOKEN: &str = "a-token-of-the-monitoring";

/// A namespace with a Service that has an endpoint.
async fn namespace(cluster: &Shared) -> String {
    let namespace = cluster.namespace("listeners").await;
    let objects = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: cache, namespace: {namespace}, labels: {{export: 'yes'}}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: cache-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: cache}}}}
addressType: IPv4
endpoints: [{{addresses: [192.0.2.1]}}]
ports: [{{name: http, port: 8080}}]
"
    );
    cluster.apply_yaml(&objects).await.expect("valid objects");
    namespace
}

async fn ask(address: SocketAddr, method: &str, path: &str, token: Option<&str>) -> Response {
    let value = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
    let fields: Vec<_> = token.iter().map(|_| ("Authorization", value.as_str())).collect();
    request(address, method, path, &fields, b"").await.complete()
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

fn file_of(folder: &TempDir, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("it can be written");
    path
}

#[tokio::test]
async fn requests_carry_a_token_where_there_are_some_and_probes_do_not() {
    let cluster = cluster::shared().await;
    let namespace = namespace(&cluster).await;
    let kubeconfig = cluster.kubeconfig_path();
    let (kubeconfig, folder) = (text(&kubeconfig), tempfile::tempdir().expect("a temporary folder"));
    let tokens = file_of(&folder, "tokens", &format!("monitoring:{TOKEN}\n"));
    let stepping_down = file_of(&folder, "step-down", "a-token-for-stepping-down\n");
    let (tokens, stepping_down) = (text(&tokens), text(&stepping_down));
    let (any, pod) = ("127.0.0.1:0", ["-pod-namespace", &namespace]);
    let endpoints = ["endpoints", "--listen", any, "--listen-tokens", tokens, "-n", &namespace, "-s", "cache"];
    let discover = ["discover", "--select=export=yes", "-n", &namespace, "--to=serve:/edge", "--listen", any];
    let discover = [&discover[..], &["--listen-tokens", tokens, "-m", any]].concat();
    // With the flags of the replaced tool.
    let elect = ["elect", "-election=listeners", "-http", any, "-http-tokens", tokens, "-label=false", "-ttl=5s"];
    let elect = [&elect[..], &pod, &["-namespace", &namespace, "-step-down-token-file", stepping_down]].concat();
    for (role, arguments, flag, path, probes) in [
        ("endpoints", &endpoints[..], "--kubeconfig", "/endpoints", &["/health", "/health/", "/ready"][..]),
        ("discover", &discover, "--kubeconfig", "/edge", &[]),
        ("elect", &elect, "-kubeconfig", "/", &["/healthz", "/readyz"]),
    ] {
        let fanfare = Fanfare::start(arguments.iter().copied().chain([flag, kubeconfig]));
        let address = fanfare.listening(&format!("for {role}")).await;
        eventually!(role, ask(address, "GET", path, Some(TOKEN)).await.status, |status| *status == 200);
        for path in [path, "/metrics", "/nothing"] {
            let refused = ask(address, "GET", path, None).await.expect_status(401);
            assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"fanfare\""), "{role} {path}");
            ask(address, "GET", path, Some("a-token-of-nobody")).await.expect_status(401);
        }
        for probe in probes {
            assert_ne!(ask(address, "GET", probe, None).await.status, 401, "{role} {probe}");
        }
        if role == "elect" {
            // The token for stepping down permits reading, but not vice versa.
            let other = Some("a-token-for-stepping-down");
            ask(address, "GET", "/", other).await.expect_status(200);
            ask(address, "POST", "/v1/step-down", None).await.expect_status(401);
            ask(address, "POST", "/v1/step-down", Some(TOKEN)).await.expect_status(403);
            eventually!("the lead", ask(address, "GET", "/leader", other).await.status, |status| *status == 200);
            ask(address, "POST", "/v1/step-down", other).await.expect_status(200);
        }
        for shown in [fanfare.stderr.text(), fanfare.stdout.text()] {
            assert!(!shown.contains("a-token-"), "{shown}");
        }
    }
}

#[tokio::test]
async fn one_file_has_tls_and_tokens_for_all_of_them_and_a_renewed_certificate_counts_from_then_on() {
    let cluster = cluster::shared().await;
    let namespace = namespace(&cluster).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = file_of(&folder, "tokens", &format!("monitoring:{TOKEN}\n"));
    let authority = Authority::new("the first");
    let secret = SecretDir::of(&authority.issue(&["fanfare.example"]), &authority);
    let access = |key: &str| {
        serde_json::json!({
            key: "127.0.0.1:0",
            format!("{key}_tls_cert"): secret.path("tls.crt"),
            format!("{key}_tls_key"): secret.path("tls.key"),
            format!("{key}_tokens"): tokens,
        })
    };
    let mut config = serde_json::json!({
        "kubernetes": {"kubeconfig": cluster.kubeconfig_path()},
        "endpoints": {"services": [format!("{namespace}/cache")]},
        "discover": [{"select": {"labels": "export=yes", "namespaces": [namespace]}, "to": "serve:/edge"}],
        "elect": [{"name": "tls", "namespace": namespace, "label": false, "pod_namespace": namespace}],
    });
    for (section, key) in [("/endpoints", "listen"), ("/discover/0", "listen"), ("/elect/0", "http")] {
        let into = config.pointer_mut(section).and_then(|section| section.as_object_mut()).expect("it is there");
        into.extend(access(key).as_object().expect("an object").clone());
    }
    let file = file_of(&folder, "fanfare.yaml", &config.to_string());
    let fanfare = Fanfare::start(["run", "--config", text(&file)]);
    let next = Authority::new("the next");
    for (authority, other) in [(&authority, &next), (&next, &authority)] {
        secret.renew(&authority.issue(&["fanfare.example"]), authority);
        for (role, path) in [("endpoints", "/endpoints"), ("discover", "/edge"), ("elect", "/")] {
            let address = fanfare.listening(&format!("for {role}")).await;
            let knows = TlsRelay::towards(address, authority.client(None, &[]), "fanfare.example").await;
            let status = async |relay: &TlsRelay, token| {
                let mut client = RawClient::connect(relay.address).await;
                let token = format!("Authorization: Bearer {token}\r\n");
                let asked = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{token}Connection: close\r\n\r\n");
                client.try_send(asked.as_bytes()).await.ok()?;
                client.try_read_response("GET").await.ok().map(|response| response.status)
            };
            eventually!(role, status(&knows, TOKEN).await, |status| *status == Some(200));
            assert_eq!(status(&knows, "a-token-of-nobody").await, Some(401), "{role}");
            let knows_not = TlsRelay::towards(address, other.client(None, &[]), "fanfare.example").await;
            assert_eq!(status(&knows_not, TOKEN).await, None, "{role}: another certificate");
            assert_eq!(ask(address, "GET", path, Some(TOKEN)).await.status, 400, "{role}: not by TLS");
        }
    }
}
