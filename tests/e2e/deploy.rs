//! Tests of the files that are shipped beside the binary: manifests, image, metrics reference, alerts, dashboards.

mod apart;
mod broadcast;
mod callers;
mod certificates;
mod chart;
mod discover;
mod elect;
mod endpoints;
mod every_role;
mod image;
mod journal;
mod metrics;
mod mirror;
mod observability;
mod owed;
mod release;
pub(crate) mod shipped;
mod systemd;

use std::path::{Path, PathBuf};

/// A path of the repository.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The text of a file of the repository.
fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|e| panic!("{relative} cannot be read: {e}"))
}
