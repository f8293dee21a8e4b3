//! Resolves one name to addresses, and distinguishes an answer without records from a failure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{Either, select};
use hickory_resolver::Hosts;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::sync::watch;
use tokio::time::timeout;

use super::system::{Client, SystemFiles};
use super::{DnsFamily, Query, Settings, order};

/// The most SRV targets or addresses of one query; an answer with more counts as a failure.
const MAX_RECORDS: usize = 4_096;

/// The time for which the answer for one family waits for that of the other family, before it is used alone.
const OTHER_FAMILY_DELAY: Duration = Duration::from_millis(250);

/// The time for which the lookup waits for the other family after that.
const OTHER_FAMILY_TIMEOUT: Duration = Duration::from_secs(5);

/// A DNS client. Cloning shares it.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<SharedResolver>,
}

/// The state that all clones share.
pub(super) struct SharedResolver {
    pub(super) client: ArcSwap<Result<Client, ResolveError>>,
    settings: ArcSwap<Settings>,
    /// Grows when every name is to be looked up again.
    asked: watch::Sender<u64>,
    /// The files to follow, if any.
    files: Option<SystemFiles>,
    followed: AtomicBool,
}

/// A failed lookup.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// There is no usable system configuration.
    #[error("cannot use the system's DNS configuration (/etc/resolv.conf): {0}")]
    Configuration(String),
    /// No answer, or an error code.
    #[error("DNS lookup of {name} ({record}) failed: {why}")]
    Lookup {
        /// The name of the query.
        name: String,
        /// The record type of the query.
        record: &'static str,
        /// The client's error.
        why: String,
    },
    /// An answer with too many records.
    #[error("the DNS answer for {0} has more than {MAX_RECORDS} records")]
    TooMany(String),
}

/// The answer to one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DnsAnswer {
    pub(super) found: Resolution,
    pub(super) ttl: Duration,
    /// Why one address family could not be looked up and kept its addresses.
    pub(super) partial: Option<String>,
}

/// The content of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) enum Resolution {
    /// These addresses, in the order in which to try them.
    Addresses(Vec<SocketAddr>),
    /// These names and ports, of an SRV name.
    Targets(Vec<(Arc<str>, u16)>),
    /// An answer without records, and its description.
    Nothing(Arc<str>),
}

/// The records of one name and type.
#[derive(Clone)]
struct Records {
    name: Name,
    data: Vec<RData>,
    ttl: Duration,
    /// Whether there is no such name at all.
    nxdomain: bool,
}

type Family4And6 = (Result<Records, ResolveError>, Result<Records, ResolveError>);

// === impl Resolver ===

impl Resolver {
    /// The client that the system's `/etc/resolv.conf` and hosts file describe. They are followed once there is a name to look up;
    /// errors in them are reported with each lookup.
    #[must_use]
    pub fn system(settings: Settings) -> Self {
        Self::of_files(Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"), settings)
    }

    pub(in crate::source) fn of_files(resolv_conf: &Path, hosts: &Path, settings: Settings) -> Self {
        let files = SystemFiles::read(resolv_conf, hosts);
        Self::made(files.client(), Some(files), settings)
    }

    /// A client of these servers with these options.
    #[must_use]
    pub fn new(config: ResolverConfig, options: ResolverOpts, settings: Settings) -> Self {
        Self::made(Client::new(config, options, Hosts::default()), None, settings)
    }

    fn made(client: Result<Client, ResolveError>, files: Option<SystemFiles>, settings: Settings) -> Self {
        Self {
            shared: Arc::new(SharedResolver {
                client: ArcSwap::from_pointee(client),
                settings: ArcSwap::from_pointee(settings),
                asked: watch::Sender::new(0),
                files,
                followed: AtomicBool::new(false),
            }),
        }
    }

    /// The current settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        **self.shared.settings.load()
    }

    /// Replaces the settings. If they differ, every name is looked up again.
    pub fn set(&self, settings: Settings) {
        if *self.shared.settings.swap(Arc::new(settings)) != settings {
            self.ask_again();
        }
    }

