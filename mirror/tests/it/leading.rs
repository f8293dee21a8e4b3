//! Only the leader writes, and a dry run writes nothing at all.

use std::time::Duration;

use controlplane::lease::{self, Elector, LockKind, Timing};
use kubekit::fault_proxy::FaultProxy;
use mirror::{
    Verb,
    config::{Config, MaxDelete},
};
use runtime::drain::Drain;
use testkit::eventually;

use crate::bed::{self, Bed, local, service, slice};

impl Bed {
    /// A candidate for the lease of this bed.
    async fn candidate(&self, identity: &str) -> (Elector, lease::Leadership) {
        let config = lease::Config {
            name: "mirror".into(),
            namespace: self.here.clone(),
            lock: LockKind::Leases,
            identity: identity.into(),
            // Long enough for a busy machine: who leads changes only at the end of the first one.
            timing: Timing::from_ttl(Duration::from_secs(15)).expect("a valid ttl"),
        };
        let elector = Elector::new(config, self.writer.client().await).expect("a valid configuration");
        let leadership = elector.election().leadership();
        (elector, leadership)
    }
}

#[tokio::test]
async fn rule_5_of_the_invariants_who_does_not_lead_writes_nothing_and_takes_over_when_it_does() {
    let bed = Bed::new("leads").await;
    bed.service("web", &[1]).await;
    let (first, leads) = bed.candidate("first").await;
    let end = Drain::new();
    let first = tokio::spawn(first.run(end.watch()));
    eventually!("the first to lead", leads.claim().is_ok(), |leads| *leads);

    let (second, leadership) = bed.candidate("second").await;
    let other_end = Drain::new();
    let second = tokio::spawn(second.run(other_end.watch()));
    let proxy = FaultProxy::start(local().await).await;
    let kubeconfig = proxy.kubeconfig(bed.writer.kubeconfig_path());
    let writer = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client;
    let mirror = bed::start_as(bed.config(), writer, bed.readers(1).await, leadership).ready().await;
    bed.service("web", &[2]).await;
    let known = || mirror.health.report()["remotes"]["west"]["services"].clone();
    eventually!("it to know", known(), |count| *count == 1);
    // A query of one's own rights is a POST that changes nothing.
    let writes = || proxy.count(|call| call.writes() && call.resource != "selfsubjectaccessreviews");
    assert_eq!(writes(), 0);
    end.start();
    first.await.expect("it does not panic");
    bed.until_addresses("web", &["192.0.2.2"]).await;
    assert!(writes() >= 2);
    mirror.stop().await;
    other_end.start();
    second.await.expect("it does not panic");
}

#[tokio::test]
async fn a_dry_run_says_everything_and_does_nothing() {
    let bed = Bed::new("dry").await;
    for name in ["same", "changes", "goes", "held"] {
        bed.service(name, &[1]).await;
    }
    let mirror = bed.start(bed.config()).await;
    for name in ["same", "changes", "goes", "held"] {
        bed.until_addresses(name, &["192.0.2.1"]).await;
    }
    mirror.stop().await;
    bed.put(&slice("changes", "changes", &[2])).await;
    bed.unservice("goes").await;
    bed.service("new", &[3]).await;
    bed.put(&service("alias", "type: ExternalName, externalName: example.com")).await;
    bed.service("taken", &[4]).await;
    let (taken, adopted) = (bed.name("taken"), bed.name("adopted"));
    bed.service("adopted", &[5]).await;
    bed.put_here(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {taken}, namespace: NAMESPACE}}\nspec: {{ports: [{{port: 1}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {adopted}, namespace: NAMESPACE, labels: {{mirrored-svc: 'true', \
         mirror-svc-prefix-sync: west}}}}\nspec: {{ports: [{{port: 1}}]}}"
    ))
    .await;
    let versions = async || -> Vec<_> {
        let all = bed.services().list(&Default::default()).await.expect("services can be listed").items;
        all.into_iter().map(|service| (service.metadata.name, service.metadata.resource_version)).collect()
    };
    let before = versions().await;
    let plan = async |config: Config| -> Vec<(Verb, String)> {
        let report = bed.plan(config).await;
        assert!(report.problems.is_empty(), "{report}");
        assert_eq!(report.unchanged, 2, "{report}");
        let mut all: Vec<_> = report.entries.into_iter().map(|entry| (entry.verb, entry.service)).collect();
        all.sort();
        all
    };
    let of = |verb, name: &str| (verb, format!("{}/{}", bed.here, bed.name(name)));
    let expected = |removal| {
        let mut all = vec![
            of(Verb::Create, "new"),
            of(Verb::Adopt, "adopted"),
            of(Verb::Change, "changes"),
            of(removal, "goes"),
            of(Verb::Refuse, "alias"),
            of(Verb::Refuse, "taken"),
        ];
        all.sort();
        all
    };
    assert_eq!(plan(bed.config()).await, expected(Verb::Delete));
    let mut strict = bed.config();
    strict.remotes[0].max_delete = MaxDelete::Count(0);
    assert_eq!(plan(strict).await, expected(Verb::Hold));
    assert_eq!(versions().await, before);
}
