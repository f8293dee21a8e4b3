//! `bridge:` in the file: stores that are pulled from, and the files they are pulled into.

use std::time::Duration;

use export::sink::Target;
use runtime::config::Section;
use serde::Serialize;

use super::{
    store::{self, Access},
    values::{boolean, name, time},
};

/// How often is looked, and how long a look may take, where nothing is said.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is configured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Config {
    /// What is pulled.
    #[serde(flatten)]
    pub(crate) bridge: export::bridge::Config,
    /// How the store is reached.
    #[serde(flatten)]
    pub(crate) access: Access,
    /// Pull once and end.
    pub(crate) once: bool,
}

/// Reads it, if it is there.
pub(super) fn read(root: &Section<'_>) -> Vec<Config> {
    let nodes = root.list("bridge");
    let mut configs: Vec<Config> = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let section = node.section();
        let default = if nodes.len() == 1 { "bridge".to_owned() } else { format!("bridge-{}", number + 1) };
        let config = one(&section, default);
        section.finish();
        let Some(config) = config else { continue };
        if configs.iter().any(|before| before.bridge.name == config.bridge.name) {
            node.problem(format_args!("there is another bridge `{}`: give each a name of its own", config.bridge.name));
        }
        configs.push(config);
    }
    configs
}

fn one(section: &Section<'_>, default: String) -> Option<Config> {
    let name = section.or_default_with("name", default, name);
    let from = section.required_with("from", source);
    let to = section.required_with("to", file);
    let interval = section.or_default_with("interval", INTERVAL, time);
    let require_manifest = section.or_default_with("require_manifest", false, boolean);
    let timeout = section.or_default_with("timeout", TIMEOUT, time);
    let access = store::read(section);
    let once = section.or_default_with("once", false, boolean);
    let (from, to) = (from?, to?);
    if from.is_set() && !to.is_set() {
        section.problem("to", "several files need a directory: end it with /");
        return None;
    }
    let bridge = export::bridge::Config { name: name.into(), from, to, interval, require_manifest, timeout };
    Some(Config { bridge, access, once })
}

fn source(text: &str) -> Result<Target, String> {
    match text.parse().map_err(|error: export::sink::InvalidTarget| error.to_string())? {
        source @ (Target::S3 { .. } | Target::Http { .. } | Target::File { .. }) => Ok(source),
        _ => Err(format!("{text:?} cannot be pulled from: use s3://bucket/key or a URL")),
    }
}

fn file(text: &str) -> Result<Target, String> {
    match text.parse().map_err(|error: export::sink::InvalidTarget| error.to_string())? {
        file @ Target::File { .. } => Ok(file),
        _ => Err(format!("{text:?} is not a path: a bridge writes files of this machine")),
    }
}
