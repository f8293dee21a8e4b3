//! Mirrors follow their remote Services: changes of type, new UIDs, new names, deletion.

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams};
use mirror::{config::ExternalNames, marks};
use testkit::eventually;

use crate::bed::{Bed, label, service, slice};

#[tokio::test]
async fn a_service_that_becomes_headless_and_back_is_recreated() {
    let bed = Bed::new("flip").await;
    bed.service("web", &[1]).await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let first = bed.mirrored("web").await;
    let services: Api<Service> = Api::namespaced(bed.theirs.clone(), &bed.there);
    for headless in [true, false] {
        services.delete("web", &DeleteParams::default()).await.expect("it is there");
        let spec = if headless {
            "clusterIP: None, ports: [{name: http, port: 80}]"
        } else {
            "ports: [{name: http, port: 80}]"
        };
        bed.put(&service("web", spec)).await;
        let flipped = |mirror: &Option<Service>| {
            let spec = mirror.as_ref().and_then(|mirror| mirror.spec.as_ref());
            spec.is_some_and(|spec| (spec.cluster_ip.as_deref() == Some("None")) == headless)
        };
        eventually!("the mirror to flip", bed.mirror("web").await, flipped);
        bed.until_addresses("web", &["192.0.2.1"]).await;
        let owned = async || {
            let uid = bed.mirrored("web").await.metadata.uid;
            let slices = bed.slices_of(&bed.name("web")).await;
            slices.len() == 1
                && slices.iter().all(|slice| {
                    let mut owners = slice.metadata.owner_references.iter().flatten();
                    let marked = label(slice.metadata.labels.as_ref(), marks::HEADLESS).is_some();
                    owners.all(|owner| Some(&owner.uid) == uid.as_ref()) && marked == headless
                })
        };
        eventually!("its slices to be its own", owned().await, |owned| *owned);
    }
    assert_ne!(bed.mirrored("web").await.metadata.uid, first.metadata.uid);
}

/// While no mirror runs, so that only the UID shows the change.
#[tokio::test]
async fn a_service_that_was_deleted_and_made_again_is_seen_by_its_uid() {
    let bed = Bed::new("again").await;
    bed.service("web", &[1]).await;
    let mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let before = bed.mirrored("web").await;
    mirror.stop().await;
    bed.unservice("web").await;
    bed.service("web", &[2]).await;
    let theirs: Api<Service> = Api::namespaced(bed.theirs.clone(), &bed.there);
    let uid = theirs.get("web").await.expect("it is there").metadata.uid.expect("a UID");
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.2"]).await;
    let noted = |mirror: &Option<Service>| {
        mirror.as_ref().is_some_and(|mirror| label(mirror.metadata.annotations.as_ref(), marks::UID) == Some(&uid))
    };
    let after = eventually!("the new UID", bed.mirror("web").await, noted).expect("it is there");
    assert_eq!(after.metadata.uid, before.metadata.uid, "nothing changes for those who use it");
    let slices = bed.slices_of(&bed.name("web")).await;
    assert!(slices.iter().all(|slice| label(slice.metadata.labels.as_ref(), marks::SOURCE_UID) == Some(&uid)));
}

#[tokio::test]
async fn a_service_that_is_no_longer_selected_loses_its_mirror_at_once() {
    let bed = Bed::new("deselect").await;
    bed.service("web", &[1]).await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    bed.put(&service("web", "ports: [{name: http, port: 80}]").replace("mirror: 'true'", "mirror: 'false'")).await;
    bed.until_gone("web").await;
}

