//! Outages of a remote and of the local API server, with restarts of the process in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kubekit::{
    cluster::Cluster,
    fault_proxy::{Fault, FaultProxy, Verb},
};
use mirror::config::{Config, Stale};
use testkit::eventually;

use crate::bed::{Bed, Running, local, metric};

impl Bed {
    /// Two remotes: `west` behind a proxy that can be cut, and `east`, which is always available and selects `east=true`.
    fn two(&self, stale: Stale) -> Config {
        let mut config = Config { remotes: vec![self.remote("west"), self.remote("east")], ..self.config() };
        config.remotes[0].stale = stale;
        config.remotes[0].lost_after = Duration::from_secs(1);
        config.remotes[1].selector = "mirror=true,east=true".into();
        config
    }

    /// Shows that the other remote's mirrors are created meanwhile.
    async fn east_works(&self, host: u8) {
        let name = format!("control-{host}");
        let yaml = format!(
            "{}\n---\n{}",
            crate::bed::service(&name, "ports: [{port: 80}]").replace("mirror: 'true'", "mirror: 'true', east: 'true'"),
            crate::bed::slice(&name, &name, &[host])
        );
        self.put(&yaml).await;
        let local = format!("east-{name}-6d6972726f720a-{}", self.there);
        eventually!("the other remote's mirror", self.addresses(&local).await, |all| all.len() == 1);
    }
}

#[tokio::test]
async fn by_default_mirrors_of_a_remote_that_is_away_stay_and_a_restart_changes_nothing() {
    let bed = Bed::new("keep").await;
    bed.service("web", &[1]).await;
    let (proxy, client) = bed.through_proxy().await;
    let east = bed.reader.client().await;
    let clients = || vec![Ok(client.clone()), Ok(east.clone())];
    // A name of its own, because the metrics of this process include other tests' remotes.
    let mut config = bed.two(Stale::Keep);
    config.remotes[0].name = "west-keep".into();
    let mirror = bed.start_with(config.clone(), clients()).await.ready().await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let before = bed.mirrored("web").await;

    proxy.cut();
    let in_sync = || mirror.health.report()["remotes"]["west-keep"]["in_sync"].clone();
    eventually!("the outage to be noticed", in_sync(), |it| *it == false);
    let west = |name: &str| metric(&[name, "remote=\"west-keep\""]).unwrap_or_default();
    eventually!("the metric to tell it", west("fanfare_mirror_remote_staleness_seconds{"), |age| *age > 2.0);
    eventually!("the metric to tell it", west("fanfare_mirror_remote_in_sync{"), |it| *it == 0.0);
    // Both watch the same namespace by the same selector: each has an age of its own.
    let age = |remote: &str| {
        let labels = [format!("kube_cluster=\"{remote}\""), format!("scope=\"{}\"", bed.there)];
        metric(&["fanfare_watch_age_seconds{", "kind=\"endpointslices\"", &labels[0], &labels[1]]).unwrap_or_default()
    };
    bed.east_works(9).await;
    eventually!("the ages to differ", (age("west-keep"), age("east")), |(west, east)| *west > 2.0 && *east < 2.0);
    bed.east_works(10).await;
    mirror.health.check().expect("a remote that is away is no reason to restart");
    mirror.stop().await;
    // It is deleted during the outage, unobserved.
    bed.unservice("web").await;
    let mirror = bed.start_with(config, clients()).await.ready().await;
    bed.east_works(11).await;
    let after = bed.mirrored("web").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(bed.addresses(&bed.name("web")).await, ["192.0.2.1"]);
    proxy.restore();
    bed.until_gone("web").await;
    bed.service("web", &[2]).await;
    bed.until_addresses("web", &["192.0.2.2"]).await;
    mirror.stop().await;
}

