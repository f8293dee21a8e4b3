//! Warnings about probable mistakes: a Service that does not exist, with the existing ones; and a name without a namespace that
//! exists in several namespaces.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, api::ListParams};
use tokio::time::timeout;
use tracing::warn;

use super::Pattern;
use crate::{
    index::{SERVICE_NAME, ServiceKey},
    kube_cluster::slices_of_services,
    watch::Scope,
};

/// The time limit for a list of the existing Services.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// The most slices of that list.
const LIST_LIMIT: u32 = 1000;
/// The most names in a warning.
const MAX_NAMED: usize = 20;

/// The warnings that were given, so that each is given once, and the lookup in progress.
pub(crate) struct Hints {
    /// What the patterns belong to: a cluster of the data plane or a service of the endpoints API.
    whose: Arc<str>,
    client: Client,
    missing: Vec<Pattern>,
    several: BTreeSet<Arc<str>>,
    look: Option<BoxFuture<'static, ()>>,
}

impl Hints {
    pub(crate) fn new(whose: &str, client: Client) -> Self {
        Self { whose: whose.into(), client, missing: Vec::new(), several: BTreeSet::new(), look: None }
    }

    /// Compares the patterns with the Services that complete lists contain.
    pub(crate) fn found(&mut self, patterns: &[Pattern], services: &[ServiceKey]) {
        let missing: Vec<Pattern> =
            patterns.iter().filter(|pattern| !services.iter().any(|key| pattern.matches(key))).cloned().collect();
        if missing != self.missing {
            self.missing.clone_from(&missing);
            let (whose, client) = (self.whose.clone(), self.client.clone());
            let look = async move {
                for pattern in missing {
                    let there = services_there(&client, &pattern.scope()).await;
                    warn!(%whose, "{}", nothing_matches(&pattern, &there));
                }
            };
            self.look = if self.missing.is_empty() { None } else { Some(Box::pin(look)) };
        }
        let mut several = BTreeSet::new();
        for pattern in patterns.iter().filter(|pattern| pattern.is_anywhere()) {
            let matching = services.iter().filter(|key| pattern.matches(key));
            let namespaces: BTreeSet<Arc<str>> = matching.map(|key| key.namespace.clone()).collect();
            if namespaces.len() > 1 {
                if !namespaces.is_subset(&self.several) {
                    warn!(whose = %self.whose, "{}", in_several(pattern, &namespaces));
                }
                several.extend(namespaces);
            }
        }
        self.several = several;
    }

    /// Finishes the lookup in progress and logs its result. Never returns if there is none.
    pub(crate) async fn log_result(&mut self) {
        match &mut self.look {
            Some(look) => {
                look.await;
                self.look = None;
            }
            None => std::future::pending().await,
        }
    }
}

/// The Services that have slices.
async fn services_there(client: &Client, scope: &Scope) -> Result<BTreeSet<ServiceKey>, String> {
    let api: Api<EndpointSlice> = slices_of_services(scope.clone()).api(client.clone());
    let params = ListParams::default().labels(SERVICE_NAME).limit(LIST_LIMIT);
    let list = match timeout(LIST_TIMEOUT, api.list_metadata(&params)).await {
        Ok(Ok(list)) => list,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_elapsed) => return Err(format!("no answer within {LIST_TIMEOUT:?}")),
    };
    let key = |slice: kube::core::PartialObjectMeta<EndpointSlice>| {
        let name = slice.metadata.labels?.remove(SERVICE_NAME)?;
        Some(ServiceKey { namespace: slice.metadata.namespace?.into(), name: name.into() })
    };
    Ok(list.items.into_iter().filter_map(key).collect())
}

fn nothing_matches(pattern: &Pattern, there: &Result<BTreeSet<ServiceKey>, String>) -> String {
    let mut text = format!("there is no Service {pattern}, or it has no EndpointSlice");
    let _ = match (there, pattern.scope()) {
        (Err(why), _) => write!(text, "; the existing Services cannot be listed: {why}"),
        (Ok(there), Scope::All) => write!(text, "; there are {}", list(there.iter().map(ToString::to_string))),
        (Ok(there), Scope::Namespace(namespace)) => {
            write!(text, "; in namespace {namespace} there are {}", list(there.iter().map(|key| key.name.to_string())))
        }
    };
    text
}

fn in_several(pattern: &Pattern, namespaces: &BTreeSet<Arc<str>>) -> String {
    let name = pattern.name();
    let first = namespaces.first().map_or("", |first| first);
    format!(
        "no namespace was given for the Service {name}, and several have one: {}. Requests go to the endpoints of all of \
         them; for one write {first}/{name} or give --namespace",
        list(namespaces.iter().map(ToString::to_string)),
    )
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n > MAX_NAMED => format!("{} and {} more", names[..MAX_NAMED].join(", "), n - MAX_NAMED),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, None).expect("a valid pattern")
    }

    fn keys(services: &[(&str, &str)]) -> BTreeSet<ServiceKey> {
        services
            .iter()
            .map(|(namespace, name)| ServiceKey { namespace: (*namespace).into(), name: (*name).into() })
            .collect()
    }

    #[test]
    fn a_missing_service_is_reported_with_the_existing_ones() {
        let there = Ok(keys(&[("shop", "web"), ("shop", "cache")]));
        let told = nothing_matches(&pattern("shop/cach"), &there);
        assert!(
            told.contains("no Service shop/cach") && told.ends_with("in namespace shop there are cache, web"),
            "{told}"
        );
        let told = nothing_matches(&pattern("cach"), &there);
        assert!(told.ends_with("there are shop/cache, shop/web"), "{told}");
        let told = nothing_matches(&pattern("shop/c*"), &Ok(BTreeSet::new()));
        assert!(told.ends_with("there are none"), "{told}");
        let told = nothing_matches(&pattern("shop/c*"), &Err("forbidden".into()));
        assert!(told.ends_with("cannot be listed: forbidden"), "{told}");
        let many: BTreeSet<ServiceKey> = (100..130).flat_map(|n| keys(&[("shop", &format!("s{n}"))])).collect();
        assert!(nothing_matches(&pattern("shop/x"), &Ok(many)).ends_with("s119 and 10 more"));
    }

    #[test]
    fn an_ambiguous_name_is_reported_with_a_way_to_name_one() {
        let told = in_several(&pattern("cache"), &["pay", "shop"].map(Arc::from).into());
        assert!(told.contains("several have one: pay, shop.") && told.contains("write pay/cache"), "{told}");
        assert!(pattern("cache").is_anywhere() && !pattern("*/cache").is_anywhere());
        assert!(!Pattern::parse("cache", Some("shop")).expect("a valid pattern").is_anywhere());
    }
}
