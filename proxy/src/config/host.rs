//! Patterns for hosts: a name, or all names below one.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::InvalidMatch;

/// A host name, or `*.` and a suffix; compared without port, without the dot that ends a full name, and without regard to
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    suffix: bool,
    name: Box<str>,
}

impl HostPattern {
    /// Whether a request with this `Host` matches.
    #[must_use]
    pub fn takes(&self, host: &[u8]) -> bool {
        let host = without_port(host);
        let host = host.strip_suffix(b".").unwrap_or(host);
        let name = self.name.as_bytes();
        if self.suffix {
            // At least one byte of a label before the dot of the suffix.
            host.len() > name.len() && host[host.len() - name.len()..].eq_ignore_ascii_case(name)
        } else {
            host.eq_ignore_ascii_case(name)
        }
    }
}

/// The host of an authority: without `:port`, the brackets of an IPv6 address kept.
fn without_port(host: &[u8]) -> &[u8] {
    let after_address = host.iter().rposition(|b| *b == b']').unwrap_or(0);
    match host[after_address..].iter().position(|b| *b == b':') {
        Some(colon) => &host[..after_address + colon],
        None => host,
    }
}

impl FromStr for HostPattern {
    type Err = InvalidMatch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (suffix, name) = match text.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') && rest.len() > 1 => (true, rest),
            Some(_) => return Err(InvalidMatch::Host(text.to_owned())),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        let address = name.starts_with('[');
        if matches!(name, "" | ".") || !name.bytes().all(valid) || (!address && name.contains(':')) {
            return Err(InvalidMatch::Host(text.to_owned()));
        }
        Ok(Self { suffix, name: name.into() })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.suffix { "*" } else { "" }, self.name)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, host: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().takes(host.as_bytes())
    }

    #[test]
    fn hosts_without_port_and_case() {
        assert!(takes("a.example", "A.example:8080") && !takes("a.example", "b.example"));
        assert!(takes("*.example", "a.Example") && takes("*.example", "a.b.example:1"));
        assert!(!takes("*.example", ".example") && !takes("*.example", "example") && !takes("*.example", "xexample"));
        assert!(takes("[2001:db8::1]", "[2001:db8::1]:80") && takes("[2001:db8::1]", "[2001:DB8::1]"));
        for text in ["", "*", "*.", "*a", "a b", "a:80", "a*b", ".", "*.."] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_full_name_may_end_in_a_dot() {
        assert!(takes("www.example.com", "www.example.com.") && takes("www.example.com", "www.example.com.:8080"));
        assert!(takes("www.example.com.", "www.example.com") && takes("*.example.com", "www.example.com."));
        assert!(!takes("www.example.com", "www.example.com..") && !takes("*.example.com", ".example.com."));
    }
}
