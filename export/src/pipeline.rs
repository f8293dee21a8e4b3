//! One export from the catalog to its sinks: paced, guarded, rendered once, and written to each sink independently.
//!
//! ```text
//! CatalogReader -> pace -> guard -> model -> format -> Output ==> one Keeper per sink
//! ```

mod keeper;
mod stage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    catalog::{Catalog, CatalogReader},
    lease::Leadership,
};
use futures::future::join_all;
use keeper::Keeper;
use metrics::{counter, gauge};
use runtime::{
    drain::DrainWatch,
    readiness::{Gate, Readiness},
};
pub use stage::{Output, Stage};
use tokio::{sync::watch, time::timeout};

use crate::{
    backend::Model,
    guard::{Held, Limits},
    metrics::{BACKENDS, ENDPOINTS, HELD, LEFT_OUT, RENDER_ERRORS},
    render::Format,
    sink::{Connect, SinkError, SinkErrorKind, Target},
};

/// The time for which a start waits for complete lists of all namespaces, before it goes on with the available ones.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// One export: what is written, how, and where. The [`CatalogReader`] decides which Services are selected.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// How backends are made.
    pub model: Model,
    /// The format.
    pub format: Format,
    /// The targets: for sets of files if the format has several files, else for one file.
    pub sinks: Vec<Target>,
    /// How many endpoints may vanish without a deletion event.
    pub limits: Limits,
    /// When it is written.
    pub pace: Pace,
    /// The kube cluster of the endpoints, as manifests name it.
    pub cluster: Arc<str>,
}

/// When an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pace {
    /// The first change in this time is written at once. Changes that follow it are written together, after this time without a
    /// further change,
    pub quiet: Duration,
    /// but at most this time after the first of them.
    pub at_most: Duration,
    /// The interval at which sinks are checked for changes by others.
    pub resync: Duration,
    /// The time limit of one update of a sink.
    pub timeout: Duration,
}

/// A running export.
pub struct Pipeline {
    export: Export,
    reader: CatalogReader,
    keepers: Vec<Keeper>,
    /// Not ready while rendering is not possible.
    gate: Gate,
}

