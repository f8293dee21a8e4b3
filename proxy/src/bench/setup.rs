//! Configurations for measurements and tests, and the tables that are made from them one after the other.

use std::{net::Ipv4Addr, sync::Arc};

use access::sources::Sources;
use snapshot::{ClusterName, Reader};

use crate::{
    config::{AccessLog, Changes, Config, Limits, Listener, Match, Policy, Route},
    owed::Stores,
    secured::Secured,
    table::{Built, Inputs, Table, TableBuilder},
};

/// A configuration, and what its tables are made from.
#[derive(Debug)]
pub struct Tables {
    config: Arc<Config>,
    reader: Reader,
    access: Arc<Sources>,
    secured: Arc<Secured>,
    owed: Stores,
    builder: TableBuilder,
}

/// A route of every request to this cluster, with default settings.
///
/// # Panics
/// It is not the name of a cluster.
#[must_use]
pub fn route(name: &str, cluster: &str) -> Route {
    Route {
        name: name.into(),
        matches: Match::default(),
        cluster: ClusterName::new(cluster).unwrap_or_else(|error| panic!("{cluster:?}: {error}")),
        changes: Changes::default(),
        policy: Policy::default(),
    }
}

/// One worker, with a listener for these routes at a free port of loopback, and no access log.
#[must_use]
pub fn config(routes: Vec<Route>) -> Config {
    Config {
        listeners: vec![Listener::new((Ipv4Addr::LOCALHOST, 0).into(), routes)],
        threads: 1,
        reuse_port: false,
        limits: Limits::default(),
        access_log: AccessLog::Off,
        endpoint_metrics: None,
        tracing: None,
    }
}

// === impl Tables ===

impl Tables {
    /// The tables of this configuration, without redelivery.
    #[must_use]
    pub fn new(config: Config, reader: Reader) -> Self {
        let (access, secured, owed, builder) = Default::default();
        Self { config: Arc::new(config), reader, access, secured, owed, builder }
    }

    /// The table of the current snapshot, after the previous one.
    #[must_use]
    pub fn next(&mut self, previous: Option<&Table>) -> Built {
        let snapshot = self.reader.load().clone();
        let inputs = Inputs {
            config: &self.config,
            secured: &self.secured,
            snapshot: &snapshot,
            bound: &[],
            access: &self.access,
            owed: &self.owed,
        };
        self.builder.next(previous, inputs)
    }
}
