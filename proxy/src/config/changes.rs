//! The changes of a route to requests and answers: path, `Host`, header fields.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::{
    FieldEdits, Match,
    below::{has_dot_segment, stays_below},
    path::split_target,
};

/// The changes of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    /// The `Host` for endpoints; by default the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostValue>,
    /// The prefix that is removed from paths that begin with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<Prefix>,
    /// The replacement of the path; not together with `strip_prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<NewPath>,
    /// The changes of header fields.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub headers: HeaderChanges,
}

/// The changes of header fields in each direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderChanges {
    /// In requests to endpoints.
    #[serde(skip_serializing_if = "FieldEdits::is_empty")]
    pub request: FieldEdits,
    /// In answers to clients.
    #[serde(skip_serializing_if = "FieldEdits::is_empty")]
    pub response: FieldEdits,
}

/// A value of `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostValue {
    /// This one.
    Fixed(Box<str>),
    /// Each endpoint's own name or address, and port.
    Authority,
}

/// Whole leading segments of a path, without the slash after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

/// A path, or a prefix and `*`, which stands for the match of the `*` in the route's own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPath {
    front: Box<str>,
    keeps_rest: bool,
}

/// Why a path is not changed, and the request refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unchangeable {
    /// 400.
    #[error("the path goes in or below {0}, and an endpoint may read it as one outside: send the intended path")]
    Leaves(String),
    /// 414.
    #[error("the request target would be longer than this proxy accepts, once the route has rewritten it")]
    TooLong,
}

/// The text is not a valid change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    /// Not a value of `Host`.
    #[error(
        "{0:?} is not a value of Host: use a name like shop.example or shop.example:8080, or {{authority}} for each endpoint's own"
    )]
    Host(String),
    /// Not a prefix.
    #[error("{0:?} is not the front of a path: write whole segments like /api, without *, . and ..")]
    Prefix(String),
    /// Not a path.
    #[error(
        "{0:?} is not a path that can replace another: write it like /new, or /new/* to keep what the route's * stands for"
    )]
    Path(String),
}

// === impl Changes ===

impl Changes {
    /// The value of `Host` that all endpoints get.
    #[must_use]
    pub fn fixed_host(&self) -> Option<&str> {
        match &self.host {
            Some(HostValue::Fixed(host)) => Some(host),
            _ => None,
        }
    }

    /// The changed target for a request that matched by `matches`; none if it stays the same. The query is not changed.
    ///
    /// # Errors
    /// [`Unchangeable`], with which the request is refused.
    pub fn target(&self, matches: &Match, target: &[u8], longest: usize) -> Result<Option<Vec<u8>>, Unchangeable> {
        if self.strip_prefix.is_none() && self.rewrite.is_none() {
            return Ok(None);
        }
        let (path, query) = split_target(target);
        if path.first() != Some(&b'/') {
            return Ok(None);
        }
        let stripped = self.strip_prefix.as_ref().map(|prefix| prefix.strip(path)).transpose()?.flatten();
        let changed = match (stripped, &self.rewrite) {
            (Some(rest), _) => [b"/", rest, query].concat(),
            (None, Some(new)) => [&new.put_for(matches, path)?, query].concat(),
            (None, None) => return Ok(None),
        };
        if changed.len() <= longest { Ok(Some(changed)) } else { Err(Unchangeable::TooLong) }
    }
}

// === impl HeaderChanges ===

impl HeaderChanges {
    fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

// === impl HostValue ===

impl FromStr for HostValue {
    type Err = InvalidChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let label = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let name = !host.is_empty() && host.bytes().all(label);
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = name || address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        match text {
            "{authority}" => Ok(Self::Authority),
            _ if valid && port.is_none_or(|port| port.parse::<u16>().is_ok()) => Ok(Self::Fixed(text.into())),
            _ => Err(InvalidChange::Host(text.to_owned())),
        }
    }
}

impl Serialize for HostValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Fixed(value) => value,
            Self::Authority => "{authority}",
        })
    }
}

// === impl Prefix ===

impl Prefix {
    /// The rest of the path after the prefix and its slashes: two slashes at the front of a target could be read as an authority.
    /// None if the path does not begin with the prefix.
    fn strip<'a>(&self, path: &'a [u8]) -> Result<Option<&'a [u8]>, Unchangeable> {
        match path.strip_prefix(self.0.as_bytes()) {
            Some([]) => Ok(Some(b"")),
            Some([b'/', rest @ ..]) if stays_below(rest, false) => Ok(Some(without_slashes(rest))),
            Some([b'/', ..]) => Err(Unchangeable::Leaves(self.0.to_string())),
            _ => Ok(None),
        }
    }
}

