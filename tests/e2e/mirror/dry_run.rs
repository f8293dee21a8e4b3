//! `-dry-run`: the planned actions are printed, and none is taken.

use serde_json::json;

use super::bed::{Bed, endpoint};
use crate::process::Finished;

#[tokio::test]
async fn a_dry_run_prints_changes_and_makes_none() {
    let bed = Bed::start().await;
    for name in ["web", "taken", "old"] {
        bed.service(name, json!({})).await;
        bed.slice(name, "IPv4", &[endpoint("192.0.2.1")]).await;
    }
    let local = |name: &str, labels: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": bed.here, "labels": labels},
            "spec": {"ports": [{"port": 80}]},
        })
    };
    let ours = json!({"mirrored-svc": "true", "mirror-svc-prefix-sync": "west"});
    for service in [
        local(&bed.mirrored("taken"), json!({"app": "of-somebody-else"})),
        local(&bed.mirrored("old"), ours.clone()),
        local(&bed.mirrored("gone"), ours),
    ] {
        bed.local.apply_yaml(&service.to_string()).await.expect("a valid service");
    }
    let services = format!("/api/v1/namespaces/{}/services", bed.here);
    let before = bed.local.read(&services).await.expect("the namespace is there");

    let dry = bed.mirror(&[bed.what(), bed.with_all_rights()], &["-dry-run", "-leader-elect"]);
    let Finished { code, stdout, stderr } = dry.finish().await;
    assert_eq!(code, Some(0), "{stderr}");
    let verb = |service: &str| {
        let name = format!("{}/{}", bed.here, bed.mirrored(service));
        let line = stdout.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{service}: {stdout}"));
        line.split(' ').next().expect("a line has words").to_owned()
    };
    assert_eq!(["web", "taken", "old", "gone"].map(verb), ["create", "refuse", "adopt", "delete"], "{stdout}");

    let after = bed.local.read(&services).await.expect("the namespace is there");
    assert_eq!(before["items"], after["items"]);
    for kind in ["endpointslices", "leases", "events"] {
        let group = match kind {
            "endpointslices" => "apis/discovery.k8s.io/v1",
            "leases" => "apis/coordination.k8s.io/v1",
            _ => "api/v1",
        };
        let path = format!("/{group}/namespaces/{}/{kind}", bed.here);
        assert_eq!(bed.local.read(&path).await.expect("it can be listed")["items"], json!([]), "{kind}");
    }
}

#[tokio::test]
async fn unknown_facts_are_printed_as_such() {
    let bed = Bed::start().await;
    let nowhere = vec!["-target-kube-config=/nowhere/kubeconfig".into(), bed.with_all_rights().remove(0)];
    let local = bed.local.kubeconfig_path();
    let flags = [bed.what(), nowhere, vec![super::bed::text(&local).into()]];
    let Finished { code, stdout, stderr } = bed.mirror(&flags, &["-dry-run"]).finish().await;
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("problem ") && stdout.contains("/nowhere/kubeconfig"), "{stdout}\n{stderr}");
}
