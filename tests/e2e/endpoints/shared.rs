//! Roles of one process share one watch.

use std::{collections::BTreeMap, path::Path};

use kubekit::fault_proxy::{FaultProxy, Verb};
use testkit::client;

use super::bed::{Bed, told};
use crate::process::Fanfare;

/// The lists and watches of a file with these roles, by kind, once all roles are ready and there are so many watches.
async fn calls(bed: &Bed, kubeconfig: &Path, roles: &str, watches: usize) -> BTreeMap<String, usize> {
    let proxy = FaultProxy::start(&bed.cluster).await;
    let kubeconfig = proxy.kubeconfig(kubeconfig);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.yaml");
    let ns = &bed.namespace;
    let text = format!(
        "
admin: {{listen: 127.0.0.1:0}}
threads: 1
kubernetes: {{kubeconfig: {}}}
broadcast: [{{listen: 127.0.0.1:0, routes: [{{to: {{service: {ns}/cache, port: http}}}}]}}]
endpoints: {{listen: 127.0.0.1:0, services: [cache], namespace: {ns}}}
{}
",
        kubeconfig.path().display(),
        roles.replace("NAMESPACE", ns).replace("FOLDER", &folder.path().display().to_string()),
    );
    std::fs::write(&file, text).expect("it can be written");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
    let address = fanfare.listening("for endpoints").await;
    fanfare.wait_ready().await;
    testkit::eventually!("the endpoints", told(address, "/endpoints").await, |told| told == &["h-1"]);
    client::get(address, "/ready").await.expect_status(200);
    proxy.wait(watches, |call| call.verb == Verb::Watch).await;
    let mut calls = BTreeMap::new();
    for call in proxy.calls().into_iter().filter(|call| matches!(call.verb, Verb::List | Verb::Watch)) {
        *calls.entry(format!("{:?} {}", call.verb, call.resource)).or_default() += 1;
    }
    calls
}

fn counted(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[tokio::test]
async fn broadcast_and_endpoints_of_one_file_share_a_watch() {
    let bed = Bed::new("shared").await;
    bed.slice("cache-1", "cache", [1]).await;
    let calls = calls(&bed, bed.account.kubeconfig_path(), "", 1).await;
    assert_eq!(calls, counted(&[("List endpointslices", 1), ("Watch endpointslices", 1)]));
}

#[tokio::test]
async fn watches_of_discover_are_shared_with_other_roles() {
    let bed = Bed::new("all").await;
    bed.slice("cache-1", "cache", [1]).await;
    let discover = "
discover:
  - {name: a, select: {labels: app=x, namespaces: [NAMESPACE]}, format: json, to: FOLDER/a.json}
  - {name: b, select: {labels: '', namespaces: [NAMESPACE]}, format: json, to: FOLDER/b.json}
";
    let calls = calls(&bed, &bed.cluster.kubeconfig_path(), discover, 3).await;
    // Slices of Services, slices without a Service, and Services, whatever the selections.
    let expected =
        [("List endpointslices", 2), ("List services", 1), ("Watch endpointslices", 2), ("Watch services", 1)];
    assert_eq!(calls, counted(&expected));
}
