//! A real Kubernetes control plane: etcd, kube-apiserver and, on request, kube-controller-manager.
//!
//! ```no_run
//! #[tokio::test]
//! async fn a_role_is_enough() {
//!     let cluster = kubekit::cluster::shared().await;
//!     let namespace = cluster.namespace("role").await;
//!     let account = cluster.service_account(&namespace, "reader").await;
//!     cluster.apply_yaml("kind: Role\n...").await.expect("a valid role");
//!     // account.client(), account.kubeconfig_path()
//! }
//! ```
//!
//! RBAC is on, so a Role is tested as it is shipped. Tests share one cluster through [`shared`], each in a namespace of
//! its own, unless they stop it: then they [`start`](Cluster::start) their own. Whatever lets Services have pods with
//! addresses of their own goes through [`inside`].

mod assets;
mod etcd;
mod objects;
mod pods;

use std::{
    fs::{self, File},
    ops::Deref,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub use assets::Assets;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
pub use objects::{Account, Refused};
pub use pods::{NODE, ZONE};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    eventually::scaled,
    go, netns,
    process::{self, Process},
};
use tokio::{net::TcpSocket, sync::OnceCell, time::timeout};

/// Time limit for a component to start or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time limit of one readiness check.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between two readiness checks.
const POLL: Duration = Duration::from_millis(50);

/// The administrator's bearer token.
const ADMIN_TOKEN: &str = "admin-of-a-test-cluster";

/// A running control plane. Dropping it ends all of it, and prints the logs if the test has failed.
#[derive(Debug)]
pub struct Cluster {
    assets: Assets,
    // Before the directory: their files are in it.
    controllers: Option<Process>,
    apiserver: Option<Process>,
    etcd: Process,
    api_port: Port,
    etcd_port: Port,
    _peer_port: Port,
    /// Held locked for as long as the directory is in use.
    _in_use: File,
    directory: TempDir,
    accounts: AtomicU32,
    /// The file of the key that signs tokens of service accounts, and the files of the keys that verify them.
    signing_key: PathBuf,
    verifying_keys: Vec<PathBuf>,
}

