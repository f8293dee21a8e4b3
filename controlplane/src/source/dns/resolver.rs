//! One name to addresses, with a clear line between "there are none" and "nobody answered".

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{Query, Resolved};

/// The most SRV targets and the most addresses that one query may yield; an answer beyond is treated as a failure.
const MAX_RECORDS: usize = 4_096;

/// How many targets of one SRV answer are looked up at a time.
const PARALLEL_TARGETS: usize = 8;

/// When to ask again after an answer that tells no TTL (no records, and no SOA record either).
const NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// A DNS client. Cloning shares it.
#[derive(Clone)]
pub struct Resolver {
    client: Arc<TokioResolver>,
    search: Arc<[Name]>,
    ndots: usize,
}

/// A lookup that brought no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// There is no usable system configuration.
    #[error("cannot read the system's DNS configuration (/etc/resolv.conf): {0}")]
    Configuration(String),
    /// No answer, or one that says that something is wrong.
    #[error("DNS lookup of {name} ({record}) failed: {why}")]
    Lookup {
        /// The name asked for.
        name: String,
        /// The record type asked for.
        record: &'static str,
        /// What the client reports.
        why: String,
    },
    /// More records than a sane answer has.
    #[error("the DNS answer for {0} has more than {MAX_RECORDS} records")]
    TooMany(String),
}

/// What one query yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) found: Vec<Resolved>,
    pub(super) ttl: Duration,
    /// A part that could not be looked up and kept what it had.
    pub(super) partial: Option<String>,
}

/// The records of one name and type; none is an answer too.
struct Records {
    name: Name,
    data: Vec<RData>,
    ttl: Duration,
}

/// The addresses of one name.
struct Addresses {
    list: Vec<IpAddr>,
    ttl: Duration,
    partial: Option<String>,
}

// === impl Resolver ===

impl Resolver {
    /// The client that the system's `/etc/resolv.conf` and hosts file describe, read once.
    ///
    /// # Errors
    /// The file is missing or names no server.
    pub fn system() -> Result<Self, ResolveError> {
        let broken = |error: NetError| ResolveError::Configuration(error.to_string());
        let (config, options) = hickory_resolver::system_conf::read_system_conf().map_err(broken)?;
        Self::new(config, options)
    }

