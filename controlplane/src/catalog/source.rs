//! Keeps one catalog up to date by recomputing the Services that its watches report as changed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use runtime::readiness::Gate;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Catalog, CatalogReader, DataAge, Selection, part::CatalogPart};
use crate::{
    build,
    index::ServiceKey,
    kube_cluster::KubeCluster,
    source::kube::{Hints, Pattern},
    watch::{Scope, any_change},
};

/// The source of one catalog.
struct Source {
    kube: KubeCluster,
    parts: Vec<CatalogPart>,
    /// The Service of a catalog with a single one.
    only: Option<ServiceKey>,
    catalog: watch::Sender<Catalog>,
    settled: Arc<AtomicU64>,
    data_age: DataAge,
    gate: Gate,
    complete: bool,
    /// Warnings about probable mistakes.
    hints: Hints,
    /// The description of the label selection, for the warning that it selects nothing.
    selected: Option<String>,
    /// Whether that warning was logged.
    warned_of_nothing: bool,
}

/// Keeps a catalog of these Services up to date until its reader is dropped. The gate opens when every watch follows a complete
/// list, and until then gives the missing ones; a later outage of the API server changes only the age of the data.
pub fn follow(kube: &KubeCluster, selection: Selection, gate: Gate) -> CatalogReader {
    let (selected, whose) = in_words(&selection);
    let (parts, only) = match selection {
        Selection::Service(key) => (vec![CatalogPart::of_one(kube, &key)], Some(key)),
        Selection::Labels { selector, namespaces: None } => {
            (vec![CatalogPart::by_labels(kube, Scope::All, &selector)], None)
        }
        Selection::Labels { selector, namespaces: Some(namespaces) } => {
            // Once each.
            let namespaces: BTreeSet<Arc<str>> = namespaces.into_iter().collect();
            let scopes = namespaces.into_iter().map(Scope::Namespace);
            (scopes.map(|scope| CatalogPart::by_labels(kube, scope, &selector)).collect(), None)
        }
    };
    let (sender, catalog) = watch::channel(Catalog::default());
    let data_age = DataAge::default();
    let settled = Arc::<AtomicU64>::default();
    let source = Source {
        kube: kube.clone(),
        parts,
        only,
        catalog: sender,
        settled: settled.clone(),
        data_age: data_age.clone(),
        gate,
        complete: false,
        hints: Hints::new(&whose, kube.client()),
        selected,
        warned_of_nothing: false,
    };
    source.report_age();
    CatalogReader { catalog, data_age, settled, task: Some(tokio::spawn(source.run())) }
}

/// Descriptions of the label selection, and of the catalog, for logs.
fn in_words(selection: &Selection) -> (Option<String>, String) {
    match selection {
        Selection::Service(key) => (None, key.to_string()),
        Selection::Labels { selector, namespaces } => {
            let place = match namespaces {
                Some(namespaces) => format!("in {}", namespaces.join(", ")),
                None => "in any namespace".to_owned(),
            };
            (Some(format!("{selector} {place}")), selector.to_string())
        }
    }
}

// === impl Source ===

impl Source {
    async fn run(mut self) {
        let mut states: Vec<_> = self.parts.iter().flat_map(CatalogPart::states).collect();
        loop {
            states.iter_mut().for_each(|state| drop(state.borrow_and_update()));
            if self.reconsider() {
                states = self.parts.iter().flat_map(CatalogPart::states).collect();
                self.report_age();
            }
            self.update();
            self.complete = self.complete || self.check();
            if self.complete {
                self.hint();
            }
            tokio::select! {
                () = any_change(&mut states) => {}
                () = self.hints.log_result() => continue,
            }
            build::burst(&mut states).await;
        }
    }

    /// Whether any part has changed its watches.
    fn reconsider(&mut self) -> bool {
        let mut any = false;
        for part in &mut self.parts {
            any |= part.reconsider(&self.kube);
        }
        any
    }

    fn report_age(&self) {
        self.data_age.set(self.parts.iter().flat_map(CatalogPart::statuses).collect());
    }

    /// Applies the changes, and publishes the catalog.
    fn update(&mut self) {
        let mut next = self.catalog.borrow().clone();
        let before = next.sequence;
        next.sequence += 1;
        let settled = self.settled.load(Ordering::Relaxed);
        let mut changed = false;
        for part in &mut self.parts {
            if !part.known {
                part.known = part.is_known();
                changed |= part.known;
                // Nobody has seen the earlier state, so its recorded changes are dropped.
                part.start_over();
            }
            if !part.known {
                continue;
            }
            let mut touches = part.touches(&next);
            if let Some(only) = &self.only {
                touches.retain(|key, _touch| key == only);
                // A single Service is in the catalog even without a slice.
                touches.entry(only.clone()).or_default();
            }
            for (key, touch) in touches {
                let entry = part.entry(&key);
                changed |= next.put(&key, entry, &touch, settled);
            }
        }
        let unlisted = self.parts.iter().filter(|part| !part.known).filter_map(|part| match &part.scope {
            Scope::Namespace(namespace) => Some(namespace.clone()),
            Scope::All => None,
        });
        next.unlisted = Arc::new(unlisted.collect());
        if changed {
            debug!(sequence = next.sequence, services = next.services.len(), "the catalog has changed");
        } else {
            next.sequence = before;
        }
        // The recorded losses may have changed even if the entries have not.
        self.catalog.send_if_modified(|catalog| {
            *catalog = next;
            changed
        });
    }

    /// Logs probable mistakes: a Service that does not exist, labels that no Service has.
    fn hint(&mut self) {
        if let Some(only) = &self.only {
            let there = self.parts.iter().any(|part| part.has_slice(only));
            let there: &[ServiceKey] = if there { std::slice::from_ref(only) } else { &[] };
            self.hints.found(&[Pattern::of(only)], there);
        }
        let empty = self.catalog.borrow().services.is_empty();
        if let Some(selected) = self.selected.as_ref().filter(|_| empty && !self.warned_of_nothing) {
            warn!("no Service has the labels {selected}");
        }
        self.warned_of_nothing = empty;
    }

    /// Whether every watch follows a complete list; else the gate gives the missing ones.
    fn check(&self) -> bool {
        let missing: Vec<String> = self.parts.iter().flat_map(CatalogPart::missing).collect();
        if missing.is_empty() {
            info!(services = self.catalog.borrow().services.len(), "the catalog is complete");
            self.gate.set_ready();
        } else {
            self.gate.set_not_ready(missing.join("; "));
        }
        missing.is_empty()
    }
}
