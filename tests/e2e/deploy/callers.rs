//! `deploy/broadcast/service-accounts` on a real API server: the patched workload is accepted, and its process allows the named
//! callers, with the token of the example caller.

use kubekit::cluster;
use serde_json::Value;
use testkit::{
    client::request,
    origin::{Origin, Reply},
};

use super::{
    read,
    shipped::{Shipped, container, yaml},
};
use crate::process::Fanfare;

const SHIPPED: Shipped = Shipped("broadcast");
const CALLER: Shipped = Shipped("broadcast/service-accounts");

/// The arguments that the component adds, as kustomize adds them.
fn added() -> Vec<String> {
    let text = read("deploy/broadcast/service-accounts/kustomization.yaml");
    let component: Value = serde_yaml::from_str(&text).expect("it is YAML");
    assert_eq!(
        (&component["kind"], &component["patches"][0]["target"]["kind"]),
        (&"Component".into(), &"Deployment".into())
    );
    let patch = component["patches"][0]["patch"].as_str().expect("a patch");
    let operations: Vec<Value> = serde_yaml::from_str(patch).expect("it is YAML");
    let add = |operation: &Value| {
        assert_eq!(
            (&operation["op"], &operation["path"]),
            (&"add".into(), &"/spec/template/spec/containers/0/args/-".into())
        );
        operation["value"].as_str().expect("a text").to_owned()
    };
    operations.iter().map(add).collect()
}

#[tokio::test]
async fn the_patched_workload_and_the_shown_caller_are_accepted() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("callers").await;
    let mut deployment = SHIPPED.deployment(&namespace);
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().expect("a list");
    arguments.extend(added().into_iter().map(Value::from));
    cluster.dry_run_yaml(&deployment.to_string()).await.expect("the API server takes it");
    let caller = CALLER.objects("caller.yaml", &namespace);
    let accepted = cluster.dry_run_yaml(&yaml(&caller)).await.expect("the API server takes it");
    assert_eq!(accepted.len(), 2);
    assert_eq!(container(&deployment)["name"], "fanfare");
}

#[tokio::test]
async fn the_named_service_account_is_let_in_with_a_token_for_the_audience_and_nobody_else_is() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("purge").await;
    let caller = CALLER.objects("caller.yaml", &namespace);
    cluster.apply_yaml(&caller[0].to_string()).await.expect("a service account");
    let name = caller[0]["metadata"]["name"].as_str().expect("a name");
    let projected =
        &caller[1]["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    let audience = projected["audience"].as_str().expect("an audience");
    let other = cluster.service_account(&namespace, "other").await;
    let account = SHIPPED.account(&cluster, &namespace).await;
    let origin = Origin::start(Reply::ok("purged"));
    let (place, kubeconfig) = (origin.address().to_string(), account.kubeconfig_path().to_str().expect("ASCII"));
    let mut arguments =
        ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "-k", kubeconfig, "--endpoints", &place]
            .map(str::to_owned)
            .to_vec();
    arguments.extend(["--threads=1".to_owned(), "--access-log=json".to_owned()]);
    // Users replace the namespace in the manifests.
    arguments.extend(added().into_iter().map(|argument| argument.replace("sa:default/", &format!("sa:{namespace}/"))));
    let fanfare = Fanfare::serve(&arguments).await;
    fanfare.wait_ready().await;

    let ask = async |token: Option<&str>, method: &str| {
        let value = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let fields: Vec<_> = token.iter().map(|_| ("Authorization", value.as_str())).collect();
        request(fanfare.address(), method, "/path", &fields, b"").await.complete().status
    };
    let token = cluster.token(&namespace, name, audience, 600).await;
    assert_eq!(ask(Some(&token), "PURGE").await, 200);
    assert_eq!(ask(Some(&token), "GET").await, 403, "another method");
    assert_eq!(ask(None, "PURGE").await, 401);
    let elsewhere = cluster.token(&namespace, name, "https://kubernetes.default.svc", 600).await;
    assert_eq!(ask(Some(&elsewhere), "PURGE").await, 401, "a token for the API server");
    let others = cluster.token(&namespace, other.name(), audience, 600).await;
    assert_eq!(ask(Some(&others), "PURGE").await, 403, "another service account");
    let seen = origin.requests();
    assert_eq!((seen.len(), seen[0].headers.get("authorization")), (1, None));
    let identity = format!("\"identity\":\"sa:{namespace}/{name}\"");
    fanfare.stdout.wait("the entry", |log| log.contains(&identity) && !log.contains(&token)).await;
}
