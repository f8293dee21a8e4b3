//! Which requests a route takes, or a listener allows: by method, host and path.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// A condition on the head of a request. Every part that is given must hold; an empty part takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    /// One of these methods, compared as written: methods are case-sensitive (RFC 9110 section 9.1).
    pub methods: Vec<Box<str>>,
    /// One of these hosts.
    pub hosts: Vec<HostPattern>,
    /// One of these paths.
    pub paths: Vec<PathPattern>,
}

/// A host name, or `*.` and a suffix; compared without port and without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    suffix: bool,
    name: Box<str>,
}

/// A path, or a prefix and `*`; compared with the path of the target as it came, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    prefix: bool,
    path: Box<str>,
}

/// The text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMatch {
    /// Not a method token.
    #[error("{0:?} is not a method: use a token like GET or PURGE")]
    Method(String),
    /// Not a host pattern.
    #[error("{0:?} is not a host: use a name like example.org, or *.example.org for all below it")]
    Host(String),
    /// Not a path pattern.
    #[error("{0:?} is not a path: it starts with / and may end with one *")]
    Path(String),
    /// Not of the form `METHODS PATH`.
    #[error("{0:?} is not of the form \"PURGE,BAN /cache/*\"")]
    Form(String),
}

/// Whether the text is an RFC 9110 section 5.6.2 token, which methods and field names are.
pub(crate) fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

// === impl Match ===

impl Match {
    /// Whether a request with this method, `Host` and target takes this.
    #[must_use]
    pub fn takes(&self, method: &[u8], host: &[u8], target: &[u8]) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| h.takes(host)))
            && (self.paths.is_empty() || self.paths.iter().any(|p| p.takes(target)))
    }

    /// Checks and takes a method.
    ///
    /// # Errors
    /// [`InvalidMatch::Method`] where it is not a token.
    pub fn method(text: &str) -> Result<Box<str>, InvalidMatch> {
        if is_token(text) { Ok(text.into()) } else { Err(InvalidMatch::Method(text.to_owned())) }
    }
}

impl FromStr for Match {
    type Err = InvalidMatch;

    /// Reads `PURGE,BAN /cache/*`, `PURGE,BAN` or `/cache/*`; `*` stands for all methods.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut matches = Self::default();
        let mut parts = text.split_ascii_whitespace().peekable();
        if let Some(methods) = parts.next_if(|part| !part.starts_with('/')) {
            if methods != "*" {
                matches.methods = methods.split(',').map(Self::method).collect::<Result<_, _>>()?;
            }
        } else if parts.peek().is_none() {
            return Err(InvalidMatch::Form(text.to_owned()));
        }
        if let Some(path) = parts.next() {
            matches.paths.push(path.parse()?);
        }
        if parts.next().is_some() {
            return Err(InvalidMatch::Form(text.to_owned()));
        }
        Ok(matches)
    }
}

// === impl HostPattern ===

impl HostPattern {
    fn takes(&self, host: &[u8]) -> bool {
        let host = without_port(host);
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
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        let address = name.starts_with('[');
        if name.is_empty() || !name.bytes().all(valid) || (!address && name.contains(':')) {
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

// === impl PathPattern ===

impl PathPattern {
    fn takes(&self, target: &[u8]) -> bool {
        let path = target.split(|b| *b == b'?').next().unwrap_or_default();
        if self.prefix { path.starts_with(self.path.as_bytes()) } else { path == self.path.as_bytes() }
    }
}

impl FromStr for PathPattern {
    type Err = InvalidMatch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, path) = match text.strip_suffix('*') {
            Some(path) => (true, path),
            None => (false, text),
        };
        let valid = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && !b"*?#".contains(&b));
        if valid { Ok(Self { prefix, path: path.into() }) } else { Err(InvalidMatch::Path(text.to_owned())) }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.prefix { "*" } else { "" })
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, method: &str, target: &str) -> bool {
        pattern.parse::<Match>().unwrap().takes(method.as_bytes(), b"h", target.as_bytes())
    }

    #[test]
    fn methods_and_paths() {
        assert!(takes("PURGE,BAN /cache/*", "BAN", "/cache/a?b=c"));
        assert!(!takes("PURGE,BAN /cache/*", "GET", "/cache/a"));
        assert!(!takes("PURGE,BAN /cache/*", "BAN", "/cach"));
        assert!(!takes("PURGE /a", "PURGE", "/a/b") && takes("PURGE /a", "PURGE", "/a?/b"));
        assert!(takes("/a*", "ANY", "/abc") && takes("* /a*", "ANY", "/abc") && takes("PURGE", "PURGE", "*"));
        assert!(!takes("PURGE", "purge", "/"), "methods are case-sensitive");
        for text in ["", "PURGE /a /b", "PU(RGE /a", "PURGE a*b", "/a*b", "PURGE,", "/a?b"] {
            assert!(text.parse::<Match>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_without_port_and_case() {
        let takes = |pattern: &str, host: &str| pattern.parse::<HostPattern>().unwrap().takes(host.as_bytes());
        assert!(takes("a.example", "A.example:8080") && !takes("a.example", "b.example"));
        assert!(takes("*.example", "a.Example") && takes("*.example", "a.b.example:1"));
        assert!(!takes("*.example", ".example") && !takes("*.example", "example") && !takes("*.example", "xexample"));
        assert!(takes("[2001:db8::1]", "[2001:db8::1]:80") && takes("[2001:db8::1]", "[2001:DB8::1]"));
        for text in ["", "*", "*.", "*a", "a b", "a:80", "a*b"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }
}
