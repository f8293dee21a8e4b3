//! Merges Services of several remotes into a global one.
//!
//! Rule: it has the ports of all sources; where two conflict, and in everything that has only one value, the oldest Service wins
//! (then the remote configured first). It has the endpoints of all sources, each remote's in slices of its own, but no endpoint serves on
//! a port that means something else in its own cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use controlplane::index::ServiceKey;
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use super::{Desired, Peer, service, slices};
use crate::{
    config::Global,
    index::{Families, Kind, Origin, PortFacts, Slice},
    marks,
    refusal::Refusal,
    stale::Verdict,
};

/// The Service of one remote.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a, S> {
    pub(crate) peer: Peer<'a>,
    pub(crate) origin: &'a Origin,
    pub(crate) slices: Vec<S>,
    pub(crate) verdict: Verdict,
}

/// A conflict between two sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The remote whose Service loses.
    pub(crate) remote: String,
    /// What the conflict is about.
    pub(crate) about: ConflictKind,
}

/// What sources can conflict about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConflictKind {
    /// A port, as the loser has it.
    Port(String),
    /// The appProtocol of a port that is the same otherwise, as the loser has it.
    AppProtocol(String),
    /// The type: headless, alias or with an address.
    Type,
    /// Session affinity.
    SessionAffinity,
}

/// The global Service of these sources, which have the same namespace and name. `there` is the existing local Service: while some
/// sources are unknown it stays as it is, and the other sources have to fit its ports.
///
/// # Errors
/// Why there is none.
pub(crate) fn merge<S: AsRef<Slice>>(
    local: &ServiceKey,
    global: &Global,
    mut sources: Vec<Source<'_, S>>,
    untouched: Vec<String>,
    there: Option<&Service>,
) -> Result<Desired, Refusal> {
    let mut conflicts = Vec::new();
    sources.retain(|source| {
        let alias = matches!(source.origin.kind, Kind::ExternalName(_));
        if alias {
            conflicts.push(Conflict { remote: source.peer.config.name.clone(), about: ConflictKind::Type });
        }
        !alias
    });
    sources.sort_by_key(|source| (source.origin.created, source.peer.config.name.clone()));
    let Some(oldest) = sources.first() else { return Err(Refusal::ExternalName) };
    let (remote, origin) = (oldest.peer.config, oldest.origin);
    for source in &sources[1..] {
        let mut conflict = |about| conflicts.push(Conflict { remote: source.peer.config.name.clone(), about });
        if source.origin.kind != origin.kind {
            conflict(ConflictKind::Type);
        }
        if source.origin.affinity != origin.affinity {
            conflict(ConflictKind::SessionAffinity);
        }
    }
    let kept = there.filter(|_| !untouched.is_empty()).and_then(|there| there.spec.clone()?.ports);
    let mut ports = kept.unwrap_or_default();
    let served: Vec<Served> = sources.iter().map(|source| unite(&mut ports, source, &mut conflicts)).collect();
    let families = families(sources.iter().map(|source| &source.origin.families));
    let origin = Origin { families, ..origin.clone() };
    let annotations = BTreeMap::from([(marks::GLOBAL.to_owned(), origin.key.to_string())]);
    let service: Service = service::object(local, &global.prefix, remote, &origin, ports, annotations);
    let names: Served = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(name_of).collect();
    let mut all = Vec::new();
    for (source, served) in sources.iter().zip(&served) {
        // The global Service decides whether the slices are those of a headless Service.
        let like = Origin { kind: origin.kind.clone(), ..source.origin.clone() };
        let left_out: Served = source.origin.ports.iter().map(name_of).filter(|port| !served.contains(port)).collect();
        // A port that only the slices have does no harm, unless another remote's Service has one of that name.
        let wanted = |port: &PortFacts| {
            let port = (port.name.to_string(), port.protocol.to_string());
            served.contains(&port) || !(names.contains(&port) || left_out.contains(&port))
        };
        all.extend(slices::of(local, source.peer, &global.prefix, &like, &source.slices, wanted, source.verdict));
    }
    // Consumers use hints only where every endpoint has them.
    let hinted = |slice: &EndpointSlice| slice.endpoints.iter().all(|endpoint| endpoint.hints.is_some());
    if !all.iter().all(hinted) {
        all.iter_mut().flat_map(|slice| &mut slice.endpoints).for_each(|endpoint| endpoint.hints = None);
    }
    Ok(Desired { service, slices: all, untouched, dimmed: Vec::new(), conflicts })
}

