//! The lock in the API server: read by GET, created by POST, written by PUT over the version that was read.
//!
//! Rule: never a patch and never server-side apply, which overwrite unseen versions.

use std::time::Duration;

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Endpoints, ObjectReference},
};
use kube::{
    Api, Client,
    api::PostParams,
    core::{ApiResource, DynamicObject},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    Config, LockKind,
    failure::LockFailure,
    held::{Held, LockPart},
    record::{Form, Malformed, Record},
};

/// The objects of one lock.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    places: Vec<Place>,
    /// The time-out of one request.
    limit: Duration,
}

/// The kind, namespace and name of one object.
#[derive(Clone, Debug)]
struct Place {
    api: Api<DynamicObject>,
    resource: ApiResource,
    form: Form,
    namespace: String,
    name: String,
}

impl Lock {
    pub(super) fn new(config: &Config, client: &Client) -> Self {
        let place = |(resource, form): (ApiResource, Form)| Place {
            api: Api::namespaced_with(client.clone(), &config.namespace, &resource),
            resource,
            form,
            namespace: config.namespace.clone(),
            name: config.name.clone(),
        };
        Self { places: kinds(config.lock).into_iter().map(place).collect(), limit: config.timing.request() }
    }

    /// Reads every object of the lock; none if no object exists.
    pub(super) async fn read(&self) -> Result<Option<Held>, LockFailure> {
        let mut parts = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let object = place.within("get", self.limit, place.api.get_opt(&place.name)).await?;
            parts.push(place.part("get", object)?);
        }
        Ok(Held::new(parts))
    }

    /// Writes the record into every object, in order, and creates missing ones. After a failure, any of the writes may have
    /// happened.
    pub(super) async fn write(&self, over: Option<&Held>, record: &Record) -> Result<Held, LockFailure> {
        let mut parts = Vec::with_capacity(self.places.len());
        for (at, place) in self.places.iter().enumerate() {
            let before = over.and_then(|held| held.parts.get(at)).and_then(LockPart::object);
            let object = written(before, place.form, &place.name, &place.resource, record);
            let params = PostParams::default();
            let (verb, done) = match before {
                Some(_) => {
                    let replace = place.api.replace(&place.name, &params, &object);
                    ("update", place.within("update", self.limit, replace).await)
                }
                None => ("create", place.within("create", self.limit, place.api.create(&params, &object)).await),
            };
            let object = done.map_err(|failure| if at == 0 { failure } else { failure.after_another_write() })?;
            parts.push(place.part(verb, Some(object))?);
        }
        Ok(Held { parts })
    }

    /// The first object, for events about it.
    pub(super) fn reference(&self) -> ObjectReference {
        let place = &self.places[0];
        ObjectReference {
            api_version: Some(place.resource.api_version.clone()),
            kind: Some(place.resource.kind.clone()),
            namespace: Some(place.namespace.clone()),
            name: Some(place.name.clone()),
            ..ObjectReference::default()
        }
    }
}

impl Place {
    async fn within<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, LockFailure> {
        match timeout(limit, request).await {
            Ok(done) => done.map_err(|error| LockFailure::of(verb, self.to_string(), &error)),
            Err(_elapsed) => Err(LockFailure::no_answer(verb, self.to_string(), limit)),
        }
    }

    fn part(&self, verb: &'static str, object: Option<DynamicObject>) -> Result<LockPart, LockFailure> {
        let malformed = |malformed: Malformed| LockFailure::malformed(verb, self.to_string(), &malformed);
        LockPart::new(self.form, object).map_err(malformed)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resource, namespace, name, .. } = self;
        let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
        write!(f, "{}{group} {namespace}/{name}", resource.plural)
    }
}

/// The objects of a kind of lock, in the order in which they are written.
pub(super) fn kinds(lock: LockKind) -> Vec<(ApiResource, Form)> {
    let lease = || (ApiResource::erase::<Lease>(&()), Form::Spec);
    let config_map = || (ApiResource::erase::<ConfigMap>(&()), Form::Annotation);
    let endpoints = || (ApiResource::erase::<Endpoints>(&()), Form::Annotation);
    match lock {
        LockKind::Leases => vec![lease()],
        LockKind::ConfigMaps => vec![config_map()],
        LockKind::Endpoints => vec![endpoints()],
        LockKind::ConfigMapsLeases => vec![config_map(), lease()],
        LockKind::EndpointsLeases => vec![endpoints(), lease()],
    }
}

/// The object with the record: the one that was read, or a new one.
pub(super) fn written(
    before: Option<&DynamicObject>,
    form: Form,
    name: &str,
    resource: &ApiResource,
    record: &Record,
) -> DynamicObject {
    let new = || DynamicObject::new(name, resource).data(json!({}));
    let mut object = before.cloned().unwrap_or_else(new);
    form.write(&mut object, record);
    object
}
