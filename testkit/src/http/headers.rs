//! A header or trailer section: its fields in order, with their case, repeated ones kept.

use std::fmt;

/// The fields of one header or trailer section, in the order and case of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, String)>,
}

impl Headers {
    /// Parses the lines of a section (RFC 9112 section 5), without the empty line that ends it.
    ///
    /// Values lose their surrounding white space, nothing else. Bytes that are not UTF-8 become the
    /// replacement character here; the raw head keeps them.
    ///
    /// # Errors
    /// Says what is wrong: a missing colon, a name that is no token (white space before the colon
    /// included), obsolete folding, a control character in a value.
    pub fn parse(section: &[u8]) -> Result<Self, String> {
        let mut fields = Vec::new();
        if section.is_empty() {
            return Ok(Self { fields });
        }
        let section = section.strip_suffix(b"\r\n").unwrap_or(section);
        for line in split_lines(section) {
            fields.push(field(line)?);
        }
        Ok(Self { fields })
    }

    /// The value of the first field of that name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// The values of all fields of that name, in any case, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Whether there is a field of that name, in any case.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether the comma-separated list in all fields of that name holds the token, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).iter().flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// All fields: name as on the wire, value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// How many fields there are, repeated ones counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            writeln!(f, "{name}: {value}")?;
        }
        Ok(())
    }
}

/// The lines of a section whose line ends are all CRLF (the caller has checked that).
pub(super) fn split_lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    section.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether the bytes are a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn field(line: &[u8]) -> Result<(String, String), String> {
    let shown = || super::printable(line, 80);
    if line.first().is_some_and(|b| *b == b' ' || *b == b'\t') {
        return Err(format!("obsolete line folding in field line `{}`", shown()));
    }
    let colon =
        line.iter().position(|b| *b == b':').ok_or_else(|| format!("field line without a colon: `{}`", shown()))?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if !is_token(name) {
        return Err(format!("field name is not a token in `{}`", shown()));
    }
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return Err(format!("control character in field value of `{}`", shown()));
    }
    Ok((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()))
}
