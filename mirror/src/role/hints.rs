//! Warnings where what is configured matches nothing in a remote, with what there is instead.

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

use super::{Mirror, remote::Remote};

/// How long a remote may take to tell what there is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most Services that are looked at for that, and most that are named.
const LOOKED_AT: u32 = 500;
const NAMED: usize = 20;

/// A part of the configuration that may match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The selector of a remote in one of its namespaces, or in all of them; both by number.
    Selector { remote: usize, scope: usize },
    /// The label that opts in to global Services.
    Global,
}

/// The Services of a remote, each with its labels.
type Found = Result<BTreeMap<String, String>, String>;

impl Mirror {
    /// Goes on looking at what matches nothing.
    pub(super) async fn hint(&self) -> Infallible {
        let mut told = BTreeSet::new();
        let scopes = self.remotes.iter().flat_map(Remote::scopes);
        let mut states: Vec<_> = scopes.map(|scope| scope.services.subscribe()).collect();
        loop {
            self.tell_unmatched(&mut told).await;
            watch::any_change(&mut states).await;
            for state in &mut states {
                state.mark_unchanged();
            }
        }
    }

    /// Warns of every part that matches nothing and was not told before; one that matches may be told again later.
    pub(super) async fn tell_unmatched(&self, told: &mut BTreeSet<Part>) {
        let selectors = self.remotes.iter().flat_map(|remote| {
            (0..remote.scopes().len()).map(|scope| Part::Selector { remote: remote.number(), scope })
        });
        for part in selectors.chain([Part::Global]) {
            match self.matches(part) {
                Some(true) => drop(told.remove(&part)),
                Some(false) if told.insert(part) => tracing::warn!("{}", self.explain(part).await),
                Some(false) | None => {}
            }
        }
    }

    /// Whether it matches anything; none while that is not completely known.
    fn matches(&self, part: Part) -> Option<bool> {
        match part {
            Part::Selector { remote, scope } => {
                let watched = self.remotes[remote].scopes()[scope].listed()?;
                let world = self.reconciler.world.lock();
                let mut selected = world.remotes[remote].index.services();
                Some(selected.any(|service| watched.contains(&service.key.namespace)))
            }
            Part::Global => {
                let global = self.config.global.as_ref()?;
                let scopes = self.remotes.iter().flat_map(Remote::scopes);
                let _all_listed: Vec<&Scope> = scopes.map(super::remote::Scope::listed).collect::<Option<_>>()?;
                let world = self.reconciler.world.lock();
                let mut selected = world.remotes.iter().flat_map(|remote| remote.index.services()).peekable();
                // Where nothing is selected at all, that is what is told.
                selected.peek()?;
                Some(selected.any(|service| global.opted_in(&service.labels)))
            }
        }
    }

    async fn explain(&self, part: Part) -> String {
        match part {
            Part::Selector { remote, scope } => {
                let remote = &self.remotes[remote];
                let watched = &remote.scopes()[scope].watched;
                let found = there(remote, watched).await;
                nothing_selected(remote.name(), &remote.selector, watched, &found)
            }
            Part::Global => {
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

/// Asks a remote which Services there are.
async fn there(remote: &Remote, watched: &Scope) -> Found {
    let client = remote.client()?;
    let api: Api<Service> = WatchKey::new("services", "", watched.clone(), "").api(client);
    let params = ListParams::default().limit(LOOKED_AT);
    let list = match timeout(PATIENCE, api.list_metadata(&params)).await {
        Ok(list) => list.map_err(|error| error.to_string())?,
        Err(_elapsed) => return Err(format!("no answer within {PATIENCE:?}")),
    };
    let described = list.items.into_iter().map(|service| {
        let metadata = service.metadata;
        let name = format!("{}/{}", metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
        let labels = metadata.labels.unwrap_or_default();
        (name, labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    });
    Ok(described.collect())
}

fn nothing_selected(remote: &str, selector: &str, watched: &Scope, found: &Found) -> String {
    let mut text = if selector.is_empty() {
        format!("{remote} has no Service in {watched}, so nothing is mirrored from there")
    } else {
        format!("{remote} has no Service with the labels {selector} in {watched}, so nothing is mirrored from there")
    };
    // Writing to a String cannot fail.
    let _ = match found {
        Err(why) => write!(text, "; what there is cannot be told: {why}"),
        Ok(found) if found.is_empty() => write!(text, "; there is no Service at all"),
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

/// Some of them, and how many there are beside them.
fn named(count: usize, all: impl Iterator<Item = String>) -> String {
    let names = all.take(NAMED).collect::<Vec<_>>().join(", ");
    if count > NAMED { format!("{names} and {} more", count - NAMED) } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_is_told_with_its_labels() {
        let found = |names: &[(&str, &str)]| -> Found {
            Ok(names.iter().map(|(name, labels)| ((*name).to_owned(), (*labels).to_owned())).collect())
        };
        let shop = Scope::Namespace("shop".into());
        assert_eq!(
            nothing_selected("west", "mirror=true", &shop, &found(&[("shop/a", "app=a"), ("shop/b", "")])),
            "west has no Service with the labels mirror=true in namespace shop, so nothing is mirrored from there; there \
             are shop/a (app=a), shop/b (no labels)"
        );
        assert!(nothing_selected("west", "", &Scope::All, &found(&[])).ends_with("there is no Service at all"));
        let refused = nothing_selected("west", "a", &shop, &Err("forbidden".into()));
        assert!(refused.ends_with("what there is cannot be told: forbidden"), "{refused}");
        let many: Vec<(String, &str)> = (0..25).map(|n| (format!("shop/{n:02}"), "")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, labels)| (name.as_str(), *labels)).collect();
        assert!(nothing_selected("west", "a", &shop, &found(&many)).ends_with("shop/19 (no labels) and 5 more"));
    }
}
