//! Tests from remote and local events to goals: which deletions are made or held back, and who owns a name.

use std::time::Duration;

use controlplane::watch::Event;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};

use super::*;
use crate::{
    config::{Global, MaxDelete, Remote, Stale},
    desired::Desired,
    live::slice_digest,
    marks,
    refusal::Refusal,
    report::{Report, Verb},
};

/// Two remotes, and global Services.
fn config() -> Config {
    let mut config = Config {
        remotes: vec![Remote::new("west", "west", "a=b", "m"), Remote::new("east", "east", "a=b", "m")],
        global: Some(Global::new("global", "m")),
        ..Config::default()
    };
    config.remotes[0].max_delete = MaxDelete::Count(2);
    config
}

/// A world in which everything is listed, and empty.
fn world(config: Config) -> World {
    let mut world = World::new(Arc::new(config));
    list_here(&mut world, Vec::new());
    for remote in 0..world.remotes.len() {
        list_there(&mut world, remote, Vec::new());
        world.identified(remote, Identity::Known(format!("uid-{remote}").into()));
    }
    world.judge(Instant::now());
    world
}

fn list_here(world: &mut World, objects: Vec<Service>) {
    world.local_service("m", Event::Reset { objects, unreadable: Vec::new() });
    world.local_slice("m", Event::Reset { objects: Vec::new(), unreadable: Vec::new() });
}

/// A complete list, of the same cluster as before.
fn list_there(world: &mut World, remote: usize, objects: Vec<Service>) -> Dirty {
    let known = world.remotes[remote].identity.clone();
    let mut dirty = list_somewhere(world, remote, objects);
    dirty.append(&mut world.identified(remote, known));
    dirty
}

/// A complete list, of whatever cluster is there now.
fn list_somewhere(world: &mut World, remote: usize, objects: Vec<Service>) -> Dirty {
    let mut dirty = world.remote_service(remote, 0, Event::Reset { objects, unreadable: Vec::new() });
    let slices = Event::Reset { objects: Vec::new(), unreadable: Vec::new() };
    dirty.append(&mut world.remote_slice(remote, 0, slices, Instant::now()));
    dirty
}

fn there(name: &str, patch: Value) -> Service {
    let mut service = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
        "spec": {"ports": [{"port": 80}]}});
    for (key, value) in patch.as_object().expect("an object") {
        service["metadata"][key] = value.clone();
    }
    serde_json::from_value(service).expect("valid")
}

fn local(name: &str) -> ServiceKey {
    ServiceKey { namespace: "m".into(), name: name.into() }
}

fn west(name: &str) -> ServiceKey {
    local(&format!("west-{name}-6d6972726f720a-shop"))
}

fn key_there(name: &str) -> ObjectKey {
    ObjectKey::of(&there(name, json!({})).metadata)
}

/// Makes the mirror that is wanted, as the API server would.
fn make(world: &mut World, key: &ServiceKey) {
    let mut service = wanted(world, key).service;
    service.metadata.uid = Some(format!("here-{}", key.name));
    service.metadata.resource_version = Some("1".into());
    world.local_service("m", Event::Apply(service));
}

fn wanted(world: &mut World, key: &ServiceKey) -> Desired {
    match world.input(key).goal {
        Goal::Mirror(desired) => *desired,
        other => panic!("{key}: {other:?}"),
    }
}

fn goal(world: &mut World, key: &ServiceKey) -> String {
    match world.input(key).goal {
        Goal::Mirror(_) => "mirror".into(),
        Goal::Wait(_) => "wait".into(),
        Goal::Dim => "dim".into(),
        Goal::Remove(_) => "remove".into(),
        Goal::Hold => "hold".into(),
        Goal::Nothing => "nothing".into(),
    }
}

