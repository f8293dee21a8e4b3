//! From a catalog to the files of an export. Pure.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use controlplane::{catalog::Catalog, index::ServiceKey};

use super::Export;
use crate::{
    backend::Names,
    guard::{Guard, Held},
    sink::Document,
};

/// The files of an export, made from one catalog.
#[derive(Clone, Debug)]
pub struct Output {
    /// The files.
    pub documents: Vec<Document>,
    /// The number of backends in them.
    pub backends: usize,
    /// The number of endpoints of these backends.
    pub endpoints: usize,
    /// How many backends the format cannot express.
    pub left_out: usize,
    /// Namespaces without a complete list: this output must not remove anything from a sink.
    pub unlisted: Vec<Arc<str>>,
    /// When the change that led to it became known.
    pub since: Instant,
}

/// The state of an export between two catalogs.
#[derive(Debug)]
pub struct Stage {
    export: Export,
    guard: Guard,
    names: Names,
    /// The backends that were left out last, so that each is logged once.
    logged: Vec<(Arc<str>, String)>,
}

impl Stage {
    /// The state before the first catalog.
    pub fn new(export: Export) -> Self {
        let guard = Guard::new(export.limits);
        Self { export, guard, names: Names::default(), logged: Vec::new() }
    }

    /// The files for this catalog, and the endpoints that they keep although the catalog lacks them. `inferred` is as in
    /// [`Guard::admit`].
    ///
    /// # Errors
    /// The reason why the format cannot render it: an error in a user's template.
    pub fn next(
        &mut self,
        catalog: &Catalog,
        inferred: impl Fn(&ServiceKey, SocketAddr) -> bool,
        now: Instant,
    ) -> Result<(Output, Option<Held>), String> {
        let admitted = self.guard.admit(catalog, inferred, now);
        let backends = self.export.model.backends(&admitted.catalog, &mut self.names);
        let rendered = self.export.format.render(&backends).map_err(|error| error.to_string())?;
        let left_out: Vec<(Arc<str>, String)> =
            rendered.left_out.into_iter().map(|left| (left.what, left.why)).collect();
        for (what, why) in left_out.iter().filter(|left| !self.logged.contains(left)) {
            tracing::warn!(export = %self.export.name, "{what} is left out: {why}");
        }
        let documents = rendered.files.into_iter();
        let output = Output {
            documents: documents
                .map(|file| Document { name: file.name, content_type: file.content_type, bytes: file.bytes })
                .collect(),
            backends: backends.len(),
            endpoints: backends.iter().map(|backend| backend.endpoints.len()).sum(),
            left_out: left_out.len(),
            unlisted: catalog.unlisted.iter().cloned().collect(),
            since: now,
        };
        self.logged = left_out;
        Ok((output, admitted.held))
    }
}