    /// Looks up every name again, at once.
    pub fn ask_again(&self) {
        self.shared.ask_again();
    }

    /// Changes whenever every name should be looked up again.
    pub(in crate::source) fn asked(&self) -> watch::Receiver<u64> {
        self.shared.asked.subscribe()
    }

    /// Starts following the system's files, if this client was made from them.
    pub(super) fn follow(&self) {
        if let Some(files) = &self.shared.files
            && !self.shared.followed.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(files.clone().follow(Arc::downgrade(&self.shared)));
        }
    }

    /// Looks up once. `known` is the last answer, from which a failed family keeps its addresses. `early` gets a usable answer
    /// while the lookup of one family is still running.
    pub(super) async fn resolve(
        &self,
        query: &Query,
        known: Option<&Resolution>,
        early: impl Fn(DnsAnswer),
    ) -> Result<DnsAnswer, ResolveError> {
        let client = self.shared.client.load_full();
        let client = client.as_ref().as_ref().map_err(Clone::clone)?;
        match query {
            Query::Host { name, port } => {
                let known = match known {
                    Some(Resolution::Addresses(known)) => known.iter().map(SocketAddr::ip).collect(),
                    _ => Vec::new(),
                };
                let asked = HostLookup { client, port: *port, known, family: self.settings().family };
                asked.addresses(name, early).await
            }
            Query::Srv { name } => client.targets(name).await,
        }
    }
}

impl SharedResolver {
    pub(super) fn ask_again(&self) {
        self.asked.send_modify(|times| *times += 1);
    }
}

/// One lookup of the addresses of a name.
struct HostLookup<'a> {
    client: &'a Client,
    port: u16,
    /// The addresses of the last answer.
    known: Vec<IpAddr>,
    family: DnsFamily,
}

// === impl HostLookup ===

