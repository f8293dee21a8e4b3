//! The settings for lookups of names, wherever the names come from.

use std::{fmt, str::FromStr, time::Duration};

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest validity of an answer, whatever its TTL.
    pub max_ttl: Duration,
    /// The longest validity of an answer without records, whatever its SOA record says.
    pub negative_ttl: Duration,
    /// The address families that are looked up and used.
    pub family: DnsFamily,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// Both. If every address is an endpoint and there are both, those of IPv4, because a host has one of each.
    #[default]
    Auto,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, even if every address is an endpoint: a host with one of each is then two endpoints.
    All,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { max_ttl: Duration::from_secs(30), negative_ttl: Duration::from_secs(5), family: DnsFamily::default() }
    }
}

// === impl DnsFamily ===

impl FromStr for DnsFamily {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            "all" => Ok(Self::All),
            _ => Err(format!("{text:?} is not an address family: use auto, ipv4, ipv6 or all")),
        }
    }
}

impl fmt::Display for DnsFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::All => "all",
        })
    }
}