#[test]
fn nothing_is_decided_before_everything_that_matters_is_listed() {
    let mut world = World::new(Arc::new(config()));
    let key = west("web");
    world.remote_service(0, 0, Event::Reset { objects: vec![there("web", json!({}))], unreadable: Vec::new() });
    assert_eq!(goal(&mut world, &key), "wait", "nothing is known here");
    list_here(&mut world, Vec::new());
    assert_eq!(goal(&mut world, &key), "wait", "nothing is known about its slices");
    let slices = Event::Reset { objects: Vec::new(), unreadable: Vec::new() };
    assert!(world.remote_slice(0, 0, slices, Instant::now()).contains(&key), "whoever waited is told");
    assert_eq!(goal(&mut world, &key), "wait", "which cluster this is is not known");
    assert!(world.identified(0, Identity::Known("u".into())).contains(&key));
    assert_eq!(goal(&mut world, &key), "mirror");
}

#[test]
fn rule_4_observed_deletions_are_applied_and_inferred_ones_are_judged() {
    let mut world = world(config());
    let names = ["a", "b", "c"];
    list_there(&mut world, 0, names.iter().map(|name| there(name, json!({}))).collect());
    for name in names {
        make(&mut world, &west(name));
    }
    // Three are missing from one list, of which two may go.
    list_there(&mut world, 0, Vec::new());
    let now = Instant::now();
    assert_eq!(goal(&mut world, &west("a")), "hold");
    world.judge(now);
    assert_eq!((goal(&mut world, &west("a")), world.held()), ("hold".into(), 3));
    // One comes back; then two are missing.
    list_there(&mut world, 0, vec![there("a", json!({}))]);
    world.judge(now);
    assert_eq!((goal(&mut world, &west("a")), goal(&mut world, &west("b"))), ("mirror".into(), "remove".into()));
    world.remote_service(0, 0, Event::Delete(key_there("a")));
    assert_eq!(goal(&mut world, &west("a")), "remove", "told by the watch");
}

#[test]
fn rule_4_held_deletions_are_applied_after_their_time() {
    let mut config = config();
    config.remotes[0].max_delete = MaxDelete::Count(0);
    config.remotes[0].confirm_after = Some(Duration::from_secs(100));
    let mut world = world(config);
    list_there(&mut world, 0, vec![there("a", json!({}))]);
    make(&mut world, &west("a"));
    list_there(&mut world, 0, Vec::new());
    let now = Instant::now();
    world.judge(now);
    assert!(world.judge(now + Duration::from_secs(99)).is_empty());
    assert_eq!(goal(&mut world, &west("a")), "hold");
    assert!(world.judge(now + Duration::from_secs(100)).contains(&west("a")));
    assert_eq!((goal(&mut world, &west("a")), world.held()), ("remove".into(), 0));
}

#[test]
fn rule_2_data_of_an_unverified_cluster_change_nothing() {
    let mut world = world(config());
    let key = west("web");
    list_there(&mut world, 0, vec![there("web", json!({}))]);
    make(&mut world, &key);
    assert_eq!(goal(&mut world, &key), "mirror");
    // It lists anew, and has nothing, or another Service of that name.
    list_somewhere(&mut world, 0, Vec::new());
    world.judge(Instant::now());
    assert_eq!(goal(&mut world, &key), "wait");
    list_somewhere(&mut world, 0, vec![there("web", json!({"uid": "other"}))]);
    assert_eq!(goal(&mut world, &key), "wait");
    world.remote_service(0, 0, Event::Delete(key_there("web")));
    assert_eq!(goal(&mut world, &key), "wait", "not even what its watch tells");
    // Nor, after it was away, on what a watch tells that goes on as if nothing had happened. Meanwhile mirrors still heal.
    world.identified(0, Identity::Known("uid-0".into()));
    world.remote_service(0, 0, Event::Apply(there("web", json!({}))));
    world.suspect(0);
    assert_eq!(goal(&mut world, &key), "mirror");
    world.remote_service(0, 0, Event::Delete(key_there("web")));
    assert_eq!(goal(&mut world, &key), "wait");
    // It is another cluster: existing mirrors are not its own.
    assert!(world.identified(0, Identity::Known("another".into())).contains(&key));
    assert_eq!(world.whose(&key, &world.live[&key].clone()), None);
    // It is the same cluster after all.
    world.identified(0, Identity::Known("uid-0".into()));
    assert_eq!(goal(&mut world, &key), "remove");
}

