//! The proxy between a real client and a real API server: the effect of each fault on both sides.

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Error,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use std::time::Instant;

use super::*;
use testkit::eventually;

use crate::cluster;

/// Longer than the API server usually takes for a request.
const SOON: Duration = Duration::from_millis(400);
/// What is late is late by so much.
const LATE: Duration = Duration::from_secs(3);

/// A proxy, and the same namespace seen through it and past it.
struct Bed {
    proxy: FaultProxy,
    through: Api<ConfigMap>,
    past: Api<ConfigMap>,
}

impl Bed {
    async fn start() -> Self {
        let cluster = cluster::shared().await;
        let namespace = cluster.namespace("fault").await;
        let proxy = FaultProxy::start(&cluster).await;
        let kubeconfig = proxy.kubeconfig(&cluster.kubeconfig_path());
        let kubeconfig = Kubeconfig::read_from(kubeconfig.path()).expect("the copy can be read");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.expect("the copy can be used");
        config.default_retry = false;
        let through = Client::try_from(config).expect("the copy is complete");
        let past = cluster.client().await;
        Self { proxy, through: Api::namespaced(through, &namespace), past: Api::namespaced(past, &namespace) }
    }

    async fn create(&self, name: &str) -> Result<ConfigMap, Error> {
        self.through.create(&PostParams::default(), &map(name)).await
    }

    /// Whether the API server has it.
    async fn has(&self, name: &str) -> bool {
        self.past.get_opt(name).await.expect("the API server answers").is_some()
    }

    async fn watch(&self) -> impl Stream<Item = Result<WatchEvent<ConfigMap>, Error>> + use<> {
        let version = self.past.list(&ListParams::default()).await.expect("the API server answers").metadata;
        let version = version.resource_version.expect("a list has a version");
        self.through.watch(&WatchParams::default(), &version).await.expect("it is passed on").boxed()
    }
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a valid map")
}

fn creates(call: &Call) -> bool {
    call.is(Verb::Create, "configmaps")
}

