//! Changes of header fields in requests and answers, and the fields that must not be changed.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::is_token;
use crate::http::Class;

/// Changes of header fields. A set field replaces all fields of its name, an added field is appended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FieldEdits {
    /// The set fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<FieldLine>,
    /// The added fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add: Vec<FieldLine>,
    /// The names of removed fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remove: Vec<FieldName>,
    /// The set and added fields, as lines of a head.
    #[serde(skip)]
    lines: Box<str>,
    /// The same without fields that would contradict a generated answer.
    #[serde(skip)]
    lines_of_made_up: Box<str>,
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the endpoints.
    Request,
    /// To the client.
    Response,
}

/// The name of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

/// A header field: its name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: FieldName,
    value: Box<str>,
}

/// The text is not a header field, or the field must not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// Not of the form `name: value`.
    #[error("{0:?} is not a header field: write it as 'name: value'")]
    Form(String),
    /// Not a field name.
    #[error("{0:?} is not the name of a header field: use letters, digits and -")]
    Name(String),
    /// A value that no head can hold.
    #[error("{0:?} is not the value of a header field: use printable ASCII characters, spaces only within")]
    Value(String),
    /// Host, which has a key of its own.
    #[error("Host is set with the key host of the route (--host)")]
    Host,
    /// A field that this proxy controls.
    #[error("{0} cannot be changed: {1}")]
    Kept(String, &'static str),
}

// === impl FieldEdits ===

impl FieldEdits {
    /// Applies removals, then set fields, then added fields.
    #[must_use]
    pub fn new(set: Vec<FieldLine>, add: Vec<FieldLine>, remove: Vec<FieldName>) -> Self {
        let lines = |skip: fn(&FieldName) -> bool| {
            let lines = set.iter().chain(&add).filter(|line| !skip(&line.name));
            lines.map(|line| format!("{line}\r\n")).collect::<String>().into_boxed_str()
        };
        let (all, made_up) = (lines(|_| false), lines(FieldName::is_of_a_body));
        Self { lines: all, lines_of_made_up: made_up, set, add, remove }
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.remove.is_empty()
    }

    /// Whether incoming fields of this name are dropped.
    #[must_use]
    pub fn drops(&self, name: &[u8]) -> bool {
        let mut dropped = self.remove.iter().chain(self.set.iter().map(|line| &line.name));
        dropped.any(|dropped| dropped.0.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The set and added fields, as lines of a head.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.lines.as_bytes()
    }

    /// Those for a generated answer with a body of its own.
    #[must_use]
    pub fn lines_of_made_up(&self) -> &[u8] {
        self.lines_of_made_up.as_bytes()
    }
}

// === impl FieldName ===

impl FieldName {
    /// Checks that it may be changed in this direction.
    ///
    /// # Errors
    /// Why not.
    pub fn may_change(&self, direction: Direction) -> Result<(), InvalidField> {
        let why = match Class::of(self.0.as_bytes()) {
            Class::Host if direction == Direction::Request => return Err(InvalidField::Host),
            Class::ContentLength | Class::TransferEncoding => "this proxy frames messages itself",
            Class::Connection | Class::ProxyConnection | Class::HopByHop | Class::Upgrade => {
                "it concerns one connection only"
            }
            Class::Expect => "this proxy answers expectations itself",
            Class::Broadcast => "only this proxy writes X-Broadcast-*",
            Class::Via if direction == Direction::Request => "it is how loops are noticed",
            Class::RequestId if direction == Direction::Request => {
                "endpoints, answer and log have the same id of a request"
            }
            _ => return Ok(()),
        };
        Err(InvalidField::Kept(self.0.to_string(), why))
    }

    /// Whether the field describes the body, or is part of every generated answer.
    fn is_of_a_body(&self) -> bool {
        let name = self.0.to_ascii_lowercase();
        name.starts_with("content-")
            || ["etag", "last-modified", "vary", "date", "proxy-status", "allow"].contains(&&*name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_token(text) { Ok(Self(text.into())) } else { Err(InvalidField::Name(text.to_owned())) }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for FieldName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl FieldLine ===

impl FieldLine {
    /// A field of this name with this value.
    ///
    /// # Errors
    /// [`InvalidField`] where a head cannot hold it.
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidField> {
        let name = name.parse()?;
        let inner = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t');
        if !inner || value.trim() != value {
            return Err(InvalidField::Value(value.to_owned()));
        }
        Ok(Self { name, value: value.into() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &FieldName {
        &self.name
    }
}

impl FromStr for FieldLine {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or_else(|| InvalidField::Form(text.to_owned()))?;
        Self::new(name, value.trim())
    }
}

impl fmt::Display for FieldLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

impl Serialize for FieldLine {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_name_and_a_value_that_a_head_can_hold() {
        let line = |text: &str| text.parse::<FieldLine>().map(|line| line.to_string());
        assert_eq!(line("X-A:  b c "), Ok("X-A: b c".to_owned()));
        assert_eq!(line("X-A:"), Ok("X-A: ".to_owned()));
        for text in ["", "X-A", ": a", "X A: b", "X-A : b", "X-A: a\r\nX-B: c", "X-A: \u{e9}", "X-A: a\0"] {
            assert!(line(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn fields_for_framing_or_connections_cannot_be_changed() {
        let may = |name: &str, direction| name.parse::<FieldName>().unwrap().may_change(direction).is_ok();
        for name in [
            "Connection",
            "keep-alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "content-length",
            "Upgrade",
            "Expect",
            "X-Broadcast-Result",
            "Proxy-Authorization",
        ] {
            assert!(!may(name, Direction::Request) && !may(name, Direction::Response), "{name}");
        }
        for name in ["Host", "Via", "X-Request-Id"] {
            assert!(!may(name, Direction::Request) && may(name, Direction::Response), "{name}");
        }
        for name in ["X-Forwarded-Proto", "Authorization", "Cache-Control", "Accept"] {
            assert!(may(name, Direction::Request) && may(name, Direction::Response), "{name}");
        }
    }

    #[test]
    fn made_up_answers_keep_what_they_say_of_themselves() {
        let line = |text: &str| text.parse::<FieldLine>().unwrap();
        let edits = FieldEdits::new(vec![line("X-A: 1"), line("Content-Type: text/x")], vec![line("X-B: 2")], vec![]);
        assert_eq!(edits.lines(), b"X-A: 1\r\nContent-Type: text/x\r\nX-B: 2\r\n");
        assert_eq!(edits.lines_of_made_up(), b"X-A: 1\r\nX-B: 2\r\n");
        assert!(edits.drops(b"x-a") && !edits.drops(b"x-b") && !edits.is_empty());
    }
}
