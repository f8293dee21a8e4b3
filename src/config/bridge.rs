//! `bridge:` in the file: stores to pull from, and the files to write.

use std::time::Duration;

use runtime::config::Section;
use serde::Serialize;

use super::store::{self, StoreAccess};
use crate::settings::bridge as settings;

/// Defaults of the interval between two pulls, and of the time limit of one.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);

/// One configured bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BridgeConfig {
    /// The bridge.
    #[serde(flatten)]
    pub(crate) bridge: export::bridge::Config,
    /// The access to the store.
    #[serde(flatten)]
    pub(crate) access: StoreAccess,
    /// Whether to pull once and end.
    pub(crate) once: bool,
}

/// Reads every bridge.
pub(super) fn read(root: &Section<'_>) -> Vec<BridgeConfig> {
    let nodes = root.list("bridge");
    let mut configs: Vec<BridgeConfig> = Vec::new();
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

fn one(section: &Section<'_>, default: String) -> Option<BridgeConfig> {
    let name = settings::NAME.or(section, default);
    let from = settings::FROM.required(section);
    let to = settings::TO.required(section);
    let interval = settings::INTERVAL.or(section, INTERVAL);
    let require_manifest = settings::REQUIRE_MANIFEST.or(section, false);
    let timeout = settings::PULL_TIMEOUT.or(section, TIMEOUT);
    let access = store::read(section);
    let once = settings::ONCE.or(section, false);
    let (from, to) = (from?, to?);
    if from.is_set() && !to.is_set() {
        settings::TO.problem(section, "several files need a directory: end it with /");
        return None;
    }
    let bridge = export::bridge::Config { name: name.into(), from, to, interval, require_manifest, timeout };
    Some(BridgeConfig { bridge, access, once })
}
