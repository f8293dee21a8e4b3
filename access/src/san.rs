//! The names in a certificate (subject alternative names), and patterns for them.
//!
//! A pattern is a DNS name or a URI. A DNS name is compared without regard to case; `*` may stand for its whole first label, and
//! for exactly one: `*.cms.svc` matches `a.cms.svc`, not `a.b.cms.svc` and not `cms.svc`. A URI is compared as it is written; it
//! may end in `/*`, which matches everything below that is made of plain segments (letters, digits, `-`, `.`, `_`; not `.` and
//! `..`), as SPIFFE IDs are. A wildcard in a certificate identifies nobody: no pattern matches it.

use std::{fmt, str::FromStr};

/// The longest name of a certificate that is used, in bytes.
const MAX_BYTES: usize = 2048;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A DNS name, in lower case.
    Dns(Box<str>),
    /// A URI, for instance a SPIFFE ID.
    Uri(Box<str>),
}

/// A pattern for names in certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanPattern {
    kind: Kind,
    /// The name, its suffix behind the first label, or its prefix.
    text: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A DNS name.
    Dns,
    /// A DNS name of one label followed by `text`, which begins with a dot.
    BelowDns,
    /// A URI.
    Uri,
    /// A URI of `text`, which ends with a slash, followed by plain segments.
    BelowUri,
}

