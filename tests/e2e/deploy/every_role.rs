//! One process with every role, and with whatever shows a metric.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use kubekit::cluster::Cluster;
use tempfile::TempDir;
use testkit::{
    client,
    origin::{Origin, Refusing, Reply, Request, Script},
    pki::{Authority, SecretDir},
};

use crate::process::Fanfare;

/// A process and its dependencies.
pub(super) struct EveryRole {
    pub(super) fanfare: Fanfare,
    namespace: String,
    _origin: Origin,
    _down: Refusing,
    _secret: SecretDir,
    _folder: TempDir,
}

/// Starts it, and returns when it is ready.
pub(super) async fn start(cluster: &Cluster) -> EveryRole {
    let namespace = cluster.namespace("roles").await;
    let tries = AtomicUsize::new(0);
    let script = move |request: &Request| match request.target.as_str() {
        // A failed request is sent again, and then succeeds.
        "/again" if tries.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => Reply::new(500),
        target if target.ends_with(".manifest") => Reply::new(404),
        "/targets" => Reply::ok("[{\"targets\": [\"192.0.2.1:80\"]}]"),
        "/fixed?fails" => Reply::new(500),
        _ => Reply::ok("fine"),
    };
    let origin = Origin::start(Script::on_request(script));
    let mirrored = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: mirrored, namespace: {namespace}, labels: {{a: b}}}}\n\
         spec: {{ports: [{{port: 80}}]}}"
    );
    cluster.apply_yaml(&mirrored).await.unwrap_or_else(|e| panic!("a valid Service: {e}"));
    // It is owed a request, without which it has no series.
    let down = Refusing::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let targets = folder.path().join("targets.json");
    fs::write(&targets, format!("[{{\"targets\": [\"{}\"]}}]", origin.address())).expect("it can be written");
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, "ci:a-token-of-the-pipeline\n").expect("it can be written");
    let authority = Authority::new("every role");
    let secret = SecretDir::of(&authority.issue(&["fanfare.test"]), &authority);
    let file = folder.path().join("fanfare.yaml");
    let text = format!(
        "
admin: {{listen: 127.0.0.1:0}}
threads: 1
kubernetes: {{kubeconfig: {kubeconfig}}}
ready_no_endpoint: true
otlp_endpoint: http://127.0.0.1:9
broadcast:
  - listen: 127.0.0.1:0
    auth: {{tokens: {tokens}, service_accounts: fanfare}}
    routes:
      - {{match: {{path: /kube}}, to: {{service: {namespace}/cache, port: http}}}}
      - {{match: {{path: /file}}, to: {{file: {targets}}}}}
      - {{match: {{path: /url}}, to: {{url: 'http://{origin}/targets'}}}}
      - {{match: {{path: /fixed}}, to: {{endpoints: '{origin}'}}, compare: status}}
      - {{match: {{path: /again}}, to: {{endpoints: '{origin}'}}, redeliver: {{for: 1h, journal: {folder}/journal}}}}
      - {{match: {{path: /down}}, to: {{endpoints: '{down}'}}, redeliver: {{for: 1h, journal: {folder}/journal}}}}
  - listen: 127.0.0.1:0
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
    routes:
      - {{match: {{path: /grpc/*}}, to: {{endpoints: '{origin}', protocol: h2}}}}
endpoints: {{listen: 127.0.0.1:0, services: [{namespace}/cache], hosts_file: {folder}/hosts, exec: 'true', exec_debounce: 0s}}
elect: [{{name: metrics, namespace: {namespace}, label: false, on_start: 'sleep 1000'}}]
discover: [{{name: metrics, select: {{labels: a=b, namespaces: [{namespace}]}}, format: hosts, to: {folder}/backends}}]
bridge: [{{from: 'http://{origin}/edge', to: {folder}/edge}}]
mirror:
  remotes: [{{kubeconfig: {kubeconfig}, prefix: west, select: {{labels: a=b}}, namespace: {namespace}, namespaces: [{namespace}]}}]
",
        kubeconfig = cluster.kubeconfig_path().display(),
        targets = targets.display(),
        tokens = tokens.display(),
        origin = origin.address(),
        down = down.address(),
        folder = folder.path().display(),
        cert = secret.path("tls.crt").display(),
        key = secret.path("tls.key").display(),
    );
    fs::write(&file, text).expect("it can be written");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
    fanfare.wait_ready().await;
    EveryRole { fanfare, namespace, _origin: origin, _down: down, _secret: secret, _folder: folder }
}

impl EveryRole {
    /// Gives the Service that is exported and mirrored this endpoint.
    pub(super) async fn change(&self, cluster: &Cluster, number: u8) {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: mirrored, namespace: {}, labels: {{kubernetes.io/service-name: mirrored, a: b}}}}\n\
             ports: [{{port: 80}}]\nendpoints: [{{addresses: [192.0.2.{number}]}}]",
            self.namespace
        );
        cluster.apply_yaml(&slice).await.unwrap_or_else(|e| panic!("a valid EndpointSlice: {e}"));
    }
}

/// Sends a request that succeeds by each kind of route, one that fails, one without endpoints and one without a route.
pub(super) async fn send_one_of_each(fanfare: &Fanfare) {
    for (path, status) in [("/file", 200), ("/fixed", 200), ("/fixed?fails", 500), ("/kube", 503), ("/nowhere", 404)] {
        client::get(fanfare.address(), path).await.complete().expect_status(status);
    }
    // The first one fails; those that come later may have to wait behind it.
    for path in ["/down", "/again"] {
        let status = client::request(fanfare.address(), "PUT", path, &[], b"").await.complete().status;
        assert!([200, 500, 502, 503].contains(&status), "{path}: {status}");
    }
}
