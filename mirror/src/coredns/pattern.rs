//! Regular expressions that read namespace and service from a local name.

use std::fmt::Write as _;

use crate::names::{NamePart, Template};

/// Whether namespace and service can be read from a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inverse {
    /// Both can be, from nearly all names.
    Unique(Unique),
    /// The name has both, but without a recognisable separator.
    Ambiguous,
    /// The name does not have the namespace.
    None,
}

/// A name that has namespace and service once each, with a separator that rarely occurs within them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unique {
    before: String,
    between: String,
    after: String,
    pub(super) service_first: bool,
}

/// The shortest separator that DNS labels rarely contain, in characters: many contain a single `-`.
const MIN_SEPARATOR: usize = 2;

impl Inverse {
    /// The inverse of a template's names with this prefix.
    pub(super) fn of(template: &Template, prefix: &str) -> Self {
        let mut texts = vec![String::new()];
        let mut places = Vec::new();
        for part in template.parts() {
            match part {
                NamePart::Text(text) => append(&mut texts, text),
                NamePart::Prefix => append(&mut texts, prefix),
                NamePart::Namespace | NamePart::Service => {
                    places.push(part);
                    texts.push(String::new());
                }
            }
        }
        let service_first = match places[..] {
            [NamePart::Service, NamePart::Namespace] => true,
            [NamePart::Namespace, NamePart::Service] => false,
            _ if places.contains(&&NamePart::Namespace) => return Self::Ambiguous,
            _ => return Self::None,
        };
        match <[String; 3]>::try_from(texts) {
            Ok([before, between, after]) if between.len() >= MIN_SEPARATOR => {
                Self::Unique(Unique { before, between, after, service_first })
            }
            _ => Self::Ambiguous,
        }
    }
}

impl Unique {
    /// The regular expression, with a group each for the first and the second part.
    pub(super) fn pattern(&self) -> String {
        format!("{}([^.]+){}([^.]+){}", literal(&self.before), literal(&self.between), literal(&self.after))
    }

    /// Namespace and service as the expression finds them, which is greedy for the first group.
    pub(super) fn invert<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        let middle = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let (first, second) = middle.rsplit_once(&self.between)?;
        Some(if self.service_first { (second, first) } else { (first, second) })
    }
}

/// A regular expression for a text of DNS labels: only its dots must be escaped.
pub(super) fn literal(text: &str) -> String {
    text.replace('.', r"\.")
}

fn append(texts: &mut [String], text: &str) {
    if let Some(last) = texts.last_mut() {
        let _ = last.write_str(text);
    }
}