impl FromStr for Prefix {
    type Err = InvalidChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let prefix = text.strip_suffix('/').unwrap_or(text);
        let valid = is_path(prefix) && !prefix.ends_with('/') && !has_dot_segment(prefix.as_bytes());
        if valid { Ok(Self(prefix.into())) } else { Err(InvalidChange::Prefix(text.to_owned())) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl NewPath ===

impl NewPath {
    /// Whether it keeps a part of the replaced path.
    #[must_use]
    pub fn keeps_rest(&self) -> bool {
        self.keeps_rest
    }

    fn put_for(&self, matches: &Match, path: &[u8]) -> Result<Vec<u8>, Unchangeable> {
        let front = self.front.as_bytes();
        if !self.keeps_rest {
            return Ok(front.to_vec());
        }
        let rest = matches.rest_of(path);
        let rest = if front == b"/" { without_slashes(rest) } else { rest };
        let slash = front.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let new = [front, rest].concat();
        if stays_below(&new[slash..], slash < front.len()) {
            Ok(new)
        } else {
            Err(Unchangeable::Leaves(self.front.to_string()))
        }
    }
}

impl FromStr for NewPath {
    type Err = InvalidChange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (front, keeps_rest) = text.strip_suffix('*').map_or((text, false), |front| (front, true));
        let valid = is_path(front) && !front.starts_with("//") && !has_dot_segment(front.as_bytes());
        if valid { Ok(Self { front: front.into(), keeps_rest }) } else { Err(InvalidChange::Path(text.to_owned())) }
    }
}

impl fmt::Display for NewPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.front, if self.keeps_rest { "*" } else { "" })
    }
}

impl Serialize for NewPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether the text is valid in a request line.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| crate::http::request::may_stand_in_target(b) && !b"*?".contains(&b))
}

fn without_slashes(path: &[u8]) -> &[u8] {
    &path[path.iter().position(|b| *b != b'/').unwrap_or(path.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(prefix: &str, target: &str) -> Result<Option<String>, Unchangeable> {
        let changes = Changes { strip_prefix: Some(prefix.parse().unwrap()), ..Changes::default() };
        applied(&changes, "/*", target)
    }

    fn rewrite(path: &str, new: &str, target: &str) -> Result<Option<String>, Unchangeable> {
        let changes = Changes { rewrite: Some(new.parse().unwrap()), ..Changes::default() };
        applied(&changes, path, target)
    }

    fn applied(changes: &Changes, path: &str, target: &str) -> Result<Option<String>, Unchangeable> {
        let changed = changes.target(&path.parse().unwrap(), target.as_bytes(), 64)?;
        Ok(changed.map(|changed| String::from_utf8(changed).unwrap()))
    }

    #[test]
    fn a_prefix_is_stripped_in_whole_segments() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(strip("/api", "/api/v1/x?a=/api"), some("/v1/x?a=/api"));
        assert_eq!(
            (strip("/api", "/api"), strip("/api/", "/api/"), strip("/api", "/api?x")),
            (some("/"), some("/"), some("/?x"))
        );
        assert_eq!(strip("/api", "/api//evil/x"), some("/evil/x"));
        assert_eq!((strip("/api", "/apiary"), strip("/api", "/"), strip("/api", "*")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(strip("/api", "/api/../admin"), Err(Unchangeable::Leaves("/api".into())));
        assert_eq!(strip("/api", "/api/a%2Fb"), some("/a%2Fb"));
    }

    #[test]
    fn another_path_takes_its_place_and_may_keep_the_rest() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(rewrite("/old/*", "/new/*", "/old/a/b?c"), some("/new/a/b?c"));
        assert_eq!(rewrite("/old/*", "/*", "/old//a"), some("/a"));
        assert_eq!(rewrite("/old/*", "/new", "/old/a?b"), some("/new?b"));
        assert_eq!(rewrite("PURGE", "/v1/*", "/a/b"), some("/v1/a/b"));
        assert_eq!(rewrite("/old*", "/new*", "/older"), some("/newer"));
        assert_eq!(rewrite("/*", "/new/*", "/../admin"), Err(Unchangeable::Leaves("/new/".into())));
        assert_eq!(rewrite("/*", "/new/*", &format!("/{}", "a".repeat(63))), Err(Unchangeable::TooLong));
    }

    #[test]
    fn values_that_no_request_can_carry_are_refused() {
        for text in ["", "api", "/", "/api/*", "/a/../b", "/a b", "//", "/a?b"] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
        for text in ["", "new", "//x", "/a*b", "/a/../*", "/a b", "/a?b", "/a\r\n"] {
            assert!(text.parse::<NewPath>().is_err(), "{text:?}");
        }
        for text in ["shop", "shop.example:80", "[2001:db8::1]:80", "192.0.2.1"] {
            assert_eq!(text.parse(), Ok(HostValue::Fixed(text.into())), "{text:?}");
        }
        assert_eq!("{authority}".parse(), Ok(HostValue::Authority));
        for text in ["", "a b", "a:b", "a:99999", "{host}", "[a]", "a/b", ":80", "u@a"] {
            assert!(text.parse::<HostValue>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn changes_are_shown_as_they_are_written() {
        let shown = |changes: &Changes| serde_json::to_value(changes).unwrap();
        assert_eq!(shown(&Changes::default()), serde_json::json!({}));
        let strip_prefix = Some("/api".parse().unwrap());
        let changes = Changes { host: Some(HostValue::Authority), strip_prefix, ..Changes::default() };
        assert_eq!(shown(&changes), serde_json::json!({"host": "{authority}", "strip_prefix": "/api"}));
    }
}
