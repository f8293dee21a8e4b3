//! Patterns for header fields: a name, with a value, a prefix of a value, or any value.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{InvalidMatch, is_token};
use crate::http::Fields;

/// A header field of which one value must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPattern {
    name: Box<str>,
    values: Vec<ValuePattern>,
}

/// A value, or a prefix of one; `*` alone matches any value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ValuePattern {
    prefix: bool,
    value: Box<str>,
}

impl FieldPattern {
    /// A field of this name with one of these values, each of which may end in `*`.
    ///
    /// # Errors
    /// [`InvalidMatch::Field`] if no request could have it.
    pub fn new<T: AsRef<str>>(name: &str, values: impl IntoIterator<Item = T>) -> Result<Self, InvalidMatch> {
        let value = |text: &str| {
            let (value, prefix) = text.strip_suffix('*').map_or((text, false), |value| (value, true));
            let printable = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            let valid = is_token(name) && printable && !value.starts_with(' ') && (prefix || !value.ends_with(' '));
            let invalid = || InvalidMatch::Field(format!("{name}: {text}"));
            if valid { Ok(ValuePattern { prefix, value: value.into() }) } else { Err(invalid()) }
        };
        let values = values.into_iter().map(|text| value(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { name: name.into(), values })
    }

    /// Reads `name: value`.
    ///
    /// # Errors
    /// [`InvalidMatch::Field`]
    pub fn parse(text: &str) -> Result<Self, InvalidMatch> {
        let (name, value) = text.split_once(':').ok_or_else(|| InvalidMatch::Field(text.to_owned()))?;
        Self::new(name, [value.trim()])
    }

    /// Whether a request with these fields matches. The case of names does not matter, that of values does.
    #[must_use]
    pub fn takes(&self, fields: &Fields) -> bool {
        fields.all(&self.name).any(|value| self.values.iter().any(|pattern| pattern.takes(value)))
    }
}

impl ValuePattern {
    fn takes(&self, value: &[u8]) -> bool {
        let own = self.value.as_bytes();
        if self.prefix { value.starts_with(own) } else { value == own }
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.value, if self.prefix { "*" } else { "" })
    }
}

impl Serialize for FieldPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&*self.name, &self.values.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_exact_a_prefix_or_any() {
        let takes = |pattern: &str, fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            let fields = Fields::default();
            let head = crate::http::request::RequestHead::parse(bytes::Bytes::from(head), 999, fields).unwrap();
            FieldPattern::parse(pattern).unwrap().takes(&head.fields)
        };
        assert!(takes("X-Tenant: blue", "x-tenant: blue\r\n") && !takes("X-Tenant: blue", "X-Tenant: Blue\r\n"));
        assert!(!takes("X-Tenant: blue", "X-Tenant: blues\r\n") && !takes("X-Tenant: blue", ""));
        assert!(takes("X-Tenant: blue", "X-Tenant: red\r\nX-Tenant: blue\r\n"));
        assert!(takes("X-V: v1*", "X-V: v1.2\r\n") && !takes("X-V: v1*", "X-V: v2\r\n"));
        assert!(takes("X-V: *", "X-V:\r\n") && takes("X-V: *", "X-V: a\r\n") && !takes("X-V: *", "X-W: a\r\n"));
        assert!(takes("X-V:", "X-V:\r\n") && !takes("X-V:", "X-V: a\r\n"));
        for text in ["", "X-V", ": a", "X V: a", "X-V: a\u{e9}"] {
            assert!(FieldPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
