//! Tests of everything that ships with the binary: manifests, image, metrics reference, alerts, dashboard.

mod apart;
mod broadcast;
mod callers;
mod certificates;
mod discover;
mod elect;
mod endpoints;
mod image;
mod metrics;
mod mirror;
mod observability;
mod owed;
pub(crate) mod shipped;

use std::path::{Path, PathBuf};

/// A path of the repository.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file of the repository.
fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|e| panic!("{relative} cannot be read: {e}"))
}