/// The cluster that the tests of one process share. It ends with the process.
#[derive(Debug)]
pub struct Shared(&'static Cluster);

/// A reserved TCP port of 127.0.0.1: this process stays bound to it without listening, and the component listens beside
/// it by way of SO_REUSEPORT.
#[derive(Debug)]
struct Port {
    number: u16,
    _reservation: TcpSocket,
}

/// Runs the test in a network namespace (see [`netns::inside`]) in which it can start clusters.
///
/// # Panics
/// Where the test fails inside or a prerequisite is missing.
pub fn inside(name: &str, test: impl AsyncFnOnce()) {
    if !netns::entered() {
        // The build needs the network, and inside there is none.
        Assets::locate().unwrap_or_else(|e| panic!("{e}"));
    }
    netns::inside(name, test);
}

/// The cluster that all tests of this process share: API server and etcd, no controllers. Started by the first caller.
///
/// # Panics
/// Where it cannot be started.
pub async fn shared() -> Shared {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    Shared(CLUSTER.get_or_init(Cluster::start).await)
}

impl Cluster {
    /// Starts etcd and kube-apiserver; returns when the API server is ready.
    ///
    /// # Panics
    /// Where that fails, with what to do about it.
    pub async fn start() -> Self {
        let assets = tokio::task::spawn_blocking(Assets::locate).await.expect("locating the binaries does not panic");
        let assets = assets.unwrap_or_else(|e| panic!("{e}"));
        let (directory, in_use) = run_directory();
        let tokens = format!("{ADMIN_TOKEN},admin,admin,system:masters\n");
        fs::write(directory.path().join("tokens.csv"), tokens).expect("the run directory can be written");
        let (api_port, etcd_port, peer_port) = (Port::reserve(), Port::reserve(), Port::reserve());
        let etcd = start_etcd(&assets, directory.path(), etcd_port.number, peer_port.number);
        let mut cluster = Self {
            assets,
            controllers: None,
            apiserver: None,
            etcd,
            api_port,
            etcd_port,
            _peer_port: peer_port,
            _in_use: in_use,
            // The key of the certificate that it signs for itself serves for tokens as well.
            signing_key: directory.path().join("certs/apiserver.key"),
            verifying_keys: vec![directory.path().join("certs/apiserver.key")],
            directory,
            accounts: AtomicU32::new(0),
        };
        cluster.write_kubeconfig("admin", ADMIN_TOKEN, "default");
        cluster.start_apiserver().await;
        cluster
    }

    /// Like [`Cluster::start`], with the controllers that make EndpointSlices of Services and Pods, collect garbage and
    /// finish the deletion of namespaces.
    pub async fn start_with_controllers() -> Self {
        let mut cluster = Self::start().await;
        cluster.start_controllers();
        cluster
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.kubeconfig("admin")
    }

    /// A client with the administrator's rights. It belongs to the caller's tokio runtime.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig_path()).await
    }

    /// The API server's port, for tests with a proxy in between.
    pub fn api_port(&self) -> u16 {
        self.api_port.number
    }

    /// The files of the certificate that the API server shows, and of its key.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        let certs = self.directory.path().join("certs");
        (certs.join("apiserver.crt"), certs.join("apiserver.key"))
    }

    /// Makes a namespace with a name that starts like this and is used nowhere else.
    pub async fn namespace(&self, prefix: &str) -> String {
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}}))
            .expect("a valid namespace");
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("an administrator may create it");
        made.metadata.name.expect("the API server names what it makes")
    }

    /// Starts the API server on the port it had before, and returns when it is ready.
    ///
    /// # Panics
    /// Where it runs already, or does not get ready.
    pub async fn start_apiserver(&mut self) {
        assert!(self.apiserver.is_none(), "the API server runs already");
        let directory = self.directory.path();
        let path = |name: &str| directory.join(name).display().to_string();
        let mut args = Vec::from(
            [
                "--bind-address=127.0.0.1",
                "--permit-port-sharing=true",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--disable-admission-plugins=ServiceAccount",
                // Without a default route it finds no address of its own. Only certificates contain it.
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                // Without it a stopping API server waits a minute for open watches.
                "--shutdown-watch-termination-grace-period=1s",
            ]
            .map(String::from),
        );
        args.push(format!("--secure-port={}", self.api_port.number));
        args.push(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port.number));
        args.push(format!("--token-auth-file={}", path("tokens.csv")));
        args.push(format!("--cert-dir={}", path("certs")));
        args.extend(self.verifying_keys.iter().map(|key| format!("--service-account-key-file={}", key.display())));
        args.push(format!("--service-account-signing-key-file={}", self.signing_key.display()));
        self.apiserver = Some(self.spawn("kube-apiserver", &args));
        self.await_ready().await;
    }

    /// Ends the API server as an upgrade does: SIGTERM, and it may finish what it does.
    pub async fn stop_apiserver(&mut self) {
        let mut apiserver = self.apiserver.take().expect("the API server runs");
        apiserver.signal(Signal::TERM);
        assert!(
            apiserver.wait(scaled(PATIENCE)).await.is_some(),
            "the API server did not end:\n{}",
            apiserver.tail(40)
        );
    }

    /// Ends the API server as a crash does: SIGKILL.
    pub fn kill_apiserver(&mut self) {
        drop(self.apiserver.take().expect("the API server runs"));
    }

    /// Has the API server sign tokens of service accounts with a new key (on P-256, where the first one is an RSA key), by a restart. The
    /// tokens of former keys stay good where these are kept.
    ///
    /// # Panics
    /// Where it does not run, or does not get ready again.
    pub async fn rotate_signing_key(&mut self, keep: bool) {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let number = self.next_account();
        let file = |kind: &str| self.directory.path().join(format!("service-accounts-{number}.{kind}"));
        let (private, public) = (file("key"), file("pub"));
        for (path, pem) in [(&private, key.serialize_pem()), (&public, key.public_key_pem())] {
            fs::write(path, pem).expect("the run directory can be written");
        }
        if !keep {
            self.verifying_keys.clear();
        }
        self.verifying_keys.push(public);
        self.signing_key = private;
        self.stop_apiserver().await;
        self.start_apiserver().await;
    }

    /// Makes the API server hang: connections stay open and nothing answers. Undone by [`Cluster::resume_apiserver`].
    pub fn pause_apiserver(&self) {
        self.apiserver.as_ref().expect("the API server runs").signal(Signal::STOP);
    }

    /// Lets a paused API server go on.
    pub fn resume_apiserver(&self) {
        self.apiserver.as_ref().expect("the API server runs").signal(Signal::CONT);
    }

    /// Makes etcd forget all revisions but the last: a client that asks for an older one gets 410 Gone, at the latest after
    /// a restart of the API server, which caches some itself.
    pub async fn compact(&self) {
        etcd::compact(self.etcd_port.number).await.unwrap_or_else(|e| panic!("etcd cannot be compacted: {e}"));
    }

    /// The ends of the components' logs.
    pub fn logs(&self) -> String {
        let part = |name: &str| {
            let log = process::tail(&self.directory.path().join(format!("{name}.log")), 40);
            format!("--- {name}\n{log}\n")
        };
        ["etcd", "kube-apiserver", "kube-controller-manager"].map(part).concat()
    }

    fn start_controllers(&mut self) {
        let args = [
            format!("--kubeconfig={}", self.kubeconfig_path().display()),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--controllers=endpointslice-controller,endpointslice-mirroring-controller,endpoints-controller,\
             garbage-collector-controller,namespace-controller"
                .into(),
        ];
        self.controllers = Some(self.spawn("kube-controller-manager", &args));
    }

    fn spawn(&self, name: &str, args: &[String]) -> Process {
        spawn(&self.assets, self.directory.path(), name, args)
    }

    /// Waits until the API server says that it is ready and has made the default objects.
    async fn await_ready(&mut self) {
        let deadline = Instant::now() + scaled(PATIENCE);
        // It makes its own certificate at the first start.
        let certificate = self.directory.path().join("certs/apiserver.crt");
        loop {
            let apiserver = self.apiserver.as_mut().expect("it was just started");
            let (ended, etcd_ended) = (apiserver.ended(), self.etcd.ended());
            assert!(ended.is_none(), "kube-apiserver ended ({ended:?}):\n{}", self.logs());
            assert!(etcd_ended.is_none(), "etcd ended ({etcd_ended:?}):\n{}", self.logs());
            assert!(Instant::now() < deadline, "kube-apiserver is not ready after {PATIENCE:?}:\n{}", self.logs());
            // A client of its own for each look: one that was made while the certificate was being written would never trust it.
            if certificate.is_file()
                && let Ok(client) = try_client(&self.kubeconfig_path()).await
                && timeout(LOOK_TIMEOUT, ready(&client)).await == Ok(true)
            {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.path().join(format!("{user}.kubeconfig"))
    }

    /// Writes a kubeconfig (JSON, which is YAML as well) for a bearer token.
    fn write_kubeconfig(&self, user: &str, token: &str, namespace: &str) -> PathBuf {
        let path = self.kubeconfig(user);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.api_port.number),
                "certificate-authority": self.directory.path().join("certs/apiserver.crt"),
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": user, "context": {"cluster": "test", "user": user, "namespace": namespace}}],
            "current-context": user,
        });
        fs::write(&path, config.to_string()).expect("the run directory can be written");
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.logs());
        }
    }
}

