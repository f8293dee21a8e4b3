//! The fixture of these tests: a namespace in each of two clusters, accounts with exactly the rights of a mirror, and a mirror
//! between them.

use std::{collections::BTreeMap, time::Duration};

use controlplane::lease::Leadership;
use k8s_openapi::api::{
    core::v1::{Endpoints, Event, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use kubekit::{
    cluster::{self, Account, Cluster},
    fault_proxy::FaultProxy,
};
use mirror::{
    Access, Connections, Health, Mirror, Report,
    config::{Config, Remote},
    marks,
};
use runtime::{drain::Drain, readiness::Readiness};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
};

/// The remotes' API server.
pub(crate) async fn remote() -> cluster::Shared {
    cluster::shared().await
}

/// The local API server, with the controllers that make slices and collect garbage.
pub(crate) async fn local() -> &'static Cluster {
    static LOCAL: OnceCell<Cluster> = OnceCell::const_new();
    LOCAL.get_or_init(Cluster::start_with_controllers).await
}

/// A remote and a local namespace.
pub(crate) struct Bed {
    pub(crate) there: String,
    pub(crate) here: String,
    pub(crate) theirs: Client,
    pub(crate) ours: Client,
    pub(crate) reader: Account,
    pub(crate) writer: Account,
}

/// A running mirror.
pub(crate) struct Running {
    pub(crate) readiness: Readiness,
    pub(crate) health: Health,
    /// Changes the access to each remote.
    pub(crate) accesses: Vec<watch::Sender<Result<Client, String>>>,
    drain: Drain,
    task: Option<JoinHandle<()>>,
}

impl Bed {
    /// Fresh namespaces that begin with this name, and accounts for them.
    pub(crate) async fn new(name: &str) -> Self {
        let (there, here) = (remote().await.namespace(name).await, local().await.namespace(name).await);
        let reader = remote().await.service_account(&there, "reader").await;
        let writer = local().await.service_account(&here, "mirror").await;
        remote().await.apply_yaml(&remote_rights(&there)).await.expect("valid roles");
        local().await.apply_yaml(&local_rights(&here)).await.expect("valid roles");
        let (theirs, ours) = (remote().await.client().await, local().await.client().await);
        Self { there, here, theirs, ours, reader, writer }
    }

    /// One remote, `west`, with one watched namespace.
    pub(crate) fn config(&self) -> Config {
        Config { remotes: vec![self.remote("west")], ..Config::default() }
    }

    /// A remote of this name and prefix.
    pub(crate) fn remote(&self, name: &str) -> Remote {
        Remote { namespaces: vec![self.there.clone()], ..Remote::new(name, name, "mirror=true", &self.here) }
    }

    /// Starts a mirror: every remote is the remote namespace.
    pub(crate) async fn start(&self, config: Config) -> Running {
        let clients = self.readers(config.remotes.len()).await;
        self.start_with(config, clients).await
    }

