//! Who holds which name: the oldest first, and whoever holds one keeps it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use controlplane::index::ServiceKey;
use sha2::{Digest, Sha256};

use super::{NameTemplate, ports::Ports};

/// The longest name, in bytes: one that is part of a file name leaves room for an ending.
const MAX: usize = 200;
/// How many hexadecimal digits of a hash tell names apart.
const DIGITS: usize = 10;

/// Which Service holds which name, and what ports it had.
///
/// Where it is empty (at the first call), the oldest Service gets the short form. From then on names stay with their
/// holders: also where two are equally old (`creationTimestamp` has whole seconds), and where an older Service is selected
/// later. A Service keeps its names until it is gone from the catalog, endpoints or not.
#[derive(Clone, Debug, Default)]
pub struct Names {
    holdings: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<str>>>,
    pub(super) ports: Ports,
}

impl Names {
    /// Gives a name to each of the wanted ones, in their order. `wanted` lists the Services, oldest first, with what each
    /// would call its backends if it were alone.
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
            // What has no endpoints for a while keeps its names; what has some, only those that it uses.
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

/// The short form, else the one with the namespace, else one with a hash of what it stands for.
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

/// A name that is safe in every format: letters, digits, `.`, `_` and `-`, a letter or digit first (no file name that
/// would be hidden or lead elsewhere), 200 bytes at most. What was a good name already stays as it is.
pub(super) fn safe(text: &str) -> Arc<str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut name: String = text.chars().map(|c| if good(c) { c } else { '-' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        name.insert(0, 'x');
    }
    if name.len() > MAX { cut(&name, text) } else { name.into() }
}

/// As much of a name as there is room for, and a hash of what it stands for.
fn cut(name: &str, meaning: &str) -> Arc<str> {
    let digest = Sha256::digest(meaning.as_bytes());
    let digits: String = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(DIGITS).map(digit).collect();
    // Names are ASCII: any place is one between characters.
    let room = name.len().min(MAX - DIGITS - 1);
    format!("{}-{digits}", &name[..room]).into()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).expect("four bits are one hexadecimal digit")
}
