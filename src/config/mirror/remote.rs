//! One remote cluster: which of its services are mirrored, as what, and what becomes of them while it is away.

use std::{collections::BTreeMap, time::Duration};

use mirror::{
    config::{ExternalNames, Propagation, Zones},
    names::Scheme,
};
use runtime::{
    config::{Node, Section},
    duration,
};
use serde::Serialize;

use super::{Access, access, domain, switch};
use crate::config::values::{name, split, text};

/// One remote cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Remote {
    /// What becomes of its Services, but for the namespace, which stands beside it.
    pub(crate) mirror: mirror::config::Remote,
    /// Where its mirrors are here; none: in the pod's own namespace.
    pub(crate) namespace: Option<String>,
    /// How it is reached.
    pub(crate) access: Access,
    /// The domain under which its services are asked for.
    pub(crate) domain: String,
}

/// Reads one. Nothing where something is missing that everything hangs on.
pub(super) fn read(node: &Node<'_>) -> Option<Remote> {
    let section = node.section();
    let prefix = section.required_with("prefix", text);
    let select = section.section("select");
    let selector = select.required_with("labels", text);
    select.finish();
    let access = access::read(&section);
    let called = section.parse_with("name", text);
    let namespace = section.parse_with("namespace", name);
    let given_domain = section.parse_with("domain", domain);
    let default = mirror::config::Remote::new("", "", "", "");
    let mirror = mirror::config::Remote {
        scheme: section.or_default_with("names", Scheme::default(), str::parse),
        namespaces: split(&section, &["namespaces"], name),
        sync: section.or_default_with("sync", default.sync, switch),
        stale: section.or_default_with("stale", default.stale, str::parse),
        lost_after: section.or_default_with("lost_after", default.lost_after, duration::parse),
        max_delete: section.or_default_with("max_delete", default.max_delete, str::parse),
        confirm_after: section.or_default_with("confirm_after", default.confirm_after, confirm_after),
        external_names: section.or_default_with("external_names", default.external_names, external_names),
        labels: propagation(&section, "labels", default.labels),
        annotations: propagation(&section, "annotations", default.annotations),
        zones: zones(&section),
        hints: hints(&section),
        traffic_distribution: section.or_default_with("traffic_distribution", default.traffic_distribution, switch),
        former: split(&section, &["former"], text),
        ..default
    };
    section.finish();
    let (prefix, selector, access) = (prefix?, selector?, access?);
    let domain = given_domain.unwrap_or_else(|| format!("cluster.{prefix}"));
    let mirror = mirror::config::Remote { name: called.unwrap_or_else(|| prefix.clone()), prefix, selector, ..mirror };
    Some(Remote { mirror, namespace, access, domain })
}

fn confirm_after(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        _ => duration::parse(text).map(Some).map_err(|error| error.to_string()),
    }
}

fn external_names(text: &str) -> Result<ExternalNames, String> {
    match text {
        "refuse" => Ok(ExternalNames::Refuse),
        "copy" => Ok(ExternalNames::Copy),
        _ => Err(format!("{text:?} is neither refuse nor copy")),
    }
}

/// Which labels or annotations are copied.
fn propagation(section: &Section<'_>, key: &str, default: Propagation) -> Propagation {
    let section = section.section(key);
    let mut include = split(&section, &["include"], text);
    if !section.contains("include") {
        include = default.include;
    }
    let read = Propagation { include, exclude: split(&section, &["exclude"], text) };
    section.finish();
    read
}

/// `zones: keep` or `drop`, or `zone_map` with a local name for each.
fn zones(section: &Section<'_>) -> Zones {
    let map: Option<BTreeMap<String, String>> = section.optional("zone_map");
    let node = section.get("zones");
    let zones = node.parse_with(|text| match text {
        "keep" => Ok(Zones::Keep),
        "drop" => Ok(Zones::Drop),
        _ => Err(format!("{text:?} is neither keep nor drop; other names for zones stand under zone_map")),
    });
    match (map, zones) {
        (Some(_), Some(_)) => {
            node.problem("there is a zone_map as well: leave one of them out");
            Zones::Keep
        }
        (Some(map), None) => Zones::Map(map),
        (None, zones) => zones.unwrap_or_default(),
    }
}

/// For each remote zone the local ones that should use its endpoints: a list, or one of them.
fn hints(section: &Section<'_>) -> BTreeMap<String, Vec<String>> {
    section.or_default("hints", BTreeMap::new())
}
