//! Templates for the names of backends.

use std::{fmt, str::FromStr};

use super::Application;

/// The name of a backend: text with the fields `{service}`, `{namespace}`, `{port}` (the number that the endpoints listen on),
/// `{port_name}`, `{service_port}` and `{protocol}`.
///
/// With `{port}`, a port whose endpoints listen on different numbers becomes a backend for each number. While it has no endpoint, the
/// numbers of its last ones count, else the Service's: its `targetPort`, or its `port` where `targetPort` is a name. Without `{port}`,
/// each port of a Service is one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate {
    parts: Vec<Part>,
}

/// Why a text is not a [`NameTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It would give the same name to every Service.
    #[error("a name template needs {{service}} in it, or all Services would have the same name")]
    Constant,
    /// A brace without its counterpart.
    #[error("the brace at byte {0} of the name template has no counterpart")]
    Brace(usize),
    /// An unknown field.
    #[error(
        "{{{0}}} means nothing in a name template: it knows {{service}}, {{namespace}}, {{port}}, {{port_name}}, \
         {{service_port}} and {{protocol}}"
    )]
    Unknown(String),
    /// A character that some load balancer refuses in names.
    #[error("{0:?} cannot stand in a name: letters, digits, `.`, `_` and `-` can")]
    Character(char),
    /// Too long.
    #[error("a name template has at most {} bytes, this one has {bytes}", NameTemplate::MAX, bytes = .0)]
    TooLong(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Service,
    Namespace,
    Port,
    PortName,
    ServicePort,
    Protocol,
}

/// The values of a template's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) service: &'a str,
    pub(super) namespace: &'a str,
    pub(super) port: u16,
    pub(super) port_name: &'a str,
    pub(super) service_port: u16,
    pub(super) protocol: Application,
}

const FIELDS: [(&str, Field); 6] = [
    ("service", Field::Service),
    ("namespace", Field::Namespace),
    ("port", Field::Port),
    ("port_name", Field::PortName),
    ("service_port", Field::ServicePort),
    ("protocol", Field::Protocol),
];

impl NameTemplate {
    /// The longest template, in bytes.
    pub const MAX: usize = 253;

    /// Whether `{port}` is in it.
    pub(super) fn has_port(&self) -> bool {
        self.has(Field::Port)
    }

    /// Whether `{namespace}` is in it.
    pub(super) fn has_namespace(&self) -> bool {
        self.has(Field::Namespace)
    }

    /// The text with its fields replaced by their values, which may have any content and are not made safe here.
    pub(super) fn fill(&self, fields: Fields<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field(Field::Service) => text.push_str(fields.service),
                Part::Field(Field::Namespace) => text.push_str(fields.namespace),
                Part::Field(Field::Port) => text.push_str(&fields.port.to_string()),
                Part::Field(Field::PortName) => text.push_str(fields.port_name),
                Part::Field(Field::ServicePort) => text.push_str(&fields.service_port.to_string()),
                Part::Field(Field::Protocol) => text.push_str(&fields.protocol.to_string()),
            }
        }
        text
    }

    fn has(&self, field: Field) -> bool {
        self.parts.contains(&Part::Field(field))
    }
}

impl Default for NameTemplate {
    fn default() -> Self {
        let text = |text: &str| Part::Text(text.to_owned());
        Self { parts: vec![Part::Field(Field::Service), text("-"), Part::Field(Field::Port)] }
    }
}

impl FromStr for NameTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX {
            return Err(InvalidTemplate::TooLong(text.len()));
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let plain = rest.find(['{', '}']).unwrap_or(rest.len());
            if plain > 0 {
                let strange = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
                if let Some(c) = rest[..plain].chars().find(strange) {
                    return Err(InvalidTemplate::Character(c));
                }
                parts.push(Part::Text(rest[..plain].to_owned()));
                at += plain;
                continue;
            }
            let inner = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (word, _after) = inner.ok_or(InvalidTemplate::Brace(at))?;
            let field = FIELDS.iter().find(|(name, _field)| *name == word);
            parts.push(Part::Field(field.ok_or_else(|| InvalidTemplate::Unknown(word.to_owned()))?.1));
            at += word.len() + 2;
        }
        let template = Self { parts };
        if template.has(Field::Service) { Ok(template) } else { Err(InvalidTemplate::Constant) }
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Field(field) => {
                    let named = FIELDS.iter().find(|(_name, one)| one == field);
                    write!(f, "{{{}}}", named.expect("every field has a name").0)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_what_was_written() {
        for text in ["{service}-{port}", "k8s.{namespace}_{service}-{port_name}{service_port}", "{service}.{protocol}"]
        {
            let template: NameTemplate = text.parse().unwrap();
            assert_eq!(template.to_string(), text);
        }
        assert_eq!(NameTemplate::default(), "{service}-{port}".parse().unwrap());
    }

    #[test]
    fn faults_of_a_template_are_reported() {
        let told = |text: &str| text.parse::<NameTemplate>().unwrap_err().to_string();
        assert!(told("edge").contains("{service}"), "{}", told("edge"));
        assert!(told("").contains("{service}"));
        assert!(told("{service").contains("byte 0"), "{}", told("{service"));
        assert!(told("a}{service}").contains("byte 1"), "{}", told("a}"));
        assert!(told("{service}-{prot}").contains("{prot} means nothing"), "{}", told("{service}-{prot}"));
        assert!(told("{service}@file").contains("'@'"));
        assert!(told(&"x".repeat(300)).contains("300"));
    }
}
