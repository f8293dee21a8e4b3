//! `elect:` in the file: elections that this process takes part in.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, time::Duration};

use controlplane::lease::{LockKind, Timing};
use runtime::{
    config::{Node, Section},
    duration,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_yaml::Value;
use sidecar::{
    command::CommandLine,
    elect::{Hooks, OnStartExit},
};

use super::listener::{ListenerAccess, ListenerSettings};
use crate::settings::{Setting, elect as settings, values::text};

/// The default ttl, that of k8s-elector.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// One election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ElectConfig {
    /// Its name, which is the lock's.
    pub(crate) name: String,
    /// The lock's namespace.
    pub(crate) namespace: String,
    /// The kind of lock.
    #[serde(serialize_with = "as_text")]
    pub(crate) lock: LockKind,
    /// Its periods.
    #[serde(serialize_with = "periods")]
    pub(crate) timing: Timing,
    /// The candidate's identity; by default the host's name.
    pub(crate) id: Option<String>,
    /// Whether a random suffix makes the identity unique.
    pub(crate) unique_id: bool,
    /// The address of the HTTP API.
    pub(crate) http: Option<SocketAddr>,
    /// TLS and tokens of that listener.
    pub(crate) listener: ListenerAccess,
    /// The file with the token for stepping down.
    pub(crate) step_down_token_file: Option<PathBuf>,
    /// The candidate's pod; by default the host's name.
    pub(crate) pod: Option<String>,
    /// That pod's namespace; by default the service account's.
    pub(crate) pod_namespace: Option<String>,
    /// Whether the pod is labelled.
    pub(crate) label: bool,
    /// The Service whose only endpoint is the leader.
    pub(crate) leader_service: Option<String>,
    /// The commands for the beginning and the end of a term.
    #[serde(flatten, serialize_with = "commands")]
    pub(crate) hooks: Hooks,
}

/// Reads every election.
pub(super) fn read(root: &Section<'_>) -> Vec<ElectConfig> {
    let mut elections: Vec<ElectConfig> = Vec::new();
    for node in root.list("elect") {
        let Some(election) = one(&node) else { continue };
        if elections.iter().any(|other| other.name == election.name) {
            node.problem(format_args!("{:?} is the name of another election of this process", election.name));
        }
        let http = elections.iter().find_map(|other| other.http);
        if let Some((http, own)) = http.zip(election.http).filter(|(http, own)| http != own) {
            node.problem(format_args!("all elections share one address, but there are two: {http} and {own}"));
        }
        let listening = elections.iter().find(|other| other.http.is_some() && election.http.is_some());
        if listening.is_some_and(|other| other.listener != election.listener) {
            node.problem("all elections share one address, but here it has other TLS or tokens: write the same");
        }
        let token = elections.iter().find_map(|other| other.step_down_token_file.as_ref());
        if let Some((token, own)) =
            token.zip(election.step_down_token_file.as_ref()).filter(|(token, own)| token != own)
        {
            let (token, own) = (token.display(), own.display());
            node.problem(format_args!("all elections share one token, but there are two files: {token} and {own}"));
        }
        elections.push(election);
    }
    elections
}

fn one(node: &Node<'_>) -> Option<ElectConfig> {
    let section = node.section();
    let periods = [settings::TTL, settings::RENEW_DEADLINE, settings::RETRY_PERIOD];
    let names = ListenerSettings {
        cert: &settings::HTTP_TLS_CERT,
        key: &settings::HTTP_TLS_KEY,
        tokens: &settings::HTTP_TOKENS,
    };
    let config = ElectConfig {
        name: settings::ELECTION.required(&section).unwrap_or_default(),
        namespace: settings::NAMESPACE.or(&section, "default".to_owned()),
        lock: settings::LOCK_TYPE.or(&section, LockKind::default()),
        timing: timing(&section, &periods, |ttl| (ttl / 3, ttl / 6), DEFAULT_TTL)?,
        id: settings::ID.read(&section),
        unique_id: settings::UNIQUE_ID.or(&section, false),
        http: settings::HTTP.read(&section),
        listener: ListenerAccess::read(&section, &names, settings::HTTP.is_given(&section)),
        step_down_token_file: settings::STEP_DOWN_TOKEN_FILE.read(&section),
        pod: settings::POD.read(&section),
        pod_namespace: settings::POD_NAMESPACE.read(&section),
        label: settings::LABEL.or(&section, true),
        leader_service: settings::LEADER_SERVICE.read(&section),
        hooks: Hooks {
            on_start: command(&settings::ON_START, &section),
            on_start_exit: settings::ON_START_EXIT.or(&section, OnStartExit::default()),
            on_stop: command(&settings::ON_STOP, &section),
        },
    };
    section.finish();
    Some(config)
}

