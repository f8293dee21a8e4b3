//! Lists the Services of a remote cluster that are mirrored.

use controlplane::watch::{Scope, WatchKey};
use k8s_openapi::api::core::v1::Service;
use kube::{Client, api::ListParams};

use crate::{
    config::{ExternalNames, Remote},
    marks,
};

/// Objects in one page of a list.
const PAGE_SIZE: u32 = 500;

/// A Service that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// The Services of a remote cluster that its configuration selects.
///
/// # Errors
/// [`kube::Error`] if the API server does not answer, or refuses.
pub async fn services(client: &Client, remote: &Remote) -> Result<Vec<Found>, kube::Error> {
    let scopes = match &remote.namespaces[..] {
        [] => vec![Scope::All],
        namespaces => namespaces.iter().map(|namespace| Scope::Namespace(namespace.as_str().into())).collect(),
    };
    let mut found = Vec::new();
    for scope in scopes {
        let api = WatchKey::new("services", "", scope, remote.selector.clone()).api::<Service>(client.clone());
        let mut params = ListParams::default().labels(&remote.selector).limit(PAGE_SIZE);
        loop {
            let page = api.list(&params).await?;
            found.extend(page.items.into_iter().filter(|service| is_mirrored(service, remote)).map(found_service));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}

fn is_mirrored(service: &Service, remote: &Remote) -> bool {
    let label = service.metadata.labels.as_ref().and_then(|labels| labels.get(marks::MIRRORED));
    if label.is_some_and(|value| value == marks::TRUE) {
        return false;
    }
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    kind != Some("ExternalName") || remote.external_names == ExternalNames::Copy
}

fn found_service(service: Service) -> Found {
    let meta = service.metadata;
    Found {
        namespace: meta.namespace.unwrap_or_default(),
        name: meta.name.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
    }
}
