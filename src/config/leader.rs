//! `leader_elect:` in the file: the one election that gates every writer of the process.

use std::time::Duration;

use controlplane::lease::Timing;
use runtime::config::Section;
use serde::Serialize;

use super::{
    elect::{periods, timing},
    values::{boolean, name, text},
};

/// The periods of Kubernetes' own components.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Which of several replicas writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Config {
    /// The Lease's name.
    pub(crate) name: String,
    /// Its namespace; none: the service account's.
    pub(crate) namespace: Option<String>,
    /// What this replica calls itself; none: the host's name and a UUID.
    pub(crate) id: Option<String>,
    /// The periods.
    #[serde(serialize_with = "periods")]
    pub(crate) timing: Timing,
}

/// Reads it, if it is there and not disabled.
pub(super) fn read(root: &Section<'_>) -> Option<Config> {
    let section = root.optional_section("leader_elect")?;
    let enabled = section.or_default_with("enabled", true, boolean);
    let config = Config {
        name: section.or_default_with("name", "fanfare".to_owned(), name),
        namespace: section.parse_with("namespace", name),
        id: section.parse_with("id", text),
        timing: timing(&section, "lease_duration", |_lease| (RENEW, RETRY), LEASE)?,
    };
    section.finish();
    enabled.then_some(config)
}
