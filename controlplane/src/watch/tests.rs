//! The watcher against a scripted API server: what goes wrong there harms nothing that was good.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::origin::{At, Origin, Reply, Script};
use tokio::task::JoinHandle;

use super::*;

/// What came out of a watch, in a readable form.
type Told = Arc<Mutex<Vec<String>>>;

/// A watch on a scripted API server. It ends with this value.
struct Bed {
    origin: Origin,
    told: Told,
    status: Status,
    task: JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bed {
    fn start(script: impl Into<Script>) -> Self {
        Self::start_at(WATCH_TIMEOUTS, script)
    }

    fn start_at(pace: WatchTimeouts, script: impl Into<Script>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let origin = Origin::start(script);
        let (client, key) = (client(&origin), key());
        let (told, status) = (Told::default(), Status::default());
        let task = tokio::spawn({
            let (told, status) = (told.clone(), status.clone());
            async move {
                let tell = |event: Event<ConfigMap>| told.lock().push(describe(&event));
                match Watcher::new(key.api(client), key, status, pace).run(tell).await {}
            }
        });
        Self { origin, told, status, task }
    }

    async fn tells(&self, expected: &[&str]) {
        let mut state = self.status.subscribe();
        let tell = async {
            while self.told.lock().as_slice() != expected {
                state.changed().await.expect("the watch goes on");
            }
        };
        if tokio::time::timeout(testkit::eventually::patience(), tell).await.is_err() {
            panic!("told {:?} and not {expected:?}", self.told.lock());
        }
    }
}

fn client(origin: &Origin) -> Client {
    let mut config = Config::new(format!("http://{}", origin.address()).parse().expect("a valid address"));
    config.default_retry = false;
    Client::try_from(config).expect("a client without TLS")
}

fn key() -> WatchKey {
    WatchKey::new("configmaps", "", Scope::Namespace("shop".into()), "")
}

fn describe(event: &Event<ConfigMap>) -> String {
    let name = |object: &ConfigMap| ObjectKey::of(&object.metadata).to_string();
    match event {
        Event::Reset { objects, unreadable } => {
            let objects: Vec<String> = objects.iter().map(name).collect();
            let unreadable: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
            format!("reset {} unreadable {}", objects.join(" "), unreadable.join(" "))
        }
        Event::Apply(object) => format!("apply {}", name(object)),
        Event::Delete(key) => format!("delete {key}"),
    }
}

fn map(name: &str, version: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": version.to_string()}})
}

/// An object whose data is no map.
fn broken(name: &str, version: u32) -> Value {
    let mut object = map(name, version);
    object["data"] = json!(["no", "map"]);
    object
}

fn list(items: &[Value], version: u32) -> Reply {
    page(items, version, None)
}

fn page(items: &[Value], version: u32, next: Option<&str>) -> Reply {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    Reply::ok(json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items}).to_string())
}

/// A watch that tells these events and then stays open.
fn events(events: &[Value]) -> Reply {
    closed(events).hang_at(At::Body(length(events)))
}

/// A watch that tells these events and is then closed.
fn closed(events: &[Value]) -> Reply {
    Reply::new(200).chunked(events.iter().map(|event| format!("{event}\n")))
}