impl HostLookup<'_> {
    /// The A and AAAA records of the first candidate that has any. If one family fails, the other's answer counts and the failed
    /// one keeps its addresses.
    async fn addresses(&self, text: &str, early: impl Fn(DnsAnswer)) -> Result<DnsAnswer, ResolveError> {
        let candidates = self.client.candidates(text)?;
        // Like the C library: first the hosts file, by the name as written.
        let plain = absolute(text)?;
        let hosts = self.client.hosts(&plain);
        if !hosts.is_empty() {
            let ips = usable(&hosts).filter(|ip| self.is_wanted(ip)).collect();
            return self.answer(text, ips, Duration::MAX, None, false);
        }
        let lookup = |record| self.client.records(&candidates, record);
        match self.family {
            DnsFamily::Ipv4 | DnsFamily::Ipv6 => {
                let record = if self.family == DnsFamily::Ipv4 { RecordType::A } else { RecordType::AAAA };
                let records = lookup(record).await?;
                self.answer(text, records.addresses(), records.ttl, None, records.nxdomain)
            }
            DnsFamily::Auto | DnsFamily::All => {
                let both = self.both(lookup(RecordType::A), lookup(RecordType::AAAA), |got| {
                    if let Ok(answer) = self.merged(text, &candidates, got) {
                        early(answer);
                    }
                });
                self.merged(text, &candidates, both.await)
            }
        }
    }

    /// Waits for both; if one has records and the other does not answer, reports the records early.
    async fn both(
        &self,
        v4: impl Future<Output = Result<Records, ResolveError>>,
        v6: impl Future<Output = Result<Records, ResolveError>>,
        early: impl Fn(Family4And6),
    ) -> Family4And6 {
        let has =
            |got: &Result<Records, ResolveError>| got.as_ref().is_ok_and(|records| !records.addresses().is_empty());
        let silent = |record: &'static str| {
            let why = "no answer yet".to_owned();
            Err(ResolveError::Lookup { name: "the name".to_owned(), record, why })
        };
        match select(std::pin::pin!(v4), std::pin::pin!(v6)).await {
            Either::Left((v4, mut v6)) if has(&v4) => {
                if let Ok(v6) = timeout(OTHER_FAMILY_DELAY, &mut v6).await {
                    return (v4, v6);
                }
                early((v4.clone(), silent("AAAA")));
                (v4, timeout(OTHER_FAMILY_TIMEOUT, v6).await.unwrap_or_else(|_| silent("AAAA")))
            }
            Either::Right((v6, mut v4)) if has(&v6) => {
                if let Ok(v4) = timeout(OTHER_FAMILY_DELAY, &mut v4).await {
                    return (v4, v6);
                }
                early((silent("A"), v6.clone()));
                (timeout(OTHER_FAMILY_TIMEOUT, v4).await.unwrap_or_else(|_| silent("A")), v6)
            }
            Either::Left((v4, v6)) => (v4, v6.await),
            Either::Right((v6, v4)) => (v4.await, v6),
        }
    }

    fn merged(&self, text: &str, candidates: &[Name], both: Family4And6) -> Result<DnsAnswer, ResolveError> {
        let (list, ttl, partial, nxdomain) = match both {
            (Ok(v4), Ok(v6)) => {
                // The search list may yield different names for the families: the earlier candidate is the right one.
                let position = |records: &Records| candidates.iter().position(|name| *name == records.name);
                let nxdomain = v4.nxdomain && v6.nxdomain;
                let (v4_ips, v6_ips) = (v4.addresses(), v6.addresses());
                match (v4_ips.is_empty(), v6_ips.is_empty()) {
                    (true, true) => (Vec::new(), v4.ttl.min(v6.ttl), None, nxdomain),
                    (false, true) => (v4_ips, v4.ttl, None, false),
                    (true, false) => (v6_ips, v6.ttl, None, false),
                    (false, false) if position(&v4) < position(&v6) => (v4_ips, v4.ttl, None, false),
                    (false, false) if position(&v6) < position(&v4) => (v6_ips, v6.ttl, None, false),
                    (false, false) => ([v4_ips, v6_ips].concat(), v4.ttl.min(v6.ttl), None, false),
                }
            }
            (Ok(answer), Err(error)) | (Err(error), Ok(answer)) => {
                let mut list = answer.addresses();
                let Some(answered) = list.first().map(IpAddr::is_ipv4) else { return Err(error) };
                list.extend(self.known.iter().filter(|ip| ip.is_ipv4() != answered));
                (list, answer.ttl, Some(error.to_string()), false)
            }
            (Err(error), Err(_)) => return Err(error),
        };
        self.answer(text, list, ttl, partial, nxdomain)
    }

    fn answer(
        &self,
        text: &str,
        mut ips: Vec<IpAddr>,
        ttl: Duration,
        partial: Option<String>,
        nxdomain: bool,
    ) -> Result<DnsAnswer, ResolveError> {
        if ips.len() > MAX_RECORDS {
            return Err(ResolveError::TooMany(text.to_owned()));
        }
        // Both families are this machine, where servers often listen on IPv4 only.
        if absolute(text)?.is_localhost() && ips.iter().any(IpAddr::is_ipv4) {
            ips.retain(IpAddr::is_ipv4);
        }
        order::sort(&mut ips);
        let found = match (ips.is_empty(), nxdomain, self.family) {
            (false, ..) => Resolution::Addresses(ips.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect()),
            (true, true, _) => Resolution::Nothing(format!("there is no name {text} (NXDOMAIN)").into()),
            (true, false, DnsFamily::Ipv4) => Resolution::Nothing(format!("{text} has no A record").into()),
            (true, false, DnsFamily::Ipv6) => Resolution::Nothing(format!("{text} has no AAAA record").into()),
            (true, false, _) => Resolution::Nothing(format!("{text} has no A and no AAAA record").into()),
        };
        Ok(DnsAnswer { found, ttl, partial })
    }

    fn is_wanted(&self, ip: &IpAddr) -> bool {
        match self.family {
            DnsFamily::Auto | DnsFamily::All => true,
            DnsFamily::Ipv4 => ip.is_ipv4(),
            DnsFamily::Ipv6 => ip.is_ipv6(),
        }
    }
}

// === impl Client ===

