//! Warnings about parts of the configuration that match nothing in a remote, with the names that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt::Write as _,
    time::Duration,
};

use controlplane::watch::{self, Scope, WatchKey};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::ListParams};
use tokio::time::timeout;

use super::{Mirror, remote::RemoteWatches};

/// The time limit for a remote to list its Services.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The most Services that are listed for a warning, and the most that are named in it.
const MAX_LISTED: u32 = 500;
const MAX_NAMED: usize = 20;

/// A part of the configuration that may match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConfiguredPart {
    /// The selector of a remote in one of its namespaces, or in all of them; both by number.
    Selector { remote: usize, scope: usize },
    /// The label that opts in to global Services.
    Global,
}

/// The Services of a remote, each with its labels.
type FoundServices = Result<BTreeMap<String, String>, String>;

impl Mirror {
    /// Keeps checking what matches nothing.
    pub(super) async fn hint(&self) -> Infallible {
        let mut warned = BTreeSet::new();
        let scopes = self.remotes.iter().flat_map(RemoteWatches::scopes);
        let mut states: Vec<_> = scopes.map(|scope| scope.services.subscribe()).collect();
        loop {
            self.warn_of_unmatched(&mut warned).await;
            watch::any_change(&mut states).await;
            for state in &mut states {
                state.mark_unchanged();
            }
        }
    }

    /// Warns of every part that matches nothing, once until it has matched.
    pub(super) async fn warn_of_unmatched(&self, warned: &mut BTreeSet<ConfiguredPart>) {
        let selectors = self.remotes.iter().flat_map(|remote| {
            (0..remote.scopes().len()).map(|scope| ConfiguredPart::Selector { remote: remote.number(), scope })
        });
        for part in selectors.chain([ConfiguredPart::Global]) {
            match self.matches(part) {
                Some(true) => drop(warned.remove(&part)),
                Some(false) if warned.insert(part) => tracing::warn!("{}", self.explain(part).await),
                Some(false) | None => {}
            }
        }
    }

    /// Whether it matches anything; `None` while that is not completely known.
    fn matches(&self, part: ConfiguredPart) -> Option<bool> {
        match part {
            ConfiguredPart::Selector { remote, scope } => {
                let watched = self.remotes[remote].scopes()[scope].listed()?;
                let world = self.reconciler.world.lock();
                let mut selected = world.remotes[remote].index.services();
                Some(selected.any(|service| watched.contains(&service.key.namespace)))
            }
            ConfiguredPart::Global => {
                let global = self.config.global.as_ref()?;
                let scopes = self.remotes.iter().flat_map(RemoteWatches::scopes);
                let _all_listed: Vec<&Scope> =
                    scopes.map(super::remote::ScopeWatches::listed).collect::<Option<_>>()?;
                let world = self.reconciler.world.lock();
                let mut selected = world.remotes.iter().flat_map(|remote| remote.index.services()).peekable();
                // Where nothing is selected at all, only that is reported.
                selected.peek()?;
                Some(selected.any(|service| global.opted_in(&service.labels)))
            }
        }
    }

    async fn explain(&self, part: ConfiguredPart) -> String {
        match part {
            ConfiguredPart::Selector { remote, scope } => {
                let remote = &self.remotes[remote];
                let watched = &remote.scopes()[scope].watched;
                let found = there(remote, watched).await;
                nothing_selected(remote.name(), &remote.selector, watched, &found)
            }
            ConfiguredPart::Global => {
                let world = self.reconciler.world.lock();
                let selected = world.remotes.iter().flat_map(|remote| remote.index.services());
                let selected: BTreeSet<String> = selected.map(|service| service.key.to_string()).collect();
                let label = self.config.global.as_ref().map_or("", |global| global.label.as_str());
                let names = named(selected.len(), selected.iter().cloned());
                format!(
                    "no selected Service of any remote has the label {label}, so no Service is global; selected are {names}"
                )
            }
        }
    }
}

/// Lists the Services of a remote.
async fn there(remote: &RemoteWatches, watched: &Scope) -> FoundServices {
    let client = remote.client()?;
    let api: Api<Service> = WatchKey::new("services", "", watched.clone(), "").api(client);
    let params = ListParams::default().limit(MAX_LISTED);
    let list = match timeout(ANSWER_TIMEOUT, api.list_metadata(&params)).await {
        Ok(list) => list.map_err(|error| error.to_string())?,
        Err(_elapsed) => return Err(format!("no answer within {ANSWER_TIMEOUT:?}")),
    };
    let described = list.items.into_iter().map(|service| {
        let metadata = service.metadata;
        let name = format!("{}/{}", metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
        let labels = metadata.labels.unwrap_or_default();
        (name, labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    });
    Ok(described.collect())
}

fn nothing_selected(remote: &str, selector: &str, watched: &Scope, found: &FoundServices) -> String {
    let mut text = if selector.is_empty() {
        format!("{remote} has no Service in {watched}, so nothing is mirrored from there")
    } else {
        format!("{remote} has no Service with the labels {selector} in {watched}, so nothing is mirrored from there")
    };
    // Writing to a String cannot fail.
    let _ = match found {
        Err(why) => write!(text, "; the existing Services cannot be listed: {why}"),
        Ok(found) if found.is_empty() => write!(text, "; there are no Services"),
        Ok(found) => {
            let described = found.iter().map(|(name, labels)| match labels.as_str() {
                "" => format!("{name} (no labels)"),
                labels => format!("{name} ({labels})"),
            });
            write!(text, "; there are {}", named(found.len(), described))
        }
    };
    text
}

/// Some of the names, and how many more there are.
fn named(count: usize, all: impl Iterator<Item = String>) -> String {
    let names = all.take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if count > MAX_NAMED { format!("{names} and {} more", count - MAX_NAMED) } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_services_are_listed_with_their_labels() {
        let found = |names: &[(&str, &str)]| -> FoundServices {
            Ok(names.iter().map(|(name, labels)| ((*name).to_owned(), (*labels).to_owned())).collect())
        };
        let shop = Scope::Namespace("shop".into());
        assert_eq!(
            nothing_selected("west", "mirror=true", &shop, &found(&[("shop/a", "app=a"), ("shop/b", "")])),
            "west has no Service with the labels mirror=true in namespace shop, so nothing is mirrored from there; there \
             are shop/a (app=a), shop/b (no labels)"
        );
        assert!(nothing_selected("west", "", &Scope::All, &found(&[])).ends_with("there are no Services"));
        let refused = nothing_selected("west", "a", &shop, &Err("forbidden".into()));
        assert!(refused.ends_with("the existing Services cannot be listed: forbidden"), "{refused}");
        let many: Vec<(String, &str)> = (0..25).map(|n| (format!("shop/{n:02}"), "")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, labels)| (name.as_str(), *labels)).collect();
        assert!(nothing_selected("west", "a", &shop, &found(&many)).ends_with("shop/19 (no labels) and 5 more"));
    }
}
