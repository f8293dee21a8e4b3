//! Which Services are in a catalog, and which losses count as inferred: on the stores alone, without a watch.

use std::collections::HashMap;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{entry::Stores, *};
use crate::{
    index::{Index, Observer, Port, Protocol, Services, Store as _, Touch},
    watch::ObjectKey,
};

/// The stores of one scope with an observer each, and a catalog made of them.
struct Bed {
    selector: Selector,
    slices: Index,
    orphans: Index,
    services: Option<Services>,
    observers: (Observer, Observer, Option<Observer>),
    catalog: Catalog,
}

impl Bed {
    /// With Services that may be read, or not.
    fn new(selector: &str, services: bool) -> Self {
        let (mut slices, mut orphans) = (Index::default(), Index::of_orphans());
        let mut services = services.then(Services::default);
        let observers = (slices.observe(), orphans.observe(), services.as_mut().map(Services::observe));
        let selector = Selector::parse(selector).expect("a valid selector");
        Self { selector, slices, orphans, services, observers, catalog: Catalog::default() }
    }

    fn service(&mut self, object: &Service) {
        self.services.as_mut().expect("Services may be read").apply(object);
    }

    fn slice(&mut self, object: &EndpointSlice) {
        self.slices.apply(object);
        self.orphans.apply(object);
    }

    /// Looks at what was touched. Returns the keys whose entries have changed.
    fn look(&mut self) -> Vec<String> {
        let mut touches = self.slices.touches(self.observers.0);
        let more = self.services.as_mut().zip(self.observers.2).map(|(services, o)| services.touches(o));
        for (key, touch) in self.orphans.touches(self.observers.1).into_iter().chain(more.into_iter().flatten()) {
            touches.entry(key).or_default().merge(touch);
        }
        self.catalog.sequence += 1;
        let mut changed = Vec::new();
        for (key, touch) in touches {
            let mut stores =
                Stores { slices: &mut self.slices, orphans: &mut self.orphans, services: self.services.as_ref() };
            let entry = entry::selected(&key, &self.selector, &mut stores);
            if self.catalog.put(&key, entry, &touch, 0) {
                changed.push(key.name.to_string());
            }
        }
        changed.sort();
        changed
    }

    fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.catalog.services.get(&key(name))
    }

    fn inferred(&self, name: &str, hosts: std::ops::RangeInclusive<u8>) -> Vec<u8> {
        let lost = |n: &u8| self.catalog.is_inferred_loss(&key(name), SocketAddr::from(([192, 0, 2, *n], 80)));
        hosts.filter(lost).collect()
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into() }
}

fn object_key(name: &str) -> ObjectKey {
    ObjectKey::of(&slice(name, json!({}), &[]).metadata)
}

fn slice(name: &str, labels: Value, hosts: &[u8]) -> EndpointSlice {
    let endpoints: Vec<Value> = hosts.iter().map(|n| json!({"addresses": [format!("192.0.2.{n}")]})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": labels, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 80, "appProtocol": "h2c"}],
    }))
    .expect("a valid slice")
}

fn of(service: &str, name: &str, hosts: &[u8]) -> EndpointSlice {
    slice(name, json!({"kubernetes.io/service-name": service}), hosts)
}

fn service(name: &str, labels: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "labels": labels,
            "annotations": {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"ports": [{"name": "http", "port": 8080, "appProtocol": "http"}]},
    }))
    .expect("a valid service")
}

#[test]
fn a_service_is_selected_by_its_labels_and_a_change_touches_its_entry_alone() {
    let mut bed = Bed::new("export=yes", true);
    bed.service(&service("cache", json!({"export": "yes"})));
    bed.service(&service("other", json!({"export": "no"})));
    bed.service(&service("empty", json!({"export": "yes"})));
    bed.slice(&of("cache", "cache-1", &[1]));
    bed.slice(&of("other", "other-1", &[2]));
    assert_eq!(bed.look(), ["cache", "empty"]);
    let cache = bed.entry("cache").expect("it is selected");
    assert_eq!((&*cache.facts.uid, cache.facts.created), ("u-cache", 1_767_225_600));
    assert_eq!(cache.facts.annotations.keys().collect::<Vec<_>>(), ["team"]);
    assert_eq!((cache.facts.ports[0].number, &*cache.facts.ports[0].app_protocol), (8080, "http"));
    let http = Port { name: "http".into(), protocol: Protocol::Tcp };
    assert_eq!(cache.view.app_protocol(&http), "h2c", "as the slices say it");
    assert_eq!(cache.view.endpoints(&http).len(), 1);

    let before = bed.entry("empty").cloned().expect("it is selected");
    bed.slice(&of("cache", "cache-1", &[1, 3]));
    assert_eq!(bed.look(), ["cache"]);
    assert!(Arc::ptr_eq(&before, bed.entry("empty").expect("it stays")));
    bed.slice(&of("cache", "cache-1", &[1, 3]));
    assert!(bed.look().is_empty(), "nothing is new");
    bed.service(&service("cache", json!({})));
    assert_eq!(bed.look(), ["cache"]);
    assert!(bed.entry("cache").is_none(), "its label is gone");
    bed.service(&service("cache", json!({"export": "yes"})));
    assert_eq!(bed.look(), ["cache"]);
}

