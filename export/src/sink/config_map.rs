//! Keys of a ConfigMap, changed under its `resourceVersion`.
//!
//! The role needs `get`, `update` and, where the ConfigMap is to be made, `create` on `configmaps`.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::{Condition, Document, Fetched, SinkError, SinkErrorKind, sha256};

/// The most bytes of a ConfigMap's data (`ConfigMap.data`: 1 MiB with its keys).
const MAX_DATA_BYTES: usize = 1 << 20;

/// The most attempts of a change while others keep changing the ConfigMap.
const MAX_ATTEMPTS: usize = 5;

/// Kubernetes' recommended label for the tool that manages an object.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "fanfare");

/// A ConfigMap. Other keys are left as they are.
pub(crate) struct ConfigMap {
    api: Api<core::ConfigMap>,
    namespace: String,
    name: String,
}

impl ConfigMap {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.into(), name: name.into() }
    }

    pub(super) async fn fetch(&self, key: &str, unless: Option<&str>) -> Result<Fetched, SinkError> {
        let map = self.get().await?;
        Ok(match map.as_ref().and_then(|map| value(map, key)) {
            None => Fetched::Missing,
            Some(value) => {
                let tag = sha256(value);
                if unless == Some(&tag) {
                    Fetched::Same
                } else {
                    Fetched::Found { bytes: value.to_vec().into(), tag: Some(tag), media_type: None }
                }
            }
        })
    }

    pub(super) async fn store(
        &self,
        key: &str,
        document: &Document,
        condition: Condition<'_>,
    ) -> Result<Option<String>, SinkError> {
        let refused = |what: String| SinkError::new(self, SinkErrorKind::Refused, what);
        if !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(refused(format!("`{key}` cannot be a key: it may have letters, digits, `-`, `_` and `.`")));
        }
        let text =
            std::str::from_utf8(&document.bytes).map_err(|error| refused(format!("{key} is not text: {error}")))?;
        self.change(|map| {
            let tag = value(map, key).map(sha256);
            let holds = match condition {
                Condition::Nothing => true,
                Condition::Absent => tag.is_none(),
                Condition::Is(expected) => tag.as_deref() == Some(expected),
            };
            if !holds {
                return Err(SinkError::new(self, SinkErrorKind::Conflict, format!("{key} has changed")));
            }
            map.binary_data.get_or_insert_default().remove(key);
            map.data.get_or_insert_default().insert(key.into(), text.into());
            let size = size(map);
            if size > MAX_DATA_BYTES {
                return Err(refused(format!(
                    "it would have {size} bytes, and a ConfigMap holds at most {MAX_DATA_BYTES}: write to a store, or select less"
                )));
            }
            Ok(true)
        })
        .await?;
        Ok(Some(sha256(&document.bytes)))
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), SinkError> {
        self.change(|map| {
            let text = map.data.as_mut().and_then(|data| data.remove(key)).is_some();
            let binary = map.binary_data.as_mut().and_then(|data| data.remove(key)).is_some();
            Ok(text || binary)
        })
        .await
    }

    /// Changes or creates the ConfigMap, unless the same key changes meanwhile. `change` returns `false` if there is nothing to do.
    async fn change(
        &self,
        mut change: impl FnMut(&mut core::ConfigMap) -> Result<bool, SinkError>,
    ) -> Result<(), SinkError> {
        let params = PostParams::default();
        for _round in 0..MAX_ATTEMPTS {
            let found = self.get().await?;
            let is_new = found.is_none();
            let mut map = found.unwrap_or_else(|| self.fresh());
            if !change(&mut map)? {
                return Ok(());
            }
            let done = if is_new {
                self.api.create(&params, &map).await
            } else {
                self.api.replace(&self.name, &params, &map).await
            };
            match done {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if lacks_namespace(&status) => {
                    let what = format!("there is no namespace {}: create it, or name another one", self.namespace);
                    return Err(SinkError::new(self, SinkErrorKind::Refused, what));
                }
                // 404: it was deleted in between.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(self.trouble(&error)),
            }
        }
        Err(SinkError::new(
            self,
            SinkErrorKind::Unavailable,
            format!("others changed it {MAX_ATTEMPTS} times in a row"),
        ))
    }

    fn fresh(&self) -> core::ConfigMap {
        let (label, value) = MANAGED_BY;
        let labels = BTreeMap::from([(label.to_owned(), value.to_owned())]);
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        core::ConfigMap { metadata, ..core::ConfigMap::default() }
    }

    async fn get(&self) -> Result<Option<core::ConfigMap>, SinkError> {
        self.api.get_opt(&self.name).await.map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &kube::Error) -> SinkError {
        let kind = match error {
            kube::Error::Api(status) => match status.code {
                401 | 403 => SinkErrorKind::Denied,
                400 | 404 | 413 | 422 => SinkErrorKind::Refused,
                _ => SinkErrorKind::Unavailable,
            },
            _ => SinkErrorKind::Unavailable,
        };
        SinkError::new(self, kind, error.to_string())
    }
}

/// Whether the namespace is missing, and not the ConfigMap.
fn lacks_namespace(status: &kube::core::Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

fn value<'a>(map: &'a core::ConfigMap, key: &str) -> Option<&'a [u8]> {
    let text = map.data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
    let binary = || map.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    text.or_else(binary)
}

/// The size as the API server counts it.
fn size(map: &core::ConfigMap) -> usize {
    let text = map.data.iter().flatten().map(|(key, value)| key.len() + value.len());
    let binary = map.binary_data.iter().flatten().map(|(key, value)| key.len() + value.0.len());
    text.sum::<usize>() + binary.sum::<usize>()
}

impl fmt::Debug for ConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigMap").field(&self.namespace).field(&self.name).finish()
    }
}

impl fmt::Display for ConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configmap://{}/{}/", self.namespace, self.name)
    }
}
