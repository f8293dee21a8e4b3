//! The steps from the actual to the desired state of one mirror.
//!
//! Pure. Rules: objects of others are never changed, not even a label. Our objects are written as a whole, which reverts edits of
//! others, and only in the version that was read.

mod overlay;

use std::collections::BTreeMap;

use controlplane::index::ServiceKey;
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use crate::{
    desired::Desired,
    live::{Live, LiveService, LiveSlice, Owner, Ownership, Version, slice_digest},
    marks,
    refusal::Refusal,
};

/// The step for the Service.
#[derive(Clone, Debug)]
pub(crate) enum ServiceStep {
    /// Nothing, because it is in its desired state.
    Keep,
    /// Create it.
    Create(Box<Service>),
    /// Update an older tool's Service, which is ours by its labels; the names are those of the fields that differ. This is the last step,
    /// after the deletion of the older tool's v1 Endpoints, so that an interrupted adoption is recognised and continued.
    Adopt(Box<Service>, Vec<String>),
    /// Update it; the names are those of the fields that differ.
    Update(Box<Service>, Vec<String>),
    /// Delete this version and create it anew, because it cannot be changed into its desired state.
    Recreate {
        /// This version.
        at: Version,
        /// Its desired state.
        service: Box<Service>,
        /// Why it cannot be changed.
        why: &'static str,
        /// Whether it is an older tool's: see [`ServiceStep::Adopt`].
        adopts: bool,
    },
    /// Wait until it has been deleted.
    Going,
    /// Leave it alone.
    Refuse(Refusal),
}

/// The step for one slice.
#[derive(Clone, Debug)]
pub(crate) enum SliceStep {
    /// Create it.
    Create(Box<EndpointSlice>),
    /// Update it.
    Update(Box<EndpointSlice>),
    /// Delete this version.
    Delete(String, Version),
    /// Leave it alone.
    Refuse(Refusal),
}

/// What other controllers made of a mirror that had v1 Endpoints or a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Whether there are v1 Endpoints to be deleted: their slices would stay beside ours and never be updated.
    pub(crate) endpoints: bool,
    /// Slices that no controller maintains any more.
    pub(crate) slices: Vec<(String, Version)>,
}

/// What is deleted where there is to be no mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// There is nothing of ours.
    Nothing,
    /// Delete this version of the Service. The garbage collector takes its slices.
    Service(Version),
    /// These slices, because there is no Service with which they would be garbage collected.
    Slices(Vec<(String, Version)>),
}

/// The step for the Service. `written` is the UID of the Service that this process itself made or adopted here.
pub(crate) fn service(
    desired: &Desired,
    local: &ServiceKey,
    live: Option<&LiveService>,
    owner: Owner<'_>,
    written: Option<&str>,
) -> ServiceStep {
    let Some(live) = live else { return ServiceStep::Create(Box::new(desired.service.clone())) };
    let adopt = match owner.owns(&live.object) {
        Ownership::Ours => false,
        Ownership::Adoptable => true,
        Ownership::OtherCluster(cluster) => {
            return ServiceStep::Refuse(Refusal::OtherCluster { service: local.clone(), cluster });
        }
        Ownership::Foreign if made_here(&live.object, owner, written) => false,
        Ownership::Foreign => return ServiceStep::Refuse(Refusal::Foreign(local.clone())),
    };
    if live.is_going() {
        return ServiceStep::Going;
    }
    // Some of its sources are not known yet, so that the desired state would be incomplete.
    if !desired.untouched.is_empty() {
        return ServiceStep::Keep;
    }
    if let Some(why) = overlay::cannot_become(&live.object, &desired.service) {
        return ServiceStep::Recreate { at: live.at(), service: Box::new(desired.service.clone()), why, adopts: adopt };
    }
    let merged = overlay::merge(&desired.service, &live.object);
    let differences = overlay::differences(&merged, &live.object);
    let settled = live.settled == Some(service_digest(&desired.service));
    match (differences.is_empty() || settled, adopt) {
        (true, _) => ServiceStep::Keep,
        (false, true) => ServiceStep::Adopt(Box::new(merged), differences),
        (false, false) => ServiceStep::Update(Box::new(merged), differences),
    }
}

