//! Conditions on requests, for routes and allow rules: method, host, path and header fields.

use std::str::FromStr;

use access::by::{By, InvalidBy};
use serde::Serialize;

use super::{
    field::FieldPattern,
    host::HostPattern,
    path::{PathPattern, Verdict, split_target},
};
use crate::http::request::RequestHead;

/// A condition on the head of a request. Every given part must match; an empty part matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    /// One of these methods, compared as written: methods are case-sensitive (RFC 9110 section 9.1).
    pub methods: Vec<Box<str>>,
    /// One of these hosts.
    pub hosts: Vec<HostPattern>,
    /// One of these paths.
    pub paths: Vec<PathPattern>,
    /// All of these header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<FieldPattern>,
}

/// An allow rule: matching requests of these callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// Which requests.
    #[serde(flatten)]
    pub matches: Match,
    /// By whom.
    #[serde(skip_serializing_if = "By::is_anyone")]
    pub by: By,
}

/// The text is not an allow rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllow {
    /// Which requests.
    #[error(transparent)]
    Match(#[from] InvalidMatch),
    /// By whom.
    #[error("behind \"by\": {0}")]
    By(#[from] InvalidBy),
}

/// The text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMatch {
    /// Not a method token.
    #[error("{0:?} is not a method: use a token that begins with a letter, like GET or PURGE")]
    Method(String),
    /// Not a host pattern.
    #[error("{0:?} is not a host: use a name like example.org, or *.example.org for all below it")]
    Host(String),
    /// Not a path pattern.
    #[error("{0:?} is not a path: it starts with / and may end with one *")]
    Path(String),
    /// A path that servers resolve to another one.
    #[error("{0:?} has a segment that servers resolve (. or ..): write the intended path")]
    DotSegment(String),
    /// Not a condition on a header field.
    #[error(
        "{0:?} is not a header field to look for: write it as 'name: value', where * at the end of the value stands for anything"
    )]
    Field(String),
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
    /// Whether a request matches.
    #[must_use]
    pub fn judge(&self, head: &RequestHead) -> Verdict<'_> {
        let takes = (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == head.method()))
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| h.takes(head.host().unwrap_or_default())))
            && self.headers.iter().all(|field| field.takes(&head.fields));
        match takes {
            true if self.paths.is_empty() => Verdict::Takes,
            true => {
                let (path, _) = split_target(head.target());
                first_to_take(self.paths.iter().map(|pattern| pattern.judge(path)))
            }
            false => Verdict::No,
        }
    }

    /// Whether it matches every request.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let path = self.paths.is_empty() || self.paths.iter().any(PathPattern::is_everything);
        path && self.methods.is_empty() && self.hosts.is_empty() && self.headers.is_empty()
    }

    /// The part of the path for which the `*` of the matching pattern stands; empty without a `*`.
    pub(crate) fn rest_of<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let everything = || path.strip_prefix(b"/").unwrap_or(path);
        let mut taking = self.paths.iter().filter(|pattern| pattern.judge(path) == Verdict::Takes);
        if self.paths.is_empty() { everything() } else { taking.next().map_or(&[], |pattern| pattern.rest_of(path)) }
    }

    /// Checks and takes a method.
    ///
    /// # Errors
    /// [`InvalidMatch::Method`] if it is not a token that begins with a letter: one that begins with a digit is probably a
    /// misplaced status.
    pub fn method(text: &str) -> Result<Box<str>, InvalidMatch> {
        let valid = is_token(text) && text.starts_with(|c: char| c.is_ascii_alphabetic());
        if valid { Ok(text.into()) } else { Err(InvalidMatch::Method(text.to_owned())) }
    }
}

/// The verdict of several rules, of which one is enough: the first match, or else the first ambiguous one.
fn first_to_take<'a>(verdicts: impl Iterator<Item = Verdict<'a>>) -> Verdict<'a> {
    let mut leaves = Verdict::No;
    for verdict in verdicts {
        match verdict {
            Verdict::Takes => return verdict,
            Verdict::Leaves(_) if leaves == Verdict::No => leaves = verdict,
            Verdict::Leaves(_) | Verdict::No => {}
        }
    }
    leaves
}

impl FromStr for Match {
    type Err = InvalidMatch;