#[test]
fn a_slice_without_a_service_is_selected_by_its_own_labels() {
    let mut bed = Bed::new("export=yes", true);
    bed.slice(&slice("lone", json!({"export": "yes"}), &[1]));
    bed.slice(&slice("hidden", json!({}), &[2]));
    bed.slice(&slice("db-1", json!({"export": "yes", "kubernetes.io/service-name": "db"}), &[3]));
    bed.slice(&slice("db-2", json!({"kubernetes.io/service-name": "db"}), &[4]));
    let managed = json!({"export": "yes", "kubernetes.io/service-name": "going",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    bed.slice(&slice("going-1", managed, &[5]));
    assert_eq!(bed.look(), ["db", "lone"], "what a controller made goes with its Service");
    let db = bed.entry("db").expect("it is selected");
    assert_eq!((&*db.facts.uid, db.facts.ports[0].number), ("", 0));
    assert_eq!(db.view.addresses().count(), 2);
    // The Service appears, and it is not selected.
    bed.service(&service("db", json!({})));
    assert_eq!(bed.look(), ["db"]);
    assert!(bed.entry("db").is_none());
    // A Service of the lone slice's name.
    bed.service(&service("lone", json!({"export": "yes"})));
    assert_eq!(bed.look(), ["lone"]);
    assert_eq!(
        bed.entry("lone").expect("it is selected").view.addresses().count(),
        0,
        "the Service's own slices count"
    );
}

#[test]
fn where_services_may_not_be_read_the_labels_of_slices_count() {
    let mut bed = Bed::new("export=yes", false);
    let labels = json!({"export": "yes", "kubernetes.io/service-name": "cache",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    bed.slice(&slice("cache-1", labels, &[1]));
    bed.slice(&of("other", "other-1", &[2]));
    assert_eq!(bed.look(), ["cache"]);
    assert_eq!(bed.entry("cache").expect("it is selected").facts.created, 1_767_323_045);
}

#[test]
fn a_loss_that_a_list_implies_is_inferred_and_one_that_an_event_tells_is_not() {
    let mut bed = Bed::new("", false);
    bed.slice(&of("cache", "a", &[1, 2, 3, 4, 5]));
    bed.slice(&of("cache", "b", &[6, 7]));
    bed.look();
    bed.slice(&of("cache", "a", &[1, 2, 3]));
    bed.look();
    assert!(bed.inferred("cache", 1..=7).is_empty(), "4 and 5 were seen going");
    bed.slices.reset(&[of("cache", "a", &[1, 7])], &[]);
    bed.look();
    assert_eq!(bed.inferred("cache", 1..=7), [2, 3, 6], "7 has only moved");
    // 2 is back, and 3 too, but goes again at once and is seen.
    bed.slice(&of("cache", "a", &[1, 2, 3]));
    bed.slice(&of("cache", "a", &[1, 2]));
    bed.look();
    assert_eq!(bed.inferred("cache", 1..=7), [6]);
    // The whole Service by a list.
    bed.slices.reset(&[], &[]);
    bed.look();
    assert_eq!(bed.inferred("cache", 1..=7), [1, 2, 6]);
}

#[test]
fn losses_of_one_burst_are_told_apart() {
    let mut bed = Bed::new("", false);
    bed.slice(&of("cache", "a", &[1, 2, 3, 4]));
    bed.look();
    bed.slice(&of("cache", "a", &[2, 3, 4, 5]));
    bed.slices.reset(&[of("cache", "a", &[3, 4])], &[]);
    bed.slice(&of("cache", "a", &[4]));
    bed.look();
    assert_eq!(bed.inferred("cache", 1..=5), [2], "1 and 3 were seen going, and nobody knew 5");
}

#[test]
fn a_deselected_service_is_seen_going_and_an_unlisted_one_is_not() {
    for by_list in [false, true] {
        let mut bed = Bed::new("export=yes", true);
        bed.service(&service("cache", json!({"export": "yes"})));
        bed.slice(&of("cache", "cache-1", &[1]));
        bed.look();
        if by_list {
            bed.services.as_mut().expect("Services may be read").reset(&[], &[]);
        } else {
            bed.services.as_mut().expect("Services may be read").delete(&object_key("cache"));
        }
        bed.look();
        assert_eq!(bed.inferred("cache", 1..=1), if by_list { vec![1] } else { vec![] });
        // When its slices are seen going, it is certain.
        bed.slices.delete(&object_key("cache-1"));
        bed.look();
        assert!(bed.inferred("cache", 1..=1).is_empty());
    }
}

#[test]
fn settled_losses_are_forgotten() {
    let mut catalog = Catalog { sequence: 5, ..Catalog::default() };
    let mut index = Index::default();
    index.apply(&of("cache", "a", &[1]));
    let entry = entry::of_slices(&key("cache"), &mut index);
    catalog.put(&key("cache"), Some(entry), &Touch::default(), 0);
    let listed = Touch { listed: true, ..Touch::default() };
    catalog.put(&key("cache"), None, &listed, 0);
    let lost = SocketAddr::from(([192, 0, 2, 1], 80));
    assert!(catalog.is_inferred_loss(&key("cache"), lost));
    assert!(catalog.has_inferred_losses_since(4) && !catalog.has_inferred_losses_since(5));
    catalog.put(&key("cache"), None, &Touch::default(), 4);
    assert!(catalog.is_inferred_loss(&key("cache"), lost));
    catalog.put(&key("cache"), None, &Touch::default(), 5);
    assert!(!catalog.is_inferred_loss(&key("cache"), lost));
}

#[test]
fn among_thousands_of_services_a_change_of_one_touches_one_entry() {
    let mut bed = Bed::new("", false);
    for n in 0..2000 {
        bed.slice(&of(&format!("s{n}"), &format!("s{n}-1"), &[1, 2, 3, 4, 5]));
    }
    assert_eq!(bed.look().len(), 2000);
    let before = bed.catalog.clone();
    bed.slice(&of("s1234", "s1234-1", &[1, 2, 3, 4]));
    assert_eq!(bed.look(), ["s1234"]);
    let same = |(key, entry): &(&ServiceKey, &Arc<Entry>)| Arc::ptr_eq(entry, &before.services[*key]);
    assert_eq!(bed.catalog.services.iter().filter(same).count(), 1999);
}

/// What happens to a watch.
#[derive(Clone, Debug)]
enum Step {
    Apply(u8, Vec<u8>),
    Delete(u8),
    /// A complete list of those of these slices that were there.
    List(Vec<(u8, Vec<u8>)>),
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let hosts = || vec(1..6_u8, 0..4);
    prop_oneof![
        3 => (0..3_u8, hosts()).prop_map(|(name, hosts)| Step::Apply(name, hosts)),
        1 => (0..3_u8).prop_map(Step::Delete),
        2 => vec((0..3_u8, hosts()), 0..3).prop_map(Step::List),
        3 => Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn a_loss_is_inferred_exactly_where_a_list_was_what_ended_it(steps in vec(step(), 0..40)) {
        let mut bed = Bed::new("", false);
        let mut slices: HashMap<u8, Vec<u8>> = HashMap::new();
        // Which of the addresses in the catalog are gone, and whether a list was the last to take each away.
        let (mut known, mut gone, mut by_list) = (BTreeSet::new(), BTreeSet::new(), HashMap::new());
        for step in steps.into_iter().chain([Step::Look]) {
            let there = |slices: &HashMap<u8, Vec<u8>>| slices.values().flatten().copied().collect::<BTreeSet<u8>>();
            let before = there(&slices);
            let listed = matches!(step, Step::List(_));
            match step {
                Step::Apply(name, hosts) => {
                    bed.slices.apply(&of("cache", &name.to_string(), &hosts));
                    slices.insert(name, hosts);
                }
                Step::Delete(name) => {
                    bed.slices.delete(&object_key(&name.to_string()));
                    slices.remove(&name);
                }
                Step::List(list) => {
                    slices = list.into_iter().collect();
                    let objects: Vec<_> = slices.iter().map(|(name, hosts)| of("cache", &name.to_string(), hosts)).collect();
                    bed.slices.reset(&objects, &[]);
                }
                Step::Look => {
                    bed.look();
                    let now = there(&slices);
                    gone.extend(known.difference(&now).copied());
                    gone.retain(|n| !now.contains(n) && by_list[n]);
                    prop_assert_eq!(bed.inferred("cache", 1..=5), gone.iter().copied().collect::<Vec<u8>>());
                    known = now;
                }
            }
            for lost in before.difference(&there(&slices)) {
                by_list.insert(*lost, listed);
            }
        }
    }
}