/// Ports by name and protocol, by which slices are matched with Services.
type Served = BTreeSet<(String, String)>;

enum Joined {
    /// The port exists already. `agrees` says whether its appProtocol is the same.
    Known {
        agrees: bool,
    },
    New,
    Contradicts,
}

/// Adds the ports of a source. Returns those that its endpoints serve on.
fn unite<S>(ports: &mut Vec<ServicePort>, source: &Source<'_, S>, conflicts: &mut Vec<Conflict>) -> Served {
    let mut served = Served::new();
    for port in &source.origin.ports {
        let mut conflict = |about| conflicts.push(Conflict { remote: source.peer.config.name.clone(), about });
        match join(ports, port) {
            Joined::Known { agrees: true } => {}
            Joined::Known { agrees: false } => conflict(ConflictKind::AppProtocol(describe(port))),
            Joined::New => ports.push(port.clone()),
            Joined::Contradicts => {
                conflict(ConflictKind::Port(describe(port)));
                continue;
            }
        }
        served.insert(name_of(port));
    }
    served
}

fn name_of(port: &ServicePort) -> (String, String) {
    (port.name.clone().unwrap_or_default(), port.protocol.clone().unwrap_or_else(|| "TCP".into()))
}

/// Whether a port can be added to those that exist already.
fn join(ports: &[ServicePort], port: &ServicePort) -> Joined {
    let protocol = |port: &ServicePort| name_of(port).1;
    // Only a Service's single port may have no name.
    let unnamed = !ports.is_empty() && ports.iter().chain([port]).any(|port| port.name.is_none());
    let same_name = ports.iter().find(|other| other.name == port.name);
    let same_number = ports.iter().find(|other| other.port == port.port && protocol(other) == protocol(port));
    match (same_name, same_number) {
        (None, None) if !unnamed => Joined::New,
        (Some(one), Some(other)) if std::ptr::eq(one, other) => {
            Joined::Known { agrees: one.app_protocol == port.app_protocol }
        }
        _ => Joined::Contradicts,
    }
}

fn families<'a>(all: impl Iterator<Item = &'a Families>) -> Families {
    let mut merged = Families::Unknown;
    for one in all {
        merged = match (merged, one) {
            (Families::Unknown, one) => one.clone(),
            (merged, Families::Unknown) => merged,
            (merged, one) if merged == *one => merged,
            _ => Families::Dual,
        };
    }
    merged
}

fn describe(port: &ServicePort) -> String {
    let name = port.name.as_deref().unwrap_or("(unnamed)");
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.app_protocol {
        Some(app) => format!("{name} {}/{protocol} ({app})", port.port),
        None => format!("{name} {}/{protocol}", port.port),
    }
}

impl ConflictKind {
    /// The reason of the condition, as the Multi-Cluster Services API calls it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Port(_) | Self::AppProtocol(_) => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = &self.remote;
        match &self.about {
            ConflictKind::Port(port) => write!(
                f,
                "port {port} of {remote} contradicts an older Service and is left out: its endpoints get no traffic for it"
            ),
            ConflictKind::AppProtocol(port) => {
                write!(f, "port {port} of {remote} has another appProtocol than an older Service, which has its way")
            }
            ConflictKind::Type => write!(
                f,
                "the Service of {remote} is of another type (headless, alias or with an address) than the oldest one"
            ),
            ConflictKind::SessionAffinity => {
                write!(f, "the Service of {remote} has another session affinity than the oldest one")
            }
        }
    }
}
