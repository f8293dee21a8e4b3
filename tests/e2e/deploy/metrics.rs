//! `docs/metrics.md` has exactly the metrics of the source and of a running process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use kubekit::cluster;
use rustix::process::Signal;
use testkit::client::{self, RawClient};

use super::{
    every_role::{self, EveryRole},
    path, read,
};

/// A metric of the reference or of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) labels: BTreeSet<String>,
}

/// The metrics that the reference has.
pub(super) fn documented() -> BTreeMap<String, Family> {
    let text = read("docs/metrics.md");
    let mut families = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", name, kind, labels, meaning, ""] = cells.as_slice() else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let before = families.insert(name.to_owned(), Family { kind: (*kind).to_owned(), labels });
        assert!(before.is_none(), "{name} comes twice");
    }
    assert!(families.len() > 20, "the tables are read: {families:?}");
    families
}

/// The names in the source: constants of the data plane, and literals with our prefix.
fn in_source() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in [
        "src",
        "snapshot/src",
        "runtime/src",
        "access/src",
        "redeliver/src",
        "proxy/src",
        "controlplane/src",
        "export/src",
        "mirror/src",
        "sidecar/src",
    ] {
        collect(&path(folder), &mut names);
    }
    // Metrics with the names of other tools.
    for kept in ["proxy/src/metrics.rs", "controlplane/src/metrics.rs"].map(read) {
        let constants =
            kept.lines().filter(|line| line.trim_start().starts_with("pub const ") && line.contains(": &str"));
        names.extend(constants.filter_map(|line| line.split('"').nth(1)).map(str::to_owned));
    }
    names
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source is text");
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            names.extend(words.filter(|word| word.starts_with("fanfare_")).map(str::to_owned));
            // Other process metrics have a common prefix, so only whole literals count.
            let literals = text.split('"').filter(|literal| literal.starts_with("process_"));
            let whole = |literal: &&str| literal.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            names.extend(literals.filter(whole).map(str::to_owned));
        }
    }
}

/// The metrics in a process's output.
///
/// # Panics
/// If a series occurs twice, or belongs to no metric.
fn shown(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            let family = Family { kind: kind.to_owned(), labels: BTreeSet::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
            continue;
        }
        let (sample, _value) = line.rsplit_once(' ').expect("a value");
        assert!(series.insert(sample), "the series {sample} is there twice");
        let name = sample.split('{').next().expect("a name");
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix).filter(|base| is_histogram(&families, base)))
            .unwrap_or(name);
        let family = families.get_mut(name).unwrap_or_else(|| panic!("{name} has no type"));
        family.labels.extend(labels(sample).into_iter().filter(|label| label != "le"));
    }
    families
}

fn is_histogram(families: &BTreeMap<String, Family>, name: &str) -> bool {
    families.get(name).is_some_and(|family| family.kind == "histogram")
}

/// The label names of a sample: the texts before `="`, outside of values.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let rest = rest.replace("\\\\", "").replace("\\\"", "");
    let outside = rest.split('"').step_by(2);
    outside.filter_map(|part| part.trim_start_matches(',').strip_suffix('=')).map(str::to_owned).collect()
}

#[test]
fn the_reference_has_every_metric_of_the_source_and_no_other() {
    let documented: BTreeSet<String> = documented().into_keys().collect();
    assert_eq!(documented, in_source());
}

/// Metrics that exist only with names to resolve, or with endpoints that speak HTTP/2, which this test does not have.
const RARE: [&str; 3] = ["fanfare_dns_lookups_total", "fanfare_grpc_legs_total", "fanfare_grpc_requests_total"];

/// Every label of a counter that has its values in the reference, with these: the counter, the label, a value.
fn documented_values() -> Vec<(String, String, String)> {
    let text = read("docs/metrics.md");
    let (_, table) = text.split_once("## Labels and their bounds").expect("it has the section");
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let counters: Vec<String> =
        documented().into_iter().filter(|(_, family)| family.kind == "counter").map(|(name, _)| name).collect();
    let mut found = Vec::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", label, values, ""] = cells.as_slice() else { continue };
        let Some((labels, metric)) = label.split_once(" of ").map(|(labels, metric)| (words(labels), words(metric)))
        else {
            continue;
        };
        // The values of two labels, in this order and separated by a semicolon.
        let values: Vec<Vec<String>> = values.split("; ").map(words).collect();
        for metric in metric.iter().filter(|metric| counters.contains(metric)) {
            for (label, values) in labels.iter().zip(&values) {
                found.extend(values.iter().map(|value| (metric.clone(), label.clone(), value.clone())));
            }
        }
    }
    assert!(found.len() > 30, "the table is read: {found:?}");
    found
}

#[tokio::test]
async fn a_process_shows_every_metric_with_its_type_and_its_labels() {
    let cluster = cluster::shared().await;
    let EveryRole { fanfare, .. } = &every_role::start(&cluster).await;
    // Before the first event: the statuses of the mirror's calls are not known before.
    let first = client::get(fanfare.admin(), "/metrics").await.complete().text();
    for (metric, label, value) in documented_values()
        .into_iter()
        .filter(|(metric, ..)| !RARE.contains(&metric.as_str()) && metric != "fanfare_mirror_api_calls_total")
    {
        let pair = format!("{label}=\"{value}\"");
        let there = first.lines().any(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&pair));
        assert!(there, "{metric}{{{pair}}} is not there from the start");
    }
    every_role::send_one_of_each(fanfare).await;
    let mut malformed = RawClient::connect(fanfare.address()).await;
    malformed.send(b"GET\r\n\r\n").await;
    malformed.read_response("GET").await.complete().expect_status(400);
    let endpoints = fanfare.listening("for endpoints").await;
    testkit::eventually!("a poll", client::get(endpoints, "/endpoints?wait=1ms").await.status, |status| *status == 200);
    fanfare.signal(Signal::HUP);

    let documented = documented();
    // What is not the same, of the process and of docs/metrics.md.
    let differences = async || {
        let mut shown = shown(&client::get(fanfare.admin(), "/metrics").await.complete().text());
        let mut documented = documented.clone();
        documented.retain(|name, _| shown.contains_key(name) || !RARE.contains(&name.as_str()));
        let same = |name: &String| shown.get(name) == documented.get(name);
        let names: BTreeSet<String> =
            shown.keys().chain(documented.keys()).filter(|name| !same(name)).cloned().collect();
        names.into_iter().map(|name| (shown.remove(&name), documented.remove(&name), name)).collect::<Vec<_>>()
    };
    // Some exist from an event on that may be under way.
    testkit::eventually!("the process to have what is documented", differences().await, Vec::is_empty);
}
