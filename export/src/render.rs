//! Renderers: from backends to the files that load balancers and other consumers read.
//!
//! Pure: the same backends give the same bytes. Whatever a Service's names, labels and annotations contain, the result is a
//! well-formed file of its format that describes each backend correctly: names are made safe before they come here, addresses are
//! printed from parsed ones, and everything else is escaped by a serialiser, or checked and left out.

mod balancing;
mod envoy;
mod haproxy;
mod hosts;
mod nginx;
mod options;
mod plain;
mod prometheus;
mod route;
mod template;
mod traefik;
mod yaml;

use std::sync::Arc;

use bytes::Bytes;
pub use envoy::Envoy;
pub use options::{FormatOptions, InvalidFormat, Trust};
pub use template::{RenderError, Template};
pub use traefik::Traefik;

use crate::backend::Backend;

/// A file format, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Traefik's dynamic configuration as YAML.
    TraefikYaml(Traefik),
    /// Traefik's dynamic configuration as JSON, for its HTTP provider.
    TraefikJson(Traefik),
    /// A plain list of backends and targets as YAML, for scripts.
    Default,
    /// Everything that is known about each backend, as JSON.
    Json,
    /// Prometheus targets (`http_sd_configs`, `file_sd_configs`), one group for each endpoint.
    Prometheus,
    /// Envoy clusters (CDS) and, in a file each, their endpoints (EDS), for `path_config_source`: a set of files.
    Envoy(Envoy),
    /// Envoy clusters (CDS) with their endpoints in them, in one file.
    EnvoyCds(Trust),
    /// HAProxy `backend` sections with their `server` lines.
    Haproxy(Trust),
    /// An HAProxy map from host and path (the annotations) to the backend.
    HaproxyMap,
    /// nginx `upstream` blocks for the `http` context.
    Nginx,
    /// nginx `upstream` blocks for the `stream` context: TCP and UDP.
    NginxStream,
    /// Lines as in `/etc/hosts`.
    Hosts,
    /// The user's own template.
    Template(Template),
}

/// The result of rendering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The files: one without a name, or all files of a set. A set is written in this order, and files that are no longer part of it are
    /// removed afterwards, so that no file ever refers to one that does not exist.
    pub files: Vec<File>,
    /// What this format cannot express. The rest is complete without it.
    pub left_out: Vec<LeftOut>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the set's folder, with `/` as separator and without `.` and `..`; empty for a format with one file.
    pub name: String,
    /// Its media type, for stores and HTTP.
    pub content_type: &'static str,
    /// Its content, which is never empty: every format has a form for an empty list.
    pub bytes: Bytes,
}

/// A backend, or a request in a Service's annotations, that a format cannot express.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The backend's name, or `namespace/name` where it concerns all backends of a Service.
    pub what: Arc<str>,
    /// Why, and what to do about it.
    pub why: String,
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const TEXT: &str = "text/plain; charset=utf-8";

impl Format {
    /// The files for these backends, which have unique names and are ordered by them ([`Model::backends`] makes them so).
    ///
    /// # Errors
    /// The user's template fails. Every other format can render any backends.
    ///
    /// [`Model::backends`]: crate::backend::Model::backends
    pub fn render(&self, backends: &[Backend]) -> Result<Rendered, RenderError> {
        let mut left_out = Vec::new();
        let files = match self {
            Self::TraefikYaml(options) => one(YAML, traefik::yaml(options, backends, &mut left_out)),
            Self::TraefikJson(options) => one(JSON, traefik::json(options, backends, &mut left_out)),
            Self::Default => one(YAML, plain::yaml(backends)),
            Self::Json => one(JSON, plain::json(backends)),
            Self::Prometheus => one(JSON, prometheus::render(backends, &mut left_out)),
            Self::Envoy(options) => options.render(backends, &mut left_out),
            Self::EnvoyCds(trust) => one(JSON, envoy::inline(trust, backends, &mut left_out)),
            Self::Haproxy(trust) => one(TEXT, haproxy::render(trust, backends, &mut left_out)),
            Self::HaproxyMap => one(TEXT, haproxy::map(backends, &mut left_out)),
            Self::Nginx => one(TEXT, nginx::http(backends, &mut left_out)),
            Self::NginxStream => one(TEXT, nginx::stream(backends, &mut left_out)),
            Self::Hosts => one(TEXT, hosts::render(backends, &mut left_out)),
            Self::Template(template) => one(TEXT, template.render(backends)?),
        };
        left_out.sort();
        left_out.dedup();
        Ok(Rendered { files, left_out })
    }

    /// Whether it is a set of files, which needs a folder to be written to.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(self, Self::Envoy(_))
    }
}

fn one(content_type: &'static str, text: String) -> Vec<File> {
    vec![File { name: String::new(), content_type, bytes: text.into() }]
}

/// Records that a backend is left out.
fn leave_out(left_out: &mut Vec<LeftOut>, what: &Arc<str>, why: impl Into<String>) {
    left_out.push(LeftOut { what: what.clone(), why: why.into() });
}

/// Indented JSON with a line break at the end.
fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("maps with text as keys, and nothing else that could fail") + "\n"
}

#[cfg(test)]
mod tests;
