//! Rights that are missing are named, and hold up nothing else.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::Api;
use mirror::{config::Config, marks};
use serde_json::json;
use testkit::eventually;

use crate::bed::{self, Bed, label, local, remote, role};

#[tokio::test]
async fn a_namespace_that_may_not_be_read_holds_up_no_other() {
    let bed = Bed::new("forbidden").await;
    let closed = remote().await.namespace("closed").await;
    let mut config = bed.config();
    config.remotes[0].namespaces.push(closed.clone());
    bed.service("web", &[1]).await;
    let mirror = bed.start(config).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let named =
        |ready: &Result<(), String>| ready.as_ref().is_err_and(|why| why.contains("RBAC") && why.contains(&closed));
    let _named = eventually!("the right to be named", mirror.readiness.check(), named);
    bed.unservice("web").await;
    bed.until_gone("web").await;
    // The right comes: nothing has to be restarted.
    let rules = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    remote().await.apply_yaml(&role(&closed, "reader", "reader", &bed.there, &rules)).await.expect("a valid role");
    let yaml = bed::service("late", "ports: [{port: 80}]").replace("NAMESPACE", &closed);
    remote().await.apply_yaml(&yaml).await.expect("a valid Service");
    let name = format!("west-late-6d6972726f720a-{closed}");
    eventually!("its mirror", bed.services().get_opt(&name).await.expect("readable"), Option::is_some);
    mirror.ready().await.stop().await;
}

#[tokio::test]
async fn without_the_right_to_tell_clusters_apart_mirrors_are_made_all_the_same() {
    let bed = Bed::new("nameless").await;
    let bindings: Api<RoleBinding> = Api::namespaced(bed.theirs.clone(), "kube-system");
    bindings.delete(&format!("{}-identity", bed.there), &Default::default()).await.expect("it is there");
    bed.service("web", &[1]).await;
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let made = bed.mirrored("web").await;
    assert_eq!(label(made.metadata.annotations.as_ref(), marks::CLUSTER), None);
    assert_eq!(label(made.metadata.annotations.as_ref(), marks::REMOTE), Some("west"));
    let problems = || mirror.health.report()["remotes"]["west"]["problems"].to_string();
    eventually!("the right to be named", problems(), |text| text.contains("kube-system"));
    bed.unservice("web").await;
    bed.until_gone("web").await;
    mirror.stop().await;
}

#[tokio::test]
async fn a_missing_right_here_is_named_and_used_as_soon_as_it_is_there() {
    let bed = Bed::new("local").await;
    let account = local().await.service_account(&bed.here, "poor").await;
    let client = account.client().await;
    bed.service("web", &[1]).await;
    let mirror = bed::start(bed.config(), client, bed.readers(1).await);
    let named =
        |ready: &Result<(), String>| ready.as_ref().is_err_and(|why| why.contains("\"list\" on services is missing"));
    let _named = eventually!("the right to be named", mirror.readiness.check(), named);
    let yaml = role(
        &bed.here,
        "poor",
        "poor",
        &bed.here,
        &json!([
            {"apiGroups": ["", "discovery.k8s.io"], "resources": ["services", "endpointslices"],
                "verbs": ["get", "list", "watch", "create", "update", "delete"]},
        ]),
    );
    local().await.apply_yaml(&yaml).await.expect("a valid role");
    bed.until_addresses("web", &["192.0.2.1"]).await;
    mirror.ready().await.stop().await;
}

/// A name that has no place in a DNS label, because of a template.
#[tokio::test]
async fn a_service_that_cannot_have_a_name_is_told() {
    let bed = Bed::new("badname").await;
    let mut config: Config = bed.config();
    // Since Kubernetes 1.34 a Service may begin with a digit where that is switched on; a namespace always may.
    let digits = remote().await.namespace("0digit").await;
    config.remotes[0].namespaces = vec![digits.clone()];
    config.remotes[0].scheme = "{namespace}-{service}-{prefix}".parse().expect("a template");
    let rules = json!([
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    remote().await.apply_yaml(&role(&digits, "reader", "reader", &bed.there, &rules)).await.expect("a valid role");
    let yaml = bed::service("web", "ports: [{port: 80}]").replace("NAMESPACE", &digits);
    remote().await.apply_yaml(&yaml).await.expect("a valid Service");
    let report = bed.plan(config.clone()).await;
    assert!(report.to_string().contains("no DNS-1035 label"), "{report}");
    let _mirror = bed.start(config).await;
    bed.event("InvalidName", "no DNS-1035 label").await;
}
