//! Calls of the local API server: each write needs the claim to lead, has a deadline, and names the version of the object that was
//! read.

mod events;
mod rights;

use std::{
    collections::HashMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use ::metrics::counter;
use controlplane::{
    index::ServiceKey,
    lease::{Leadership, WriteError},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Endpoints, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, PostParams, Preconditions, PropagationPolicy},
};
use parking_lot::Mutex;
use rights::{Right, Rights};
use tokio::time::timeout;

use crate::{live::Version, marks, metrics as names};

/// The time limit of one call of the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Slices in one page of a list.
const PAGE_SIZE: u32 = 500;
/// The label and annotation of Endpoints that the controller for Services with selectors makes.
const ENDPOINTS_CONTROLLER: [&str; 2] =
    ["endpoints.kubernetes.io/managed-by", "endpoints.kubernetes.io/last-change-trigger-time"];

/// The local API server, for writing.
pub(crate) struct Apply {
    client: Client,
    leadership: Leadership,
    /// When each refusal was last reported, by its digest.
    reported_at: Mutex<HashMap<u64, Instant>>,
    /// Whether the right to write conditions is missing, which is logged once.
    no_conditions: AtomicBool,
    rights: Rights,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This process does not lead.
    NotLeading,
    /// The object has changed since it was read.
    Outdated,
    /// The API server refuses the object; the text says why.
    Rejected(String),
    /// No object of this kind can be written there, because a right or the namespace is missing; the text says which.
    Barred(String),
    /// Anything else; the text says what was tried and what happened.
    Failed(String),
}

impl Apply {
    pub(crate) fn new(client: Client, leadership: Leadership) -> Self {
        Self {
            client,
            leadership,
            reported_at: Mutex::default(),
            no_conditions: AtomicBool::new(false),
            rights: Rights::default(),
        }
    }

    /// Whether this process may write now.
    pub(crate) fn leads(&self) -> bool {
        self.leadership.claim().is_ok()
    }

    /// Creates a Service.
    pub(crate) async fn create_service(&self, service: &Service) -> Result<Service, Failure> {
        let api: Api<Service> = self.api(namespace(service));
        self.write("services", "create", service, async || api.create(&PostParams::default(), service).await).await
    }

    /// Replaces the version of a Service that the object names.
    pub(crate) async fn replace_service(&self, service: &Service) -> Result<Service, Failure> {
        let api: Api<Service> = self.api(namespace(service));
        let params = PostParams::default();
        self.write("services", "update", service, async || api.replace(name(service), &params, service).await).await
    }

    /// Replaces the status of a Service in the version that the object names; `None` where the right to do so is missing.
    pub(crate) async fn replace_status(&self, service: &Service) -> Result<Option<Service>, Failure> {
        if self.no_conditions.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let api: Api<Service> = self.api(namespace(service));
        let params = PostParams::default();
        let write = self
            .leadership
            .write(CALL_TIMEOUT, async |_claim| api.replace_status(name(service), &params, service).await);
        let written = write.await;
        count("services/status", "update", &written);
        if let Err(WriteError::Failed(kube::Error::Api(status))) = &written
            && status.code == 403
        {
            self.no_conditions.store(true, Ordering::Relaxed);
            tracing::info!("conditions are not written: the verb \"update\" on services/status is missing");
            return Ok(None);
        }
        match written {
            Ok(service) => Ok(Some(service)),
            Err(error) => {
                let what = format!("update the status of {}/{}", namespace(service), name(service));
                Err(self.failure(&what, ("services/status", "update", namespace(service)), error).await)
            }
        }
    }

    /// Deletes this version of a Service. It is no failure if the Service does not exist.
    pub(crate) async fn delete_service(&self, key: &ServiceKey, at: &Version) -> Result<(), Failure> {
        self.delete::<Service>("services", &key.namespace, &key.name, at).await
    }

    /// Creates a slice.
    pub(crate) async fn create_slice(&self, slice: &EndpointSlice) -> Result<EndpointSlice, Failure> {
        let api: Api<EndpointSlice> = self.api(namespace(slice));
        self.write("endpointslices", "create", slice, async || api.create(&PostParams::default(), slice).await).await
    }

    /// Replaces the version of a slice that the object names.
    pub(crate) async fn replace_slice(&self, slice: &EndpointSlice) -> Result<EndpointSlice, Failure> {
        let api: Api<EndpointSlice> = self.api(namespace(slice));
        let params = PostParams::default();
        self.write("endpointslices", "update", slice, async || api.replace(name(slice), &params, slice).await).await
    }

    /// Deletes this version of a slice. It is no failure if the slice does not exist.
    pub(crate) async fn delete_slice(&self, namespace: &str, name: &str, at: &Version) -> Result<(), Failure> {
        self.delete::<EndpointSlice>("endpointslices", namespace, name, at).await
    }

    /// Deletes the v1 Endpoints of a mirror, if an older tool made them (which gives them the Service's labels) or a controller did because
    /// somebody gave the mirror a selector. Returns whether there are Endpoints of others, which stay.
    pub(crate) async fn delete_endpoints(&self, key: &ServiceKey, prefix: &str) -> Result<bool, Failure> {
        let api: Api<Endpoints> = self.api(&key.namespace);
        let Some(endpoints) = self.read("endpoints", key, api.get_opt(&key.name)).await? else { return Ok(false) };
        let labels = endpoints.metadata.labels.clone().unwrap_or_default();
        let notes = endpoints.metadata.annotations.clone().unwrap_or_default();
        let old_tool = labels.get(marks::MIRRORED).is_some_and(|value| value == marks::TRUE)
            && labels.get(marks::PREFIX).is_some_and(|value| value == prefix);
        let controller = ENDPOINTS_CONTROLLER.iter().any(|key| labels.contains_key(*key) || notes.contains_key(*key));
        if !old_tool && !controller {
            return Ok(true);
        }
        let at = Version::of(&endpoints.metadata);
        self.delete::<Endpoints>("endpoints", &key.namespace, &key.name, &at).await?;
        Ok(false)
    }

