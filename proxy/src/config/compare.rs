//! What of the endpoints' answers is compared, and what in a body may differ: a JSON pointer or a regular expression.

use std::{borrow::Cow, fmt, str::FromStr};

use regex::bytes::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// What of the endpoints' answers is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// Nothing.
    #[default]
    Off,
    /// Their statuses, with gRPC also those of gRPC.
    Status,
    /// These and their bodies, up to [`Compare::MAX_BODY`].
    Body,
}

/// Something in a body that may differ.
#[derive(Clone, Debug)]
pub enum Ignored {
    /// The value at this place (RFC 6901), where the body is JSON.
    Pointer(Pointer),
    /// Whatever matches this.
    Pattern(Regex),
}

/// A JSON pointer (RFC 6901) to something inside a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    /// The last of its tokens, without escapes.
    last: Box<str>,
}

/// All that may differ in bodies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ignore {
    ignored: Vec<Ignored>,
}

/// The text is no way to compare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a way to compare answers: use off, status or body")]
pub struct InvalidCompare(String);

/// The text names nothing that may differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIgnored {
    /// It would be the whole body.
    #[error("is empty, which would be the whole body: use compare status instead")]
    Empty,
    /// Not as in RFC 6901.
    #[error("{0:?} is not a JSON pointer: ~ must be followed by 0 (for ~) or 1 (for /)")]
    Pointer(String),
    /// No regular expression.
    #[error("{text:?} is neither a JSON pointer, which begins with /, nor a regular expression: {why}")]
    Pattern {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Bytes that a compiled expression may take: one is written by an operator, and used by every worker.
const MAX_COMPILED_REGEX_BYTES: usize = 1 << 20;

// === impl Compare ===

impl Compare {
    /// The bytes of a body that are compared.
    pub const MAX_BODY: usize = 1 << 20;
}

impl FromStr for Compare {
    type Err = InvalidCompare;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "status" => Ok(Self::Status),
            "body" => Ok(Self::Body),
            _ => Err(InvalidCompare(text.to_owned())),
        }
    }
}

// === impl Ignored ===

impl FromStr for Ignored {
    type Err = InvalidIgnored;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidIgnored::Empty);
        }
        if text.starts_with('/') {
            return text.parse().map(Self::Pointer);
        }
        let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED_REGEX_BYTES).build();
        let invalid = |error: regex::Error| InvalidIgnored::Pattern { text: text.to_owned(), why: error.to_string() };
        regex.map(Self::Pattern).map_err(invalid)
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(pointer) => f.write_str(&pointer.text),
            Self::Pattern(regex) => f.write_str(regex.as_str()),
        }
    }
}

impl PartialEq for Ignored {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Serialize for Ignored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Pointer ===

impl FromStr for Pointer {
    type Err = InvalidIgnored;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidIgnored::Pointer(text.to_owned());
        let mut escapes = text.split('~').skip(1);
        if !text.starts_with('/') || escapes.any(|rest| !rest.starts_with(['0', '1'])) {
            return Err(invalid());
        }
        let (_, last) = text.rsplit_once('/').ok_or_else(invalid)?;
        Ok(Self { text: text.into(), last: last.replace("~1", "/").replace("~0", "~").into() })
    }
}

impl Pointer {
    /// Takes what it points to out of a document. Of a list nothing is taken out, because what comes behind would move: there
    /// null takes its place.
    pub fn remove(&self, document: &mut Value) {
        let parent = self.text.rsplit_once('/').map_or("", |(parent, _)| parent);
        match document.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                members.remove(&*self.last);
            }
            // What an index may look like is known there.
            Some(list @ Value::Array(_)) => {
                if let Some(element) = list.pointer_mut(&self.text[parent.len()..]) {
                    *element = Value::Null;
                }
            }
            _ => {}
        }
    }
}

// === impl Ignore ===

