//! The places that tests write to: each is new, and has a second access that does not use the code under test.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use export::sink::{Connect, Document, S3Options, Served, Sink, Target, Writer};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use kubekit::cluster;
use object_store::{
    ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use serde_json::json;
use tempfile::TempDir;
use testkit::{eventually::scaled, minio};
use tokio::net::TcpListener;

use crate::{front::Front, web::Web};

pub(crate) const KEYS: (&str, &str) = ("access", "secret-of-a-test");

/// A place of its own for one test.
pub(crate) struct Bed {
    /// The prefix of places in it, with a final `/`.
    base: String,
    pub(crate) connect: Connect,
    /// The faulty proxy in front of it, if it is an HTTP store.
    pub(crate) front: Option<Front>,
    pub(crate) web: Option<Web>,
    /// Whether it honours conditions on writes.
    pub(crate) conditional: bool,
    raw: Raw,
    directory: TempDir,
}

/// The second access.
enum Raw {
    S3(Box<AmazonS3>),
    File(PathBuf),
    ConfigMap(Box<Api<ConfigMap>>, String),
    Http(String),
}

fn connect() -> Connect {
    // Fails if another test has installed the same provider, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Connect {
        s3: S3Options::default(),
        kubernetes: None,
        headers: Vec::new(),
        served: Some(Arc::new(Served::new())),
        timeout: scaled(Duration::from_secs(30)),
        manifest: false,
    }
}

/// S3 in this process.
pub(crate) async fn s3s() -> Bed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut builder =
        S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).expect("a store in an empty directory"));
    builder.set_auth(SimpleAuth::from_single(KEYS.0, KEYS.1));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    s3(address, KEYS, "bucket", directory).await
}

/// A MinIO server, in a bucket of its own.
pub(crate) async fn minio() -> Bed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bucket = format!("test-{:016x}", fastrand::u64(..));
    s3(minio::shared().await.address(), minio::Minio::KEYS, &bucket, directory).await
}

async fn s3(address: SocketAddr, keys: (&str, &str), bucket: &str, directory: TempDir) -> Bed {
    let front = Front::start(address).await;
    let mut connect = connect();
    connect.s3 = S3Options {
        endpoint: Some(format!("http://{}", front.address)),
        keys: Some((keys.0.into(), keys.1.into())),
        create_bucket: true,
        ..S3Options::default()
    };
    let raw = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_access_key_id(keys.0)
        .with_secret_access_key(keys.1)
        .with_bucket_name(bucket)
        .with_allow_http(true)
        .build()
        .expect("a valid configuration");
    let base = format!("s3://{bucket}/");
    Bed { base, connect, front: Some(front), web: None, conditional: true, raw: Raw::S3(Box::new(raw)), directory }
}

/// Files.
pub(crate) async fn file() -> Bed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("made");
    let base = format!("{}/", path.display());
    Bed { base, connect: connect(), front: None, web: None, conditional: false, raw: Raw::File(path), directory }
}

/// Keys of a ConfigMap, with the rights that the documentation names.
pub(crate) async fn config_map() -> Bed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("export").await;
    let account = cluster.service_account(&namespace, "fanfare").await;
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: fanfare, namespace: {namespace}}}
rules: [{{apiGroups: [''], resources: [configmaps], verbs: [get, create, update]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: fanfare, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: fanfare}}
subjects: [{{kind: ServiceAccount, name: fanfare, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    let mut connect = connect();
    connect.kubernetes = Some(account.client().await);
    let api = Api::namespaced(cluster.client().await, &namespace);
    let base = format!("configmap://{namespace}/backends/");
    let raw = Raw::ConfigMap(Box::new(api), "backends".into());
    Bed { base, connect, front: None, web: None, conditional: true, raw, directory }
}

/// A server that accepts files by PUT.
pub(crate) async fn http() -> Bed {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let web = Web::start().await;
    let front = Front::start(web.address).await;
    let base = format!("http://{}/", front.address);
    let raw = Raw::Http(format!("http://{}/", web.address));
    Bed { base, connect: connect(), front: Some(front), web: Some(web), conditional: true, raw, directory }
}

impl Bed {
    pub(crate) fn target(&self, name: &str) -> Target {
        format!("{}{name}", self.base).parse().expect("a valid place")
    }

    /// Opens a place in it; a name that ends in `/`, or none, is a set.
    pub(crate) fn open(&self, name: &str, manifest: bool) -> Sink {
        let connect = Connect { manifest, ..self.connect.clone() };
        self.target(name).open(&connect).expect("it can be used")
    }

    /// The files in it.
    pub(crate) async fn read(&self, name: &str) -> Option<Bytes> {
        match &self.raw {
            Raw::S3(store) => match store.get(&Path::from(name)).await {
                Ok(got) => Some(got.bytes().await.expect("it can be read")),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => panic!("{error}"),
            },
            Raw::File(path) => std::fs::read(path.join(name)).ok().map(Bytes::from),
            Raw::ConfigMap(api, map) => {
                let map = api.get_opt(map).await.expect("an administrator may read it")?;
                map.data?.remove(name).map(Bytes::from)
            }
            Raw::Http(base) => {
                let answer = reqwest::get(format!("{base}{name}")).await.expect("it is there");
                if !answer.status().is_success() {
                    return None;
                }
                Some(answer.bytes().await.expect("it can be read"))
            }
        }
    }

    /// Writes as another writer, without a condition.
    pub(crate) async fn write(&self, name: &str, text: &str) {
        match &self.raw {
            Raw::S3(store) => {
                store.put(&Path::from(name), text.to_owned().into()).await.expect("it can be written");
            }
            Raw::File(path) => {
                std::fs::create_dir_all(path).expect("it can be made");
                std::fs::write(path.join(name), text).expect("it can be written");
            }
            Raw::ConfigMap(api, map) => {
                let change =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map}, "data": {name: text}});
                let params = PatchParams::apply("somebody").force();
                api.patch(map, &params, &Patch::Apply(&change)).await.expect("an administrator may change it");
            }
            Raw::Http(base) => {
                let sent = reqwest::Client::new().put(format!("{base}{name}")).body(text.to_owned()).send().await;
                assert!(sent.expect("it is there").status().is_success());
            }
        }
    }

    /// The bucket, without the front.
    pub(crate) fn store(self) -> Box<AmazonS3> {
        match self.raw {
            Raw::S3(store) => store,
            _ => panic!("it is no bucket"),
        }
    }

    pub(crate) async fn text(&self, name: &str) -> Option<String> {
        self.read(name).await.map(|bytes| String::from_utf8(bytes.to_vec()).expect("it is text"))
    }

    /// A directory of this machine that ends with the bed.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

pub(crate) fn document(name: &str, text: impl Into<String>) -> Document {
    Document { name: name.into(), content_type: "application/yaml", bytes: text.into().into() }
}

pub(crate) fn writer(id: &str) -> Writer {
    Writer { cluster: "edge".into(), id: id.into(), term: None }
}
