//! Endpoints from DNS: every address of a name, or every target of an SRV name, looked up again when the answer's TTL ends.
//!
//! - An answer with records replaces the list. So does an authoritative answer without records (NXDOMAIN, or no record of the type):
//!   the list becomes empty, with the reason.
//! - Any failure (a time-out, SERVFAIL, REFUSED, an unreachable server) keeps the last good list, and is retried with an
//!   exponential backoff of 1 s to 30 s. If only one of the A and AAAA lookups fails, the other's answer counts and the failed
//!   family keeps its addresses; a missing answer delays the other one by 250 ms.
//! - The next lookup is due when the shortest TTL of the answer ends, within the bounds of the [`Settings`]; at once when a
//!   connection to an endpoint failed, on request, and when the system's configuration has changed; but not more than once a
//!   second.
//! - If every address of a name is an endpoint, and a host has one of each family, [`DnsFamily`] decides which count.
//! - The target of an SRV name is one endpoint, whatever it resolves to, and fails while it does not resolve.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use runtime::readiness::Gate;
use snapshot::{Change, Cluster, ClusterName, Endpoint, Place, Publisher};

use super::fixed::Host;
use super::list::List;

mod names;
mod order;
mod resolver;
#[cfg(test)]
pub(super) mod server;
mod settings;
mod system;
#[cfg(test)]
mod tests;

pub(super) use names::Names;
pub(super) use resolver::Resolution;
pub use resolver::{ResolveError, Resolver};
pub use settings::{DnsFamily, Settings};

/// Counter `{result}`: lookups of endpoint names; result is `found`, `empty` or `failed`.
pub const DNS_LOOKUPS: &str = "fanfare_dns_lookups_total";

/// A DNS query for endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Every A and AAAA record of a name, with one port.
    Host {
        /// The name; the system's search list applies unless it ends with a dot.
        name: Arc<str>,
        /// The port of every endpoint.
        port: u16,
    },
    /// Every target and port of an SRV name (RFC 2782). Priority and weight choose one of several servers, so they are ignored
    /// here, where all are used.
    Srv {
        /// The name, such as `_http._tcp.cache.example`.
        name: Arc<str>,
    },
}

/// Why a text is not a [`Query`] or a target, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct InvalidQuery {
    text: String,
    why: &'static str,
}

/// The source: one query feeds one cluster.
#[derive(Debug)]
pub struct DnsSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The query.
    pub query: Query,
    /// The DNS client.
    pub resolver: Resolver,
    /// Receives the endpoints.
    pub publisher: Publisher,
    /// Opens with the first answer, be it empty, and stays open.
    pub gate: Gate,
}

// === impl DnsSource ===

impl DnsSource {
    /// Keeps the cluster current for ever. The cluster first appears with the first answer. It stays when the future is dropped;
    /// removing it is up to the caller.
    pub async fn run(self) {
        match self.query {
            Query::Host { .. } => self.every_address().await,
            Query::Srv { .. } => self.every_target().await,
        }
    }

    async fn every_address(self) {
        let mut names = Names::of_many(self.resolver.clone());
        names.set([self.query.clone()]);
        loop {
            names.refresh().await;
            let cluster = match names.get(&self.query) {
                Ok(Resolution::Addresses(addresses)) => self.cluster_of(addresses, &names),
                Ok(Resolution::Nothing(why)) => Cluster::empty(self.cluster.clone(), why),
                Ok(Resolution::Targets(_)) | Err(None) => continue,
                Err(Some(why)) => {
                    self.gate.set_not_ready(why);
                    continue;
                }
            };
            self.publisher.apply([Change::Set(Arc::new(cluster))]);
            self.gate.set_ready();
        }
    }