/// The dependencies of an export.
#[derive(Clone)]
pub struct Process {
    /// The claim that every write needs.
    pub leadership: Leadership,
    /// Identifies this process among all writers, for instance the pod's name and a random number.
    pub identity: Arc<str>,
    /// Gets a gate for the export and one for each sink.
    pub readiness: Readiness,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(200),
            at_most: Duration::from_secs(2),
            resync: Duration::from_secs(300),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Pipeline {
    /// Opens the sinks. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`SinkError`] if a sink cannot be used as configured.
    pub fn new(export: Export, reader: CatalogReader, process: &Process, connect: &Connect) -> Result<Self, SinkError> {
        let mut keepers = Vec::new();
        for target in &export.sinks {
            let format = export.format.name();
            let misfit = match (export.format.is_set(), target.is_set()) {
                (true, false) => Some(format!("the format {format} gives several files: end the place with `/`")),
                (false, true) => Some(format!("the format {format} gives one file: name it")),
                _ => None,
            };
            if let Some(what) = misfit {
                return Err(SinkError::new(target, SinkErrorKind::Refused, what));
            }
            if let (Target::Serve { location }, Some(served)) = (target, &connect.served) {
                served.expect(&location.file(""));
            }
            keepers.push(Keeper::new(&export, target, target.open(connect)?, process));
        }
        let gate = process.readiness.register(format!("discover {}", export.name));
        Ok(Self { export, reader, keepers, gate })
    }

    /// Keeps the sinks up to date until the drain. A sink that fails does not delay the others.
    pub async fn run(self, drain: DrainWatch) {
        let Self { export, reader, keepers, gate } = self;
        let (sender, outputs) = watch::channel(None);
        let keeping = keepers.into_iter().map(|keeper| keeper.run(outputs.clone(), drain.clone()));
        let rendering = async {
            tokio::select! {
                () = render(&export, reader, &gate, &sender) => {}
                () = drain.wait() => {}
            }
        };
        // Each keeper ends by itself, after the write in progress.
        tokio::join!(rendering, join_all(keeping));
    }

    /// Writes every sink once within this time, and returns.
    ///
    /// # Errors
    /// A text with the sinks that could not be written, and the reasons.
    pub async fn once(self, limit: Duration) -> Result<(), String> {
        let Self { export, mut reader, keepers, gate: _ } = self;
        let deadline = Instant::now() + limit;
        let catalog = tokio::time::timeout_at(deadline.into(), async {
            let mut catalog = first(&mut reader).await;
            settle_down(&mut reader, &mut catalog, export.pace).await;
            catalog
        });
        let name = export.name.clone();
        let catalog = catalog.await.map_err(|_elapsed| format!("{name}: there was no complete list in time"))?;
        // There is no earlier catalog to infer a loss from; the keepers compare with the sinks' contents.
        let staged = Stage::new(export).next(&catalog, |_service, _address| true, Instant::now());
        let (output, _held) = staged.map_err(|why| format!("{name}: the catalog cannot be rendered: {why}"))?;
        let writing = join_all(keepers.into_iter().map(|keeper| keeper.once(&output, deadline)));
        let problems: Vec<String> = writing.await.into_iter().filter_map(Result::err).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

/// Renders the changes of the catalog. Never ends.
async fn render(export: &Export, mut reader: CatalogReader, gate: &Gate, outputs: &watch::Sender<Option<Arc<Output>>>) {
    let mut stage = Stage::new(export.clone());
    gate.set_not_ready("waiting for the first complete list");
    let mut catalog = first(&mut reader).await;
    // At the start lists come one after the other.
    let mut at_once = false;
    loop {
        let since = Instant::now();
        if !at_once {
            settle_down(&mut reader, &mut catalog, export.pace).await;
        }
        let of_the_moment = catalog.clone();
        let staged = stage.next(&catalog, |service, address| of_the_moment.is_inferred_loss(service, address), since);
        let (is_held, again) = match staged {
            Ok((output, held)) => {
                let state = (held.is_some(), held.as_ref().and_then(|held| held.again));
                report(export, &output, held, gate);
                if !state.0 {
                    reader.settle(catalog.sequence);
                }
                outputs.send_replace(Some(Arc::new(output)));
                state
            }
            Err(why) => {
                counter!(RENDER_ERRORS, "export" => export.name.to_string()).increment(1);
                tracing::error!(export = %export.name, "it cannot be rendered, what was written stays: {why}");
                gate.set_not_ready(format!("it cannot be rendered: {why}"));
                (false, None)
            }
        };
        let rendered = tokio::time::Instant::now();
        let newer = reader.newer_than(catalog.sequence);
        let newer = match again {
            None => Some(newer.await),
            Some(at) => tokio::time::timeout_at(at.into(), newer).await.ok(),
        };
        let is_quiet = rendered.elapsed() >= export.pace.quiet && !is_held;
        at_once = is_quiet && newer.as_ref().is_some_and(|newer| stands_alone(&catalog, newer));
        catalog = newer.unwrap_or(catalog);
    }
}

/// Whether a change can be judged without those that may follow it. Losses that nobody has seen cannot: the guard judges them together.
fn stands_alone(before: &Catalog, now: &Catalog) -> bool {
    before.unlisted == now.unlisted && !now.has_inferred_losses_since(before.sequence)
}

/// Shows what was rendered, and what is held back.
fn report(export: &Export, output: &Output, held: Option<Held>, gate: &Gate) {
    let name = export.name.to_string();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    {
        gauge!(BACKENDS, "export" => name.clone()).set(output.backends as f64);
        gauge!(ENDPOINTS, "export" => name.clone()).set(output.endpoints as f64);
        gauge!(LEFT_OUT, "export" => name.clone()).set(output.left_out as f64);
        let endpoints = held.as_ref().map_or(0, |held| held.endpoints);
        gauge!(HELD, "export" => name).set(endpoints as f64);
    }
    match held {
        Some(held) => {
            tracing::warn!(export = %export.name, "{}", held.why);
            gate.set_not_ready(held.why);
        }
        None => gate.set_ready(),
    }
}

/// The first catalog. It is incomplete if it does not become complete in time, for instance because a right is missing.
async fn first(reader: &mut CatalogReader) -> Catalog {
    let mut catalog = reader.newer_than(0).await;
    let complete = async {
        while !catalog.unlisted.is_empty() {
            catalog = reader.newer_than(catalog.sequence).await;
        }
    };
    let _ = timeout(FIRST_LIST_TIMEOUT, complete).await;
    catalog
}

/// Waits until a burst of changes has ended.
async fn settle_down(reader: &mut CatalogReader, catalog: &mut Catalog, pace: Pace) {
    let end = tokio::time::Instant::now() + pace.at_most;
    loop {
        let quiet = (tokio::time::Instant::now() + pace.quiet).min(end);
        match tokio::time::timeout_at(quiet, reader.newer_than(catalog.sequence)).await {
            Ok(newer) => *catalog = newer,
            Err(_elapsed) => return,
        }
    }
}

#[cfg(test)]
mod tests;