#[tokio::test]
async fn requests_keep_the_identity_of_their_sender_and_every_one_is_seen() {
    let bed = Bed::start().await;
    bed.create("a").await.expect("it passes");
    bed.through.get("a").await.expect("it passes");
    let calls = bed.proxy.wait(2, |call| call.status.is_some()).await;
    let told: Vec<_> = calls.iter().map(|call| (call.verb, &*call.resource, &*call.name, call.status)).collect();
    assert_eq!(told, [(Verb::Create, "configmaps", "", Some(201)), (Verb::Get, "configmaps", "a", Some(200))]);
    assert_eq!(calls[0].json()["metadata"]["name"], "a");
    for call in &calls {
        assert!(Some(call.at) <= call.passed_on && call.passed_on < call.answered, "{call:?}");
    }

    let cluster = cluster::shared().await;
    let account = cluster.service_account(&calls[0].namespace, "nobody").await;
    let kubeconfig = bed.proxy.kubeconfig(account.kubeconfig_path());
    let kubeconfig = Kubeconfig::read_from(kubeconfig.path()).expect("the copy can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("the copy can be used")).expect("the copy is complete");
    let refusal = Api::<ConfigMap>::default_namespaced(client).get("a").await.expect_err("it has no rights");
    assert!(refusal.to_string().contains("nobody"), "{refusal}");
}

#[tokio::test]
async fn a_refusal_is_one_of_the_api_server_and_a_script_goes_by_the_order_of_requests() {
    let bed = Bed::start().await;
    bed.proxy.script(creates, [None, Some(Fault::Answer(409)), None]);
    bed.proxy.always(|call| call.json()["metadata"]["name"] == "c", Fault::Answer(429));
    bed.create("a").await.expect("the first passes");
    for (name, code, reason) in [("b", 409, "Conflict"), ("c", 429, "TooManyRequests")] {
        let error = bed.create(name).await.expect_err("it is refused");
        assert!(matches!(&error, Error::Api(s) if s.code == code && s.reason == reason), "{error:?}");
        assert!(!bed.has(name).await);
    }
    bed.proxy.clear();
    bed.create("c").await.expect("there is no rule any more");
    assert_eq!(bed.proxy.count(|call| call.fault.is_some()), 2);
}

#[tokio::test]
async fn a_fault_before_the_api_server_prevents_a_write_and_one_after_it_does_not() {
    let bed = Bed::start().await;
    let faults = [("a", Fault::Drop, false), ("b", Fault::DropAnswer, true)];
    for (name, fault, happens) in faults {
        bed.proxy.script(creates, [Some(fault)]);
        timeout(SOON, bed.create(name)).await.expect_err("there is no answer");
        if happens {
            eventually!(format!("{fault:?} to let it pass"), bed.has(name).await, |there| *there);
        }
        assert_eq!(bed.has(name).await, happens, "{fault:?}");
    }
    for (name, fault, happens) in [("c", Fault::Reset, false), ("d", Fault::ResetAnswer, true)] {
        bed.proxy.script(creates, [Some(fault)]);
        let error = bed.create(name).await.expect_err("the connection is reset");
        assert!(!matches!(error, Error::Api(_)), "{error:?}");
        assert_eq!(bed.has(name).await, happens, "{fault:?}");
    }
    bed.create("e").await.expect("the scripts are spent");
}

#[tokio::test]
async fn a_delayed_request_arrives_although_its_client_has_given_up() {
    let bed = Bed::start().await;
    bed.proxy.script(creates, [Some(Fault::Delay(LATE)), Some(Fault::DelayAnswer(LATE))]);
    timeout(SOON, bed.create("a")).await.expect_err("it is late");
    assert!(!bed.has("a").await);
    eventually!("it to arrive", bed.has("a").await, |there| *there);
    let began = Instant::now();
    let waiting = tokio::spawn({
        let through = bed.through.clone();
        async move { through.create(&PostParams::default(), &map("b")).await }
    });
    eventually!("it to arrive", bed.has("b").await, |there| *there);
    assert!(!waiting.is_finished(), "the answer is held back");
    within("the answer", waiting).await.expect("no panic").expect("it was made");
    assert!(began.elapsed() >= LATE);
}

#[tokio::test]
async fn a_watch_is_cut_stalled_or_expired() {
    let bed = Bed::start().await;
    let watches = |call: &Call| call.verb == Verb::Watch;
    for (name, fault) in [
        ("a", Fault::CutBody(Duration::ZERO)),
        ("b", Fault::ExpireWatch(Duration::ZERO)),
        ("c", Fault::StallBody(Duration::ZERO)),
    ] {
        let mut events = bed.watch().await;
        bed.past.create(&PostParams::default(), &map(name)).await.expect("it passes");
        let event = within("the event", events.next()).await;
        assert!(matches!(event, Some(Ok(WatchEvent::Added(_)))), "{event:?}");
        assert_eq!(bed.proxy.interrupt(watches, fault), 1);
        match fault {
            Fault::CutBody(_) => {
                let event = within("the end", events.next()).await;
                assert!(matches!(event, Some(Err(_))), "{event:?}");
            }
            Fault::ExpireWatch(_) => {
                let event = within("the end", events.next()).await;
                assert!(matches!(&event, Some(Ok(WatchEvent::Error(s))) if s.code == 410), "{event:?}");
                assert!(within("the end", events.next()).await.is_none());
            }
            _ => {
                bed.past.create(&PostParams::default(), &map("unseen")).await.expect("it passes");
                timeout(SOON, events.next()).await.expect_err("nothing comes any more");
            }
        }
    }
    // The same by a rule, from the start.
    bed.proxy.always(watches, Fault::CutBody(Duration::ZERO));
    let event = within("the end", bed.watch().await.next()).await;
    assert!(matches!(event, Some(Err(_))), "{event:?}");
    let cut = bed.proxy.calls().into_iter().rfind(watches).expect("it was asked for");
    assert_eq!(cut.status, Some(200), "the API server had answered");
}

#[tokio::test]
async fn a_proxy_that_hangs_holds_back_what_arrives_later_and_one_that_is_cut_resets() {
    let bed = Bed::start().await;
    let mut events = bed.watch().await;
    // Leaves a connection open: requests on it are held, whereas a new connection could not be established.
    bed.create("first").await.expect("it passes");
    within("its event", events.next()).await;
    bed.proxy.hang();
    bed.past.create(&PostParams::default(), &map("a")).await.expect("it passes");
    timeout(SOON, bed.create("b")).await.expect_err("nothing passes");
    timeout(SOON, events.next()).await.expect_err("nothing passes");
    assert!(!bed.has("b").await);
    bed.proxy.restore();
    let event = within("the event held back", events.next()).await;
    assert!(matches!(&event, Some(Ok(WatchEvent::Added(map))) if map.metadata.name.as_deref() == Some("a")));
    eventually!("the request held back", bed.has("b").await, |there| *there);
    bed.create("c").await.expect("it passes");

    bed.proxy.cut();
    let events: Vec<_> = within("the end", events.collect()).await;
    assert!(matches!(events.last(), Some(Err(_))), "{events:?}");
    bed.create("d").await.expect_err("connections are reset");
    bed.proxy.restore();
    bed.create("d").await.expect("it passes");
}

#[tokio::test]
async fn a_seed_gives_the_same_faults_again() {
    let bed = Bed::start().await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        bed.proxy.clear();
        bed.proxy.seeded(|_| true, 7, 40, [Fault::Answer(500), Fault::Answer(401), Fault::Reset]);
        let before = bed.proxy.calls().len();
        for _ in 0..20 {
            // Whether it succeeds depends on the seed.
            let _ = bed.through.get_opt("a").await;
        }
        runs.push(bed.proxy.calls()[before..].iter().map(|call| call.fault).collect::<Vec<_>>());
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].iter().any(Option::is_none) && runs[0].iter().any(Option::is_some), "{:?}", runs[0]);
}
