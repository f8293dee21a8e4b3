//! A selector that matches nothing in a remote causes one warning, with the existing Services.

use serde_json::json;

use super::bed::{Bed, endpoint};

const WARNING: &str = "so nothing is mirrored from there";

#[tokio::test]
async fn a_selector_that_matches_nothing_is_told_once_per_change_with_what_there_is() {
    let bed = Bed::start().await;
    let other = json!({
        "apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]},
        "metadata": {"name": "other", "namespace": bed.there, "labels": {"app": "other"}},
    });
    bed.remote.apply_yaml(&other.to_string()).await.expect("a valid service");
    let flags = [bed.what(), bed.with_all_rights(), vec![format!("-namespaces={}", bed.there)]];
    let mirror = bed.mirror(&flags, &[]);
    let told = mirror.stderr.wait("the warning", |log| log.contains(WARNING)).await;
    let line = told.lines().find(|line| line.contains(WARNING)).expect("the wait above ensures it");
    for part in [format!("with the labels bed={}", bed.here), format!("there are {}/other (app=other)", bed.there)] {
        assert!(line.contains(&part), "{part}: {line}");
    }

    // It matches, and then no longer.
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    bed.until_mirrored("web", &["192.0.2.1"]).await;
    assert_eq!(mirror.stderr.text().matches(WARNING).count(), 1, "{}", mirror.stderr.text());
    let web = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {}}}", bed.there);
    bed.remote.delete_yaml(&web).await.expect("it is there");
    mirror.stderr.wait("the second warning", |log| log.matches(WARNING).count() == 2).await;
}

#[tokio::test]
async fn a_dry_run_tells_it_too() {
    let bed = Bed::start().await;
    let flags = [bed.what(), bed.with_all_rights(), vec![format!("-namespaces={}", bed.there)]];
    let finished = bed.mirror(&flags, &["-dry-run"]).finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains(WARNING) && finished.stderr.contains("there are no Services"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.stdout.trim(), "unchanged 0");
}
