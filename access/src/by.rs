//! The callers that a rule allows: `by token:ci,san:*.cms.svc,sa:shop/cms,cidr:10.0.0.0/8`, and whether it grants control.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::{
    identity::{Caller, Identity},
    network,
    san::{InvalidSan, SanPattern},
    tokens,
};

/// The callers that a rule allows, and whether it grants them control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// Patterns of which one must match; empty: anyone.
    patterns: Vec<Pattern>,
    /// Whether the callers may decide how a single request is sent.
    control: bool,
}

/// A pattern for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The holder of a token, or a service account.
    Identity(Identity),
    /// A client certificate with a matching name.
    Certificate(SanPattern),
    /// A client address in this network.
    Network(IpNet),
}

/// The text is not a list of callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBy {
    /// Nothing, or nothing between two commas.
    #[error("\"by\" is followed by no identity: name at least one, like token:ci")]
    Empty,
    /// An unknown kind of identity.
    #[error(
        "{0:?} is not an identity: use token:<name>, san:<name in a certificate>, sa:<namespace>/<name> or cidr:<network>"
    )]
    Kind(String),
    /// Not the name of a token.
    #[error("{0:?} is not the name of a token: use 1 to 64 letters, digits, '-', '_' and '.', without a wildcard")]
    Token(String),
    /// Not a name in a certificate.
    #[error(transparent)]
    San(#[from] InvalidSan),
    /// Not a service account.
    #[error("{0:?} is not a service account: use sa:<namespace>/<name>, in lower case and without a wildcard")]
    ServiceAccount(String),
    /// Not a network.
    #[error("{0:?} is not a network: use for instance cidr:10.0.0.0/8, cidr:2001:db8::/32 or cidr:192.0.2.1")]
    Network(String),
    /// Something behind the identities that is not `control`.
    #[error("{0:?} stands behind the identities: separate them by commas; only the word control may follow")]
    Rest(String),
}

// === impl By ===

impl By {
    /// Whether anyone is allowed.
    #[must_use]
    pub fn is_anyone(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether it allows the caller.
    #[must_use]
    pub fn takes(&self, caller: &Caller<'_>) -> bool {
        self.is_anyone() || self.patterns.iter().any(|pattern| pattern.takes(caller))
    }

    /// Whether it lets the callers decide how a single request is sent.
    #[must_use]
    pub fn grants_control(&self) -> bool {
        self.control
    }

    /// Whether an unknown caller could be allowed after authenticating.
    #[must_use]
    pub fn asks_for_proof(&self) -> bool {
        self.patterns.iter().any(|pattern| !matches!(pattern, Pattern::Network(_)))
    }

    /// The patterns; empty: anyone.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }
}

impl FromStr for By {
    type Err = InvalidBy;

    /// Reads what follows `by`: identities between commas, then perhaps `control`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut patterns, mut words) = (Vec::new(), Vec::<&str>::new());
        for (n, part) in text.split(',').enumerate() {
            // `control` may follow only the last identity, because it applies to all of them.
            let mut parts = part.split_whitespace();
            let first = parts.next().ok_or(InvalidBy::Empty)?;
            if let Some(word) = words.first() {
                return Err(InvalidBy::Rest((*word).to_owned()));
            }
            if n == 0 && first == "control" {
                return Err(InvalidBy::Empty);
            }
            patterns.push(first.parse()?);
            words.extend(parts);
        }
        match words[..] {
            [] => Ok(Self { patterns, control: false }),
            ["control"] => Ok(Self { patterns, control: true }),
            ["control", word, ..] | [word, ..] => Err(InvalidBy::Rest(word.to_owned())),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, pattern) in self.patterns.iter().enumerate() {
            write!(f, "{}{pattern}", if n == 0 { "by " } else { "," })?;
        }
        f.write_str(if self.control { " control" } else { "" })
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Pattern ===

impl Pattern {
    /// Whether it matches the caller.
    #[must_use]
    pub fn takes(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Identity(identity) => caller.identity.as_ref() == Some(identity),
            Self::Certificate(pattern) => {
                caller.certificate.is_some_and(|certificate| certificate.names().iter().any(|name| pattern.takes(name)))
            }
            Self::Network(network) => network.contains(&caller.address.to_canonical()),
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidBy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| InvalidBy::Kind(text.to_owned()))?;
        match kind {
            "token" if tokens::is_name(rest) => Ok(Self::Identity(Identity::token(rest))),
            "token" => Err(InvalidBy::Token(rest.to_owned())),
            "san" => Ok(Self::Certificate(rest.parse()?)),
            "sa" => match rest.split_once('/') {
                Some((namespace, name)) if is_label(namespace) && is_object_name(name) => {
                    Ok(Self::Identity(Identity::service_account(namespace, name)))
                }
                _ => Err(InvalidBy::ServiceAccount(rest.to_owned())),
            },
            "cidr" => {
                let network = network::parse(rest).ok_or_else(|| InvalidBy::Network(rest.to_owned()))?;
                Ok(Self::Network(network.trunc()))
            }
            _ => Err(InvalidBy::Kind(text.to_owned())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity) => identity.fmt(f),
            Self::Certificate(pattern) => write!(f, "san:{pattern}"),
            Self::Network(network) => write!(f, "cidr:{network}"),
        }
    }
}

/// Whether Kubernetes can have a namespace of this name (RFC 1123 label).
pub(crate) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether Kubernetes can have a service account of this name (RFC 1123 subdomain).
pub(crate) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CertificateNames;