    /// As many clients as there are remotes.
    pub(crate) async fn readers(&self, count: usize) -> Vec<Result<Client, String>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Ok(self.reader.client().await));
        }
        clients
    }

    /// Starts a mirror with this access to each remote.
    pub(crate) async fn start_with(&self, config: Config, remotes: Vec<Result<Client, String>>) -> Running {
        let local = self.writer.client().await;
        start(config, local, remotes)
    }

    /// The report of a dry run.
    pub(crate) async fn plan(&self, config: Config) -> Report {
        let remotes = self.readers(config.remotes.len()).await;
        let (mirror, ..) = prepare(config, self.writer.client().await, remotes, Leadership::alone());
        mirror.plan(Duration::from_secs(30)).await
    }

    /// A proxy in front of the remote, and a client through it.
    pub(crate) async fn through_proxy(&self) -> (FaultProxy, Client) {
        let proxy = FaultProxy::start(&*remote().await).await;
        let kubeconfig = proxy.kubeconfig(self.reader.kubeconfig_path());
        let connection = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig");
        (proxy, connection.client)
    }

    /// Applies remote objects. `NAMESPACE` stands for the namespace.
    pub(crate) async fn put(&self, yaml: &str) {
        let yaml = yaml.replace("NAMESPACE", &self.there);
        remote().await.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Applies local objects.
    pub(crate) async fn put_here(&self, yaml: &str) {
        let yaml = yaml.replace("NAMESPACE", &self.here);
        local().await.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("{e}"));
    }

    /// A remote Service that is selected, with one named port, and one slice with these hosts of 192.0.2.0/24.
    pub(crate) async fn service(&self, name: &str, hosts: &[u8]) {
        self.put(&format!("{}\n---\n{}", service(name, "ports: [{name: http, port: 80}]"), slice(name, name, hosts)))
            .await;
    }

    /// Removes a remote Service and the slice that [`Bed::service`] made.
    pub(crate) async fn unservice(&self, name: &str) {
        let services: Api<Service> = Api::namespaced(self.theirs.clone(), &self.there);
        services.delete(name, &DeleteParams::default()).await.expect("it is there");
        let slices: Api<EndpointSlice> = Api::namespaced(self.theirs.clone(), &self.there);
        let _ = slices.delete(name, &DeleteParams::default()).await;
    }

    /// The name of the mirror of a remote Service.
    pub(crate) fn name(&self, service: &str) -> String {
        format!("west-{service}-6d6972726f720a-{}", self.there)
    }

    /// The local Services.
    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.ours.clone(), &self.here)
    }

    /// The local slices.
    pub(crate) fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.ours.clone(), &self.here)
    }

    /// The local v1 Endpoints.
    pub(crate) fn endpoints(&self) -> Api<Endpoints> {
        Api::namespaced(self.ours.clone(), &self.here)
    }

    /// The local mirror of a remote Service.
    pub(crate) async fn mirror(&self, service: &str) -> Option<Service> {
        self.services().get_opt(&self.name(service)).await.expect("services can be read")
    }

    /// Waits until there is a mirror of a remote Service.
    pub(crate) async fn mirrored(&self, service: &str) -> Service {
        let what = format!("the mirror of {service}");
        eventually!(&what, self.mirror(service).await, Option::is_some).expect("the wait above ensures it")
    }

    /// The slices of a local Service.
    pub(crate) async fn slices_of(&self, local: &str) -> Vec<EndpointSlice> {
        let selector = format!("{}={local}", marks::SERVICE_NAME);
        self.slices().list(&ListParams::default().labels(&selector)).await.expect("slices can be listed").items
    }

    /// The addresses of a local Service: `192.0.2.1`, or `192.0.2.1!` if not ready.
    pub(crate) async fn addresses(&self, local: &str) -> Vec<String> {
        let mut all: Vec<String> = self.slices_of(local).await.iter().flat_map(addresses).collect();
        all.sort();
        all
    }

    /// Waits until the mirror of a remote Service has exactly these addresses.
    pub(crate) async fn until_addresses(&self, service: &str, expected: &[&str]) {
        self.until_addresses_within(Duration::from_secs(20), service, expected).await;
    }

    /// The same, with a longer time limit.
    pub(crate) async fn until_addresses_within(&self, limit: Duration, service: &str, expected: &[&str]) {
        let name = self.name(service);
        let what = format!("{name} to have {expected:?}");
        eventually!(what, within limit, self.addresses(&name).await, |found| found == expected);
    }

    /// Waits until there is no mirror of a remote Service, nor a slice of it.
    pub(crate) async fn until_gone(&self, service: &str) {
        let what = format!("the mirror of {service} to go");
        eventually!(&what, (self.mirror(service).await, self.slices_of(&self.name(service)).await), |found| {
            found.0.is_none() && found.1.is_empty()
        });
    }

    /// Waits for an event with this reason and this text in the local namespace.
    pub(crate) async fn event(&self, reason: &str, says: &str) -> Event {
        let events: Api<Event> = Api::namespaced(self.ours.clone(), &self.here);
        let what = format!("an event {reason} about {says:?}");
        let fits = |event: &Event| {
            event.reason.as_deref() == Some(reason) && event.message.as_ref().is_some_and(|text| text.contains(says))
        };
        let list = || async { events.list(&ListParams::default()).await.expect("events can be listed").items };
        let found = eventually!(&what, list().await, |all| all.iter().any(fits));
        found.into_iter().find(fits).expect("the wait above ensures it")
    }

    /// Changes a local Service by a merge patch, as a user's edit would.
    pub(crate) async fn edit(&self, name: &str, patch: Value) -> Service {
        let patched = self.services().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

impl Running {
    /// Waits until everything is listed.
    pub(crate) async fn ready(self) -> Self {
        let _ready = eventually!("the mirror to be ready", self.readiness.check(), Result::is_ok);
        self
    }

    /// Drains it.
    pub(crate) async fn stop(mut self) {
        self.drain.start();
        let task = self.task.take().expect("it runs");
        testkit::eventually::within("the mirror to end", task).await.expect("it does not panic");
    }
}

impl Drop for Running {
    /// Ends it without a drain, as a crash does.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Starts a mirror.
pub(crate) fn start(config: Config, local: Client, remotes: Vec<Result<Client, String>>) -> Running {
    start_as(config, local, remotes, Leadership::alone())
}

/// Starts a mirror that writes while it leads.
pub(crate) fn start_as(
    config: Config,
    local: Client,
    remotes: Vec<Result<Client, String>>,
    leadership: Leadership,
) -> Running {
    let (mirror, readiness, accesses) = prepare(config, local, remotes, leadership);
    let (drain, health) = (Drain::new(), mirror.health());
    let watch = drain.watch();
    Running { readiness, health, accesses, drain, task: Some(tokio::spawn(mirror.run(watch))) }
}

type Accesses = Vec<watch::Sender<Result<Client, String>>>;

fn prepare(
    config: Config,
    local: Client,
    remotes: Vec<Result<Client, String>>,
    leadership: Leadership,
) -> (Mirror, Readiness, Accesses) {
    runtime::metrics::install().expect("the recorder is the runtime's");
    let readiness = Readiness::new();
    let (accesses, receivers): (Vec<_>, Vec<Access>) = remotes.into_iter().map(watch::channel).unzip();
    let connections = Connections { local, remotes: receivers, leadership, gate: readiness.register("mirror") };
    (Mirror::new(config, connections).expect("a valid configuration"), readiness, accesses)
}

/// A remote Service that is selected.
pub(crate) fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: NAMESPACE, labels: {{mirror: 'true'}}}}\nspec: \
         {{{spec}}}"
    )
}

