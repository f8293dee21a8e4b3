//! Elections on a real API server, through a proxy that counts what is asked and can make it fail.

mod locks;
mod release;
mod rules;
mod table;

use std::time::Duration;

use controlplane::{
    client::connect,
    lease::{Config, Election, ElectionView, Elector, LockKind, Terms, Timing},
};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use kubekit::{
    cluster::{Account, Cluster, Shared, shared},
    fault_proxy::{Call, FaultProxy, Verb},
};
use runtime::drain::Drain;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::eventually::within;
use tokio::task::JoinHandle;

/// The lock's name in every test.
const NAME: &str = "example";
/// The locks of one object, and what it is.
const SINGLE: [(LockKind, &str); 3] =
    [(LockKind::Leases, "leases"), (LockKind::ConfigMaps, "configmaps"), (LockKind::Endpoints, "endpoints")];
const ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// A namespace, and an account in it that may do what an elector needs and nothing else.
struct Bed {
    cluster: Shared,
    namespace: String,
    account: Account,
}

/// A candidate that runs, and the proxy that it goes through.
struct Candidate {
    election: Election,
    proxy: FaultProxy,
    drain: Drain,
    task: JoinHandle<()>,
    _kubeconfig: NamedTempFile,
}

const RIGHTS: &str = "
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
- {apiGroups: [''], resources: [configmaps, endpoints], verbs: [get, create, update]}
- {apiGroups: [''], resources: [events], verbs: [create]}
";

/// Long deadlines, so that a slow machine does not come into them.
fn slow() -> Timing {
    let ms = Duration::from_millis;
    Timing::new(ms(12_000), ms(6_000), ms(700)).expect("they fit")
}

/// Short ones, for what has to run out.
fn quick() -> Timing {
    let ms = Duration::from_millis;
    Timing::new(ms(4_000), ms(2_400), ms(400)).expect("they fit")
}

impl Bed {
    async fn new(prefix: &str) -> Self {
        Self::with_rights(prefix, RIGHTS).await
    }

    async fn with_rights(prefix: &str, rules: &str) -> Self {
        // Before the first metric is made, or it would go nowhere.
        runtime::metrics::install().expect("the recorder is the runtime's");
        let cluster = shared().await;
        let namespace = cluster.namespace(prefix).await;
        let account = cluster.service_account(&namespace, "elector").await;
        grant(&cluster, &namespace, rules).await;
        Self { cluster, namespace, account }
    }

    async fn candidate(&self, identity: &str, lock: LockKind, timing: Timing) -> Candidate {
        self.candidate_with(identity, lock, timing, |elector| elector).await
    }

    /// One that somebody takes part in.
    async fn participated(&self, identity: &str, lock: LockKind, timing: Timing) -> (Candidate, Terms) {
        let mut terms = None;
        let join = |mut elector: Elector| {
            terms = Some(elector.terms());
            elector
        };
        let candidate = self.candidate_with(identity, lock, timing, join).await;
        (candidate, terms.expect("it was joined"))
    }

    async fn candidate_with(
        &self,
        identity: &str,
        lock: LockKind,
        timing: Timing,
        prepare: impl FnOnce(Elector) -> Elector,
    ) -> Candidate {
        let proxy = FaultProxy::start(&self.cluster).await;
        let kubeconfig = proxy.kubeconfig(self.account.kubeconfig_path());
        let config =
            Config { name: NAME.into(), namespace: self.namespace.clone(), lock, identity: identity.into(), timing };
        let connection = connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig");
        let elector = prepare(Elector::new(config, connection.client).expect("a valid candidate"));
        let (election, drain) = (elector.election(), Drain::new());
        let task = tokio::spawn(elector.run(drain.watch()));
        Candidate { election, proxy, drain, task, _kubeconfig: kubeconfig }
    }

