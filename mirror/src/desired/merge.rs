//! Services of several remotes as one.
//!
//! Rule: the ports are all there are; where two contradict each other, and in everything that can only be one way, the
//! oldest Service wins (then the remote named first). The endpoints are all there are, each remote's in slices of its own,
//! but none serves on a port that means something else in its own cluster.

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

/// What one remote contributes.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a, S> {
    pub(crate) peer: Peer<'a>,
    pub(crate) origin: &'a Origin,
    pub(crate) slices: Vec<S>,
    pub(crate) verdict: Verdict,
}

/// Two Services that cannot both have their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The remote that has its way not.
    pub(crate) remote: String,
    /// About what.
    pub(crate) about: About,
}

/// What can be contradictory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A port: described as the loser has it.
    Port(String),
    /// What is spoken on a port that is the same otherwise: described as the loser has it.
    AppProtocol(String),
    /// Headless, alias or with an address.
    Type,
    /// Session affinity.
    SessionAffinity,
}

/// The global Service of these sources, which opted in under one namespace and name. `there` is the Service as it is here;
/// it stays so while some of its sources are not known, and its ports are those that the others have to fit.
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
            conflicts.push(Conflict { remote: source.peer.config.name.clone(), about: About::Type });
        }
        !alias
    });
    sources.sort_by_key(|source| (source.origin.created, source.peer.config.name.clone()));
    let Some(oldest) = sources.first() else { return Err(Refusal::ExternalName) };
    let (remote, origin) = (oldest.peer.config, oldest.origin);
    for source in &sources[1..] {
        let mut conflict = |about| conflicts.push(Conflict { remote: source.peer.config.name.clone(), about });
        if source.origin.kind != origin.kind {
            conflict(About::Type);
        }
        if source.origin.affinity != origin.affinity {
            conflict(About::SessionAffinity);
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
        // Whether they are those of a headless Service is for the global one to say.
        let like = Origin { kind: origin.kind.clone(), ..source.origin.clone() };
        let left_out: Served = source.origin.ports.iter().map(name_of).filter(|port| !served.contains(port)).collect();
        // What is in the slices alone is nobody's business, unless another remote's Service gives it a meaning.
        let wanted = |port: &PortFacts| {
            let port = (port.name.to_string(), port.protocol.to_string());
            served.contains(&port) || !(names.contains(&port) || left_out.contains(&port))
        };
        all.extend(slices::of(local, source.peer, &global.prefix, &like, &source.slices, wanted, source.verdict));
    }
    // Hints count only where every endpoint has them.
    let hinted = |slice: &EndpointSlice| slice.endpoints.iter().all(|endpoint| endpoint.hints.is_some());
    if !all.iter().all(hinted) {
        all.iter_mut().flat_map(|slice| &mut slice.endpoints).for_each(|endpoint| endpoint.hints = None);
    }
    Ok(Desired { service, slices: all, untouched, dimmed: Vec::new(), conflicts })
}

/// Ports by name and protocol, which is how slices go with Services.
type Served = BTreeSet<(String, String)>;

enum Joined {
    /// It is there. `agrees`: what is spoken on it is the same as well.
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
            Joined::Known { agrees: false } => conflict(About::AppProtocol(describe(port))),
            Joined::New => ports.push(port.clone()),
            Joined::Contradicts => {
                conflict(About::Port(describe(port)));
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

/// How a port goes together with those that are there already.
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

impl About {
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
            About::Port(port) => write!(
                f,
                "port {port} of {remote} contradicts an older Service and is left out: its endpoints get no traffic for it"
            ),
            About::AppProtocol(port) => {
                write!(f, "port {port} of {remote} has another appProtocol than an older Service, which has its way")
            }
            About::Type => write!(
                f,
                "the Service of {remote} is of another type (headless, alias or with an address) than the oldest one"
            ),
            About::SessionAffinity => {
                write!(f, "the Service of {remote} has another session affinity than the oldest one")
            }
        }
    }
}