/// The steps for the slices of a Service with this UID, in order: creations come before deletions, so that no endpoint is missing in
/// between.
pub(crate) fn slices(
    desired: &Desired,
    live: &BTreeMap<String, LiveSlice>,
    local: &ServiceKey,
    uid: &str,
    prefix: &str,
) -> Vec<SliceStep> {
    let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for slice in owned(&desired.slices, local, uid) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        match live.get(&name) {
            None => creates.push(SliceStep::Create(Box::new(slice))),
            Some(there) if !there.is_ours(prefix) && there.owner.as_deref() != Some(uid) => {
                creates.push(SliceStep::Refuse(Refusal::ForeignSlice(name)));
            }
            // The address type of a slice is immutable.
            Some(there) if there.family != slice.address_type => {
                deletes.push(SliceStep::Delete(name, there.at.clone()));
            }
            Some(there) => {
                let wanted = slice_digest(&slice);
                if there.digest != wanted && there.settled != Some(wanted) {
                    updates.push(SliceStep::Update(Box::new(under(slice, &there.at))));
                }
            }
        }
    }
    let wanted = |name: &str| desired.slices.iter().any(|slice| slice.metadata.name.as_deref() == Some(name));
    for slice in live.values().filter(|slice| slice.is_ours(prefix) && !wanted(&slice.name)) {
        if !desired.untouched.contains(&slice.source) {
            deletes.push(SliceStep::Delete(slice.name.clone(), slice.at.clone()));
        }
    }
    creates.append(&mut updates);
    creates.append(&mut deletes);
    creates
}

/// What other controllers have left at a mirror with this UID. Slices of other writers are left alone.
pub(crate) fn leftovers(live: &BTreeMap<String, LiveSlice>, uid: &str) -> Leftovers {
    let mut left = Leftovers::default();
    for slice in live.values() {
        match slice.managed_by.as_str() {
            // These are deleted with the Endpoints that they are copies of.
            marks::MIRRORING_CONTROLLER => left.endpoints = true,
            // Somebody gave the mirror a selector, and the controller made slices and Endpoints, which it no longer maintains without one.
            marks::SLICE_CONTROLLER if slice.owner.as_deref() == Some(uid) => {
                left.endpoints = true;
                left.slices.push((slice.name.clone(), slice.at.clone()));
            }
            _ => {}
        }
    }
    left
}

/// What is deleted where there is to be no mirror.
pub(crate) fn removal(live: &Live, owner: Owner<'_>, written: Option<&str>) -> Removal {
    match &live.service {
        Some(service) if service.is_going() => Removal::Nothing,
        Some(service) => {
            let ours = match owner.owns(&service.object) {
                Ownership::Ours | Ownership::Adoptable => true,
                Ownership::Foreign => made_here(&service.object, owner, written),
                Ownership::OtherCluster(_) => false,
            };
            if ours { Removal::Service(service.at()) } else { Removal::Nothing }
        }
        None => {
            let orphans = live.slices.values().filter(|slice| slice.is_ours(owner.prefix) && slice.owner.is_none());
            let orphans: Vec<_> = orphans.map(|slice| (slice.name.clone(), slice.at.clone())).collect();
            if orphans.is_empty() { Removal::Nothing } else { Removal::Slices(orphans) }
        }
    }
}

/// Whether this process itself made or adopted a Service that no longer bears our marks, and no other mirror has marked it since.
fn made_here(service: &Service, owner: Owner<'_>, written: Option<&str>) -> bool {
    written.is_some() && written == service.metadata.uid.as_deref() && !owner.is_anothers(service)
}

/// The same for a Service without our labels and annotations: it is deleted only if this process itself created or adopted it, and it is not
/// that of another mirror by now (`World::made_here`).
pub(crate) fn removal_unmarked(live: &Live, written: Option<&str>) -> Removal {
    let made = live.service.as_ref().filter(|service| !service.is_going());
    let made = made.filter(|service| written.is_some() && written == service.object.metadata.uid.as_deref());
    made.map_or(Removal::Nothing, |service| Removal::Service(service.at()))
}

/// The digest with which the API server's answer to a write of this Service is remembered.
pub(crate) fn service_digest(desired: &Service) -> u64 {
    crate::live::digest(desired)
}

/// The slices with their owner, with which they are garbage collected.
pub(crate) fn owned<'a>(
    slices: &'a [EndpointSlice],
    local: &'a ServiceKey,
    uid: &'a str,
) -> impl Iterator<Item = EndpointSlice> + 'a {
    slices.iter().map(move |slice| {
        let mut slice = slice.clone();
        slice.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Service".into(),
            name: local.name.to_string(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        slice
    })
}

fn under(mut slice: EndpointSlice, at: &Version) -> EndpointSlice {
    slice.metadata.uid = Some(at.uid.clone());
    slice.metadata.resource_version = Some(at.version.clone());
    slice
}

#[cfg(test)]
mod tests;