/// How long the chunks are on the wire, without the last one.
fn length(events: &[Value]) -> u64 {
    let chunk = |event: &Value| {
        let text = event.to_string().len() + 1;
        format!("{text:x}").len() + 2 + text + 2
    };
    events.iter().map(chunk).sum::<usize>() as u64
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn status(code: u16, reason: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

fn refusal(code: u16, reason: &str) -> Reply {
    Reply::new(code).body(status(code, reason).to_string())
}

#[tokio::test]
async fn a_malformed_object_is_skipped_alone_in_lists_and_watches() {
    let no_metadata = event("MODIFIED", json!({"metadata": "none"}));
    let bed = Bed::start([
        list(&[map("a", 1), broken("b", 2), map("c", 3)], 3),
        events(&[
            event("MODIFIED", broken("a", 4)),
            no_metadata,
            event("ADDED", map("d", 5)),
            event("DELETED", broken("b", 6)),
        ]),
    ]);
    bed.tells(&["reset shop/a shop/c unreadable shop/b", "apply shop/d", "delete shop/b"]).await;
}

#[tokio::test]
async fn a_list_counts_only_when_it_is_complete() {
    let bed = Bed::start([
        page(&[map("a", 1)], 9, Some("next")),
        refusal(500, "InternalError"),
        page(&[map("a", 1)], 9, Some("next")),
        list(&[map("b", 2)], 9),
        events(&[]),
    ]);
    bed.tells(&["reset shop/a shop/b unreadable "]).await;
    let targets: Vec<String> = bed.origin.wait_heads(5).await.into_iter().map(|request| request.target).collect();
    let asked = |n: usize, part: &str| assert!(targets[n].contains(part), "{n}: {part} in {targets:?}");
    asked(1, "continue=next");
    assert!(!targets[2].contains("continue"), "it begins anew: {targets:?}");
    asked(4, "resourceVersion=9");
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_event_or_bookmark() {
    let bookmark =
        event("BOOKMARK", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "70"}}));
    let bed = Bed::start([
        list(&[], 3),
        closed(&[event("ADDED", map("a", 50))]),
        closed(&[bookmark]),
        events(&[event("ADDED", map("b", 80))]),
    ]);
    bed.tells(&["reset  unreadable ", "apply shop/a", "apply shop/b"]).await;
    let targets: Vec<String> = bed.origin.wait_heads(4).await.into_iter().map(|request| request.target).collect();
    for (target, version) in targets[1..].iter().zip(["3", "50", "70"]) {
        assert!(
            target.contains(&format!("resourceVersion={version}")) && target.contains("allowWatchBookmarks"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn gone_in_whatever_form_leads_to_a_new_list() {
    // Told by its cause: the text may be another one in another version.
    let cause = serde_json::json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
    let mut too_large = status(504, "Timeout: it is not there yet");
    too_large["details"] = serde_json::json!({ "causes": [cause], "retryAfterSeconds": 1 });
    let bed = Bed::start([
        list(&[map("a", 1)], 1),
        closed(&[event("ERROR", status(410, "Expired"))]),
        list(&[map("b", 2)], 2),
        refusal(410, "Expired"),
        list(&[map("c", 3)], 3),
        Reply::new(504).body(too_large.to_string()),
        list(&[map("d", 4)], 4),
        events(&[]),
    ]);
    let expected = ["a", "b", "c", "d"].map(|name| format!("reset shop/{name} unreadable "));
    bed.tells(&expected.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn another_failure_of_a_watch_does_not_lead_to_a_new_list() {
    let bed = Bed::start([
        list(&[map("a", 1)], 1),
        closed(&[event("ERROR", status(500, "InternalError"))]),
        refusal(503, "ServiceUnavailable"),
        Reply::raw("no HTTP\r\n\r\n"),
        events(&[event("ADDED", map("b", 2))]),
    ]);
    bed.tells(&["reset shop/a unreadable ", "apply shop/b"]).await;
    assert_eq!(bed.status.subscribe().borrow().problem, None, "the problem is over");
}

#[tokio::test]
async fn a_missing_right_is_named_with_verb_resource_and_place() {
    let bed = Bed::start(refusal(403, "Forbidden"));
    let mut state = bed.status.subscribe();
    let failed = state.wait_for(|state| state.problem.is_some());
    let problem = testkit::eventually::within("the problem", failed).await.expect("the watch goes on").problem.clone();
    let problem = problem.expect("the wait above ensures it");
    assert!(problem.contains("the verb \"list\" on configmaps is missing in namespace shop"), "{problem}");
}

#[tokio::test]
async fn a_server_that_closes_every_watch_at_once_is_not_asked_without_pause() {
    let bed = Bed::start([list(&[], 1), closed(&[])]);
    let window = Duration::from_secs(2);
    bed.origin.wait_heads(4).await;
    // What is measured is a rate, so time has to pass.
    tokio::time::sleep(window).await;
    let asked = bed.origin.requests().len();
    // 50, 100, 200, 400, 800 and 1600 ms are the shortest delays there are.
    assert!(asked <= 9, "{asked} requests");
}

#[tokio::test]
async fn neither_a_list_nor_a_watch_that_hangs_is_waited_for_for_ever() {
    let pace =
        WatchTimeouts { answer: Duration::from_secs(2), watch: 1..=1, late: Duration::from_secs(2), ..WATCH_TIMEOUTS };
    let bed = Bed::start_at(
        pace,
        [
            Reply::never(),
            list(&[map("a", 1)], 1),
            Reply::never(),
            events(&[event("ADDED", map("b", 2))]),
            events(&[event("ADDED", map("c", 3))]),
        ],
    );
    bed.tells(&["reset shop/a unreadable ", "apply shop/b", "apply shop/c"]).await;
}

#[tokio::test]
async fn an_attempt_that_merely_took_long_was_no_good_watch() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pace = WatchTimeouts { answer: Duration::from_secs(1), good: Duration::ZERO, ..WATCH_TIMEOUTS };
    let origin = Origin::start([Reply::ok("").hang_at(At::Start), closed(&[])]);
    let mut watcher = Watcher::<ConfigMap>::new(key().api(client(&origin)), key(), Status::default(), pace);
    let (mut version, mut sink) = ("3".to_owned(), |_event| {});
    assert!(
        matches!(watcher.follow(&mut version, &mut sink).await, End::Failed(failure) if failure.reason == Reason::Timeout)
    );
    assert!(!watcher.was_good(), "it was never accepted: the next try waits longer");
    assert!(matches!(watcher.follow(&mut version, &mut sink).await, End::Closed));
    assert!(watcher.was_good());
}
