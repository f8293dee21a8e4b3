//! The configuration of one remote cluster: its selected services, their mirrors, and the policy while it is unavailable.

use std::collections::BTreeMap;

use controlplane::client::remote::Access;
use mirror::{
    config::{Propagation, Zones},
    names::Scheme,
};
use runtime::config::{Node, Section};
use serde::Serialize;

use super::access;
use crate::settings::{List, mirror as settings};

/// One remote cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Remote {
    /// The mirroring of its Services, without the namespace, which is separate.
    pub(crate) mirror: mirror::config::Remote,
    /// The local namespace of its mirrors; by default the pod's.
    pub(crate) namespace: Option<String>,
    /// The access to it.
    pub(crate) access: Access,
    /// The DNS domain of its services.
    pub(crate) domain: String,
}

/// Reads one. None if a required setting is missing.
pub(super) fn read(node: &Node<'_>) -> Option<Remote> {
    let section = node.section();
    let prefix = settings::SVC_PREFIX.required(&section);
    let select = section.section("select");
    let selector = settings::LABEL_SELECTOR.required(&select);
    select.finish();
    let access = access::read(&section);
    let called = settings::REMOTE_NAME.read(&section);
    let namespace = settings::MIRROR_NS.read(&section);
    let given_domain = settings::REMOTE_DOMAIN.read(&section);
    let default = mirror::config::Remote::new("", "", "", "");
    let mirror = mirror::config::Remote {
        scheme: settings::NAMES.or(&section, Scheme::default()),
        namespaces: settings::NAMESPACES.read(&section),
        sync: settings::SVC_SYNC.or(&section, default.sync),
        stale: settings::STALE.or(&section, default.stale),
        lost_after: settings::LOST_AFTER.or(&section, default.lost_after),
        max_delete: settings::MAX_DELETE.or(&section, default.max_delete),
        confirm_after: settings::CONFIRM_AFTER.or(&section, default.confirm_after),
        external_names: settings::EXTERNAL_NAMES.or(&section, default.external_names),
        labels: propagation(section.section("labels"), &settings::LABELS, &settings::EXCLUDE_LABELS, default.labels),
        annotations: propagation(
            section.section("annotations"),
            &settings::ANNOTATIONS,
            &settings::EXCLUDE_ANNOTATIONS,
            default.annotations,
        ),
        zones: zones(&section),
        hints: hints(&section),
        traffic_distribution: settings::TRAFFIC_DISTRIBUTION.or(&section, default.traffic_distribution),
        former: settings::REMOTE_FORMER.read(&section),
        ..default
    };
    section.finish();
    let (prefix, selector, access) = (prefix?, selector?, access?);
    let domain = given_domain.unwrap_or_else(|| format!("cluster.{prefix}"));
    let mirror = mirror::config::Remote { name: called.unwrap_or_else(|| prefix.clone()), prefix, selector, ..mirror };
    Some(Remote { mirror, namespace, access, domain })
}

/// Which labels or annotations are copied.
fn propagation(section: Section<'_>, only: &List<String>, not: &List<String>, default: Propagation) -> Propagation {
    let include = if only.is_given(&section) { only.read(&section) } else { default.include };
    let read = Propagation { include, exclude: not.read(&section) };
    section.finish();
    read
}

/// `zones: keep` or `drop`, or `zone_map` with a local name for each.
fn zones(section: &Section<'_>) -> Zones {
    let map: Option<BTreeMap<String, String>> = section.optional("zone_map");
    match (map, settings::ZONES.read(section)) {
        (Some(_), Some(_)) => {
            settings::ZONES.problem(section, "there is a zone_map as well: leave one of them out");
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
