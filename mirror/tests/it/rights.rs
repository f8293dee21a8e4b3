//! Missing rights are named, and delay nothing else.

use k8s_openapi::api::{
    core::v1::{ResourceQuota, Service},
    rbac::v1::RoleBinding,
};
use kube::api::{Api, PostParams};
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
    // The right is granted, without a restart.
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

/// Each missing verb, before and after there is something to write.
#[tokio::test]
async fn readiness_says_which_right_to_write_is_missing() {
    let bed = Bed::new("readonly").await;
    let account = local().await.service_account(&bed.here, "poor").await;
    let rule = |slices: &[&str]| {
        let rules = json!([
            {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "update", "delete"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": slices},
        ]);
        role(&bed.here, "poor", "poor", &bed.here, &rules)
    };
    local().await.apply_yaml(&rule(&["get", "list", "watch", "update", "delete"])).await.expect("a valid role");
    let mirror = bed::start(bed.config(), account.client().await, bed.readers(1).await);
    let named = |ready: &Result<(), String>| {
        ready
            .as_ref()
            .is_err_and(|why| why.contains("\"create\" on endpointslices is missing") && why.contains(&bed.here))
    };
    let _named = eventually!("the right to be named", mirror.readiness.check(), named);
    bed.service("web", &[1]).await;
    bed.mirrored("web").await;
    let failing = || mirror.health.report()["failing"].as_u64();
    eventually!("the slices to fail", failing(), |failing| *failing == Some(1));
    assert!(mirror.readiness.check().is_err_and(|why| why.contains("\"create\" on endpointslices is missing")));
    local()
        .await
        .apply_yaml(&rule(&["get", "list", "watch", "create", "update", "delete"]))
        .await
        .expect("a valid role");
    bed.until_addresses("web", &["192.0.2.1"]).await;
    mirror.ready().await.stop().await;
}

/// An account that may write everywhere: that there is no such namespace shows in nothing but the answers to writes.
#[tokio::test]
async fn readiness_says_that_the_namespace_is_missing() {
    let bed = Bed::new("nowhere").await;
    let nowhere = format!("{}-nowhere", bed.here);
    let mut config = bed.config();
    config.remotes[0].namespace.clone_from(&nowhere);
    let mirror = bed::start(config, bed.ours.clone(), bed.readers(1).await).ready().await;
    bed.service("web", &[1]).await;
    let named = |ready: &Result<(), String>| {
        ready.as_ref().is_err_and(|why| why.contains(&format!("there is no namespace {nowhere}: create it")))
    };
    let _named = eventually!("the namespace to be named", mirror.readiness.check(), named);
    // It need not be written any more, so there is no problem.
    bed.unservice("web").await;
    let mirror = mirror.ready().await;
    bed.service("web", &[1]).await;
    let _named = eventually!("the namespace to be named", mirror.readiness.check(), named);
    local()
        .await
        .apply_yaml(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {nowhere}}}"))
        .await
        .expect("valid");
    mirror.ready().await.stop().await;
}

/// A quota forbids one object with the same status as a missing right: that concerns one mirror, and is not a missing right.
#[tokio::test]
async fn a_refusal_by_admission_is_not_a_missing_permission() {
    let bed = Bed::new("quota").await;
    // The status that the quota controller would set.
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"services": "0"}},
        "status": {"hard": {"services": "0"}, "used": {"services": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a valid quota");
    let quotas: Api<ResourceQuota> = Api::namespaced(bed.ours.clone(), &bed.here);
    let made = quotas.create(&PostParams::default(), &quota).await.expect("a valid quota");
    let quota = ResourceQuota { metadata: made.metadata, ..quota };
    quotas.replace_status("none", &PostParams::default(), &quota).await.expect("a valid status");
    let one = json!({"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 80}]}});
    let one: Service = serde_json::from_value(one).expect("a valid Service");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let forbidden =
        |tried: &Result<Service, kube::Error>| matches!(tried, Err(kube::Error::Api(status)) if status.code == 403);
    let _tried = eventually!("the quota to hold", bed.services().create(&dry, &one).await, forbidden);
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.service("web", &[1]).await;
    let failing = || mirror.health.report()["failing"].as_u64();
    eventually!("the mirror to fail", failing(), |failing| *failing == Some(1));
    assert_eq!(mirror.readiness.check(), Ok(()));
    mirror.stop().await;
}