    /// Reads `PURGE,BAN /cache/*`, `PURGE,BAN` or `/cache/*`; `*` stands for all methods.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidMatch::Form(text.to_owned());
        // No method has a slash in it, and every path begins with one.
        let (methods, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        if !methods.is_empty() && !path.is_empty() && !methods.ends_with(char::is_whitespace) {
            return Err(form());
        }
        let (methods, path) = (methods.trim(), path.trim_end());
        // A second word is meant as a path.
        if let Some((before, last)) = methods.rsplit_once(char::is_whitespace)
            && !before.trim_end().ends_with(',')
            && !last.starts_with(',')
        {
            return Err(InvalidMatch::Path(last.to_owned()));
        }
        if (methods.is_empty() && path.is_empty()) || path.contains(char::is_whitespace) {
            return Err(form());
        }
        let mut matches = Self::default();
        if !matches!(methods, "" | "*") {
            matches.methods = methods.split(',').map(|method| Self::method(method.trim())).collect::<Result<_, _>>()?;
        }
        if !path.is_empty() {
            matches.paths.push(path.parse()?);
        }
        Ok(matches)
    }
}

// === impl Allow ===

impl From<Match> for Allow {
    fn from(matches: Match) -> Self {
        Self { matches, by: By::default() }
    }
}

impl FromStr for Allow {
    type Err = InvalidAllow;

    /// Reads a [`Match`], optionally followed by `by` and identities: `PURGE /cache/* by token:ci,cidr:10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_end = |rest: &str| rest.is_empty() || rest.starts_with(char::is_whitespace);
        let is_start = |before: &str| before.is_empty() || before.ends_with(char::is_whitespace);
        let mut words = text.match_indices("by");
        let Some((at, word)) = words.find(|(at, word)| is_start(&text[..*at]) && is_end(&text[at + word.len()..]))
        else {
            return Ok(text.parse::<Match>()?.into());
        };
        let (requests, callers) = (text[..at].trim_end(), &text[at + word.len()..]);
        if requests.is_empty() {
            return Err(InvalidMatch::Form(text.to_owned()).into());
        }
        Ok(Self { matches: requests.parse()?, by: callers.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, method: &str, target: &str) -> bool {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = RequestHead::parse(bytes::Bytes::from(head), 999, crate::http::Fields::default()).unwrap();
        pattern.parse::<Match>().unwrap().judge(&head) == Verdict::Takes
    }

    #[test]
    fn identities_follow_the_word_by_and_nothing_else_is_one() {
        let allow = |text: &str| text.parse::<Allow>().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let whole = allow("PURGE,BAN /cache/* by token:ci, sa:shop/cms control");
        assert_eq!(whole.matches, "PURGE,BAN /cache/*".parse().unwrap());
        assert_eq!(whole.by.to_string(), "by token:ci,sa:shop/cms control");
        assert!(allow("PURGE /by/by").by.is_anyone() && allow("/standby").by.is_anyone());
        assert_eq!(allow("/*  by\ttoken:by").by.to_string(), "by token:by");
        for (text, part) in [
            ("PURGE /a by", "behind \"by\": \"by\" is followed by no identity"),
            ("PURGE /a by ", "no identity"),
            ("by token:ci", "is not of the form"),
            (" by token:ci", "is not of the form"),
            ("PURGE /a by ci", "\"ci\" is not an identity"),
            ("PURGE /a control", "is not of the form"),
            ("PURGE /a by token:ci by token:cd", "\"by\" stands behind the identities"),
        ] {
            let error = text.parse::<Allow>().map(drop).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn methods_and_paths() {
        assert!(takes("PURGE,BAN /cache/*", "BAN", "/cache/a?b=c"));
        assert!(!takes("PURGE,BAN /cache/*", "GET", "/cache/a"));
        assert!(!takes("PURGE,BAN /cache/*", "BAN", "/cach"));
        assert!(!takes("PURGE /a", "PURGE", "/a/b") && takes("PURGE /a", "PURGE", "/a?/b"));
        assert!(takes("/a*", "ANY", "/abc") && takes("* /a*", "ANY", "/abc") && takes("OPTIONS", "OPTIONS", "*"));
        assert!(!takes("PURGE", "purge", "/"), "methods are case-sensitive");
        assert!(takes("PURGE, BAN /cache/*", "BAN", "/cache/a") && takes(" PURGE ,BAN ", "BAN", "/"));
        for text in [
            "",
            "PURGE /a /b",
            "PURGE/a",
            "PURGE BAN /a",
            "PU(RGE /a",
            "PURGE a*b",
            "/a*b",
            "PURGE,",
            "/a?b",
            "200",
            "PURGE,404 /a",
        ] {
            assert!(text.parse::<Match>().is_err(), "{text:?}");
        }
    }
}
