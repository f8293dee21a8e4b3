//! Tests of the harness itself: what other tests rely on.

use k8s_openapi::api::{core::v1::ConfigMap, discovery::v1::EndpointSlice};
use kube::api::{WatchEvent, WatchParams};

use super::*;

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
"#;

const SLICE: &str = r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1}
addressType: IPv4
endpoints: [{addresses: ["ADDRESS"]}]
ports: [{port: 80}]
"#;

/// Asks until the answer is there.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + scaled(PATIENCE);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

#[test]
fn a_ready_pod_of_a_service_gets_a_real_endpoint_slice() {
    inside(testkit::test_name!(), async || {
        let cluster = Cluster::start_with_controllers().await;
        cluster.apply_yaml(SERVICE).await.expect("a valid Service");
        cluster.pod("default", "web-0", "web", &[netns::ipv4(7)], true).await;
        let client = cluster.client().await;
        let slices: Api<EndpointSlice> = Api::default_namespaced(client);
        let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
        let endpoints = async || {
            let list = slices.list(&of_web).await.expect("slices can be listed");
            list.items.into_iter().flat_map(|slice| slice.endpoints).next()
        };
        let endpoint = until("an EndpointSlice with the pod", endpoints).await;
        assert_eq!(endpoint.addresses, ["192.0.2.7"]);
        assert_eq!(endpoint.zone.as_deref(), Some(ZONE));
        assert_eq!(endpoint.conditions.and_then(|c| c.ready), Some(true));
        assert_eq!(endpoint.target_ref.and_then(|r| r.name).as_deref(), Some("web-0"));
        cluster.set_pod_ready("default", "web-0", false).await;
        let ready = async || endpoints().await?.conditions?.ready;
        until("the endpoint is not ready", async || (ready().await == Some(false)).then_some(())).await;
        cluster.delete_pod("default", "web-0").await;
        until("the endpoint is gone", async || endpoints().await.is_none().then_some(())).await;
    });
}

#[tokio::test]
async fn a_service_account_has_no_right_that_no_role_gives_it() {
    let cluster = shared().await;
    let namespace = cluster.namespace("rights").await;
    let account = cluster.service_account(&namespace, "reader").await;
    let slices: Api<EndpointSlice> = Api::default_namespaced(account.client().await);
    let refusal = slices.list(&ListParams::default()).await.expect_err("no role is bound");
    assert!(matches!(&refusal, kube::Error::Api(status) if status.code == 403), "{refusal}");
    let role = format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: r, namespace: {namespace}}}, rules: \
         [{{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list]}}]}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: r, namespace: {namespace}}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}, subjects: [{{kind: ServiceAccount, \
         name: reader, namespace: {namespace}}}]}}"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    until("the role counts", async || slices.list(&ListParams::default()).await.ok()).await;
    let watch = slices.watch(&WatchParams::default(), "0").await;
    assert!(watch.is_err(), "the role has no `watch`");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_refuses_what_the_api_server_refuses() {
    let cluster = shared().await;
    let namespace = cluster.namespace("dry").await;
    let good =
        SLICE.replace("name: web-1", &format!("name: web-1, namespace: {namespace}")).replace("ADDRESS", "192.0.2.1");
    cluster.dry_run_yaml(&good).await.expect("a valid slice");
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client().await, &namespace);
    assert!(slices.list(&ListParams::default()).await.expect("slices can be listed").items.is_empty());
    let refusal = cluster.dry_run_yaml(&SLICE.replace("ADDRESS", "127.0.0.1")).await.expect_err("loopback is refused");
    assert_eq!(refusal.object, "EndpointSlice web-1");
    assert!(refusal.reason.contains("loopback"), "{refusal}");
    let refusal = cluster.apply_yaml("a: [").await.expect_err("no YAML");
    assert_eq!(refusal.object, "document 1");
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_on_its_port_and_old_revisions_are_gone() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let old = maps.list(&ListParams::default()).await.expect("maps can be listed").metadata.resource_version;
    let old = old.expect("a list has a version");
    for n in 0..3 {
        let map = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m{n}}}}}");
        cluster.apply_yaml(&map).await.expect("a valid map");
    }
    cluster.kill_apiserver();
    maps.list(&ListParams::default()).await.expect_err("nobody listens");
    cluster.compact().await;
    cluster.start_apiserver().await;
    assert!(maps.get_opt("m2").await.expect("the same client reaches it").is_some());
    let gone = first_event(&maps, &old).await;
    assert!(matches!(&gone, WatchEvent::Error(status) if status.code == 410), "{gone:?}");
    cluster.stop_apiserver().await;
    cluster.start_apiserver().await;
}

async fn first_event(maps: &Api<ConfigMap>, version: &str) -> WatchEvent<ConfigMap> {
    let stream = maps.watch(&WatchParams::default().timeout(10), version).await.expect("a watch can be started");
    let mut stream = std::pin::pin!(stream);
    let first = std::future::poll_fn(|cx| futures::Stream::poll_next(stream.as_mut(), cx)).await;
    first.expect("an event comes before the time-out").expect("the event can be read")
}
