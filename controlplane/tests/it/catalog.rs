//! A catalog against a real API server: what is selected with which rights, and how it tells losses apart.

use std::{net::SocketAddr, time::Duration};

use controlplane::{
    build::PortSelector,
    catalog::{Catalog, CatalogReader, Entry, Selection, Selector, follow},
    client::connect,
    index::{Port, Protocol, ServiceKey},
    kube_cluster::KubeCluster,
};
use kubekit::{
    cluster::{Account, Cluster, shared},
    fault_proxy::{Fault, FaultProxy, Verb},
};
use runtime::readiness::Readiness;
use testkit::eventually::within;

use crate::bed::{delete, put, run_on};

/// A catalog that is followed.
struct Following {
    reader: CatalogReader,
    readiness: Readiness,
    sequence: u64,
}

impl Following {
    async fn start(kubeconfig: &std::path::Path, selection: Selection) -> Self {
        let connection = connect(Some(kubeconfig)).await.expect("a valid kubeconfig");
        Self::on(&KubeCluster::new(connection.client), selection)
    }

    fn on(kube: &KubeCluster, selection: Selection) -> Self {
        runtime::metrics::install().expect("the recorder is the runtime's");
        let readiness = Readiness::new();
        let reader = follow(kube, selection, readiness.register("catalog"));
        Self { reader, readiness, sequence: 0 }
    }

    /// Waits until the catalog is so, and returns it.
    async fn until(&mut self, what: &str, so: impl Fn(&Catalog) -> bool) -> Catalog {
        let wait = async {
            loop {
                let catalog = self.reader.load();
                if catalog.sequence > 0 && so(&catalog) {
                    return catalog;
                }
                assert!(catalog.sequence >= self.sequence, "it never goes back");
                self.sequence = catalog.sequence;
                self.reader.newer_than(self.sequence).await;
            }
        };
        within(what, wait).await
    }

    async fn ready(&self) {
        within("the catalog is complete", self.readiness.ready()).await;
    }
}

fn labelled(namespaces: &[&str]) -> Selection {
    let selector = Selector::parse("export in (yes, true)").expect("a valid selector");
    Selection::Labels { selector, namespaces: Some(namespaces.iter().map(|name| (*name).into()).collect()) }
}

fn key(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey { namespace: namespace.into(), name: name.into() }
}

fn addresses(entry: &Entry) -> Vec<String> {
    let http = Port { name: "http".into(), protocol: Protocol::Tcp };
    entry.view.endpoints(&http).iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn has(catalog: &Catalog, key: &ServiceKey, expected: &[&str]) -> bool {
    catalog.services.get(key).is_some_and(|entry| addresses(entry) == expected)
}

/// An account that may read these resources in its namespace.
async fn account(cluster: &Cluster, namespace: &str, services: bool) -> Account {
    let account = cluster.service_account(namespace, "fanfare").await;
    grant(cluster, namespace, namespace, services).await;
    account
}

/// Lets the account of one namespace read in another, or the same.
async fn grant(cluster: &Cluster, owner: &str, namespace: &str, services: bool) {
    let services = if services { "- {apiGroups: [''], resources: [services], verbs: [list, watch]}" } else { "" };
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: fanfare, namespace: {namespace}}}
rules:
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
{services}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: fanfare, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: fanfare}}
subjects: [{{kind: ServiceAccount, name: fanfare, namespace: {owner}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
}

async fn service(cluster: &Cluster, namespace: &str, name: &str, labels: &str) {
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}, \
         annotations: {{team: web}}}}, spec: {{clusterIP: None, ports: [{{name: http, port: 80, appProtocol: h2c}}]}}}}"
    );
    cluster.apply_yaml(&yaml).await.expect("a valid service");
}