impl Ignore {
    /// What of a body is compared: without the values that pointers lead to, where it is JSON, and then without what expressions
    /// match.
    #[must_use]
    pub fn apply<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        let mut rest = Cow::Borrowed(body);
        if self.pointers().next().is_some()
            && let Ok(mut document) = serde_json::from_slice::<Value>(body)
        {
            self.pointers().for_each(|pointer| pointer.remove(&mut document));
            rest = Cow::Owned(document.to_string().into_bytes());
        }
        for ignored in &self.ignored {
            if let Ignored::Pattern(regex) = ignored
                && let Cow::Owned(without) = regex.replace_all(&rest, &b""[..])
            {
                rest = Cow::Owned(without);
            }
        }
        rest
    }

    fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.ignored.iter().filter_map(|ignored| match ignored {
            Ignored::Pointer(pointer) => Some(pointer),
            Ignored::Pattern(_) => None,
        })
    }
}

impl FromIterator<Ignored> for Ignore {
    fn from_iter<I: IntoIterator<Item = Ignored>>(ignored: I) -> Self {
        Self { ignored: ignored.into_iter().collect() }
    }
}

impl Serialize for Ignore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ignored.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(texts: &[&str]) -> Ignore {
        texts.iter().map(|text| text.parse::<Ignored>().unwrap()).collect()
    }

    fn left(texts: &[&str], body: &str) -> String {
        String::from_utf8(ignore(texts).apply(body.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_a_pointer_leads_to_is_left_out_of_json() {
        let body = r#"{"at": 1, "a": {"b": [1, {"t": 2}, 3], "x/y": 4, "m~n": 5}}"#;
        for (pointer, want) in [
            ("/at", r#"{"a":{"b":[1,{"t":2},3],"m~n":5,"x/y":4}}"#),
            ("/a/b/1/t", r#"{"a":{"b":[1,{},3],"m~n":5,"x/y":4},"at":1}"#),
            ("/a/b/0", r#"{"a":{"b":[null,{"t":2},3],"m~n":5,"x/y":4},"at":1}"#),
            ("/a/b", r#"{"a":{"m~n":5,"x/y":4},"at":1}"#),
            ("/a/x~1y", r#"{"a":{"b":[1,{"t":2},3],"m~n":5},"at":1}"#),
            ("/a/m~0n", r#"{"a":{"b":[1,{"t":2},3],"x/y":4},"at":1}"#),
            ("/none/there", r#"{"a":{"b":[1,{"t":2},3],"m~n":5,"x/y":4},"at":1}"#),
            ("/a/b/01", r#"{"a":{"b":[1,{"t":2},3],"m~n":5,"x/y":4},"at":1}"#),
            ("/a/b/-", r#"{"a":{"b":[1,{"t":2},3],"m~n":5,"x/y":4},"at":1}"#),
        ] {
            assert_eq!(left(&[pointer], body), want, "{pointer}");
        }
        assert_eq!(left(&["/at"], r#"{"b": 2, "a": 1}"#), left(&["/at"], r#"{"a":1,"b":2,"at":9}"#));
        assert_eq!(left(&["/at"], "at: 1"), "at: 1", "what is no JSON stays as it is");
    }

    #[test]
    fn what_an_expression_matches_is_left_out() {
        assert_eq!(left(&["[0-9]+ms"], "took 12ms, and 3ms"), "took , and ");
        assert_eq!(left(&["/at", r#""id":"[a-f0-9]+""#], r#"{"at": 1, "id": "0af"}"#), "{}");
        assert_eq!(ignore(&[r"(?-u)\xff."]).apply(b"a\xff\x01b").as_ref(), b"ab", "bodies need not be text");
        assert!(matches!(ignore(&["x"]).apply(b"abc"), Cow::Borrowed(_)), "nothing is copied where nothing matches");
    }

    #[test]
    fn faults_are_reported() {
        for (text, part) in [
            ("", "whole body"),
            ("/a~2", "not a JSON pointer"),
            ("/a~", "not a JSON pointer"),
            ("(", "neither a JSON pointer"),
            (r"(\w{100}){100}{100}", "neither a JSON pointer"),
        ] {
            let error = text.parse::<Ignored>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!("bodies".parse::<Compare>().unwrap_err().to_string().contains("off, status or body"));
    }
}