impl Client {
    /// The targets and ports of an SRV name.
    async fn targets(&self, text: &str) -> Result<DnsAnswer, ResolveError> {
        let records = self.records(&self.candidates(text)?, RecordType::SRV).await?;
        let mut targets = BTreeSet::new();
        for data in &records.data {
            // A target of "." means that the service is not available (RFC 2782).
            if let RData::SRV(srv) = data
                && !srv.target.is_root()
                && srv.port > 0
            {
                let mut target = srv.target.to_lowercase();
                // A target is an absolute name: no search list applies.
                target.set_fqdn(true);
                targets.insert((Arc::from(target.to_utf8()), srv.port));
            }
        }
        if targets.len() > MAX_RECORDS {
            return Err(ResolveError::TooMany(text.to_owned()));
        }
        let found = match (targets.is_empty(), records.nxdomain, records.data.is_empty()) {
            (false, ..) => Resolution::Targets(targets.into_iter().collect()),
            (true, true, _) => Resolution::Nothing(format!("there is no name {text} (NXDOMAIN)").into()),
            (true, false, true) => Resolution::Nothing(format!("{text} has no SRV record").into()),
            (true, false, false) => {
                Resolution::Nothing(format!("the SRV record of {text} says that there is no such service").into())
            }
        };
        Ok(DnsAnswer { found, ttl: records.ttl, partial: None })
    }

    /// The records of the first candidate that has any. A failed candidate ends the search: it may be the intended name, and a
    /// later candidate may be another machine.
    async fn records(&self, candidates: &[Name], record: RecordType) -> Result<Records, ResolveError> {
        let mut empty_ttl: Option<Duration> = None;
        let mut nxdomain = true;
        for name in candidates {
            let ttl = match self.dns.lookup(name.clone(), record).await {
                Ok(lookup) => {
                    let of_type = lookup.answers().iter().filter(|answer| answer.record_type() == record);
                    let data: Vec<RData> = of_type.map(|answer| answer.data.clone()).collect();
                    // Aliases count too: the answer is valid only as long as its shortest-lived part.
                    let ttl = lookup.answers().iter().map(|answer| answer.ttl).min();
                    let ttl = seconds(ttl);
                    if !data.is_empty() {
                        return Ok(Records { name: name.clone(), data, ttl, nxdomain: false });
                    }
                    nxdomain = false;
                    ttl
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                    nxdomain &= none.response_code == ResponseCode::NXDomain;
                    seconds(none.negative_ttl)
                }
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
        Ok(Records { name, data: Vec::new(), ttl: empty_ttl.unwrap_or(Duration::MAX), nxdomain })
    }

    /// The names to try in turn, as in resolv.conf(5): with fewer than `ndots` dots the search list comes first.
    fn candidates(&self, text: &str) -> Result<Vec<Name>, ResolveError> {
        let absolute = absolute(text)?;
        let mut name = absolute.clone();
        name.set_fqdn(text.ends_with('.'));
        if name.is_fqdn() || name.is_localhost() {
            return Ok(vec![absolute]);
        }
        // A name that is too long with a domain of the search list is not a candidate.
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
        f.debug_struct("Resolver").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

// === impl Records ===

impl Records {
    /// The addresses that can be connected to.
    fn addresses(&self) -> Vec<IpAddr> {
        usable(&self.data).collect()
    }
}

/// The addresses that can be connected to, each in its canonical form.
fn usable(data: &[RData]) -> impl Iterator<Item = IpAddr> {
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    data.iter().filter_map(RData::ip_addr).map(|ip| ip.to_canonical()).filter(usable)
}

/// The name without the search list.
fn absolute(text: &str) -> Result<Name, ResolveError> {
    let refused = |error: &dyn std::fmt::Display| ResolveError::Lookup {
        name: text.to_owned(),
        record: "name",
        why: error.to_string(),
    };
    let mut name = Name::from_utf8(text).map_err(|error| refused(&error))?;
    name.set_fqdn(true);
    Ok(name)
}

/// An answer without a TTL (no records, and no SOA record either) is valid as long as the settings allow.
fn seconds(ttl: Option<u32>) -> Duration {
    ttl.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()))
}