#[tokio::test]
async fn mirrors_of_a_lost_remote_are_not_ready_or_go_where_that_is_configured() {
    let bed = Bed::new("policies").await;
    bed.service("web", &[1]).await;
    let (proxy, client) = bed.through_proxy().await;
    let east = bed.reader.client().await;
    let start = async |stale| -> Running {
        bed.start_with(bed.two(stale), vec![Ok(client.clone()), Ok(east.clone())]).await.ready().await
    };
    let long = Duration::from_secs(30);
    let mirror = start(Stale::NotReady).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    proxy.cut();
    bed.until_addresses_within(long, "web", &["192.0.2.1!"]).await;
    proxy.restore();
    bed.until_addresses_within(long, "web", &["192.0.2.1"]).await;
    proxy.cut();
    mirror.stop().await;
    // A process that has never seen the remote reads readiness from the local slices.
    let mirror = start(Stale::NotReady).await;
    bed.until_addresses_within(long, "web", &["192.0.2.1!"]).await;
    bed.east_works(20).await;
    mirror.stop().await;

    let mirror = start(Stale::Ttl(Duration::from_secs(2))).await;
    bed.until_gone("web").await;
    bed.east_works(21).await;
    proxy.restore();
    bed.until_addresses_within(long, "web", &["192.0.2.1"]).await;
    mirror.stop().await;

    let mirror = start(Stale::Delete).await;
    proxy.cut();
    eventually!("the mirror to go", bed.mirror("web").await, Option::is_none);
    bed.east_works(22).await;
    proxy.restore();
    bed.until_addresses_within(long, "web", &["192.0.2.1"]).await;
    mirror.stop().await;
}

/// A remote without a client, because its CA cannot be fetched yet, counts as unavailable.
#[tokio::test]
async fn a_remote_without_access_holds_up_no_other_and_is_used_when_there_is_access() {
    let bed = Bed::new("access").await;
    bed.service("web", &[1]).await;
    let clients = vec![Err("the CA cannot be fetched".to_owned()), Ok(bed.reader.client().await)];
    let mirror = bed.start_with(bed.two(Stale::Keep), clients).await.ready().await;
    bed.east_works(30).await;
    let problems = || mirror.health.report()["remotes"]["west"]["problems"].to_string();
    eventually!("the problem to be told", problems(), |text| text.contains("the CA cannot be fetched"));
    mirror.accesses[0].send(Ok(bed.reader.client().await)).expect("the mirror runs");
    bed.until_addresses("web", &["192.0.2.1"]).await;
    // Another client, as after a change of the CA: the watches go on with it.
    let (proxy, client) = bed.through_proxy().await;
    mirror.accesses[0].send(Ok(client)).expect("the mirror runs");
    proxy.wait(2, |call| call.verb == Verb::Watch).await;
    bed.service("web", &[2]).await;
    bed.until_addresses("web", &["192.0.2.2"]).await;
    mirror.stop().await;
}

/// Watches end, expire, are cut in the middle and refused, again and again.
#[tokio::test]
async fn watches_that_end_in_every_way_are_taken_up_for_ever() {
    let bed = Bed::new("watches").await;
    bed.service("web", &[1]).await;
    let (proxy, client) = bed.through_proxy().await;
    let mirror = bed.start_with(bed.config(), vec![Ok(client)]).await.ready().await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let faults = [
        Fault::CutBody(Duration::ZERO),
        Fault::ExpireWatch(Duration::ZERO),
        Fault::Answer(410),
        Fault::Answer(500),
        Fault::Answer(401),
        Fault::Reset,
    ];
    for (round, fault) in (2_u8..).zip(faults) {
        proxy.script(|call| call.verb == Verb::Watch, [Some(fault), Some(fault)]);
        proxy.interrupt(|call| call.verb == Verb::Watch, Fault::CutBody(Duration::ZERO));
        bed.service("web", &[round]).await;
        let expected = format!("192.0.2.{round}");
        bed.until_addresses("web", &[&expected]).await;
        proxy.clear();
    }
    mirror.stop().await;
}

/// Faults of the local API server delay mirrors and do nothing else.
#[tokio::test]
async fn writes_that_fail_in_every_way_are_repeated_until_they_are_done() {
    let bed = Bed::new("writes").await;
    let proxy = FaultProxy::start(local().await).await;
    let kubeconfig = proxy.kubeconfig(bed.writer.kubeconfig_path());
    let writer = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client;
    let mirror = crate::bed::start(bed.config(), writer, bed.readers(1).await).ready().await;
    let faults = [
        Fault::Answer(500),
        Fault::Answer(429),
        Fault::Answer(409),
        Fault::Answer(403),
        Fault::Reset,
        Fault::ResetAnswer,
    ];
    proxy.seeded(|call| call.writes(), 7, 40, faults);
    for host in 1..=5 {
        for name in ["a", "b", "c"] {
            bed.service(name, &[host]).await;
        }
    }
    for name in ["a", "b", "c"] {
        bed.until_addresses_within(Duration::from_secs(40), name, &["192.0.2.5"]).await;
    }
    bed.unservice("a").await;
    eventually!("the mirror of a to go", within Duration::from_secs(40), bed.mirror("a").await, Option::is_none);
    proxy.clear();
    mirror.stop().await;
}

