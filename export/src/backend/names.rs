//! The names of backends: the oldest Service chooses first, and a name stays with its holder.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use controlplane::{catalog::Catalog, index::ServiceKey};
use sha2::{Digest, Sha256};

use super::{
    Backend, Model, NameTemplate,
    known::{Known, Services},
};

/// The longest name, in bytes. A file name made of it has room for an extension.
const MAX_NAME_BYTES: usize = 200;
/// The number of hexadecimal digits of the hash in a name.
const HASH_DIGITS: usize = 10;

/// The names in use, and what is known of their Services.
///
/// At the first call the oldest Service gets the short form. From then on names stay with their holders, even where two Services are
/// equally old (`creationTimestamp` has whole seconds) or an older one is selected later. A Service keeps its names, with or without
/// endpoints, until it leaves the catalog.
#[derive(Clone, Debug, Default)]
pub struct Names {
    holdings: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<str>>>,
    services: Services,
    /// In the order of the names.
    given: Vec<Given>,
}

/// The name of one unit.
#[derive(Clone, Debug)]
struct Given {
    name: Arc<str>,
    /// The place of its Service among all, and its own place in that.
    service: usize,
    unit: usize,
}

impl Names {
    /// Takes the next catalog. Names are assigned only if anything has changed that decides about them.
    pub(super) fn update(&mut self, model: &Model, catalog: &Catalog) {
        if self.services.update(model, catalog) {
            self.assign(&model.names);
        }
    }

    /// The backends of the Services, ordered by name.
    pub(super) fn backends(&self) -> Vec<Backend> {
        let backend = |given: &Given| {
            let known = &self.services.all()[given.service];
            known.units[given.unit].backend(given.name.clone(), known.entry.clone())
        };
        self.given.iter().map(backend).collect()
    }

    /// Assigns a name to each unit: the oldest Service first; of equally old ones, the first by namespace and name.
    fn assign(&mut self, template: &NameTemplate) {
        let mut services: Vec<(usize, &Known)> = self.services.all().iter().enumerate().collect();
        // The sort is stable, and they are ordered by namespace and name.
        services.sort_by_key(|(_place, known)| known.entry.facts.created);
        let mut next: BTreeMap<ServiceKey, BTreeMap<Arc<str>, Arc<str>>> = BTreeMap::new();
        let mut taken: HashSet<Arc<str>> = HashSet::new();
        for (_place, known) in &services {
            let Some(mut held) = self.holdings.remove(&known.entry.key) else { continue };
            // A Service without endpoints keeps its names; one with endpoints keeps only those that it uses.
            if !known.units.is_empty() {
                held.retain(|local, _name| known.units.iter().any(|unit| unit.local == *local));
            }
            taken.extend(held.values().cloned());
            next.insert(known.entry.key.clone(), held);
        }
        let mut given = Vec::new();
        for (service, known) in services {
            let key = &known.entry.key;
            for (unit, local) in known.units.iter().map(|unit| &unit.local).enumerate() {
                let held = next.get(key).and_then(|held| held.get(local)).cloned();
                let name = held.unwrap_or_else(|| free(key, local, template, &taken));
                taken.insert(name.clone());
                next.entry(key.clone()).or_default().insert(local.clone(), name.clone());
                given.push(Given { name, service, unit });
            }
        }
        given.sort_by(|a, b| a.name.cmp(&b.name));
        self.holdings = next;
        self.given = given;
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