    /// Reads the Service and the slices that name it.
    pub(crate) async fn read_service(
        &self,
        key: &ServiceKey,
    ) -> Result<(Option<Service>, Vec<EndpointSlice>), Failure> {
        let services: Api<Service> = self.api(&key.namespace);
        let service = self.read("services", key, services.get_opt(&key.name)).await?;
        let slices: Api<EndpointSlice> = self.api(&key.namespace);
        let selector = format!("{}={}", marks::SERVICE_NAME, key.name);
        let mut params = ListParams::default().labels(&selector).limit(PAGE_SIZE);
        let mut all = Vec::new();
        loop {
            let page = self.read("endpointslices", key, slices.list(&params)).await?;
            all.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok((service, all));
            }
        }
    }

    /// Reads one slice in a Service's namespace, whether it names the Service or not.
    pub(crate) async fn read_slice(&self, key: &ServiceKey, name: &str) -> Result<Option<EndpointSlice>, Failure> {
        let slices: Api<EndpointSlice> = self.api(&key.namespace);
        self.read("endpointslices", key, slices.get_opt(name)).await
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn write<K: Resource>(
        &self,
        kind: &'static str,
        verb: &'static str,
        object: &K,
        call: impl AsyncFnOnce() -> Result<K, kube::Error>,
    ) -> Result<K, Failure> {
        let written = self.leadership.write(CALL_TIMEOUT, async |_claim| call().await).await;
        count(kind, verb, &written);
        match written {
            Ok(written) => Ok(written),
            Err(error) => {
                let what = format!("{verb} {kind} {}/{}", namespace(object), name(object));
                Err(self.failure(&what, (kind, verb, namespace(object)), error).await)
            }
        }
    }

    async fn delete<K>(&self, kind: &'static str, namespace: &str, name: &str, at: &Version) -> Result<(), Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.api(namespace);
        let preconditions = Preconditions { uid: Some(at.uid.clone()), resource_version: Some(at.version.clone()) };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let deleted = self.leadership.write(CALL_TIMEOUT, async |_claim| api.delete(name, &params).await).await;
        count(kind, "delete", &deleted);
        match deleted {
            Ok(_gone) => Ok(()),
            Err(WriteError::Failed(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Err(error) => Err(self
                .failure(&format!("delete {kind} {namespace}/{name}"), (kind, "delete", namespace), error)
                .await),
        }
    }

    async fn read<T>(
        &self,
        kind: &'static str,
        key: &ServiceKey,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let read = match timeout(CALL_TIMEOUT, call).await {
            Ok(read) => read.map_err(WriteError::Failed),
            Err(_elapsed) => Err(WriteError::Deadline(CALL_TIMEOUT)),
        };
        count(kind, "get", &read);
        match read {
            Ok(read) => Ok(read),
            Err(error) => {
                Err(self.failure(&format!("read {kind} of {key}"), (kind, "get", &key.namespace), error).await)
            }
        }
    }

    /// The failure of a call, which needed this right.
    async fn failure(&self, what: &str, right: Right<'_>, error: WriteError<kube::Error>) -> Failure {
        let status = match error {
            WriteError::NotLeading(_) => return Failure::NotLeading,
            WriteError::Failed(kube::Error::Api(status)) => status,
            WriteError::Failed(other) => return Failure::Failed(format!("cannot {what}: {other}")),
            deadline @ WriteError::Deadline(_) => return Failure::Failed(format!("cannot {what}: {deadline}")),
        };
        match status.code {
            _ if rights::ends_namespace(&status) => Failure::Barred(format!(
                "cannot {what}: namespace {} is being deleted: create it again, or name another",
                right.2
            )),
            409 => Failure::Outdated,
            // A missing namespace answers 404 as well, and reading again does not help.
            404 if rights::lacks_namespace(&status) => {
                Failure::Barred(format!("cannot {what}: there is no namespace {}: create it, or name another", right.2))
            }
            404 => Failure::Outdated,
            422 => Failure::Rejected(status.message.clone()),
            // If this process may not ask for its rights, or gets no answer, the right is assumed to be missing, the most likely
            // cause of 403.
            403 if self.has(right).await != Some(true) => Failure::Barred(rights::lacks(right)),
            403 => Failure::Failed(format!("cannot {what}: admission forbids it: {}", status.message)),
            _ => Failure::Failed(format!("cannot {what}: {}", status.message)),
        }
    }
}

fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

fn count<T>(kind: &'static str, verb: &'static str, result: &Result<T, WriteError<kube::Error>>) {
    let result = match result {
        Ok(_) => "ok".to_owned(),
        Err(WriteError::NotLeading(_)) => "not-leading".to_owned(),
        Err(WriteError::Deadline(_)) => "deadline".to_owned(),
        Err(WriteError::Failed(kube::Error::Api(status))) => status.code.to_string(),
        Err(WriteError::Failed(_)) => "transport".to_owned(),
    };
    counter!(names::CALLS, "kind" => kind, "verb" => verb, "result" => result).increment(1);
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeading => f.write_str("this process does not lead"),
            Self::Outdated => f.write_str("the object changes faster than it can be read"),
            Self::Rejected(why) => write!(f, "the API server refuses the object: {why}"),
            Self::Barred(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}
