//! Which rights there are: those that are missing are told before they are needed, and where the API server answers 403 it
//! is known whether a right is missing or an admission plugin forbids this one object.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams, core::Status};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Apply, LIMIT};

/// For so long an answer is good: what waits for a right tries again and again.
const AGE: Duration = Duration::from_secs(5);

/// A kind of objects (with its subresource), a verb and a namespace.
pub(super) type Right<'a> = (&'static str, &'static str, &'a str);

/// What the API server said about rights lately: whether there is one, and when it said so.
#[derive(Debug, Default)]
pub(super) struct Rights(Mutex<HashMap<Asked, (bool, Instant)>>);

/// As [`Right`], to keep.
type Asked = (&'static str, &'static str, String);

/// The groups of the kinds that are written; all others are in the core group.
const GROUPS: [(&str, &str); 1] = [("endpointslices", "discovery.k8s.io")];
/// Without these, nothing is mirrored.
const NEEDED: [(&str, [&str; 3]); 2] =
    [("services", ["create", "update", "delete"]), ("endpointslices", ["create", "update", "delete"])];

impl Apply {
    /// The rights that are missing in a namespace. One of which nothing is known is not.
    pub(crate) async fn missing_rights(&self, namespace: &str) -> Vec<String> {
        let mut missing = Vec::new();
        for (kind, verbs) in NEEDED {
            for verb in verbs {
                if self.has((kind, verb, namespace)).await == Some(false) {
                    missing.push(lacks((kind, verb, namespace)));
                }
            }
        }
        missing
    }

    /// Whether this process has a right; nothing where it may not even ask, or gets no answer.
    pub(super) async fn has(&self, (kind, verb, namespace): Right<'_>) -> Option<bool> {
        let key = (kind, verb, namespace.to_owned());
        let known = self.rights.0.lock().get(&key).copied();
        if let Some((has, at)) = known
            && at.elapsed() < AGE
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
        let answer = timeout(LIMIT, api.create(&PostParams::default(), &question)).await.ok()?.ok()?;
        let has = answer.status?.allowed;
        self.rights.0.lock().insert(key, (has, Instant::now()));
        Some(has)
    }
}

/// What to tell about a right that is missing.
pub(super) fn lacks((kind, verb, namespace): Right<'_>) -> String {
    format!(
        "RBAC: the verb \"{verb}\" on {kind} is missing in namespace {namespace}: add it to the Role of the service account"
    )
}

/// Whether it is the namespace that is not there, and not what is asked for in it.
pub(super) fn lacks_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Whether the namespace is on its way out and takes nothing any more.
pub(super) fn ends_namespace(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}
