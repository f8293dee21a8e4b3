//! The checked configuration of the data plane, which a command line and a file are parsed into.
//!
//! Every value here is valid on its own; [`Config::check`] finds contradictions between them. Nothing is read from the environment
//! and nothing is resolved: names of clusters refer to the snapshot at the time of a request.

mod below;
mod changes;
mod compare;
mod field;
mod fields;
mod host;
mod limits;
mod listener;
mod matching;
mod path;
mod policy;
mod redeliver;
mod require;
mod serialize;
mod success;
mod upstream;
mod via;
mod waves;

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use snapshot::ClusterName;

use self::serialize::display;

pub use ::redeliver::rules::{Gone, Limits as RedeliverLimits, MissedOn, Order, Rules as RedeliverRules};
pub use ::spans::{Endpoint, Ratio, Settings as Tracing};
pub use changes::{Changes, HeaderChanges, HostValue, InvalidChange, NewPath, Prefix, Unchangeable};
pub use compare::{Compare, Ignore, Ignored, InvalidCompare, InvalidIgnored, Pointer};
pub use field::FieldPattern;
pub use fields::{Direction, FieldEdits, FieldLine, FieldName, InvalidField};
pub use host::HostPattern;
pub use limits::Limits;
pub use listener::{Auth, ClientTimeouts, HeadLimits, Listener, ProxyProtocol};
pub(crate) use matching::is_token;
pub use matching::{Allow, InvalidAllow, InvalidMatch, Match};
pub use path::{PathPattern, Verdict, split_target};
pub use policy::{EndpointTimeouts, Members, Policy, UpstreamProtocol};
pub use redeliver::{Identity, Redeliver};
pub use require::{InvalidRequire, Require};
pub use success::{InvalidSuccess, StatusSet, Success};
pub use upstream::{Channel, Manner, TlsTo, UpstreamTls};
pub use via::{InvalidVia, ViaName};
pub use waves::{InvalidWaves, OnFailure, WaveSize, Waves};

/// The configuration of the data plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// Worker threads; each has its own connections to clients and endpoints.
    pub threads: usize,
    /// Whether another process may listen at the same addresses, if it says so too.
    pub reuse_port: bool,
    /// Bounds of the whole process.
    pub limits: Limits,
    /// The access log.
    pub access_log: AccessLog,
    /// The detail of the metrics of endpoints; without it, it depends on how many there are.
    pub endpoint_metrics: Option<EndpointMetrics>,
    /// Tracing; without it, the trace context of requests is passed on unchanged.
    pub tracing: Option<Tracing>,
}

/// A route: matching requests go to all endpoints of a cluster, and a policy turns their answers into one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Its name in metrics and logs.
    pub name: Arc<str>,
    /// The match for requests.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The cluster of the snapshot whose endpoints get the request.
    #[serde(serialize_with = "display")]
    pub cluster: ClusterName,
    /// Its changes of requests and answers.
    #[serde(flatten)]
    pub changes: Changes,
    /// How requests are sent, and how the answers are combined.
    pub policy: Policy,
}

/// The access log: one entry per request, written when its last leg has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output, one line of text each.
    Text,
    /// Standard output, one JSON object a line.
    Json,
}

/// The detail of the metrics of legs and of connections to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMetrics {
    /// There are none.
    Off,
    /// By route.
    Route,
    /// By endpoint.
    Endpoint,
}

/// A contradiction between valid values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Contradiction {
    /// The path in the configuration, for instance `listeners[0].routes[1].name`.
    pub path: String,
    /// The problem, and what to do about it.
    pub message: String,
}

// === impl Config ===

impl Config {
    /// Finds all contradictions between values. If empty, the configuration can be used.
    #[must_use]
    pub fn check(&self) -> Vec<Contradiction> {
        let mut problems = Vec::new();
        let mut problem = |path: String, message: String| problems.push(Contradiction { path, message });
        if self.threads == 0 {
            problem("threads".into(), "must be at least 1".into());
        }
        let mut names = std::collections::HashSet::new();
        let mut stores: HashMap<_, (&Arc<str>, &Arc<Redeliver>)> = HashMap::new();
        let mut addresses = std::collections::HashSet::new();
        for (l, listener) in self.listeners.iter().enumerate() {
            let at = format!("listeners[{l}]");
            if listener.address.port() != 0 && !addresses.insert(listener.address) {
                problem(format!("{at}.address"), format!("{} is the address of two listeners", listener.address));
            }
            listener.head.check(&at, &mut problem);
            listener.check_identities(&at, &mut problem);
            if listener.routes.is_empty() {
                problem(format!("{at}.routes"), "has no route, every request would be 404".into());
            }
            for (r, route) in listener.routes.iter().enumerate() {
                let at = format!("{at}.routes[{r}]");
                if !names.insert(route.name.clone()) {
                    problem(format!("{at}.name"), format!("{:?} is the name of another route too", route.name));
                }
                route.policy.check(&at, &mut problem);
                let Some(redeliver) = &route.policy.redeliver else { continue };
                let (first, other) = stores.entry(&redeliver.journal).or_insert((&route.name, redeliver));
                if other.limits != redeliver.limits {
                    let message = format!(
                        "has other bounds than route {first:?}, and both keep their jobs in {}: max_bytes, max_jobs, backoff and \
                         concurrency apply to all of these jobs; write the same, or name another journal",
                        redeliver.kept_in()
                    );
                    problem(format!("{at}.redeliver"), message);
                }
            }
        }
        problems
    }
}