/// The text is not a pattern for names in certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name in a certificate: use a DNS name (cms.example.org), * for its whole first label (*.cms.svc), or a URI, which \
     may end in /* (spiffe://cluster.local/ns/shop/*)"
)]
pub struct InvalidSan(pub String);

// === impl San ===

impl San {
    /// A DNS name of a certificate; none if it is not the name of a single host.
    #[must_use]
    pub fn dns(name: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        is_dns(name).then(|| Self::Dns(name.to_ascii_lowercase().into()))
    }

    /// A URI of a certificate; none if the text is not a URI.
    #[must_use]
    pub fn uri(uri: &str) -> Option<Self> {
        is_uri(uri).then(|| Self::Uri(uri.into()))
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
        }
    }
}

// === impl SanPattern ===

impl SanPattern {
    /// Whether it matches the name.
    #[must_use]
    pub fn takes(&self, san: &San) -> bool {
        let text = &*self.text;
        match (self.kind, san) {
            (Kind::Dns, San::Dns(name)) => **name == *text,
            (Kind::BelowDns, San::Dns(name)) => {
                name.strip_suffix(text).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            (Kind::Uri, San::Uri(uri)) => **uri == *text,
            (Kind::BelowUri, San::Uri(uri)) => {
                uri.strip_prefix(text).is_some_and(|rest| rest.split('/').all(is_plain_segment))
            }
            (Kind::Dns | Kind::BelowDns, San::Uri(_)) | (Kind::Uri | Kind::BelowUri, San::Dns(_)) => false,
        }
    }
}

impl FromStr for SanPattern {
    type Err = InvalidSan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let below_dns = || text.strip_prefix('*').filter(|rest| rest.strip_prefix('.').is_some_and(is_dns));
        let below_uri = || text.strip_suffix('*').filter(|uri| uri.ends_with('/') && is_uri(uri));
        let (kind, text) = if is_dns(text) {
            (Kind::Dns, text.to_ascii_lowercase())
        } else if let Some(rest) = below_dns() {
            (Kind::BelowDns, rest.to_ascii_lowercase())
        } else if is_uri(text) {
            (Kind::Uri, text.to_owned())
        } else if let Some(uri) = below_uri() {
            (Kind::BelowUri, uri.to_owned())
        } else {
            return Err(InvalidSan(text.to_owned()));
        };
        Ok(Self { kind, text: text.into() })
    }
}

impl fmt::Display for SanPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Dns | Kind::Uri => f.write_str(&self.text),
            Kind::BelowDns => write!(f, "*{}", self.text),
            Kind::BelowUri => write!(f, "{}*", self.text),
        }
    }
}

/// Whether the text is the name of a host: labels of letters, digits, `-` and `_` between dots.
fn is_dns(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether the text is a URI with an authority, without a wildcard, and without characters that would end it in a rule or a log
/// line.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let mut scheme = scheme.bytes();
    text.len() <= MAX_BYTES
        && scheme.next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !rest.starts_with('/')
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_graphic() && !b"*,\"<>\\^`{|}".contains(&b))
}

fn is_plain_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, name: &str) -> bool {
        let pattern: SanPattern = pattern.parse().unwrap();
        let san = if name.contains("://") { San::uri(name) } else { San::dns(name) };
        san.is_some_and(|san| pattern.takes(&san))
    }

    #[test]
    fn a_star_is_exactly_one_label_of_a_dns_name() {
        for name in ["a.cms.svc", "A.CMS.svc", "a-1.cms.svc", "a.cms.svc."] {
            assert!(takes("*.cms.svc", name), "{name}");
        }
        for name in ["cms.svc", ".cms.svc", "a.b.cms.svc", "acms.svc", "a.cms.svc.evil", "*.cms.svc", "a.cms.svc\0"] {
            assert!(!takes("*.cms.svc", name), "{name}");
        }
        assert!(takes("cms.svc", "CMS.svc") && takes("Cms.svc", "cms.svc") && !takes("cms.svc", "a.cms.svc"));
    }

    #[test]
    fn a_star_is_plain_segments_at_the_end_of_a_uri() {
        let pattern = "spiffe://cluster.local/ns/shop/*";
        for uri in ["spiffe://cluster.local/ns/shop/sa/cms", "spiffe://cluster.local/ns/shop/a"] {
            assert!(takes(pattern, uri), "{uri}");
        }
        for uri in [
            "spiffe://cluster.local/ns/shop",
            "spiffe://cluster.local/ns/shop/",
            "spiffe://cluster.local/ns/shop/../admin",
            "spiffe://cluster.local/ns/shop/%2e%2e/admin",
            "spiffe://cluster.local/ns/shop//a",
            "spiffe://cluster.local/ns/shop2/a",
            "spiffe://CLUSTER.local/ns/shop/a",
            "spiffe://other/ns/shop/a",
            "http://cluster.local/ns/shop/a",
        ] {
            assert!(!takes(pattern, uri), "{uri}");
        }
        let exact = "spiffe://cluster.local/ns/shop/sa/cms";
        assert!(takes(exact, exact) && !takes(exact, "spiffe://cluster.local/ns/shop/sa/cms2"));
    }

    #[test]
    fn a_dns_name_that_looks_like_a_uri_matches_no_uri_pattern() {
        assert_eq!(San::dns("spiffe://cluster.local/ns/shop/sa/cms"), None);
        let pattern: SanPattern = "spiffe://a/b".parse().unwrap();
        assert!(!pattern.takes(&San::Dns("spiffe://a/b".into())));
    }

    #[test]
    fn ambiguous_patterns_are_refused() {
        for text in [
            "",
            "*",
            "*.",
            "**.a",
            "a.*",
            "*a.b",
            "a.*.b",
            "a..b",
            "a b",
            "spiffe://",
            "spiffe:///a",
            "spiffe://*/a",
            "spiffe://a*",
            "spiffe://a/*/b",
            "://a/b",
            "*://a/b",
            "spiffe://a/b,c",
            "-",
            "*.*.a",
        ] {
            let parsed = text.parse::<SanPattern>();
            assert_eq!(parsed.is_ok(), text == "-", "{text:?}: {parsed:?}");
        }
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_read() {
        for text in ["*.cms.svc", "cms.svc", "spiffe://a/b", "spiffe://a/*"] {
            assert_eq!(text.parse::<SanPattern>().unwrap().to_string(), text);
        }
    }
}