/// Another cluster with a namespace of this name, and in it a Service `both` that has another endpoint.
async fn lookalike(other: &Cluster, namespace: &str) {
    let there = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: NAMESPACE}}\n---\n{}\n---\n{}",
        crate::bed::service("both", "ports: [{name: http, port: 80}]"),
        crate::bed::slice("both", "both", &[3])
    );
    other.apply_yaml(&there.replace("NAMESPACE", namespace)).await.expect("valid objects");
}

/// A kubeconfig that suddenly leads to another cluster: whatever that cluster has, no mirror is deleted or changed.
#[tokio::test]
async fn another_cluster_under_the_same_name_is_not_believed() {
    let bed = Bed::new("swapped").await;
    bed.service("gone", &[1]).await;
    bed.service("both", &[2]).await;
    // The local API server, used as a remote, has another `kube-system`.
    let other = local().await;
    lookalike(other, &bed.there).await;
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.until_addresses("gone", &["192.0.2.1"]).await;
    bed.until_addresses("both", &["192.0.2.2"]).await;
    let before = (bed.mirrored("gone").await, bed.mirrored("both").await);
    mirror.accesses[0].send(Ok(other.client().await)).expect("the mirror runs");
    bed.event("OtherClustersMirror", &bed.name("both")).await;
    assert_eq!((bed.mirrored("gone").await, bed.mirrored("both").await), before);
    assert_eq!(bed.addresses(&bed.name("both")).await, ["192.0.2.2"]);
    mirror.accesses[0].send(Ok(bed.reader.client().await)).expect("the mirror runs");
    bed.service("both", &[4]).await;
    bed.until_addresses("both", &["192.0.2.4"]).await;
    bed.unservice("gone").await;
    bed.until_gone("gone").await;
    mirror.stop().await;
}

/// A cluster that is rebuilt under its old address: the contents of the new one prove nothing about the old one.
#[tokio::test]
async fn another_cluster_under_the_same_address_is_not_believed() {
    let bed = Bed::new("rebuilt").await;
    bed.service("gone", &[1]).await;
    bed.service("both", &[2]).await;
    let other = local().await;
    lookalike(other, &bed.there).await;
    let ((old_line, old), new_line) = (bed.through_proxy().await, FaultProxy::start(other).await);
    let kubeconfig = new_line.kubeconfig(&other.kubeconfig_path());
    let new = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client;
    let rebuilt = Arc::new(AtomicBool::new(false));
    let address = tower::service_fn({
        let rebuilt = rebuilt.clone();
        move |request| {
            let client = if rebuilt.load(Ordering::SeqCst) { new.clone() } else { old.clone() };
            async move { client.send(request).await }
        }
    });
    let client = kube::Client::new(address, "default");
    let mirror = bed.start_with(bed.config(), vec![Ok(client)]).await.ready().await;
    bed.until_addresses("gone", &["192.0.2.1"]).await;
    bed.until_addresses("both", &["192.0.2.2"]).await;
    let before = (bed.mirrored("gone").await, bed.mirrored("both").await);
    rebuilt.store(true, Ordering::SeqCst);
    old_line.cut();
    bed.event("OtherClustersMirror", &bed.name("both")).await;
    assert_eq!((bed.mirrored("gone").await, bed.mirrored("both").await), before);
    assert_eq!(bed.addresses(&bed.name("both")).await, ["192.0.2.2"]);
    // The address was wrong from the start.
    rebuilt.store(false, Ordering::SeqCst);
    old_line.restore();
    new_line.cut();
    bed.service("both", &[4]).await;
    bed.until_addresses("both", &["192.0.2.4"]).await;
    bed.unservice("gone").await;
    bed.until_gone("gone").await;
    mirror.stop().await;
}