/// The lease duration, renew deadline and retry period. The latter two are by default in proportion to the first.
pub(super) fn timing(
    section: &Section<'_>,
    [duration, deadline, period]: &[Setting<Duration>; 3],
    proportion: impl Fn(Duration) -> (Duration, Duration),
    default: Duration,
) -> Option<Timing> {
    let lease = duration.or(section, default);
    // Locks have whole seconds, so the proportions refer to the rounded lease.
    let whole = Duration::from_secs(lease.as_secs() + u64::from(lease.subsec_nanos() > 0));
    let (renew, retry) = proportion(whole);
    let renew = deadline.or(section, renew);
    let retry = period.or(section, retry);
    Timing::new(lease, renew, retry).map_err(|error| duration.problem(section, error)).ok()
}

/// A command: a text, or a list of words.
pub(super) fn command(setting: &Setting<CommandLine>, section: &Section<'_>) -> Option<CommandLine> {
    let node = setting.get(section);
    if !matches!(node.value(), Some(Value::Sequence(_))) {
        return setting.read(section);
    }
    let words = node.list().iter().filter_map(|word| word.parse_with(text)).collect();
    CommandLine::new(words).map_err(|error| node.problem(error)).ok()
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn periods<S: Serializer>(timing: &Timing, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(3))?;
    map.serialize_entry("lease_duration", &duration::format(timing.lease()))?;
    map.serialize_entry("renew_deadline", &duration::format(timing.renew_deadline()))?;
    map.serialize_entry("retry_period", &duration::format(timing.retry_period()))?;
    map.end()
}

fn commands<S: Serializer>(hooks: &Hooks, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    let Hooks { on_start, on_start_exit, on_stop } = hooks;
    for (key, command) in [("on_start", on_start), ("on_stop", on_stop)] {
        if let Some(command) = command {
            map.serialize_entry(key, &command.to_string())?;
        }
    }
    if on_start.is_some() {
        map.serialize_entry("on_start_exit", on_start_exit.as_str())?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn problems(text: &str) -> String {
        Config::parse(text.as_bytes()).err().map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_shortest_election_has_the_defaults_of_the_tool_it_replaces() {
        let config = Config::parse(b"elect: [{name: example}]").unwrap_or_else(|problems| panic!("{problems}"));
        let election = &config.elect[0];
        assert_eq!((&*election.namespace, election.lock.as_str(), election.label), ("default", "leases", true));
        assert_eq!(election.timing.lease().as_secs(), 10);
        assert_eq!(election.timing.renew_deadline(), election.timing.lease() / 3);
        assert_eq!(election.timing.retry_period(), election.timing.lease() / 6);
        assert_eq!(election.hooks.on_start_exit.as_str(), "step-down");
    }

    #[test]
    fn invalid_settings_are_refused() {
        for (text, problem) in [
            ("elect: [{}]", "elect[0].name: is missing"),
            ("elect: [{name: a, ttl: 1s}]", "too short"),
            ("elect: [{name: a, lock: secrets}]", "not a kind of lock"),
            ("elect: [{name: a, renew_deadline: 20s}]", "renew deadline"),
            ("elect: [{name: a}, {name: a}]", "another election"),
            ("elect: [{name: a, http: ':80'}, {name: b, http: ':81'}]", "two: 0.0.0.0:80 and 0.0.0.0:81"),
            (
                "elect: [{name: a, step_down_token_file: /x}, {name: b, step_down_token_file: /y}]",
                "two files: /x and /y",
            ),
            ("elect: [{name: a, on_stop: \"x 'y\"}]", "quote"),
            ("elect: [{name: a, on_stop: []}]", "name a program"),
            ("elect: [{name: a, http_tokens: /x}]", "http_tokens: is about a listener"),
            ("elect: [{name: a, http: ':80', http_tls_key: /x}]", "http_tls_cert: is missing beside http_tls_key"),
            ("elect: [{name: a, http: ':80', http_tokens: /x}, {name: b, http: ':80'}]", "other TLS or tokens"),
            ("elect: [{name: a, on_start_exit: stop}]", "write keep, step-down or exit"),
            ("elect: [{name: a, nmae: b}]", "nmae"),
        ] {
            assert!(problems(text).contains(problem), "{text}: {}", problems(text));
        }
        assert_eq!(problems("elect: [{name: a, http: ':80', on_start: [sh, -c, 'a b']}, {name: b, http: ':80'}]"), "");
    }
}