/// A slice of IPv4 endpoints that are ready, on the port `http`.
pub(crate) fn slice(name: &str, service: &str, hosts: &[u8]) -> String {
    let endpoints: Vec<String> = hosts.iter().map(|n| format!("{{addresses: [192.0.2.{n}]}}")).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: NAMESPACE, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nendpoints: [{}]\nports: [{{name: http, port: 8080}}]",
        endpoints.join(", ")
    )
}

/// The addresses of a slice; those that are not ready with an exclamation mark.
pub(crate) fn addresses(slice: &EndpointSlice) -> Vec<String> {
    let text = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        format!("{}{}", endpoint.addresses[0], if ready { "" } else { "!" })
    };
    slice.endpoints.iter().map(text).collect()
}

/// A label of an object.
pub(crate) fn label<'a>(labels: Option<&'a BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    labels.and_then(|labels| labels.get(key)).map(String::as_str)
}

/// The value of a metric that has all of these in its line of the text format.
pub(crate) fn metric(parts: &[&str]) -> Option<f64> {
    let text = runtime::metrics::install().expect("the recorder is the runtime's").render();
    let line = text.lines().find(|line| parts.iter().all(|part| line.contains(part)))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The local rights of a mirror.
fn local_rights(namespace: &str) -> String {
    let rules = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "update", "delete"]},
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch", "create", "update", "delete"]},
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["get", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]);
    role(namespace, "mirror", "mirror", namespace, &rules)
}

/// The remote rights of a mirror.
fn remote_rights(namespace: &str) -> String {
    let read = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    let identity =
        json!([{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}]);
    let who = format!("{namespace}-identity");
    [role(namespace, "reader", "reader", namespace, &read), role("kube-system", &who, "reader", namespace, &identity)]
        .join("\n---\n")
}

/// A Role and its binding to an account.
pub(crate) fn role(namespace: &str, name: &str, account: &str, of: &str, rules: &Value) -> String {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": namespace}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of}]});
    format!("{role}\n---\n{binding}")
}
