//! Patterns for paths: one path, or all that stay below a prefix.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::{
    InvalidMatch,
    below::{has_dot_segment, stays_below},
};

/// A path, or a prefix and `*`; compared with the path of the target, not decoded and without the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    prefix: bool,
    path: Box<str>,
}

/// Whether a rule matches a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It matches.
    Takes,
    /// It matches literally, but a server may read the path as one that does not match.
    Leaves(&'a PathPattern),
    /// It does not match.
    No,
}

/// The path of a target in origin form, and what follows it: a query with its question mark, or nothing.
#[must_use]
pub fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len())) {
        // An absolute form may leave it out.
        ([], query) => (b"/", query),
        parts => parts,
    }
}

impl PathPattern {
    /// Whether a path matches.
    #[must_use]
    pub fn judge(&self, path: &[u8]) -> Verdict<'_> {
        let own = self.path.as_bytes();
        if !self.prefix {
            return if path == own { Verdict::Takes } else { Verdict::No };
        }
        if !path.starts_with(own) {
            return Verdict::No;
        }
        let slash = own.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        if self.is_everything() || stays_below(&path[slash..], slash < own.len()) {
            Verdict::Takes
        } else {
            Verdict::Leaves(self)
        }
    }

    /// The part of a matching path for which `*` stands; empty without a `*`.
    pub(super) fn rest_of<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        if self.prefix { path.get(self.path.len()..).unwrap_or_default() } else { &[] }
    }

    /// Whether it ends in `*`.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// Whether it is `/*`.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.prefix && &*self.path == "/"
    }
}

impl FromStr for PathPattern {
    type Err = InvalidMatch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, path) = match text.strip_suffix('*') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && !b"*?#".contains(&b)) {
            return Err(InvalidMatch::Path(text.to_owned()));
        }
        // The beginning of a segment may be dots: `/.well-known/*`, `/.*`.
        let whole = if prefix { path.rsplit_once('/').map_or("", |(whole, _)| whole) } else { path };
        if has_dot_segment(whole.as_bytes()) {
            return Err(InvalidMatch::DotSegment(text.to_owned()));
        }
        Ok(Self { prefix, path: path.into() })
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

    #[test]
    fn a_prefix_takes_what_stays_below_it_and_everything_takes_everything() {
        let judge = |pattern: &str, path: &str| {
            let pattern: PathPattern = pattern.parse().unwrap();
            match pattern.judge(path.as_bytes()) {
                Verdict::Takes => 'y',
                Verdict::Leaves(_) => '!',
                Verdict::No => 'n',
            }
        };
        assert_eq!(
            (judge("/a", "/a"), judge("/a", "/a/b"), judge("/a*", "/abc"), judge("/a/*", "/a")),
            ('y', 'n', 'y', 'n')
        );
        assert_eq!((judge("/a/*", "/a/../b"), judge("/a/*", "/a/b/../c"), judge("/*", "/a/../../b")), ('!', 'y', 'y'));
        assert_eq!((judge("/a", "/a/../a"), judge("/.*", "/.."), judge("/.*", "/.x")), ('n', '!', 'y'));
    }

    #[test]
    fn unsafe_patterns_are_refused() {
        for text in ["", "a", "/a*b", "/a?b", "/a b", "/a#"] {
            assert!(matches!(text.parse::<PathPattern>(), Err(InvalidMatch::Path(_))), "{text:?}");
        }
        for text in ["/a/../b", "/a/./*", "/%2e%2e/*", "/a/..;x/*", "/a/.."] {
            assert!(matches!(text.parse::<PathPattern>(), Err(InvalidMatch::DotSegment(_))), "{text:?}");
        }
    }

    #[test]
    fn a_target_without_a_path_has_the_root() {
        assert_eq!(split_target(b"?a=b"), (&b"/"[..], &b"?a=b"[..]));
        assert_eq!(split_target(b"/x?a?b"), (&b"/x"[..], &b"?a?b"[..]));
        assert_eq!(split_target(b"*"), (&b"*"[..], &b""[..]));
    }
}
