//! Rule 4: deletions that the watch reports apply at once; those inferred from a list are guarded.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, ListParams};
use mirror::{
    Verb,
    config::{Config, MaxDelete},
};
use testkit::eventually;

use crate::bed::{Bed, Running, service};

/// More than the default limit of ten.
const MANY: usize = 12;

impl Bed {
    /// Makes remote Services `s0` and following, and waits for their mirrors.
    async fn many(&self, mirror: Running) -> Running {
        let all: Vec<String> = (0..MANY).map(|n| service(&format!("s{n}"), "ports: [{port: 80}]")).collect();
        self.put(&all.join("\n---\n")).await;
        eventually!("all mirrors", self.mirrors().await.len(), |count| *count == MANY);
        mirror
    }

    async fn mirrors(&self) -> Vec<String> {
        let all = self.services().list(&ListParams::default()).await.expect("services can be listed").items;
        all.into_iter().filter_map(|service| service.metadata.name).collect()
    }

    async fn remove_all(&self) {
        let services: Api<Service> = Api::namespaced(self.theirs.clone(), &self.there);
        for n in 0..MANY {
            services.delete(&format!("s{n}"), &DeleteParams::default()).await.expect("it is there");
        }
    }

    /// Shows that the mirror still works, by a new Service.
    async fn works(&self) {
        self.service("control", &[7]).await;
        self.until_addresses("control", &["192.0.2.7"]).await;
    }
}

#[tokio::test]
async fn rule_4_deletions_that_the_watch_tells_happen_at_once_however_many() {
    let bed = Bed::new("told").await;
    let _mirror = bed.many(bed.start(bed.config()).await.ready().await).await;
    bed.remove_all().await;
    eventually!("all mirrors to go", bed.mirrors().await, Vec::is_empty);
}

/// A selector that was changed by mistake looks the same.
#[tokio::test]
async fn rule_4_deletions_that_a_list_implies_are_held_back_if_they_are_too_many() {
    let bed = Bed::new("implied").await;
    bed.many(bed.start(bed.config()).await.ready().await).await.stop().await;
    bed.remove_all().await;

    let report = bed.plan(bed.config()).await;
    assert_eq!(report.entries.iter().filter(|entry| entry.verb == Verb::Hold).count(), MANY, "{report}");
    let held = bed.start(bed.config()).await.ready().await;
    eventually!("the held ones to be told", held.health.report()["held_deletions"].clone(), |held| *held == MANY);
    bed.works().await;
    assert_eq!(bed.mirrors().await.len(), MANY + 1);
    held.stop().await;

    let mut config = bed.config();
    config.remotes[0].max_delete = MaxDelete::Count(MANY - 1);
    let held = bed.start(config.clone()).await.ready().await;
    eventually!("the held ones to be told", held.health.report()["held_deletions"].clone(), |held| *held == MANY);
    held.stop().await;
    config.remotes[0].max_delete = MaxDelete::Count(MANY);
    let _mirror = bed.start(config).await;
    let name = bed.name("control");
    eventually!("all but one to go", bed.mirrors().await, |left| *left == [name.clone()]);
}

#[tokio::test]
async fn rule_4_held_deletions_are_applied_if_they_stay_due() {
    let bed = Bed::new("confirm").await;
    bed.many(bed.start(bed.config()).await.ready().await).await.stop().await;
    bed.remove_all().await;
    let mut config = bed.config();
    config.remotes[0].confirm_after = Some(Duration::from_secs(5));
    let mirror = bed.start(config).await.ready().await;
    eventually!("them to be held", mirror.health.report()["held_deletions"].clone(), |held| *held == MANY);
    eventually!("all mirrors to go", bed.mirrors().await, Vec::is_empty);
}

/// A held mirror whose Service comes back is an ordinary mirror again.
#[tokio::test]
async fn rule_4_a_service_that_returns_cancels_its_deletion() {
    let bed = Bed::new("back").await;
    bed.many(bed.start(bed.config()).await.ready().await).await.stop().await;
    let uids = async || -> Vec<_> {
        let all = bed.services().list(&ListParams::default()).await.expect("services can be listed").items;
        all.into_iter().map(|service| service.metadata.uid).collect()
    };
    let before = uids().await;
    bed.remove_all().await;
    let mirror = bed.start(bed.config()).await.ready().await;
    eventually!("them to be held", mirror.health.report()["held_deletions"].clone(), |held| *held == MANY);
    let _mirror = bed.many(mirror).await;
    let mirror = &_mirror;
    eventually!("none to be held", mirror.health.report()["held_deletions"].clone(), |held| *held == 0);
    assert_eq!(uids().await, before);
}

/// `-svc-sync=false`: mirrors of Services that were deleted unobserved stay; those of Services that this process has seen are
/// deleted.
#[tokio::test]
async fn without_sync_only_what_this_process_saw_is_deleted() {
    let bed = Bed::new("nosync").await;
    bed.service("before", &[1]).await;
    bed.service("after", &[2]).await;
    let mirror = bed.start(bed.config()).await;
    bed.until_addresses("before", &["192.0.2.1"]).await;
    bed.until_addresses("after", &["192.0.2.2"]).await;
    mirror.stop().await;
    bed.unservice("before").await;
    let config = |sync| -> Config {
        let mut config = bed.config();
        config.remotes[0].sync = sync;
        config
    };
    let mirror = bed.start(config(false)).await.ready().await;
    bed.unservice("after").await;
    bed.until_gone("after").await;
    assert!(bed.mirror("before").await.is_some(), "this process never saw it exist");
    mirror.stop().await;
    let _mirror = bed.start(config(true)).await;
    bed.until_gone("before").await;
}
