//! One export from the catalog to its sinks: debounced, guarded, rendered once, and written to each sink on its own.
//!
//! ```text
//! CatalogReader -> debounce -> guard -> model -> format -> Output ==> one Keeper per sink
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
    guard::Limits,
    metrics::{BACKENDS, ENDPOINTS, HELD, LEFT_OUT, RENDER_ERRORS},
    render::Format,
    sink::{Connect, SinkError, Target, Trouble},
};

/// How long a start waits for the complete lists of all namespaces before it goes on with what there is.
const FIRST_LISTS: Duration = Duration::from_secs(10);

/// One export: what is written, how, and where. What is selected is the [`CatalogReader`]'s.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Which ports and endpoints count, and what backends are called.
    pub model: Model,
    /// The format.
    pub format: Format,
    /// Where it is written: sets where the format is a set of files, else files.
    pub sinks: Vec<Target>,
    /// What may go without having been seen to go.
    pub limits: Limits,
    /// When it is written.
    pub pace: Pace,
    /// Which kube cluster the endpoints are of, as manifests say it.
    pub cluster: Arc<str>,
}

/// When an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pace {
    /// After so long without a further change,
    pub quiet: Duration,
    /// but not later than so long after the first.
    pub at_most: Duration,
    /// How often is looked whether the sinks still hold what they should.
    pub resync: Duration,
    /// How long bringing one sink up to date may take.
    pub timeout: Duration,
}

/// A running export.
pub struct Pipeline {
    export: Export,
    reader: CatalogReader,
    keepers: Vec<Keeper>,
    /// What stands in the way of rendering.
    gate: Gate,
}

/// Who writes, and what the writing is told to.
#[derive(Clone)]
pub struct Process {
    /// The claim that every write needs.
    pub leadership: Leadership,
    /// This process among all that might write there, for instance its pod's name and a random number.
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
    /// A sink cannot be used as it is configured.
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
                return Err(SinkError::new(target, Trouble::Refused, what));
            }
            if let (Target::Serve { location }, Some(served)) = (target, &connect.served) {
                served.expect(&location.file(""));
            }
            keepers.push(Keeper::new(&export, target, target.open(connect)?, process));
        }
        let gate = process.readiness.register(format!("discover {}", export.name));
        Ok(Self { export, reader, keepers, gate })
    }

    /// Keeps the sinks up to date until the drain. A sink that fails holds up no other.
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
        // The keepers end by themselves, each after the write that is under way.
        tokio::join!(rendering, join_all(keeping));
    }

    /// Writes every sink once, within this time, and ends.
    ///
    /// # Errors
    /// What could not be written, and why.
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
        // What nobody saw go is a matter of what is there: nothing was known before.
        let staged = Stage::new(export).next(&catalog, |_service, _address| true, Instant::now());
        let (output, _held) = staged.map_err(|why| format!("{name}: it cannot be rendered: {why}"))?;
        let writing = join_all(keepers.into_iter().map(|keeper| keeper.once(&output, deadline)));
        let problems: Vec<String> = writing.await.into_iter().filter_map(Result::err).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

/// Renders every change of the catalog. Never ends.
async fn render(export: &Export, mut reader: CatalogReader, gate: &Gate, outputs: &watch::Sender<Option<Arc<Output>>>) {
    let mut stage = Stage::new(export.clone());
    let mut again = None;
    gate.set_not_ready("waiting for the first complete list");
    let mut catalog = first(&mut reader).await;
    loop {
        let since = Instant::now();
        settle_down(&mut reader, &mut catalog, export.pace).await;
        let of_the_moment = catalog.clone();
        let staged = stage.next(&catalog, |service, address| of_the_moment.is_inferred_loss(service, address), since);
        match staged {
            Ok((output, held)) => {
                let name = export.name.to_string();
                #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
                {
                    gauge!(BACKENDS, "export" => name.clone()).set(output.backends as f64);
                    gauge!(ENDPOINTS, "export" => name.clone()).set(output.endpoints as f64);
                    gauge!(LEFT_OUT, "export" => name.clone()).set(output.left_out as f64);
                    let endpoints = held.as_ref().map_or(0, |held| held.endpoints);
                    gauge!(HELD, "export" => name).set(endpoints as f64);
                }
                again = held.as_ref().and_then(|held| held.again);
                match held {
                    Some(held) => {
                        tracing::warn!(export = %export.name, "{}", held.why);
                        gate.set_not_ready(held.why);
                    }
                    None => {
                        reader.settle(catalog.sequence);
                        gate.set_ready();
                    }
                }
                outputs.send_replace(Some(Arc::new(output)));
            }
            Err(why) => {
                counter!(RENDER_ERRORS, "export" => export.name.to_string()).increment(1);
                tracing::error!(export = %export.name, "it cannot be rendered, what was written stays: {why}");
                gate.set_not_ready(format!("it cannot be rendered: {why}"));
            }
        }
        let newer = reader.newer_than(catalog.sequence);
        catalog = match again.take() {
            None => newer.await,
            Some(at) => match tokio::time::timeout_at(at.into(), newer).await {
                Ok(newer) => newer,
                Err(_elapsed) => catalog,
            },
        };
    }
}

/// The first catalog; an incomplete one only if it does not become complete in time, because a right is missing.
async fn first(reader: &mut CatalogReader) -> Catalog {
    let mut catalog = reader.newer_than(0).await;
    let complete = async {
        while !catalog.unlisted.is_empty() {
            catalog = reader.newer_than(catalog.sequence).await;
        }
    };
    let _ = timeout(FIRST_LISTS, complete).await;
    catalog
}

/// Waits out a burst of changes.
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