#[test]
fn a_remote_that_is_away_is_judged_by_its_policy() {
    let mut config = config();
    config.remotes[0].stale = Stale::Delete;
    let mut world = world(config);
    list_there(&mut world, 0, vec![there("a", json!({}))]);
    make(&mut world, &west("a"));
    assert!(world.away(0, 0, Some(Duration::from_secs(29))).is_empty());
    assert!(world.away(0, 0, Some(Duration::from_secs(31))).contains(&west("a")));
    assert_eq!(goal(&mut world, &west("a")), "remove");
    assert!(world.away(0, 0, None).contains(&west("a")));
    assert_eq!(goal(&mut world, &west("a")), "mirror");
}

#[test]
fn the_oldest_gets_a_name_that_two_want_unless_the_other_has_it() {
    let mut config = config();
    config.remotes[0].scheme = "{prefix}-{service}".parse().expect("a template");
    let mut world = world(config);
    let dated = |namespace: &str, date: &str| there("web", json!({"namespace": namespace, "creationTimestamp": date}));
    let (young, old) = (dated("young", "2026-01-02T00:00:00Z"), dated("old", "2026-01-01T00:00:00Z"));
    let key = local("west-web");
    world.remote_service(0, 0, Event::Apply(young));
    make(&mut world, &key);
    world.remote_service(0, 0, Event::Apply(old.clone()));
    let input = world.input(&key);
    let Goal::Mirror(desired) = &input.goal else { panic!("{input:?}") };
    assert_eq!(desired.service.metadata.annotations.as_ref().expect("notes")[marks::NAMESPACE], "young");
    assert!(matches!(input.refusals.as_slice(), [Refusal::Collision { loser, .. }] if loser.contains("old/web")));
    // Without a mirror the oldest wins.
    let made = ObjectKey::of(&wanted(&mut world, &key).service.metadata);
    world.local_service("m", Event::Delete(made));
    let notes = wanted(&mut world, &key).service.metadata.annotations.expect("notes");
    assert_eq!(notes[marks::NAMESPACE], "old");
    // The winner is deleted: the other one takes over, and nothing is deleted.
    world.remote_service(0, 0, Event::Delete(ObjectKey::of(&old.metadata)));
    assert_eq!(goal(&mut world, &key), "mirror");
}

#[test]
fn rule_6_a_global_service_stays_until_all_remotes_have_listed() {
    let mut world = World::new(Arc::new(config()));
    list_here(&mut world, Vec::new());
    let service = || there("web", json!({"labels": {"global": "yes"}}));
    list_there(&mut world, 0, vec![service()]);
    world.identified(0, Identity::Known("u".into()));
    let key = local("gl-shop-73736d-web");
    assert_eq!(wanted(&mut world, &key).untouched, ["east"]);
    make(&mut world, &key);
    world.remote_service(0, 0, Event::Delete(key_there("web")));
    assert_eq!(goal(&mut world, &key), "wait", "the other remote may have one");
    list_there(&mut world, 1, vec![service()]);
    world.identified(1, Identity::Known("v".into()));
    assert!(wanted(&mut world, &key).untouched.is_empty());
    world.remote_service(1, 0, Event::Delete(key_there("web")));
    assert_eq!(goal(&mut world, &key), "remove");
}

