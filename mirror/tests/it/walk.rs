//! A random walk: remote Services change, users edit local objects, API servers are unavailable, the mirror restarts. In the end
//! everything is in its desired state.
//!
//! `FANFARE_WALK_STEPS` (60) makes it longer, and `FANFARE_SEED` (random, and printed) repeats it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kubekit::fault_proxy::{Fault, FaultProxy};
use mirror::{
    config::Config,
    marks,
    names::{Scheme, local_name},
};
use serde_json::{Value, json};
use testkit::eventually::scaled;

use crate::bed::{self, Bed, Running, addresses, local, remote};

/// Steps between two comparisons of everything.
const STRETCH: usize = 30;
/// How long it may take after the last step: an API server that was away is asked again after 5 s, a write after 15 s.
const SETTLE: Duration = Duration::from_secs(60);
/// Service names in each remote: few enough for the guard never to hold anything back.
const NAMES: usize = 5;

/// One remote's namespace, and the proxy in front of it.
struct Remote {
    prefix: &'static str,
    namespace: String,
    admin: Client,
    proxy: FaultProxy,
    client: Client,
}

struct Walk {
    bed: Bed,
    remotes: Vec<Remote>,
    writer: Client,
    writers_line: FaultProxy,
    /// Services that a user created under the name of a mirror, and their versions.
    foreign: BTreeMap<String, String>,
    mirror: Option<Running>,
    rng: fastrand::Rng,
    log: Vec<String>,
}

#[tokio::test]
async fn a_walk_of_chance_ends_in_exactly_the_desired_state() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let steps = number("FANFARE_WALK_STEPS").unwrap_or(60);
    let mut walk = Walk::begin(testkit::seed::random()).await;
    for step in 1..=usize::try_from(steps).expect("a number of steps") {
        walk.step().await;
        if step.is_multiple_of(STRETCH) {
            walk.settle().await;
        }
    }
    walk.settle().await;
}

impl Walk {
    async fn begin(seed: u64) -> Self {
        let bed = Bed::new("walk").await;
        let mut remotes = Vec::new();
        for prefix in ["west", "east"] {
            let namespace = if prefix == "west" { bed.there.clone() } else { remote().await.namespace("walk").await };
            let rules = json!([
                {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ]);
            let role = bed::role(&namespace, "walker", "reader", &bed.there, &rules);
            remote().await.apply_yaml(&role).await.expect("a valid role");
            let (proxy, client) = bed.through_proxy().await;
            remotes.push(Remote { prefix, namespace, admin: bed.theirs.clone(), proxy, client });
        }
        let writers_line = FaultProxy::start(local().await).await;
        let kubeconfig = writers_line.kubeconfig(bed.writer.kubeconfig_path());
        let writer = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client;
        let rng = fastrand::Rng::with_seed(seed);
        let mut walk =
            Self { bed, remotes, writer, writers_line, foreign: BTreeMap::new(), mirror: None, rng, log: Vec::new() };
        walk.start();
        walk
    }

    fn start(&mut self) {
        let remotes = self.remotes.iter().map(|remote| {
            let mut config = self.bed.remote(remote.prefix);
            config.namespaces = vec![remote.namespace.clone()];
            config
        });
        let config = Config { remotes: remotes.collect(), ..Config::default() };
        let clients = self.remotes.iter().map(|remote| Ok(remote.client.clone())).collect();
        self.mirror = Some(bed::start(config, self.writer.clone(), clients));
    }

    async fn step(&mut self) {
        let number = self.rng.usize(..self.remotes.len());
        let name = format!("s{}", self.rng.usize(..NAMES));
        let chance = self.rng.u32(..100);
        match chance {
            0..25 => self.put_service(number, &name).await,
            25..55 => self.put_slice(number, &name).await,
            55..62 => self.delete_service(number, &name).await,
            62..68 => self.delete_slice(number, &name).await,
            68..74 => self.line(number),
            74..78 => self.writers_line(),
            78..84 => self.restart().await,
            84..94 => self.edit(number, &name).await,
            94..97 => self.old_tool(number, &name).await,
            _ => self.take(number, &name).await,
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }

    async fn put_service(&mut self, number: usize, name: &str) {
        let kind = self.rng.u32(..10);
        let port = self.rng.u16(1..5);
        let ports = json!([{"name": "http", "port": port}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
        let spec = match kind {
            0 => json!({"type": "ExternalName", "externalName": "example.com"}),
            1..4 => json!({"clusterIP": "None", "ports": ports}),
            4 => json!({"type": "NodePort", "ports": ports}),
            5 => json!({"sessionAffinity": "ClientIP", "ports": ports}),
            _ => json!({"ports": ports}),
        };
        let selected = self.rng.u32(..10) > 0;
        let team = self.rng.u32(..3);
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"mirror": selected.to_string(), "team": format!("t{team}")}}, "spec": spec});
        self.note(format!("{} put {service}", self.remotes[number].prefix));
        let api: Api<Service> = Api::namespaced(self.remotes[number].admin.clone(), &self.remotes[number].namespace);
        if self.rng.bool() || apply(&api, name, &service).await.is_err() {
            // An immutable Service is deleted and created again.
            let _ = api.delete(name, &DeleteParams::default()).await;
            apply(&api, name, &service).await.unwrap_or_else(|e| panic!("{service}: {e}"));
        }
    }

