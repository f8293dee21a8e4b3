//! `endpoints:` in the file: the endpoints API.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use runtime::{config::Section, duration};
use serde::{Serialize, Serializer};
use sidecar::command::CommandLine;

use super::{
    elect::command,
    target::is_label,
    values::{address, name, path, split, time},
};

/// The domain of most kube clusters.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// How long after a change the command runs, where nothing else is said.
const DEFAULT_DEBOUNCE: Duration = Duration::from_secs(1);

/// How long it may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Config {
    /// The services, none twice; the first one answers where none is named.
    pub(crate) services: Vec<ServiceName>,
    /// The namespace of those that have none; none: the process's own.
    pub(crate) namespace: Option<String>,
    /// Where the API is; none: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// How old the data may be before the API is not ready.
    #[serde(serialize_with = "go_duration")]
    pub(crate) max_age: Option<Duration>,
    /// A hosts file to keep up to date.
    pub(crate) hosts_file: Option<PathBuf>,
    /// What full names in it end in.
    pub(crate) cluster_domain: String,
    /// What to run on a change.
    #[serde(serialize_with = "as_text")]
    pub(crate) exec: Option<CommandLine>,
    /// How long after a change.
    #[serde(serialize_with = "super::go_duration")]
    pub(crate) exec_debounce: Duration,
    /// How long it may take.
    #[serde(serialize_with = "super::go_duration")]
    pub(crate) exec_timeout: Duration,
}

/// `[namespace/]name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

/// Reads it, if it is there.
pub(super) fn read(root: &Section<'_>) -> Option<Config> {
    let section = root.optional_section("endpoints")?;
    let mut services: Vec<ServiceName> = Vec::new();
    for service in split(&section, &["services"], service_name) {
        if services.contains(&service) {
            section.problem("services", format_args!("{service} is named twice"));
        } else {
            services.push(service);
        }
    }
    if section.get("services").value().is_none() {
        section.problem("services", "is missing: name a service");
    }
    let config = Config {
        services,
        namespace: section.parse_with("namespace", label),
        listen: section.parse_with("listen", listen),
        max_age: section.parse_with("max_age", time),
        hosts_file: section.parse_with("hosts_file", path),
        cluster_domain: section.or_default_with("cluster_domain", DEFAULT_DOMAIN.to_owned(), name),
        exec: command(&section, "exec"),
        exec_debounce: section.or_default_with("exec_debounce", DEFAULT_DEBOUNCE, duration::parse),
        exec_timeout: section.or_default_with("exec_timeout", DEFAULT_TIMEOUT, time),
    };
    if !section.contains("listen") && config.hosts_file.is_none() && config.exec.is_none() {
        section.own_problem("has none of listen, hosts_file, exec: there is nothing to do");
    }
    section.finish();
    Some(config)
}

fn service_name(text: &str) -> Result<ServiceName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(label(namespace)?), name),
        None => (None, text),
    };
    Ok(ServiceName { namespace, name: label(name)? })
}

fn label(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not the name of a service or namespace: use at most 63 lower-case letters, digits and -"
        ))
    }
}

/// An address, or a port of every address, as the tool that this replaces takes it.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if port { address(&format!(":{text}")) } else { address(text) }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn go_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&duration::format(*value)),
        None => serializer.serialize_none(),
    }
}

fn as_text<S: Serializer>(value: &Option<CommandLine>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        let config = crate::config::Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
        config.endpoints.expect("it is configured")
    }

    #[test]
    fn services_come_in_order_as_a_list_or_with_commas() {
        let names = |config: Config| config.services.iter().map(ToString::to_string).collect::<Vec<_>>();
        let list = parse("endpoints: {listen: 8080, services: [shop/cache, db]}");
        assert_eq!(list.listen, Some(([0, 0, 0, 0], 8080).into()));
        assert_eq!(names(list), ["shop/cache", "db"]);
        assert_eq!(names(parse("endpoints: {exec: 'kill -HUP 1', services: 'shop/cache, db'}")), ["shop/cache", "db"]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (text, problem) in [
            ("endpoints: {listen: 8080}", "endpoints.services: is missing"),
            ("endpoints: {services: a}", "there is nothing to do"),
            ("endpoints: {listen: 8080, services: [a, a]}", "a is named twice"),
            ("endpoints: {listen: 8080, services: [a/*]}", "is not the name of a service"),
            ("endpoints: {listen: 8080, services: [a/b/c]}", "is not the name of a service"),
            ("endpoints: {listen: 99999, services: a}", "not an address"),
            ("endpoints: {listen: x, services: a}", "not an address"),
            ("endpoints: {listen: 1, services: a, max_age: 0s}", "endpoints.max_age"),
            ("endpoints: {listen: 1, services: a, exec: \"'\"}", "quote"),
            ("endpoints: {listen: 1, services: a, exec_timeout: 0s}", "endpoints.exec_timeout"),
            ("endpoints: {listen: 1, services: a, hostsfile: /x}", "hosts_file"),
        ] {
            let problems = crate::config::Config::parse(text.as_bytes()).expect_err(text).to_string();
            assert!(problems.contains(problem), "{text}: {problems}");
        }
    }
}
