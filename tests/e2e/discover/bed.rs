//! The fixture of these tests: Services in a namespace, an account that may read them, and a bucket.

use std::{collections::HashSet, net::SocketAddr, path::Path, time::Duration};

use export::sink::{Connect, Document, S3Options, Sink, Target, Writer};
use kubekit::cluster::{Account, Cluster};
use testkit::minio::Minio;

/// A bucket for one test, with a client of the test.
pub(crate) struct Store {
    pub(crate) address: SocketAddr,
    pub(crate) bucket: String,
    connect: Connect,
}

impl Store {
    /// The bucket does not exist yet.
    pub(crate) fn new(minio: &Minio) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (access, secret) = Minio::KEYS;
        let s3 = S3Options {
            endpoint: Some(format!("http://{}", minio.address())),
            keys: Some((access.into(), secret.into())),
            create_bucket: true,
            ..S3Options::default()
        };
        let unique = tempfile::Builder::new().prefix("e2e-").rand_bytes(12).tempdir().expect("a temporary directory");
        let name = unique.path().file_name().and_then(|name| name.to_str()).expect("ASCII").to_lowercase();
        let connect = Connect {
            s3,
            kubernetes: None,
            headers: Vec::new(),
            served: None,
            timeout: testkit::eventually::scaled(Duration::from_secs(30)),
            manifest: false,
        };
        Self { address: minio.address(), bucket: name, connect }
    }

    pub(crate) fn open(&self, key: &str) -> Sink {
        let target: Target = format!("s3://{}/{key}", self.bucket).parse().expect("a place");
        target.open(&self.connect).expect("it can be used")
    }

    /// Writes as another writer.
    pub(crate) async fn write(&self, key: &str, text: &str) {
        let document = Document { name: String::new(), content_type: "text/plain", bytes: text.to_owned().into() };
        let writer = Writer { cluster: "somebody".into(), id: "somebody".into(), term: None };
        self.open(key).put(&[document], &writer, None).await.expect("it can be written");
    }

    /// Makes the bucket.
    pub(crate) async fn make(&self) {
        self.write("made", "yes").await;
    }

    /// The endpoints that a file names.
    pub(crate) async fn endpoints(&self, key: &str) -> HashSet<String> {
        let anything = Document { name: String::new(), content_type: "", bytes: "".into() };
        self.open(key).look(&[anything]).await.unwrap_or_default()
    }

    /// Waits until a file has this number of endpoints.
    pub(crate) async fn until(&self, key: &str, count: usize) -> HashSet<String> {
        let what = format!("{count} endpoints in {key}");
        testkit::eventually!(what, self.endpoints(key).await, |endpoints| endpoints.len() == count)
    }

    /// The environment with which the binary reaches it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        let (access, secret) = Minio::KEYS;
        [
            ("AWS_ACCESS_KEY_ID", access.into()),
            ("AWS_SECRET_ACCESS_KEY", secret.into()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
        ]
    }
}

/// A Service without a selector, and a slice with `count` endpoints.
pub(crate) async fn put(cluster: &Cluster, namespace: &str, service: &str, endpoints: u8) {
    let addresses: Vec<String> = (1..=endpoints).map(|n| format!("{{addresses: [192.0.2.{n}]}}")).collect();
    let yaml = format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: {namespace}, labels: {{k8s-service-discovery: 'yes'}}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{name: http, port: 8080}}]
",
        addresses.join(", ")
    );
    cluster.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("valid objects: {e}"));
}

/// An account with the Role that is shipped.
pub(crate) async fn account(cluster: &Cluster) -> Account {
    let namespace = cluster.namespace("discover").await;
    crate::deploy::shipped::Shipped("discover").account(cluster, &namespace).await
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// The number of Services and of endpoints of each in a measurement, from `FANFARE_SCALE`.
pub(crate) fn scale() -> Option<(usize, usize)> {
    let text = std::env::var("FANFARE_SCALE").ok()?;
    let (services, endpoints) = text.split_once('x').expect("SERVICESxENDPOINTS");
    Some((services.parse().expect("a number"), endpoints.parse().expect("a number")))
}

/// The EndpointSlice of a Service with this number, with these endpoints in the form of YAML.
pub(crate) fn slice(namespace: &str, service: usize, endpoints: &[String]) -> String {
    format!(
        r"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{service}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: s{service}}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{name: http, port: 8080}}]
",
        endpoints.join(", ")
    )
}