#[tokio::test]
async fn a_role_per_namespace_is_enough_and_a_missing_one_holds_up_no_other() {
    let cluster = shared().await;
    let (mine, foreign) = (cluster.namespace("mine").await, cluster.namespace("foreign").await);
    let account = account(&cluster, &mine, true).await;
    service(&cluster, &mine, "cache", "export: 'yes'").await;
    service(&cluster, &mine, "other", "export: 'no'").await;
    put(&cluster, &mine, "cache-1", "cache", &[1, 2], 8080).await;
    put(&cluster, &mine, "other-1", "other", &[9], 8080).await;
    service(&cluster, &foreign, "shop", "export: 'true'").await;
    put(&cluster, &foreign, "shop-1", "shop", &[3], 8080).await;

    let mut following = Following::start(account.kubeconfig_path(), labelled(&[&mine, &foreign])).await;
    let cache = key(&mine, "cache");
    let both = ["192.0.2.1:8080", "192.0.2.2:8080"];
    let catalog = following.until("the cache is there", |catalog| has(catalog, &cache, &both)).await;
    assert_eq!(catalog.services.len(), 1, "{catalog:?}");
    assert_eq!(catalog.unlisted.iter().map(|ns| &**ns).collect::<Vec<_>>(), [foreign.as_str()]);
    let facts = &catalog.services[&cache].facts;
    assert!(!facts.uid.is_empty() && facts.created > 1_700_000_000 && facts.annotations["team"] == "web", "{facts:?}");
    assert_eq!((facts.ports[0].number, &*facts.ports[0].app_protocol), (80, "h2c"));
    let why = following.readiness.check().expect_err("a right is missing");
    for resource in ["endpointslices.discovery.k8s.io", "services"] {
        let named = format!("the verb \"list\" on {resource} is missing in namespace {foreign}");
        assert!(why.contains(&named), "{why}");
    }

    grant(&cluster, &mine, &foreign, true).await;
    let shop = key(&foreign, "shop");
    let catalog = following.until("the shop is there", |catalog| has(catalog, &shop, &["192.0.2.3:8080"])).await;
    assert!(catalog.unlisted.is_empty() && has(&catalog, &cache, &both), "{catalog:?}");
    following.ready().await;
    assert!(following.reader.age() < Duration::from_secs(120));

    // Selected, deselected, deleted: at once, and each is seen.
    service(&cluster, &mine, "other", "export: 'yes'").await;
    following.until("it is selected", |catalog| has(catalog, &key(&mine, "other"), &["192.0.2.9:8080"])).await;
    service(&cluster, &mine, "cache", "export: 'no'").await;
    let catalog = following.until("it is deselected", |catalog| !catalog.services.contains_key(&cache)).await;
    assert!(!catalog.is_inferred_loss(&cache, SocketAddr::from(([192, 0, 2, 1], 8080))));
}

#[tokio::test]
async fn without_a_right_on_services_the_labels_of_slices_select_until_it_is_granted() {
    let cluster = shared().await;
    let ns = cluster.namespace("slices-only").await;
    let account = account(&cluster, &ns, false).await;
    service(&cluster, &ns, "cache", "export: 'yes'").await;
    service(&cluster, &ns, "hidden", "").await;
    for name in ["cache", "hidden", "manual"] {
        let slice = format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-1, namespace: {ns}, \
             labels: {{kubernetes.io/service-name: {name}, export: 'yes'}}}}, addressType: IPv4, \
             endpoints: [{{addresses: [192.0.2.4]}}], ports: [{{name: http, port: 80}}]}}"
        );
        cluster.apply_yaml(&slice).await.expect("a valid slice");
    }
    let names = |catalog: &Catalog| catalog.services.keys().map(|key| key.name.to_string()).collect::<Vec<_>>();
    let mut following = Following::start(account.kubeconfig_path(), labelled(&[&ns])).await;
    let catalog = following.until("the slices are listed", |catalog| catalog.services.len() == 3).await;
    assert!(catalog.services.values().all(|entry| entry.facts.uid.is_empty()));
    let why = following.readiness.check().expect_err("a right is missing");
    assert!(why.contains("on services is missing") && !why.contains("endpointslices"), "{why}");

    grant(&cluster, &ns, &ns, true).await;
    let catalog = following.until("Services count", |catalog| names(catalog) == ["cache", "manual"]).await;
    assert!(!catalog.services[&key(&ns, "cache")].facts.uid.is_empty());
    following.ready().await;
}

#[tokio::test]
async fn losses_during_an_outage_are_inferred() {
    let cluster = shared().await;
    let ns = cluster.namespace("losses").await;
    let account = account(&cluster, &ns, true).await;
    service(&cluster, &ns, "cache", "export: 'yes'").await;
    for (name, hosts) in [("cache-1", [1, 2]), ("cache-2", [3, 4]), ("cache-3", [5, 6])] {
        put(&cluster, &ns, name, "cache", &hosts, 80).await;
    }
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let mut following = Following::start(kubeconfig.path(), labelled(&[&ns])).await;
    let cache = key(&ns, "cache");
    let count = |catalog: &Catalog| catalog.services.get(&cache).map_or(0, |entry| entry.view.addresses().count());
    let inferred = |catalog: &Catalog| {
        let lost = |n: &u8| catalog.is_inferred_loss(&cache, SocketAddr::from(([192, 0, 2, *n], 80)));
        (1..=6).filter(lost).collect::<Vec<u8>>()
    };
    following.until("all six", |catalog| count(catalog) == 6).await;
    following.ready().await;

    let client = cluster.client().await;
    delete(&client, &ns, "cache-1").await;
    let catalog = following.until("four are left", |catalog| count(catalog) == 4).await;
    assert_eq!(inferred(&catalog), [0_u8; 0], "it was seen");

    proxy.cut();
    delete(&client, &ns, "cache-2").await;
    proxy.always(|call| call.is(Verb::Watch, "endpointslices"), Fault::Answer(410));
    proxy.restore();
    let catalog = following.until("two are left", |catalog| count(catalog) == 2).await;
    assert_eq!(inferred(&catalog), [3, 4]);
    proxy.clear();

    // What comes back is there, and what goes then is seen.
    put(&cluster, &ns, "cache-2", "cache", &[3], 80).await;
    let catalog = following.until("one is back", |catalog| count(catalog) == 3).await;
    assert_eq!(inferred(&catalog), [4]);
    delete(&client, &ns, "cache-2").await;
    let catalog = following.until("it is gone again", |catalog| count(catalog) == 2).await;
    assert_eq!(inferred(&catalog), [4]);
    following.reader.settle(catalog.sequence);
    delete(&client, &ns, "cache-3").await;
    let catalog = following.until("none is left", |catalog| count(catalog) == 0).await;
    assert_eq!(inferred(&catalog), [0_u8; 0]);
    assert!(catalog.services.contains_key(&cache), "the Service is still there");
}

