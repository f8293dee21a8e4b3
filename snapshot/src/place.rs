//! Where an endpoint of a cluster is: at an address, or behind a name that has been resolved, or could not be.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::SocketAddr,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// The location of an endpoint, which is its identity as well: equal places are the same endpoint.
#[derive(Clone, Debug)]
pub enum Place {
    /// One address.
    Address(SocketAddr),
    /// One of the addresses that were found for a name. As a place it is an address like any other; it is apart because there are few, so that
    /// the others need no room for it.
    Found(Arc<FoundAddress>),
    /// A name: however many addresses it has, it is one endpoint.
    Name(Arc<Named>),
}

/// An address whose source is told if a connection to it fails.
#[derive(Debug)]
pub struct FoundAddress {
    address: SocketAddr,
    recheck: Recheck,
}

/// What makes two places the same, and what their order is.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identity<'a> {
    Address(&'a SocketAddr),
    Name(&'a Named),
}

/// A configured host name and the addresses it resolves to now.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    name: Arc<str>,
    port: u16,
    found: Result<Box<[SocketAddr]>, Arc<str>>,
    recheck: Recheck,
}

/// Tells the source of an endpoint that a connection to it failed, so that the source resolves its name again.
///
/// It is not part of the endpoint's identity and is therefore ignored by comparisons, ordering and hashes.
#[derive(Clone, Debug, Default)]
pub struct Recheck(Option<Arc<RecheckState>>);

#[derive(Debug, Default)]
struct RecheckState {
    asked: AtomicBool,
    wake: Arc<Notify>,
}

// === impl Place ===

impl Place {
    /// An address that was found for a name, and how its source is told that a connection to it failed.
    #[must_use]
    pub fn found(address: SocketAddr, recheck: Recheck) -> Self {
        Self::Found(Arc::new(FoundAddress { address, recheck }))
    }

    fn identity(&self) -> Identity<'_> {
        match self {
            Self::Address(address) => Identity::Address(address),
            Self::Found(found) => Identity::Address(&found.address),
            Self::Name(named) => Identity::Name(named),
        }
    }

    /// A name with its addresses, in the order in which they are tried. Equal addresses in IPv4
    /// and in IPv4-mapped IPv6 form are one.
    #[must_use]
    pub fn resolved(name: Arc<str>, port: u16, addresses: Vec<SocketAddr>, recheck: Recheck) -> Self {
        let mut distinct: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
        for address in addresses.into_iter().map(canonical) {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        let found = if distinct.is_empty() { Err("it has no address".into()) } else { Ok(distinct.into()) };
        Self::Name(Arc::new(Named { name, port, found, recheck }))
    }

    /// A name that does not resolve, and the reason.
    #[must_use]
    pub fn unresolved(name: Arc<str>, port: u16, why: Arc<str>, recheck: Recheck) -> Self {
        Self::Name(Arc::new(Named { name, port, found: Err(why), recheck }))
    }

    /// The addresses in the order in which they are tried; none if the name does not resolve.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Address(address) => slice::from_ref(address),
            Self::Found(found) => slice::from_ref(&found.address),
            Self::Name(named) => named.found.as_deref().unwrap_or_default(),
        }
    }

    /// The name, without a final dot; none if it is an address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Address(_) | Self::Found(_) => None,
            Self::Name(named) => Some(named.name.strip_suffix('.').unwrap_or(&named.name)),
        }
    }

    /// Why the name does not resolve; none if it does.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Address(_) | Self::Found(_) => None,
            Self::Name(named) => named.found.as_ref().err().map(|why| &**why),
        }
    }

    /// Tells the source that a connection to it failed.
    pub fn recheck(&self) {
        match self {
            Self::Address(_) => {}
            Self::Found(found) => found.recheck.ask(),
            Self::Name(named) => named.recheck.ask(),
        }
    }

    /// Whether both are the same endpoint, even if its address has changed in the meantime.
    pub(crate) fn is_namesake(&self, other: &Self) -> bool {
        match (self.identity(), other.identity()) {
            (Identity::Address(one), Identity::Address(other)) => one == other,
            (Identity::Name(one), Identity::Name(other)) => (&one.name, one.port) == (&other.name, other.port),
            _ => false,
        }
    }

    /// The canonical form: an IPv4-mapped IPv6 address becomes the IPv4 address.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(canonical(address)),
            Self::Found(found) if canonical(found.address) != found.address => {
                Self::found(canonical(found.address), found.recheck.clone())
            }
            Self::Found(_) | Self::Name(_) => self,
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Place {
    /// The form of logs and `Host` fields: `192.0.2.1:80`, `[2001:db8::1]:80`, `cache-1.example:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Found(found) => found.address.fmt(f),
            Self::Name(named) => write!(f, "{}:{}", named.name.strip_suffix('.').unwrap_or(&named.name), named.port),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

// === impl Recheck ===

impl Recheck {
    /// A recheck of one endpoint. It notifies `wake`; the source then looks for endpoints with [`Self::is_asked`].
    #[must_use]
    pub fn waking(wake: Arc<Notify>) -> Self {
        Self(Some(Arc::new(RecheckState { asked: AtomicBool::new(false), wake })))
    }

    /// Asks the source to resolve again. If it was already asked, or there is none, this costs one atomic load.
    pub fn ask(&self) {
        if let Some(asked) = &self.0
            && !asked.asked.load(Ordering::Relaxed)
            && !asked.asked.swap(true, Ordering::AcqRel)
        {
            asked.wake.notify_one();
        }
    }

    /// Whether the source was asked and has not begun.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.asked.load(Ordering::Acquire))
    }

    /// Marks the lookup as begun: a later [`Self::ask`] causes another one.
    pub fn done(&self) {
        if let Some(asked) = &self.0 {
            asked.asked.store(false, Ordering::Release);
        }
    }
}

