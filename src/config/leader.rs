//! `leader_elect:` in the file: the one election that gates every writer of the process.

use std::time::Duration;

use controlplane::lease::Timing;
use runtime::config::Section;
use serde::Serialize;

use super::elect::{periods, timing};
use crate::settings::process::{
    LEADER_ELECT, LEADER_ELECT_ID, LEADER_ELECT_LEASE_DURATION, LEADER_ELECT_RENEW_DEADLINE,
    LEADER_ELECT_RESOURCE_NAME, LEADER_ELECT_RESOURCE_NAMESPACE, LEADER_ELECT_RETRY_PERIOD,
};

/// The periods of Kubernetes' own components.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// The election of the replica that writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LeaderElectConfig {
    /// The Lease's name.
    pub(crate) name: String,
    /// Its namespace; by default the service account's.
    pub(crate) namespace: Option<String>,
    /// The replica's identity; by default the host's name and a UUID.
    pub(crate) id: Option<String>,
    /// The periods.
    #[serde(serialize_with = "periods")]
    pub(crate) timing: Timing,
}

/// Reads the section, if there is one and it is not disabled.
pub(super) fn read(root: &Section<'_>) -> Option<LeaderElectConfig> {
    let section = root.optional_section("leader_elect")?;
    let enabled = LEADER_ELECT.or(&section, true);
    let periods = [LEADER_ELECT_LEASE_DURATION, LEADER_ELECT_RENEW_DEADLINE, LEADER_ELECT_RETRY_PERIOD];
    let config = LeaderElectConfig {
        name: LEADER_ELECT_RESOURCE_NAME.or(&section, "fanfare".to_owned()),
        namespace: LEADER_ELECT_RESOURCE_NAMESPACE.read(&section),
        id: LEADER_ELECT_ID.read(&section),
        timing: timing(&section, &periods, |_lease| (RENEW, RETRY), LEASE)?,
    };
    section.finish();
    enabled.then_some(config)
}
