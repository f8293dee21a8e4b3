//! Endpoints from a configured list: addresses, and host names that are looked up in the DNS and kept up to date. Each entry
//! is one endpoint, whatever it resolves to; a name that does not resolve is an endpoint that fails.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use runtime::readiness::Gate;
use runtime::redact;
use snapshot::{ClusterName, Publisher, Scheme};

use super::dns::{InvalidQuery, Query, Resolver, checked_name, checked_port};
use super::list::List;

/// One entry of a list: `192.0.2.1:80`, `[2001:db8::1]:80` or `cache-1.example:80`, optionally with `https://` or `http://` before
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The scheme, if one is written.
    pub scheme: Option<Scheme>,
    /// The endpoint's address or host name.
    pub host: Host,
}

/// The address or the host name of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(SocketAddr),
    /// A host name.
    Name {
        /// The name; the system's search list applies unless it ends with a dot.
        name: Arc<str>,
        /// The port.
        port: u16,
    },
}

/// The source: one list feeds one cluster.
#[derive(Debug)]
pub struct FixedSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The list. Its order does not matter, because a cluster has its own.
    pub targets: Vec<Target>,
    /// The DNS client for host names.
    pub resolver: Resolver,
    /// Receives the endpoints.
    pub publisher: Publisher,
    /// Opens when every host name has been looked up, and stays open.
    pub gate: Gate,
}

/// Reads a list separated by commas; spaces around an entry do not matter.
///
/// # Errors
/// [`InvalidQuery`] for the first entry that is not `host:port`.
pub fn parse_list(text: &str) -> Result<Vec<Target>, InvalidQuery> {
    text.split(',').map(|entry| entry.trim().parse()).collect()
}

// === impl FixedSource ===

impl FixedSource {
    /// Publishes the cluster once every host name has been looked up (at once if there are none) and keeps it current for
    /// ever. The cluster stays when the future is dropped; removing it is up to the caller.
    pub async fn run(self) {
        let mut list = List::new(self.cluster, self.publisher, self.gate, self.resolver);
        list.set(self.targets.into_iter().map(Into::into).collect(), "the list is empty");
        loop {
            list.refresh().await;
        }
    }
}

// === impl Target ===

impl Target {
    /// The DNS query for a host name.
    pub(super) fn query(&self) -> Option<Query> {
        match &self.host {
            Host::Address(_) => None,
            Host::Name { name, port } => Some(Query::Host { name: Arc::clone(name), port: *port }),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        let invalid = |why| InvalidQuery::new(&redact::urls(text), why);
        if text.is_empty() {
            return Err(invalid("an entry is empty, write host:port"));
        }
        let (scheme, host) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, host)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), host),
            Some((scheme, host)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), host),
            Some(_) => {
                return Err(invalid("this scheme is not supported: write https://host:port or http://host:port"));
            }
        };
        if host.contains(['/', '?', '#']) {
            return Err(invalid("nothing may follow the port: a request keeps its own path"));
        }
        if host.contains('@') {
            return Err(invalid("a user before the host is not sent: write host:port"));
        }
        Host::read(host).map(|host| Self { scheme, host }).map_err(invalid)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        self.host.fmt(f)
    }
}

// === impl Host ===

impl Host {
    fn read(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match (address.port(), address.ip().is_unspecified() || address.ip().is_multicast()) {
                (0, _) => Err("the port must be a number from 1 to 65535"),
                (_, true) => Err("this address cannot be connected to"),
                _ => Ok(Self::Address(address)),
            };
        }
        match text.rsplit_once(':') {
            None => Err("the port is missing: write host:port"),
            Some((host, _)) if host.contains(['[', ']']) => Err("this is not a valid [IPv6]:port"),
            Some((host, _)) if host.contains(':') => Err("write an IPv6 address in brackets: [2001:db8::1]:80"),
            Some((host, port)) => Ok(Self::Name { port: checked_port(port)?, name: checked_name(host)? }),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests;