    async fn api(&self, resource: &str) -> Api<DynamicObject> {
        let (group, version, kind) = match resource {
            "leases" => ("coordination.k8s.io", "v1", "Lease"),
            "configmaps" => ("", "v1", "ConfigMap"),
            "endpoints" => ("", "v1", "Endpoints"),
            other => panic!("no lock is made of {other}"),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), resource);
        Api::namespaced_with(self.cluster.client().await, &self.namespace, &resource)
    }

    /// The record in one object of the lock, with the names of a Lease's fields.
    async fn record(&self, resource: &str) -> Option<Value> {
        let object = self.api(resource).await.get_opt(NAME).await.expect("an administrator may read it")?;
        if resource == "leases" {
            return object.data.get("spec").cloned();
        }
        let text = object.metadata.annotations?.remove(ANNOTATION)?;
        let mut record: Value = serde_json::from_str(&text).expect("JSON");
        record["leaseTransitions"] = record["leaderTransitions"].take();
        Some(record)
    }

    /// Makes the object, or writes its record, as somebody else does.
    async fn write(&self, resource: &str, holder: Option<(&str, u32)>) {
        let api = self.api(resource).await;
        let now = jiff::Timestamp::now();
        let seconds = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let micros = now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let before = api.get_opt(NAME).await.expect("an administrator may read it");
        let new = before.is_none();
        let mut object = before.unwrap_or_else(|| {
            let object = json!({"metadata": {"name": NAME}});
            serde_json::from_value(object).expect("a valid object")
        });
        match holder {
            None => {}
            Some((holder, duration)) if resource == "leases" => {
                let spec = json!({
                    "holderIdentity": holder, "leaseDurationSeconds": duration, "leaseTransitions": 4,
                    "acquireTime": micros, "renewTime": micros,
                });
                match object.data.get_mut("spec").and_then(Value::as_object_mut) {
                    Some(old) => old.extend(spec.as_object().cloned().unwrap_or_default()),
                    None => object.data["spec"] = spec,
                }
            }
            Some((holder, duration)) => {
                let record = json!({
                    "holderIdentity": holder, "leaseDurationSeconds": duration, "leaderTransitions": 4,
                    "acquireTime": seconds, "renewTime": seconds, "strategy": "", "preferredHolder": "", "new": [1],
                });
                object.metadata.annotations.get_or_insert_default().insert(ANNOTATION.into(), record.to_string());
            }
        }
        let params = kube::api::PostParams::default();
        if new {
            api.create(&params, &object).await.expect("an administrator may create it");
        } else {
            api.replace(NAME, &params, &object).await.expect("nobody is in between");
        }
    }

    /// Edits the object, and not its record.
    async fn edit(&self, resource: &str, number: u32) {
        let edit = json!({"metadata": {"labels": {"edited": number.to_string()}}});
        let patch = kube::api::Patch::Merge(edit);
        self.api(resource).await.patch(NAME, &Default::default(), &patch).await.expect("an administrator may");
    }

    /// The messages of the events about the lock.
    async fn events(&self) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.cluster.client().await, &self.namespace);
        let events =
            events.list(&kube::api::ListParams::default()).await.expect("an administrator may list them").items;
        let said = events.into_iter().filter(|event| {
            event.reason.as_deref() == Some("LeaderElection")
                && event.type_.as_deref() == Some("Normal")
                && event.involved_object.name.as_deref() == Some(NAME)
        });
        let mut said: Vec<String> = said.filter_map(|event| event.message).collect();
        said.sort();
        said
    }
}

impl Candidate {
    fn now(&self) -> ElectionView {
        self.election.now()
    }

    async fn until(&self, what: &str, so: impl Fn(&ElectionView) -> bool) -> ElectionView {
        within(what, self.election.watch().until(so)).await
    }

    async fn leads(&self) -> ElectionView {
        self.until("it leads", |view| view.leading).await
    }

    async fn does_not_lead(&self) -> ElectionView {
        self.until("it does not lead", |view| !view.leading).await
    }

    /// The verbs of what was asked about the lock, in order, once there are as many.
    async fn asked(&self, count: usize) -> Vec<&'static str> {
        let calls = self.proxy.wait(count, about_the_lock).await;
        calls.iter().take(count).map(verb).collect()
    }

    /// All verbs so far.
    fn all_asked(&self) -> Vec<&'static str> {
        self.proxy.calls().iter().filter(|call| about_the_lock(call)).map(verb).collect()
    }

    /// Ends it in order.
    async fn stop(self) -> Vec<&'static str> {
        self.drain.start();
        within("it ends", self.task).await.expect("it does not panic");
        self.proxy.calls().iter().filter(|call| about_the_lock(call)).map(verb).collect()
    }
}

fn about_the_lock(call: &Call) -> bool {
    ["leases", "configmaps", "endpoints"].contains(&call.resource.as_str())
}

fn verb(call: &Call) -> &'static str {
    match call.verb {
        Verb::Get => "get",
        Verb::Create => "create",
        Verb::Update => {
            let version = &call.json()["metadata"]["resourceVersion"];
            assert!(version.is_string(), "an update without a condition: {call:?}");
            "update"
        }
        other => panic!("an elector never asks to {other:?}"),
    }
}

async fn grant(cluster: &Cluster, namespace: &str, rules: &str) {
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: elector, namespace: {namespace}}}
rules: {rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: elector, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: elector}}
subjects: [{{kind: ServiceAccount, name: elector, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
}
