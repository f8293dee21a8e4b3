//! A configuration file with another service applies only once that service is known.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use kubekit::cluster;
use testkit::{
    eventually::{scaled, within_time},
    netns,
};

use super::{
    bed::{Addresses, Bed, endpoint, hosts, metric, ready, shipped, slice, slice_in, v4},
    load::{Load, assert_all_ok},
};
use crate::process::Fanfare;

const HTTP: &str = "{name: http, port: 8080}";

/// Replaces the file in one step.
fn write(path: &Path, kubeconfig: &Path, service: &str) {
    let text = format!(
        "
admin: {{listen: 127.0.0.1:0}}
kubernetes: {{kubeconfig: {}}}
threads: 2
broadcast: [{{listen: 127.0.0.1:0, routes: [{{to: {{service: {service}}}}}]}}]
",
        kubeconfig.display()
    );
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("it can be written");
    std::fs::rename(&new, path).expect("it can be renamed");
}

#[test]
fn a_file_that_leads_to_a_service_nobody_may_see_is_refused_and_no_request_is_lost() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=3).map(|n| v4(n, 8080)));
        let foreign = bed.cluster.namespace("foreign").await;
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        bed.apply(&slice("shop-1", "shop", &ready(&[2]), HTTP)).await;
        let other = [endpoint(netns::ipv4(3), "ready: true")];
        bed.apply(&slice_in(&foreign, "cache-1", "cache", "IPv4", &other, HTTP)).await;

        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("fanfare.yaml");
        let write = |service: &str| write(&file, bed.account.kubeconfig_path(), service);
        write("default/cache");
        let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));

        let mut load = Load::start(fanfare.address());
        write("default/shop");
        bed.until_reached(&fanfare, &hosts(&[2])).await;
        write(&format!("{foreign}/cache"));
        let refused = async {
            while metric(&fanfare, "fanfare_config_reloads_total", &["result=\"refused\""]).await < 1.0 {
                load.beyond(Instant::now()).await;
                assert_eq!(bed.reached(&fanfare).await, hosts(&[2]));
            }
        };
        within_time(scaled(Duration::from_secs(30)), "the file to be refused", refused).await;
        let why = fanfare.stderr.wait("the refusal", |log| log.contains("is refused, everything stays")).await;
        let why = why.lines().find(|line| line.contains("is refused")).expect("it was just found");
        assert!(
            why.contains(&format!(
                "the verb \"list\" on endpointslices.discovery.k8s.io is missing in namespace {foreign}"
            )),
            "{why}"
        );
        assert_eq!(bed.reached(&fanfare).await, hosts(&[2]));
        fanfare.wait_ready().await;
        bed.pod(v4(3, 8080)).assert_untouched();

        // After the right is granted it applies.
        let role = shipped("rbac.yaml", &foreign);
        let subject = |namespace: &str| format!("\"name\":\"fanfare\",\"namespace\":\"{namespace}\"}}]");
        let granted = role.replace(&subject(&foreign), &subject("default"));
        bed.apply(&granted).await;
        write(&format!("[default/cache, {foreign}/cache]"));
        let both: Addresses = hosts(&[1, 3]);
        bed.until_reached(&fanfare, &both).await;
        load.beyond(Instant::now()).await;
        assert_all_ok(&load.stop().await);
    });
}