    /// A client of these servers with these options; answers are not cached beyond their use here.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, ResolveError> {
        // The refresh follows the TTL by itself; a cache in between could only serve an answer for longer than that.
        options.cache_size = 0;
        let ndots = options.ndots;
        let domain = config.domain().cloned();
        let search = if config.search().is_empty() { domain.into_iter().collect() } else { config.search().to_vec() };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let client = builder.build().map_err(|error| ResolveError::Configuration(error.to_string()))?;
        Ok(Self { client: Arc::new(client), search: search.into(), ndots })
    }

    /// Asks once. `previous` is the last good result, from which a part that fails keeps what it had.
    pub(super) async fn resolve(&self, query: &Query, previous: Option<&[Resolved]>) -> Result<Answer, ResolveError> {
        let answer = match query {
            Query::Host { name, port } => {
                let candidates = self.candidates(name)?;
                let known = addresses_of(previous, name);
                let addresses = self.addresses(&candidates, &known).await?;
                let found = addresses
                    .list
                    .iter()
                    .map(|ip| Resolved { address: SocketAddr::new(*ip, *port), name: Arc::clone(name) });
                Answer { found: found.collect(), ttl: addresses.ttl, partial: addresses.partial }
            }
            Query::Srv { name } => self.targets(name, previous).await?,
        };
        if answer.found.len() > MAX_RECORDS { Err(ResolveError::TooMany(query.to_string())) } else { Ok(answer) }
    }

    async fn targets(&self, name: &str, previous: Option<&[Resolved]>) -> Result<Answer, ResolveError> {
        let records = self.records(&self.candidates(name)?, RecordType::SRV).await?;
        let mut targets = BTreeSet::new();
        for data in &records.data {
            // A target of "." says that the service is decidedly not available here (RFC 2782).
            if let RData::SRV(srv) = data
                && !srv.target.is_root()
                && srv.port > 0
            {
                targets.insert((srv.target.to_lowercase(), srv.port));
            }
        }
        if targets.len() > MAX_RECORDS {
            return Err(ResolveError::TooMany(name.to_owned()));
        }
        let lookups = targets.into_iter().map(|(target, port)| async move {
            let plain: Arc<str> = target.to_utf8().trim_end_matches('.').into();
            let known = addresses_of(previous, &plain);
            let addresses = self.addresses(std::slice::from_ref(&target), &known).await;
            (plain, port, known, addresses)
        });
        // In order, so that equal answers give equal lists.
        let lookups: Vec<_> = stream::iter(lookups).buffered(PARALLEL_TARGETS).collect().await;
        let mut answer = Answer { found: Vec::new(), ttl: records.ttl, partial: None };
        for (target, port, known, addresses) in lookups {
            let addresses = match addresses {
                Ok(addresses) => addresses,
                // The first list must be whole; a later one may go without a target that does not resolve rather than stay as it was.
                Err(error) if previous.is_none() => return Err(error),
                Err(error) => Addresses { list: known, ttl: Duration::ZERO, partial: Some(error.to_string()) },
            };
            answer.ttl = answer.ttl.min(addresses.ttl);
            answer.partial = answer.partial.or(addresses.partial);
            let resolved = |ip| Resolved { address: SocketAddr::new(ip, port), name: Arc::clone(&target) };
            answer.found.extend(addresses.list.into_iter().map(resolved));
        }
        Ok(answer)
    }

    /// The A and AAAA records of the first candidate that has any. Where one family fails, the other's answer counts and the failed one keeps what is known.
    async fn addresses(&self, candidates: &[Name], known: &[IpAddr]) -> Result<Addresses, ResolveError> {
        let (v4, v6) =
            futures::join!(self.records(candidates, RecordType::A), self.records(candidates, RecordType::AAAA));
        let (mut list, ttl, partial) = match (v4, v6) {
            (Ok(v4), Ok(v6)) => {
                // The search list leads each family to its own candidate: only the earlier one is the name that was meant.
                let position = |records: &Records| candidates.iter().position(|name| *name == records.name);
                let (v4_ips, v6_ips) = (v4.addresses(), v6.addresses());
                match (v4_ips.is_empty(), v6_ips.is_empty()) {
                    (true, true) => (Vec::new(), v4.ttl.min(v6.ttl), None),
                    (false, true) => (v4_ips, v4.ttl, None),
                    (true, false) => (v6_ips, v6.ttl, None),
                    (false, false) if position(&v4) < position(&v6) => (v4_ips, v4.ttl, None),
                    (false, false) if position(&v6) < position(&v4) => (v6_ips, v6.ttl, None),
                    (false, false) => ([v4_ips, v6_ips].concat(), v4.ttl.min(v6.ttl), None),
                }
            }
            (Ok(answer), Err(error)) | (Err(error), Ok(answer)) => {
                let mut list = answer.addresses();
                let Some(answered) = list.first().map(IpAddr::is_ipv4) else { return Err(error) };
                list.extend(known.iter().filter(|ip| ip.is_ipv4() != answered));
                (list, answer.ttl, Some(error.to_string()))
            }
            (Err(error), Err(_)) => return Err(error),
        };
        // One machine, and what listens there often does so on IPv4 only.
        if candidates.first().is_some_and(Name::is_localhost) && list.iter().any(IpAddr::is_ipv4) {
            list.retain(IpAddr::is_ipv4);
        }
        Ok(Addresses { list, ttl, partial })
    }

    /// The records of the first candidate that has any. A candidate that fails ends the search: the name that was meant may stand there, and a later candidate
    /// may be somebody else's machine.
    async fn records(&self, candidates: &[Name], record: RecordType) -> Result<Records, ResolveError> {
        let mut empty_ttl: Option<Duration> = None;
        for name in candidates {
            let ttl = match self.client.lookup(name.clone(), record).await {
                Ok(lookup) => {
                    let of_type = lookup.answers().iter().filter(|answer| answer.record_type() == record);
                    let data: Vec<RData> = of_type.map(|answer| answer.data.clone()).collect();
                    // Aliases on the way count too: the answer is no better than its shortest-lived part.
                    let ttl = lookup.answers().iter().map(|answer| answer.ttl).min();
                    let ttl = seconds(ttl);
                    if !data.is_empty() {
                        return Ok(Records { name: name.clone(), data, ttl });
                    }
                    ttl
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => seconds(none.negative_ttl),
                Err(error) => {
                    return Err(ResolveError::Lookup {
                        name: name.to_utf8(),
                        record: record.into(),
                        why: error.to_string(),
                    });
                }
            };
            empty_ttl = Some(empty_ttl.map_or(ttl, |other| other.min(ttl)));
        }
        let name = candidates.first().cloned().unwrap_or_default();
        Ok(Records { name, data: Vec::new(), ttl: empty_ttl.unwrap_or(NEGATIVE_TTL) })
    }

    /// The names to try in turn, as resolv.conf(5) says: with fewer than `ndots` dots the search list goes first.
    fn candidates(&self, text: &str) -> Result<Vec<Name>, ResolveError> {
        let refused = |why: String| ResolveError::Lookup { name: text.to_owned(), record: "name", why };
        let name = Name::from_utf8(text).map_err(|error| refused(error.to_string()))?;
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return Ok(vec![absolute]);
        }
        // A name that becomes too long with a domain of the search list is no candidate.
        let mut candidates: Vec<Name> =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        candidates.iter_mut().for_each(|name| name.set_fqdn(true));
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let at = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(at, absolute);
        Ok(candidates)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("search", &self.search).field("ndots", &self.ndots).finish_non_exhaustive()
    }
}

// === impl Records ===

impl Records {
    /// The addresses that can be connected to.
    fn addresses(&self) -> Vec<IpAddr> {
        let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        self.data.iter().filter_map(RData::ip_addr).map(|ip| ip.to_canonical()).filter(usable).collect()
    }
}

fn addresses_of(previous: Option<&[Resolved]>, name: &str) -> Vec<IpAddr> {
    let same = previous.unwrap_or_default().iter().filter(|resolved| &*resolved.name == name);
    let distinct: BTreeSet<IpAddr> = same.map(|resolved| resolved.address.ip()).collect();
    distinct.into_iter().collect()
}

fn seconds(ttl: Option<u32>) -> Duration {
    ttl.map_or(NEGATIVE_TTL, |seconds| Duration::from_secs(seconds.into()))
}