    async fn put_slice(&mut self, number: usize, of: &str) {
        let part = self.rng.u32(..3);
        let count = if self.rng.u32(..10) == 0 { 130 } else { self.rng.u8(..4) };
        let first = self.rng.u8(1..100);
        let endpoints: Vec<Value> = (0..count)
            .map(|n| {
                json!({"addresses": [format!("10.{number}.{part}.{}", first + n)],
                "conditions": {"ready": self.rng.u32(..4) > 0}})
            })
            .collect();
        let number_of_port = 8080 + self.rng.i32(0..2);
        // The address type is immutable, so it belongs to the name.
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{of}-{part}"), "labels": {marks::SERVICE_NAME: of}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": number_of_port}]});
        self.note(format!("{} slice {of}-{part} of {count}", self.remotes[number].prefix));
        let api: Api<EndpointSlice> =
            Api::namespaced(self.remotes[number].admin.clone(), &self.remotes[number].namespace);
        apply(&api, &format!("{of}-{part}"), &slice).await.unwrap_or_else(|e| panic!("{slice}: {e}"));
    }

    async fn delete_service(&mut self, number: usize, name: &str) {
        self.note(format!("{} delete {name}", self.remotes[number].prefix));
        let api: Api<Service> = Api::namespaced(self.remotes[number].admin.clone(), &self.remotes[number].namespace);
        let _ = api.delete(name, &DeleteParams::default()).await;
    }

    async fn delete_slice(&mut self, number: usize, of: &str) {
        let name = format!("{of}-{}", self.rng.u32(..3));
        self.note(format!("{} delete slice {name}", self.remotes[number].prefix));
        let api: Api<EndpointSlice> =
            Api::namespaced(self.remotes[number].admin.clone(), &self.remotes[number].namespace);
        let _ = api.delete(&name, &DeleteParams::default()).await;
    }

    fn line(&mut self, number: usize) {
        let choice = self.rng.u32(..4);
        self.note(format!("{} line {choice}", self.remotes[number].prefix));
        let proxy = &self.remotes[number].proxy;
        match choice {
            0 => proxy.cut(),
            1 => {
                proxy.interrupt(
                    |call| call.verb == kubekit::fault_proxy::Verb::Watch,
                    Fault::ExpireWatch(Duration::ZERO),
                );
            }
            2 => {
                proxy.interrupt(|call| call.verb == kubekit::fault_proxy::Verb::Watch, Fault::CutBody(Duration::ZERO));
            }
            _ => proxy.restore(),
        }
    }

    fn writers_line(&mut self) {
        let choice = self.rng.u32(..3);
        self.note(format!("writer's line {choice}"));
        match choice {
            0 => self.writers_line.cut(),
            1 => {
                let faults =
                    [Fault::Answer(500), Fault::Answer(409), Fault::ResetAnswer, Fault::Reset, Fault::Answer(429)];
                self.writers_line.seeded(|call| call.writes(), self.rng.u64(..), 50, faults);
            }
            _ => {
                self.writers_line.clear();
                self.writers_line.restore();
            }
        }
    }

    async fn restart(&mut self) {
        let gently = self.rng.bool();
        self.note(format!("restart, gently: {gently}"));
        match self.mirror.take() {
            Some(mirror) if gently => mirror.stop().await,
            crashed => drop(crashed),
        }
        self.start();
    }

    /// A user edits a mirror.
    async fn edit(&mut self, number: usize, name: &str) {
        let local = self.local(number, name);
        if self.foreign.contains_key(&local) {
            return;
        }
        let services = self.bed.services();
        let choice = self.rng.u32(..6);
        self.note(format!("edit {local} {choice}"));
        let patch = match choice {
            0 => {
                let _ = services.delete(&local, &DeleteParams::default()).await;
                return;
            }
            1 => {
                let selector = format!("{}={local}", marks::SERVICE_NAME);
                let all = ListParams::default().labels(&selector);
                self.bed
                    .slices()
                    .delete_collection(&DeleteParams::default(), &all)
                    .await
                    .expect("an administrator may");
                return;
            }
            2 => {
                // An older tool's mirror that was not adopted yet loses its owner without that label.
                let found = services.get_opt(&local).await.expect("services can be read");
                if !found.is_some_and(|it| it.annotations().contains_key(marks::SERVICE)) {
                    return;
                }
                json!({"metadata": {"labels": {marks::MIRRORED: null, "x": "y"}}})
            }
            3 => json!({"metadata": {"annotations": {marks::UID: "wrong"}}}),
            4 => json!({"spec": {"ports": [{"name": "edited", "port": 99}], "sessionAffinity": "ClientIP"}}),
            _ => {
                for slice in self.bed.slices_of(&local).await {
                    let patch = Patch::Merge(json!({"endpoints": [{"addresses": ["203.0.113.1"]}]}));
                    let _ = self.bed.slices().patch(&slice.name_any(), &PatchParams::default(), &patch).await;
                }
                return;
            }
        };
        // It may not be there, or be headless or an alias, for which some of this is refused.
        let _ = services.patch(&local, &PatchParams::default(), &Patch::Merge(&patch)).await;
    }

    /// A user creates a Service under a mirror's name, or deletes it again.
    async fn take(&mut self, number: usize, name: &str) {
        let local = self.local(number, name);
        let services = self.bed.services();
        self.note(format!("take {local}"));
        if self.foreign.remove(&local).is_some() {
            let _ = services.delete(&local, &DeleteParams::default()).await;
            return;
        }
        let own: Service =
            serde_json::from_value(json!({"metadata": {"name": local}, "spec": {"ports": [{"port": 7}]}}))
                .expect("a valid Service");
        if let Ok(made) = services.create(&PostParams::default(), &own).await {
            self.foreign.insert(local, made.resource_version().expect("a version"));
        }
    }

    /// An older tool makes its mirror, with v1 Endpoints.
    async fn old_tool(&mut self, number: usize, name: &str) {
        let local = self.local(number, name);
        self.note(format!("old tool {local}"));
        let labels = json!({marks::MIRRORED: "true", marks::PREFIX: self.remotes[number].prefix});
        let service = json!({"metadata": {"name": local, "labels": labels}, "spec": {"ports": [{"port": 7}]}});
        let service: Service = serde_json::from_value(service).expect("a valid Service");
        if self.bed.services().create(&PostParams::default(), &service).await.is_ok() {
            let subsets = json!([{"addresses": [{"ip": "192.0.2.66"}], "ports": [{"port": 7}]}]);
            let endpoints = json!({"metadata": {"name": local, "labels": labels}, "subsets": subsets});
            let endpoints: Endpoints = serde_json::from_value(endpoints).expect("valid Endpoints");
            // An earlier holder of the name may have some.
            let _ = self.bed.endpoints().create(&PostParams::default(), &endpoints).await;
        }
    }

    fn local(&self, number: usize, name: &str) -> String {
        let Remote { prefix, namespace, .. } = &self.remotes[number];
        local_name(&Scheme::V02, prefix, namespace, name).expect("it has a name").to_string()
    }

    /// Ends all outages, and waits for the desired state.
    async fn settle(&mut self) {
        for remote in &self.remotes {
            remote.proxy.clear();
            remote.proxy.restore();
        }
        self.writers_line.clear();
        self.writers_line.restore();
        let (wanted, deadline) = (self.wanted().await, Instant::now() + scaled(SETTLE));
        loop {
            let found = self.found().await;
            if found == wanted {
                return;
            }
            if Instant::now() > deadline {
                println!("{}", self.log.join("\n"));
                let report = self.mirror.as_ref().map(|mirror| mirror.health.report());
                panic!("not as it is to be:\n{wanted:#?}\nbut:\n{found:#?}\n{report:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The desired local state for the remote state, computed without the code under test.
    async fn wanted(&self) -> BTreeMap<String, Value> {
        let mut wanted = BTreeMap::new();
        for (number, remote) in self.remotes.iter().enumerate() {
            let services: Api<Service> = Api::namespaced(remote.admin.clone(), &remote.namespace);
            let slices: Api<EndpointSlice> = Api::namespaced(remote.admin.clone(), &remote.namespace);
            let slices = slices.list(&ListParams::default()).await.expect("they can be listed").items;
            for service in services.list(&ListParams::default().labels("mirror=true")).await.expect("listed").items {
                let spec = service.spec.clone().expect("a spec");
                let local = self.local(number, &service.name_any());
                if spec.type_.as_deref() == Some("ExternalName") || self.foreign.contains_key(&local) {
                    continue;
                }
                let own =
                    slices.iter().filter(|slice| slice.labels().get(marks::SERVICE_NAME) == Some(&service.name_any()));
                let endpoints: BTreeSet<(String, i32)> = own.flat_map(on_ports).collect();
                let headless = spec.cluster_ip.as_deref() == Some("None");
                let value = state(&service, &spec.ports.clone().unwrap_or_default(), headless, &best(endpoints));
                wanted.insert(local, value);
            }
        }
        for (name, version) in &self.foreign {
            wanted.insert(name.clone(), json!({"foreign": version}));
        }
        wanted
    }

    async fn found(&self) -> BTreeMap<String, Value> {
        let services = self.bed.services().list(&ListParams::default()).await.expect("they can be listed").items;
        let slices = self.bed.slices().list(&ListParams::default()).await.expect("they can be listed").items;
        let mut found = BTreeMap::new();
        for service in &services {
            if self.foreign.contains_key(&service.name_any()) {
                found.insert(service.name_any(), json!({"foreign": service.resource_version()}));
                continue;
            }
            let spec = service.spec.clone().expect("a spec");
            let own =
                slices.iter().filter(|slice| slice.labels().get(marks::SERVICE_NAME) == Some(&service.name_any()));
            let endpoints: BTreeSet<(String, i32)> = own.flat_map(on_ports).collect();
            let headless = spec.cluster_ip.as_deref() == Some("None");
            let value = state(service, &spec.ports.clone().unwrap_or_default(), headless, &endpoints);
            found.insert(service.name_any(), value);
        }
        for endpoints in self.bed.endpoints().list(&ListParams::default()).await.expect("they can be listed").items {
            found.insert(format!("v1 Endpoints {}", endpoints.name_any()), json!("nobody makes these"));
        }
        // Every slice belongs to a Service that is there, and is owned by it.
        for slice in &slices {
            let named =
                services.iter().find(|service| slice.labels().get(marks::SERVICE_NAME) == Some(&service.name_any()));
            let owned = named.is_some_and(|service| {
                slice.owner_references().iter().any(|it| Some(&it.uid) == service.uid().as_ref())
            });
            if !owned {
                found.insert(format!("slice {}", slice.name_any()), json!("belongs to nobody"));
            }
        }
        found
    }
}

/// The compared fields of a Service.
fn state(
    service: &Service,
    ports: &[k8s_openapi::api::core::v1::ServicePort],
    headless: bool,
    endpoints: &BTreeSet<(String, i32)>,
) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!([port.name, port.port, port.protocol])).collect();
    let affinity = service.spec.as_ref().and_then(|spec| spec.session_affinity.clone());
    let team = service.labels().get("team");
    json!({"ports": ports, "headless": headless, "affinity": affinity, "team": team, "endpoints": endpoints})
}

/// An address on each port of its slice.
fn on_ports(slice: &EndpointSlice) -> Vec<(String, i32)> {
    let ports: Vec<i32> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
    addresses(slice).into_iter().flat_map(|address| ports.iter().map(move |port| (address.clone(), *port))).collect()
}

/// Where slices disagree about an endpoint it counts as ready.
fn best(all: BTreeSet<(String, i32)>) -> BTreeSet<(String, i32)> {
    let ready = |(address, port): &(String, i32)| all.contains(&(address.trim_end_matches('!').to_owned(), *port));
    all.iter().filter(|endpoint| !endpoint.0.ends_with('!') || !ready(endpoint)).cloned().collect()
}

async fn apply<K>(api: &Api<K>, name: &str, object: &Value) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("walk").force(), &Patch::Apply(object)).await.map(|_done| ())
}