#[test]
fn an_event_that_was_overtaken_by_the_answer_to_a_write_is_no_news() {
    let mut world = world(config());
    let key = west("a");
    let at = |version: &str| {
        let mut service = there(&key.name, json!({"namespace": "m", "uid": "x"}));
        service.metadata.resource_version = Some(version.into());
        service
    };
    assert!(world.put_service(at("10"), Observation::Answered(1)).is_some());
    assert!(world.local_service("m", Event::Apply(at("9"))).is_empty());
    assert!(world.local_service("m", Event::Apply(at("10"))).is_empty());
    assert!(!world.local_service("m", Event::Apply(at("11"))).is_empty());
}

#[test]
fn nothing_is_remembered_about_names_that_are_gone() {
    let mut world = world(config());
    for round in 0..3 {
        list_there(&mut world, 0, vec![there("a", json!({}))]);
        make(&mut world, &west("a"));
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": format!("s{round}"), "namespace": "m", "labels": {marks::SERVICE_NAME: &*west("a").name}},
            "addressType": "IPv4", "endpoints": []}))
        .expect("valid");
        world.put_slice(&slice, Observation::Answered(slice_digest(&slice)));
        world.remote_service(0, 0, Event::Delete(key_there("a")));
        world.drop_service(&west("a"));
        world.drop_slice(&ObjectKey::of(&slice.metadata));
        world.input(&west("a"));
    }
    let empty = (world.live.len(), world.homes.len(), world.claims.len(), world.permits.len(), world.held.len());
    assert_eq!(empty, (0, 0, 0, 0, 0));
    assert!(world.written.is_empty() && world.nameless.is_empty());
}

#[test]
fn a_service_without_our_marks_is_deleted_only_by_its_maker_and_not_if_another_mirror_marked_it() {
    let stranger = || there("stranger", json!({"namespace": "m"}));
    // Without a remote there is none whose name could be used instead.
    let mut alone = world(Config { remotes: Vec::new(), ..config() });
    alone.local_service("m", Event::Apply(stranger()));
    assert_eq!(alone.input(&local("stranger")).whose, None);
    assert_eq!(Report::of(&mut alone, Vec::new()), Report::default());

    let mut world = world(config());
    let key = west("web");
    list_there(&mut world, 0, vec![there("web", json!({}))]);
    let mut made = wanted(&mut world, &key).service;
    made.metadata.uid = Some("made-here".into());
    made.metadata.resource_version = Some("1".into());
    world.put_service(made.clone(), Observation::Answered(1));
    world.remote_service(0, 0, Event::Delete(key_there("web")));
    let mut version = 1;
    let mut told = |edit: &dyn Fn(&mut Service)| {
        version += 1;
        let mut edited = made.clone();
        edit(&mut edited);
        edited.metadata.resource_version = Some(version.to_string());
        world.local_service("m", Event::Apply(edited));
        assert_eq!(world.input(&key).whose, None);
        let report = Report::of(&mut world, Vec::new());
        report.entries.iter().map(|entry| (entry.verb, entry.service.clone())).collect::<Vec<_>>()
    };
    // Only this process knows that it created the Service, so it deletes it.
    let stripped = told(&|it| (it.metadata.labels, it.metadata.annotations) = (None, None));
    assert_eq!(stripped, [(Verb::Delete, key.to_string())]);
    // What another mirror has marked is that one's, whoever made it: by the cluster, without labels too, or by the prefix alone.
    let other_cluster = |it: &mut Service| {
        let notes = it.metadata.annotations.get_or_insert_default();
        notes.insert(marks::CLUSTER.into(), "a-cluster-that-is-no-remote".into());
    };
    assert_eq!(told(&other_cluster), []);
    let unlabelled = |it: &mut Service| {
        other_cluster(it);
        it.metadata.labels = None;
    };
    assert_eq!(told(&unlabelled), []);
    let other_prefix = |it: &mut Service| {
        it.metadata.annotations = None;
        it.metadata.labels.get_or_insert_default().insert(marks::PREFIX.into(), "another-prefix".into());
    };
    assert_eq!(told(&other_prefix), []);
}
