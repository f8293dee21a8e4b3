//! How namespace and service are read back from a local name, as a regular expression does it.

use std::fmt::Write as _;

use crate::names::{Part, Template};

/// What a name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inverse {
    /// Namespace and service, of nearly all names.
    Unique(Unique),
    /// Both are in it, but where the one ends and the other begins does not show.
    Ambiguous,
    /// The namespace is not in it.
    None,
}

/// A name that has namespace and service once each, with something between them that names do not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unique {
    before: String,
    between: String,
    after: String,
    pub(super) service_first: bool,
}

/// What two labels of DNS rarely have within them: a `-` alone is in every other one.
const TELLING: usize = 2;

impl Inverse {
    /// That of a template's names with this prefix.
    pub(super) fn of(template: &Template, prefix: &str) -> Self {
        let mut texts = vec![String::new()];
        let mut places = Vec::new();
        for part in template.parts() {
            match part {
                Part::Text(text) => append(&mut texts, text),
                Part::Prefix => append(&mut texts, prefix),
                Part::Namespace | Part::Service => {
                    places.push(part);
                    texts.push(String::new());
                }
            }
        }
        let service_first = match places[..] {
            [Part::Service, Part::Namespace] => true,
            [Part::Namespace, Part::Service] => false,
            _ if places.contains(&&Part::Namespace) => return Self::Ambiguous,
            _ => return Self::None,
        };
        match <[String; 3]>::try_from(texts) {
            Ok([before, between, after]) if between.len() >= TELLING => {
                Self::Unique(Unique { before, between, after, service_first })
            }
            _ => Self::Ambiguous,
        }
    }
}

impl Unique {
    /// The regular expression, with a group each for what comes first and what comes second.
    pub(super) fn pattern(&self) -> String {
        format!("{}([^.]+){}([^.]+){}", literal(&self.before), literal(&self.between), literal(&self.after))
    }

    /// Namespace and service, as that expression finds them: it takes as much as it can for the first group.
    pub(super) fn invert<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        let middle = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let (first, second) = middle.rsplit_once(&self.between)?;
        Some(if self.service_first { (second, first) } else { (first, second) })
    }
}

/// A regular expression for this text of labels: only its dots mean something else there.
pub(super) fn literal(text: &str) -> String {
    text.replace('.', r"\.")
}

fn append(texts: &mut [String], text: &str) {
    if let Some(last) = texts.last_mut() {
        let _ = last.write_str(text);
    }
}