#[tokio::test]
async fn one_service_by_name_is_there_also_without_slices_and_watches_are_shared() {
    let cluster = shared().await;
    let ns = cluster.namespace("named").await;
    let account = account(&cluster, &ns, false).await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 80).await;
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let kube = KubeCluster::new(connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client);
    let mut cache = Following::on(&kube, Selection::Service(key(&ns, "cache")));
    let mut again = Following::on(&kube, Selection::Service(key(&ns, "cache")));
    let mut none = Following::on(&kube, Selection::Service(key(&ns, "none")));
    for following in [&mut cache, &mut again] {
        following.until("it is listed", |catalog| has(catalog, &key(&ns, "cache"), &["192.0.2.1:80"])).await;
        following.ready().await;
    }
    let catalog = none.until("it is listed", |catalog| has(catalog, &key(&ns, "none"), &[])).await;
    assert_eq!(catalog.services.len(), 1);
    none.ready().await;
    assert_eq!(proxy.count(|call| call.verb == Verb::List), 2, "{:?}", proxy.calls());
    assert_eq!(proxy.count(|call| call.is(Verb::Get, "services")), 0);
}

#[tokio::test]
async fn a_narrow_watch_shares_a_wider_one_unless_that_is_forbidden() {
    let cluster = shared().await;
    let ns = cluster.namespace("shared").await;
    let account = account(&cluster, &ns, true).await;
    service(&cluster, &ns, "cache", "export: 'yes'").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 80).await;
    put(&cluster, &ns, "other-1", "other", &[2], 80).await;
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let kube = KubeCluster::new(connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client);
    let cache = key(&ns, "cache");
    let is_there = |catalog: &Catalog| has(catalog, &cache, &["192.0.2.1:80"]);
    let mut wide = Following::on(&kube, labelled(&[&ns]));
    let mut narrow = Following::on(&kube, Selection::Service(cache.clone()));
    let cluster_of_one = run_on(&kube, &[&format!("{ns}/cache")], PortSelector::Only);
    for following in [&mut wide, &mut narrow] {
        let catalog = following.until("it is listed", is_there).await;
        assert_eq!(catalog.services.len(), 1, "{catalog:?}");
        following.ready().await;
    }
    cluster_of_one.until_ready(&["192.0.2.1:80"]).await;
    let lists = proxy.calls().into_iter().filter(|call| call.verb == Verb::List);
    let lists: Vec<String> = lists.map(|call| format!("{} {}", call.resource, call.query)).collect();
    assert_eq!(lists.len(), 3, "slices of Services, slices of none, Services: {lists:?}");

    // In all namespaces it may read nothing, and it is there first.
    let kube = KubeCluster::new(connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client);
    let selector = Selector::parse("").expect("a valid selector");
    let everything = Following::on(&kube, Selection::Labels { selector, namespaces: None });
    let mut labels = Following::on(&kube, labelled(&[&ns]));
    let mut narrow = Following::on(&kube, Selection::Service(cache.clone()));
    let cluster_of_one = run_on(&kube, &[&format!("{ns}/cache")], PortSelector::Only);
    for following in [&mut labels, &mut narrow] {
        following.until("it is listed", is_there).await;
        following.ready().await;
    }
    assert!(!labels.reader.load().services[&cache].facts.uid.is_empty(), "Services may be read here");
    cluster_of_one.until_ready(&["192.0.2.1:80"]).await;
    let why = everything.readiness.check().expect_err("a right is missing");
    assert!(why.contains("a ClusterRole"), "{why}");
}