#[tokio::test]
async fn an_alias_is_refused_or_copied_and_may_become_a_service() {
    let bed = Bed::new("alias").await;
    let alias = service("alias", "type: ExternalName, externalName: example.com");
    bed.put(&alias).await;
    bed.service("control", &[1]).await;
    let mirror = bed.start(bed.config()).await;
    bed.event("InvalidServiceType", "ExternalName").await;
    bed.until_addresses("control", &["192.0.2.1"]).await;
    assert!(bed.mirror("alias").await.is_none());
    mirror.stop().await;

    let mut config = bed.config();
    config.remotes[0].external_names = ExternalNames::Copy;
    let _mirror = bed.start(config).await;
    let copied = bed.mirrored("alias").await.spec.expect("a spec");
    assert_eq!((copied.type_.as_deref(), copied.external_name.as_deref()), (Some("ExternalName"), Some("example.com")));
    // It becomes an ordinary one, then an alias again.
    let services: Api<Service> = Api::namespaced(bed.theirs.clone(), &bed.there);
    services.delete("alias", &DeleteParams::default()).await.expect("it is there");
    bed.service("alias", &[2]).await;
    bed.until_addresses("alias", &["192.0.2.2"]).await;
    assert_eq!(bed.mirrored("alias").await.spec.expect("a spec").type_.as_deref(), Some("ClusterIP"));
    services.delete("alias", &DeleteParams::default()).await.expect("it is there");
    bed.put(&alias).await;
    let is_alias = |mirror: &Option<Service>| {
        let spec = mirror.as_ref().and_then(|mirror| mirror.spec.as_ref());
        spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
    };
    eventually!("the alias", bed.mirror("alias").await, is_alias);
    eventually!("no slices", bed.slices_of(&bed.name("alias")).await, Vec::is_empty);
}

#[tokio::test]
async fn a_mirror_of_a_mirror_is_not_made() {
    let bed = Bed::new("loop").await;
    let own =
        service("west-x", "ports: [{port: 80}]").replace("mirror: 'true'", "mirror: 'true', mirrored-svc: 'true'");
    bed.put(&own).await;
    bed.service("web", &[1]).await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    assert!(bed.mirror("west-x").await.is_none());
}

/// The garbage collector deletes the slices of a mirror, also of one that a user deletes while no mirror runs.
#[tokio::test]
async fn slices_go_with_their_service_even_while_no_mirror_runs() {
    let bed = Bed::new("garbage").await;
    bed.service("web", &[1]).await;
    let mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    mirror.stop().await;
    bed.services().delete(&bed.name("web"), &DeleteParams::default()).await.expect("it is there");
    bed.until_gone("web").await;
}

#[tokio::test]
async fn endpoints_move_between_slices_without_being_away() {
    let bed = Bed::new("moves").await;
    bed.service("web", &[1]).await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let name = bed.name("web");
    // It grows past one slice, in steps; the first endpoint is in a slice at every moment.
    for round in 0..3_u8 {
        let hosts: Vec<u8> = (1..=90).collect();
        let more: Vec<String> = (1..=80).map(|n| format!("{{addresses: ['2001:db8::1{round}:{n}']}}")).collect();
        bed.put(&slice("web", "web", &hosts)).await;
        let six = slice(&format!("web-{round}"), "web", &[]).replace("IPv4", "IPv6");
        bed.put(&six.replace("endpoints: []", &format!("endpoints: [{}]", more.join(", ")))).await;
        let expected = 90 + 80 * (usize::from(round) + 1);
        let count = eventually!("all endpoints", bed.addresses(&name).await, |all| {
            assert!(all.contains(&"192.0.2.1".to_owned()), "the first endpoint is away");
            all.len() == expected
        });
        assert_eq!(count.len(), expected);
    }
    let slices = bed.slices_of(&name).await;
    assert!(slices.iter().all(|slice| slice.endpoints.len() <= 100), "{slices:?}");
    assert!(slices.len() >= 4, "{}", slices.len());
    assert_eq!(bed.endpoints().get_opt(&name).await.expect("readable"), None, "never v1 Endpoints");
}

#[tokio::test]
async fn an_end_in_order_is_no_failure() {
    let bed = Bed::new("ends").await;
    // The order in which two concurrent changes are seen is random.
    for _ in 0..40 {
        let mirror = bed.start(bed.config()).await;
        let health = mirror.health.clone();
        mirror.stop().await;
        assert_eq!(health.check(), Ok(()));
    }
}
