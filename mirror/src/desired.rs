//! What a mirror is to be: from a remote Service and its slices to the local Service and its slices.
//!
//! Pure. The same endpoints give the same slices, whatever slices they came in.

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

/// A mirror as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// The Service.
    pub(crate) service: Service,
    /// Its slices, still without an owner: the Service's UID here is not known to this.
    pub(crate) slices: Vec<EndpointSlice>,
    /// Remotes (by name) whose slices stay as they are, because nothing complete is known.
    pub(crate) untouched: Vec<String>,
    /// Of these, the remotes whose endpoints are not ready any more, because they are away for too long.
    pub(crate) dimmed: Vec<String>,
    /// What its sources disagree about.
    pub(crate) conflicts: Vec<Conflict>,
}

/// One remote, for the purpose of its mirrors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    /// What is configured.
    pub(crate) config: &'a Remote,
    /// The UID of its `kube-system`; none where that cannot be read.
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

/// The IP family policy and the families that a mirror asks for. One that only IPv4 endpoints are behind gets no IPv6
/// address that answers nothing.
fn families(of: &Families) -> (Option<String>, Option<Vec<String>>) {
    match of {
        Families::Single(family) => (Some("SingleStack".into()), Some(vec![family.clone()])),
        Families::Dual => (Some("PreferDualStack".into()), None),
        Families::Unknown => (None, None),
    }
}

#[cfg(test)]
mod tests;