impl PartialEq for Recheck {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Recheck {}

impl PartialOrd for Recheck {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Recheck {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Hash for Recheck {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_takes_no_room_for_what_few_have() {
        assert_eq!(size_of::<Place>(), size_of::<SocketAddr>());
        // With its reference counts, 160 bytes.
        assert!(size_of::<crate::Endpoint<Place>>() <= 144, "{}", size_of::<crate::Endpoint<Place>>());
    }

    #[test]
    fn a_name_is_one_place_with_the_order_of_its_addresses() {
        let addresses = ["[2001:db8::1]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"].map(address).to_vec();
        let place = Place::resolved("cache.example.".into(), 80, addresses, Recheck::default());
        assert_eq!(place.addresses(), ["[2001:db8::1]:80", "192.0.2.1:80"].map(address));
        assert_eq!((place.to_string(), place.problem()), ("cache.example:80".into(), None));
        let gone = Place::unresolved("cache.example.".into(), 80, "NXDOMAIN".into(), Recheck::default());
        assert_eq!((gone.addresses(), gone.problem()), (&[][..], Some("NXDOMAIN")));
        assert!(place != gone && place.is_namesake(&gone));
    }

    #[tokio::test]
    async fn a_source_hears_of_each_failure_once_until_it_has_looked() {
        let wake = Arc::new(Notify::new());
        let recheck = Recheck::waking(wake.clone());
        let place = Place::found(address("192.0.2.1:80"), recheck.clone());
        for _ in 0..2 {
            assert!(!recheck.is_asked());
            place.recheck();
            place.recheck();
            wake.notified().await;
            assert!(recheck.is_asked());
            recheck.done();
        }
        Place::from(address("192.0.2.1:80")).recheck();
        assert_eq!(place, Place::from(address("192.0.2.1:80")), "the recheck is not part of the place");
        assert_eq!(place.addresses(), [address("192.0.2.1:80")]);
    }
}
