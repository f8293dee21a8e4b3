//! `endpoints:` in the file: the endpoints API.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use runtime::{config::Section, duration};
use serde::{Serialize, Serializer};
use sidecar::command::CommandLine;

use super::{
    elect::command,
    listener::{ListenerAccess, ListenerSettings},
};
use crate::settings::endpoints::{self as settings, ServiceName};

/// The default DNS domain of a kube cluster.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// The default delay of the command after a change.
const DEFAULT_DEBOUNCE: Duration = Duration::from_secs(1);

/// The default time limit of the command.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The configuration of the endpoints API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EndpointsConfig {
    /// The services, without duplicates; the first one answers requests that name none.
    pub(crate) services: Vec<ServiceName>,
    /// The namespace of services without one; by default the process's own.
    pub(crate) namespace: Option<String>,
    /// The address of the API, if it is enabled.
    pub(crate) listen: Option<SocketAddr>,
    /// TLS and tokens of that listener.
    pub(crate) listener: ListenerAccess,
    /// The age of the data above which the API is not ready.
    #[serde(serialize_with = "go_duration")]
    pub(crate) max_age: Option<Duration>,
    /// A hosts file to keep up to date.
    pub(crate) hosts_file: Option<PathBuf>,
    /// The domain of full names in it.
    pub(crate) cluster_domain: String,
    /// The command that runs on a change.
    #[serde(serialize_with = "as_text")]
    pub(crate) exec: Option<CommandLine>,
    /// The delay of the command after a change.
    #[serde(serialize_with = "super::go_duration")]
    pub(crate) exec_debounce: Duration,
    /// The time limit of the command.
    #[serde(serialize_with = "super::go_duration")]
    pub(crate) exec_timeout: Duration,
}

/// Reads the section, if there is one.
pub(super) fn read(root: &Section<'_>) -> Option<EndpointsConfig> {
    let section = root.optional_section("endpoints")?;
    let mut services: Vec<ServiceName> = Vec::new();
    for service in settings::SERVICE.read(&section) {
        if services.contains(&service) {
            settings::SERVICE.problem(&section, format_args!("{service} is named twice"));
        } else {
            services.push(service);
        }
    }
    if settings::SERVICE.get(&section).value().is_none() {
        settings::SERVICE.problem(&section, "is missing: name a service");
    }
    let names = ListenerSettings {
        cert: &settings::LISTEN_TLS_CERT,
        key: &settings::LISTEN_TLS_KEY,
        tokens: &settings::LISTEN_TOKENS,
    };
    let config = EndpointsConfig {
        services,
        namespace: settings::NAMESPACE.read(&section),
        listen: settings::LISTEN.read(&section),
        listener: ListenerAccess::read(&section, &names, settings::LISTEN.is_given(&section)),
        max_age: settings::MAX_AGE.read(&section),
        hosts_file: settings::HOSTS_FILE.read(&section),
        cluster_domain: settings::CLUSTER_DOMAIN.or(&section, DEFAULT_DOMAIN.to_owned()),
        exec: command(&settings::EXEC, &section),
        exec_debounce: settings::EXEC_DEBOUNCE.or(&section, DEFAULT_DEBOUNCE),
        exec_timeout: settings::EXEC_TIMEOUT.or(&section, DEFAULT_TIMEOUT),
    };
    if !settings::LISTEN.is_given(&section) && config.hosts_file.is_none() && config.exec.is_none() {
        section.own_problem("has none of listen, hosts_file, exec: there is nothing to do");
    }
    section.finish();
    Some(config)
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

    fn parse(text: &str) -> EndpointsConfig {
        let config = crate::config::Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
        config.endpoints.expect("it is configured")
    }

    #[test]
    fn services_come_in_order_as_a_list_or_with_commas() {
        let names = |config: EndpointsConfig| config.services.iter().map(ToString::to_string).collect::<Vec<_>>();
        let list = parse("endpoints: {listen: 8080, services: [shop/cache, db]}");
        assert_eq!(list.listen, Some(([0, 0, 0, 0], 8080).into()));
        assert_eq!(names(list), ["shop/cache", "db"]);
        assert_eq!(names(parse("endpoints: {exec: 'kill -HUP 1', services: 'shop/cache, db'}")), ["shop/cache", "db"]);
    }

    #[test]
    fn invalid_settings_are_refused() {
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
            (
                "endpoints: {listen: 1, services: a, listen_tls_cert: /x}",
                "listen_tls_key: is missing beside listen_tls_cert",
            ),
            ("endpoints: {exec: x, services: a, listen_tokens: /x}", "listen_tokens: is about a listener"),
        ] {
            let problems = crate::config::Config::parse(text.as_bytes()).expect_err(text).to_string();
            assert!(problems.contains(problem), "{text}: {problems}");
        }
    }
}
