//! The desired state of a mirror: from a remote Service and its slices to the local Service and its slices.
//!
//! Pure. The same endpoints give the same slices, however the remote's slices were cut.

mod cut;
mod merge;
mod service;
mod slices;

use controlplane::index::ServiceKey;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
pub(crate) use merge::{Conflict, Source, merge};

use crate::{
    config::{ExternalNames, Remote},
    index::{Families, Kind, Origin, Slice},
    refusal::Refusal,
    stale::Verdict,
};

/// The desired state of a mirror.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// The Service.
    pub(crate) service: Service,
    /// Its slices, without an owner, because the UID of the local Service is not known yet.
    pub(crate) slices: Vec<EndpointSlice>,
    /// Remotes (by name) whose slices are left alone, because there is no complete list of them.
    pub(crate) untouched: Vec<String>,
    /// Of these, the remotes that have been unavailable for too long, whose endpoints become not ready.
    pub(crate) dimmed: Vec<String>,
    /// The conflicts between its sources.
    pub(crate) conflicts: Vec<Conflict>,
}

/// The facts about a remote that its mirrors depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    /// What is configured.
    pub(crate) config: &'a Remote,
    /// The UID of its `kube-system`; `None` where that cannot be read.
    pub(crate) cluster: Option<&'a str>,
}

/// The mirror of one remote Service.
///
/// # Errors
/// Why there is none.
pub(crate) fn mirror(
    local: &ServiceKey,
    peer: Peer<'_>,
    origin: &Origin,
    slices: &[impl AsRef<Slice>],
    verdict: Verdict,
) -> Result<Desired, Refusal> {
    if matches!(origin.kind, Kind::ExternalName(_)) && peer.config.external_names == ExternalNames::Refuse {
        return Err(Refusal::ExternalName);
    }
    let service = service::plain(local, peer, origin);
    let slices = slices::of(local, peer, &peer.config.prefix, origin, slices, |_port| true, verdict);
    Ok(Desired { service, slices, untouched: Vec::new(), dimmed: Vec::new(), conflicts: Vec::new() })
}

/// The IP family policy and the families of a mirror. A mirror with only IPv4 endpoints gets no IPv6 address, behind which nothing
/// would answer.
fn families(of: &Families) -> (Option<String>, Option<Vec<String>>) {
    match of {
        Families::Single(family) => (Some("SingleStack".into()), Some(vec![family.clone()])),
        Families::Dual => (Some("PreferDualStack".into()), None),
        Families::Unknown => (None, None),
    }
}

#[cfg(test)]
mod tests;