impl Port {
    fn reserve() -> Self {
        let reserve = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseport(true)?;
            socket.bind(([127, 0, 0, 1], 0).into())?;
            Ok::<_, std::io::Error>(Self { number: socket.local_addr()?.port(), _reservation: socket })
        };
        reserve().expect("a port of 127.0.0.1 is free")
    }
}

/// A directory for one cluster, and the lock that says it is in use. Removes directories that killed processes left behind.
fn run_directory() -> (TempDir, File) {
    let runs = go::cache().join("run");
    fs::create_dir_all(&runs).unwrap_or_else(|e| panic!("cannot create {}: {e}", runs.display()));
    let _sweeping = go::lock(&runs.join("sweep.lock"), || ()).unwrap_or_else(|e| panic!("{e}"));
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        let unused = File::open(entry.path().join("in-use")).is_ok_and(|file| file.try_lock().is_ok());
        if unused {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let directory = tempfile::Builder::new().prefix("cluster-").tempdir_in(&runs);
    let directory = directory.unwrap_or_else(|e| panic!("cannot create a directory in {}: {e}", runs.display()));
    let in_use = go::lock(&directory.path().join("in-use"), || ()).unwrap_or_else(|e| panic!("{e}"));
    (directory, in_use)
}

fn start_etcd(assets: &Assets, directory: &Path, port: u16, peer_port: u16) -> Process {
    let url = format!("http://127.0.0.1:{port}");
    // A single member has no peers, but insists on an address for them.
    let peers = format!("http://127.0.0.1:{peer_port}");
    let args = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--socket-reuse-port".into(),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ];
    spawn(assets, directory, "etcd", &args)
}

fn spawn(assets: &Assets, directory: &Path, name: &str, args: &[String]) -> Process {
    let program = assets.executable(name).unwrap_or_else(|e| panic!("{e}"));
    let log = directory.join(format!("{name}.log"));
    Process::spawn(&program, args, &log).unwrap_or_else(|e| panic!("{e}"))
}

/// Whether `/readyz` says so and the default namespace is there.
async fn ready(client: &Client) -> bool {
    let request = Request::new("/readyz").list(&ListParams::default()).expect("a valid path");
    if client.request_text(request).await.is_err() {
        return false;
    }
    Api::<Namespace>::all(client.clone()).get_opt("default").await.is_ok_and(|found| found.is_some())
}

/// A client for a kubeconfig file.
async fn client(kubeconfig: &Path) -> Client {
    try_client(kubeconfig).await.unwrap_or_else(|e| panic!("{} cannot be used: {e}", kubeconfig.display()))
}

async fn try_client(kubeconfig: &Path) -> Result<Client, kube::Error> {
    // Fails if another test has installed the same provider, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config)
}

impl Cluster {
    /// A number that this cluster has not given out before.
    fn next_account(&self) -> u32 {
        self.accounts.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