    fn cluster_of(&self, addresses: &[SocketAddr], names: &Names) -> Cluster {
        let name = self.query.name();
        let one_per_host =
            self.resolver.settings().family == DnsFamily::Auto && addresses.iter().any(SocketAddr::is_ipv4);
        let counts = |address: &&SocketAddr| !one_per_host || address.is_ipv4();
        let endpoint = |address: &SocketAddr| Endpoint {
            hostname: Some(name.clone()),
            ..Endpoint::at(Place::found(*address, names.recheck(&self.query)))
        };
        Cluster::new(self.cluster.clone(), addresses.iter().filter(counts).map(endpoint).collect())
    }

    async fn every_target(self) {
        let Self { cluster, query, resolver, publisher, gate } = self;
        let mut srv = Names::of_many(resolver.clone());
        srv.set([query.clone()]);
        let mut list = List::under(cluster, publisher, gate, resolver, srv.recheck(&query));
        loop {
            tokio::select! {
                () = srv.refresh() => match srv.get(&query) {
                    Ok(Resolution::Targets(targets)) => {
                        let target = |(name, port): &(Arc<str>, u16)| Host::Name { name: name.clone(), port: *port }.into();
                        list.set(targets.iter().map(target).collect(), "");
                    }
                    Ok(Resolution::Nothing(why)) => list.set(Vec::new(), &**why),
                    Err(Some(why)) => list.fail(why),
                    Ok(Resolution::Addresses(_)) | Err(None) => {}
                },
                () = list.refresh() => {}
            }
        }
    }
}

// === impl Query ===

impl Query {
    fn name(&self) -> &Arc<str> {
        let (Self::Host { name, .. } | Self::Srv { name }) = self;
        name
    }
}

impl FromStr for Query {
    type Err = InvalidQuery;

    /// Reads `name:port` (addresses), `_service._proto.name` or `srv+name` (SRV).
    fn from_str(text: &str) -> Result<Self, InvalidQuery> {
        let invalid = |why| InvalidQuery::new(text, why);
        if let Some(name) = text.strip_prefix("srv+") {
            return Ok(Self::Srv { name: checked_name(name).map_err(invalid)? });
        }
        match text.rsplit_once(':') {
            None if text.starts_with('_') => Ok(Self::Srv { name: checked_name(text).map_err(invalid)? }),
            None => Err(invalid("the port is missing: write name:port, or _service._proto.name for SRV records")),
            Some((name, _)) if text.parse::<std::net::SocketAddr>().is_ok() || name.contains(':') => {
                Err(invalid("this is an address and not a name: list it as a fixed endpoint instead"))
            }
            Some((name, port)) => {
                let name = checked_name(name).map_err(invalid)?;
                let port = checked_port(port).map_err(invalid)?;
                Ok(Self::Host { name, port })
            }
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Srv { name } => write!(f, "srv+{name}"),
        }
    }
}

impl InvalidQuery {
    pub(super) fn new(text: &str, why: &'static str) -> Self {
        Self { text: text.to_owned(), why }
    }
}

/// A port from 1 to 65535, digits only.
pub(super) fn checked_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err("the port must be a number from 1 to 65535"),
    }
}

/// A host name: labels of up to 63 letters, digits, `-` and `_`, 253 bytes in total (RFC 1035 section 2.3.4, underscores for SRV),
/// optionally with a final dot. Returned in lower case.
pub(super) fn checked_name(text: &str) -> Result<Arc<str>, &'static str> {
    let plain = text.strip_suffix('.').unwrap_or(text);
    if text.contains("://") || text.contains('/') {
        return Err("write a name without scheme and path");
    }
    if plain.is_empty() {
        return Err("the name is missing");
    }
    if plain.len() > 253 || plain.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err("a name has labels of 1 to 63 characters, 253 in all");
    }
    if !plain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("a name consists of letters, digits, '-', '_' and '.'");
    }
    // No top-level domain is a number: this is a malformed IPv4 address, which should not be looked up.
    if plain.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Err("this is neither a name nor a valid IPv4 address");
    }
    Ok(text.to_ascii_lowercase().into())
}
