//! The names of backends: the oldest Service chooses first, and a name stays with its holder.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use controlplane::index::ServiceKey;
use sha2::{Digest, Sha256};

use super::{NameTemplate, ports::Ports};

/// The longest name, in bytes. A file name made of it has room for an extension.
const MAX_NAME_BYTES: usize = 200;
/// The number of hexadecimal digits of the hash in a name.
const HASH_DIGITS: usize = 10;

/// The names in use with their Services, and the last known ports of these.
///
/// At the first call the oldest Service gets the short form. From then on names stay with their holders, even where two Services are
/// equally old (`creationTimestamp` has whole seconds) or an older one is selected later. A Service keeps its names, with or without
/// endpoints, until it leaves the catalog.
#[derive(Clone, Debug, Default)]
pub struct Names {
    holdings: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<str>>>,
    pub(super) ports: Ports,
}

impl Names {
    /// Assigns a name to each wanted one, in their order. `wanted` lists the Services, oldest first, with the names that their backends
    /// would have if there were no other Service.
    pub(super) fn assign<'a, L>(
        &mut self,
        template: &NameTemplate,
        wanted: impl Iterator<Item = (&'a ServiceKey, L)>,
    ) -> Vec<Arc<str>>
    where
        L: Iterator<Item = &'a Arc<str>>,
    {
        let wanted: Vec<(&ServiceKey, Vec<&Arc<str>>)> = wanted.map(|(key, locals)| (key, locals.collect())).collect();
        let mut next: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<str>>> = BTreeMap::new();
        let mut taken: HashSet<Arc<str>> = HashSet::new();
        for (key, locals) in &wanted {
            let Some(mut held) = self.holdings.remove(*key) else { continue };
            // A Service without endpoints keeps its names; one with endpoints keeps only those that it uses.
            if !locals.is_empty() {
                held.retain(|local, _name| locals.contains(&local));
            }
            taken.extend(held.values().cloned());
            next.insert((*key).clone(), held);
        }
        let mut given = Vec::new();
        for (key, locals) in wanted {
            for local in locals {
                let held = next.get(key).and_then(|held| held.get(local)).cloned();
                let name = held.unwrap_or_else(|| free(key, local, template, &taken));
                taken.insert(name.clone());
                next.entry(key.clone()).or_default().insert(local.clone(), name.clone());
                given.push(name);
            }
        }
        self.holdings = next;
        given
    }
}

/// The short form, else the one with the namespace, else one with a hash of the Service and its name for the backend.
fn free(key: &ServiceKey, local: &Arc<str>, template: &NameTemplate, taken: &HashSet<Arc<str>>) -> Arc<str> {
    if !taken.contains(local) {
        return local.clone();
    }
    if !template.has_namespace() {
        let long = safe(&format!("{}-{local}", key.namespace));
        if !taken.contains(&long) {
            return long;
        }
    }
    let hashed = |n: u32| cut(local, &format!("{key} {local} {n}"));
    (0..).map(hashed).find(|name| !taken.contains(name)).expect("there are more hashes than names")
}

/// A name that is safe in every format: at most 200 bytes of letters, digits, `.`, `_` and `-`, the first a letter or digit, so that
/// no file of that name is hidden or outside of its folder. A text that is safe already stays the same.
pub(super) fn safe(text: &str) -> Arc<str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut name: String = text.chars().map(|c| if good(c) { c } else { '-' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        name.insert(0, 'x');
    }
    if name.len() > MAX_NAME_BYTES { cut(&name, text) } else { name.into() }
}

/// The name, cut to leave room for a hash of `meaning`.
fn cut(name: &str, meaning: &str) -> Arc<str> {
    let digest = Sha256::digest(meaning.as_bytes());
    let digits: String = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(HASH_DIGITS).map(digit).collect();
    // Names are ASCII, so that every index is a character boundary.
    let room = name.len().min(MAX_NAME_BYTES - HASH_DIGITS - 1);
    format!("{}-{digits}", &name[..room]).into()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).expect("four bits are one hexadecimal digit")
}
