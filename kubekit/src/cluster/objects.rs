//! Objects in the cluster: manifests applied or tried as they are, and service accounts with their tokens.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::{Scope, pinned_kind},
};
use serde_json::json;

use super::{Cluster, client};

/// The field manager of applied objects.
const MANAGER: &str = "testkit";

/// A service account. It has the rights that roles give it, and no others.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    namespace: String,
    kubeconfig: PathBuf,
}

/// The API server, or the parser, refused an object.
#[derive(Debug)]
pub struct Refused {
    /// The object: kind and name, or its place in the text.
    pub object: String,
    /// The message of the API server or of the parser.
    pub reason: String,
}

impl Cluster {
    /// Applies every object of a YAML text, in order, with server-side apply. An object without a namespace goes to
    /// `default`. Statuses are ignored, as the API server does.
    ///
    /// # Errors
    /// The first object that is refused; those before it stay applied.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>, Refused> {
        self.patch_all(yaml, &PatchParams::apply(MANAGER).force()).await
    }

    /// Has the API server check every object of a YAML text as if it were applied. Namespaces that the objects are in
    /// must exist.
    ///
    /// # Errors
    /// The first object that is refused.
    pub async fn dry_run_yaml(&self, yaml: &str) -> Result<Vec<DynamicObject>, Refused> {
        self.patch_all(yaml, &PatchParams::apply(MANAGER).force().dry_run()).await
    }

    /// An object, or a list, by its path below the API server; `None` where there is none.
    ///
    /// # Panics
    /// Where the API server says anything else.
    pub async fn read(&self, path: &str) -> Option<serde_json::Value> {
        let request = hyper::Request::get(path).body(Vec::new()).expect("a valid path");
        match self.client().await.request(request).await {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path} cannot be read: {error}"),
        }
    }

    /// Changes an object by a merge patch (RFC 7396), by its path below the API server.
    ///
    /// # Panics
    /// Where the API server refuses.
    pub async fn merge(&self, path: &str, patch: serde_json::Value) {
        let request = hyper::Request::patch(path).header("content-type", "application/merge-patch+json");
        let request = request.body(patch.to_string().into_bytes()).expect("a valid path");
        let done = self.client().await.request::<serde_json::Value>(request).await;
        done.unwrap_or_else(|error| panic!("{path} cannot be changed: {error}"));
    }

    /// Deletes every object of a YAML text, in order, by kind, namespace and name. Returns when the API server has accepted
    /// the deletion; objects with finalizers and dependents are removed later.
    ///
    /// # Errors
    /// The first object that is refused, for instance because it is not there.
    pub async fn delete_yaml(&self, yaml: &str) -> Result<(), Refused> {
        let client = self.client().await;
        for object in documents(yaml) {
            let object = object?;
            let (api, name, place) = api_of(&client, &object).await?;
            api.delete(&name, &DeleteParams::default()).await.map_err(|e| refused(place, e))?;
        }
        Ok(())
    }

    /// Makes a service account and a token for it, valid for an hour.
    ///
    /// # Panics
    /// Where the API server refuses, for instance because there is one of that name.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Account {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": name}})).expect("a valid service account");
        accounts.create(&PostParams::default(), &account).await.expect("an administrator may create it");
        self.token_for(namespace, name).await
    }

    /// A token, valid for an hour, for a service account that is there already, for instance from a manifest.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub async fn token_for(&self, namespace: &str, name: &str) -> Account {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 3600}}))
                .expect("a valid request");
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let token = answer.expect("an administrator may ask for a token").status.expect("an answer has a status").token;
        let user = format!("{namespace}-{name}-{}", self.next_account());
        let kubeconfig = self.write_kubeconfig(&user, &token, namespace);
        Account { name: name.into(), namespace: namespace.into(), kubeconfig }
    }

    /// A token of a service account for this audience, good for so many seconds (at least 600).
    ///
    /// # Panics
    /// Where there is none of that name.
    pub async fn token(&self, namespace: &str, name: &str, audience: &str, seconds: u32) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [audience], "expirationSeconds": seconds}}))
                .expect("a valid request");
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        answer.expect("an administrator may ask for a token").status.expect("an answer has a status").token
    }

    async fn patch_all(&self, yaml: &str, params: &PatchParams) -> Result<Vec<DynamicObject>, Refused> {
        let client = self.client().await;
        let mut applied = Vec::new();
        // Parsed one by one, so that the objects before an invalid one are applied.
        for object in documents(yaml) {
            let object = object?;
            let (api, name, place) = api_of(&client, &object).await?;
            applied.push(api.patch(&name, params, &Patch::Apply(&object)).await.map_err(|e| refused(place, e))?);
        }
        Ok(applied)
    }
}

impl Account {
    /// Its kubeconfig, which also names its namespace.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client with its rights. It belongs to the caller's tokio runtime.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig).await
    }

    /// Waits until the API server refuses it this path: a right counts for a moment after it was taken away.
    ///
    /// # Panics
    /// If it is not refused in time.
    pub async fn until_refused(&self, path: &str) {
        let client = self.client().await;
        let refused = async || {
            let request = hyper::Request::get(path).body(Vec::new()).expect("a valid path");
            matches!(client.request_text(request).await, Err(kube::Error::Api(status)) if [401, 403].contains(&status.code))
        };
        testkit::eventually!(format!("{path} to be refused"), refused().await, |refused| *refused);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

impl std::error::Error for Refused {}

/// The objects of a YAML text.
fn documents(yaml: &str) -> impl Iterator<Item = Result<DynamicObject, Refused>> {
    serde_yaml::Deserializer::from_str(yaml).enumerate().filter_map(|(number, document)| {
        let place = || format!("document {}", number + 1);
        let value: Result<serde_json::Value, _> = serde::Deserialize::deserialize(document);
        match value {
            Ok(value) if value.is_null() => None,
            Ok(value) => Some(serde_json::from_value(value).map_err(|e| refused(place(), e))),
            Err(e) => Some(Err(refused(place(), e))),
        }
    })
}

/// Where an object is, its name, and what to call it in a message.
async fn api_of(client: &Client, object: &DynamicObject) -> Result<(Api<DynamicObject>, String, String), Refused> {
    let types = object.types.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let place = format!("{} {name}", types.kind);
    let kind = GroupVersionKind::try_from(&types).map_err(|e| refused(place.clone(), e))?;
    let (resource, capabilities) = pinned_kind(client, &kind).await.map_err(|e| refused(place.clone(), e))?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    Ok((api, name, place))
}

fn refused(object: String, reason: impl fmt::Display) -> Refused {
    Refused { object, reason: reason.to_string() }
}
