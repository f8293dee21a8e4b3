//! The rights of this process: missing ones are reported before they are needed, and a 403 of the API server is attributed to a
//! missing right or to an admission plugin that forbids one object.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams, core::Status};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Apply, CALL_TIMEOUT};

/// The time for which an answer is reused, because waiting tasks ask often.
const ANSWER_VALIDITY: Duration = Duration::from_secs(5);

/// A kind of objects (with its subresource), a verb and a namespace.
pub(super) type Right<'a> = (&'static str, &'static str, &'a str);

/// The API server's recent answers: whether this process has a right, and when that was asked.
#[derive(Debug, Default)]
pub(super) struct Rights(Mutex<HashMap<OwnedRight, (bool, Instant)>>);

/// An owned [`Right`].
type OwnedRight = (&'static str, &'static str, String);

/// The groups of the kinds that are written; all others are in the core group.
const GROUPS: [(&str, &str); 1] = [("endpointslices", "discovery.k8s.io")];
/// The rights without which nothing is mirrored.
const REQUIRED_RIGHTS: [(&str, [&str; 3]); 2] =
    [("services", ["create", "update", "delete"]), ("endpointslices", ["create", "update", "delete"])];

impl Apply {
    /// The rights that are missing in a namespace. A right of which nothing is known does not count as missing.
    pub(crate) async fn missing_rights(&self, namespace: &str) -> Vec<String> {
        let mut missing = Vec::new();
        for (kind, verbs) in REQUIRED_RIGHTS {
            for verb in verbs {
                if self.has((kind, verb, namespace)).await == Some(false) {
                    missing.push(lacks((kind, verb, namespace)));
                }
            }
        }
        missing
    }

    /// Whether this process has a right; `None` where it may not ask, or gets no answer.
    pub(super) async fn has(&self, (kind, verb, namespace): Right<'_>) -> Option<bool> {
        let key = (kind, verb, namespace.to_owned());
        let known = self.rights.0.lock().get(&key).copied();
        if let Some((has, at)) = known
            && at.elapsed() < ANSWER_VALIDITY
        {
            return Some(has);
        }
        let (resource, subresource) = kind.split_once('/').map_or((kind, None), |(kind, part)| (kind, Some(part)));
        let group = GROUPS.iter().find(|(kind, _group)| *kind == resource).map(|(_kind, group)| (*group).to_owned());
        let attributes = ResourceAttributes {
            group,
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some(verb.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let question = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let answer = timeout(CALL_TIMEOUT, api.create(&PostParams::default(), &question)).await.ok()?.ok()?;
        let has = answer.status?.allowed;
        self.rights.0.lock().insert(key, (has, Instant::now()));
        Some(has)
    }
}

/// The text about a missing right.
pub(super) fn lacks((kind, verb, namespace): Right<'_>) -> String {
    format!(
        "RBAC: the verb \"{verb}\" on {kind} is missing in namespace {namespace}: add it to the Role of the service account"
    )
}

/// Whether the namespace is missing, and not the object.
pub(super) fn lacks_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Whether the namespace is being deleted and accepts no new objects.
pub(super) fn ends_namespace(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}