    fn by(text: &str) -> By {
        text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    fn takes(text: &str, identity: Option<Identity>, certificate: Option<&CertificateNames>, address: &str) -> bool {
        by(text).takes(&Caller { identity, certificate, address: address.parse().unwrap() })
    }

    #[test]
    fn any_of_the_identities_is_enough_and_each_is_compared_as_a_whole() {
        let all = "token:ci,san:*.cms.svc,sa:shop/cms,cidr:10.0.0.0/8";
        let (elsewhere, cms) = ("192.0.2.1", CertificateNames::of(&["a.cms.svc".to_owned()], &[]));
        assert!(takes(all, Some(Identity::token("ci")), None, elsewhere));
        assert!(takes(all, Some(Identity::service_account("shop", "cms")), None, elsewhere));
        assert!(takes(all, None, cms.as_ref(), elsewhere));
        assert!(takes(all, None, None, "10.1.2.3") && takes(all, None, None, "::ffff:10.1.2.3"));
        for other in [Identity::token("ci2"), Identity::token("c"), Identity::service_account("shop", "cms2")] {
            assert!(!takes(all, Some(other), None, elsewhere));
        }
        assert!(!takes("token:shop", Some(Identity::service_account("shop", "shop")), None, elsewhere));
        assert!(!takes(all, None, None, elsewhere));
        assert!(takes("cidr:2001:db8::/32", None, None, "2001:db8::1"));
        assert!(takes("cidr:192.0.2.1", None, None, "192.0.2.1") && !takes("cidr:192.0.2.1", None, None, "192.0.2.2"));
        assert!(By::default().takes(&Caller { identity: None, certificate: None, address: [192, 0, 2, 1].into() }));
    }

    #[test]
    fn control_is_a_word_behind_the_identities() {
        assert!(by("token:ci control").grants_control() && !by("token:ci").grants_control());
        assert!(by(" token:ci , cidr:::1  control ").grants_control());
        assert_eq!(by("token:ci, san:*.a control").to_string(), "by token:ci,san:*.a control");
        assert_eq!(by("cidr:10.1.2.3/8").to_string(), "by cidr:10.0.0.0/8");
    }

    #[test]
    fn only_an_address_asks_for_no_proof() {
        assert!(by("cidr:::/0,token:ci").asks_for_proof() && !by("cidr:::/0").asks_for_proof());
        assert!(!By::default().asks_for_proof());
    }

    #[test]
    fn faults_say_what_to_write_instead() {
        for (text, part) in [
            ("", "no identity"),
            (" ", "no identity"),
            ("token:ci,", "no identity"),
            (",token:ci", "no identity"),
            ("control", "no identity"),
            ("ci", "\"ci\" is not an identity"),
            ("user:ci", "use token:<name>"),
            ("Token:ci", "use token:<name>"),
            ("token:", "name of a token"),
            ("token:*", "without a wildcard"),
            ("token:a:b", "name of a token"),
            ("san:a*", "name in a certificate"),
            ("sa:shop", "sa:<namespace>/<name>"),
            ("sa:Shop/cms", "lower case"),
            ("sa:shop/*", "without a wildcard"),
            ("sa:shop/a/b", "sa:<namespace>/<name>"),
            ("cidr:10.0.0.0/33", "is not a network"),
            ("cidr:host", "is not a network"),
            ("token:ci token:cd", "\"token:cd\" stands behind"),
            ("token:ci control control", "\"control\" stands behind"),
            ("token:ci control,token:cd", "\"control\" stands behind"),
            ("token:ci Control", "\"Control\" stands behind"),
        ] {
            let error = text.parse::<By>().expect_err(text).to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_shown_so_that_it_is_read_again(text in "(token|san|sa|cidr|)[:a-c0-9.*/, ]{0,24}( control)?") {
            if let Ok(by) = text.parse::<By>() {
                let shown = by.to_string();
                let again = shown.strip_prefix("by ").expect("some identity").parse::<By>();
                proptest::prop_assert_eq!(again, Ok(by));
            }
        }
    }
}
