//! Checks a configuration: returns all problems at once, each with its field.

use std::{collections::HashSet, fmt};

use super::{Config, Remote, Stale};
use crate::names::check_prefix;

/// The most zones that one endpoint may have hints for (`EndpointSlice.endpoints[].hints.forZones`).
const MAX_HINTS: usize = 8;
/// The most mirrors that are reconciled at the same time.
const MAX_WORKERS: usize = 64;

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The field: `remotes[0].prefix`.
    pub field: String,
    /// The problem, and what to do about it.
    pub problem: String,
}

/// All invalid fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Invalid>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks everything that can be checked without a cluster.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut wrong = |field: String, problem: String| problems.push(Invalid { field, problem });
        if self.remotes.is_empty() {
            wrong("remotes".into(), "there is none: name at least one remote cluster".into());
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            wrong("workers".into(), format!("{} is not between 1 and {MAX_WORKERS}", self.workers));
        }
        let (mut names, mut prefixes) = (HashSet::new(), HashSet::new());
        for (number, remote) in self.remotes.iter().enumerate() {
            let at = |field: &str| format!("remotes[{number}].{field}");
            remote.check(&mut |field, problem| wrong(at(field), problem));
            if !names.insert(&remote.name) {
                wrong(at("name"), format!("another remote is called {:?} as well", remote.name));
            }
            if !prefixes.insert((&remote.namespace, &remote.prefix)) {
                let problem = format!(
                    "another remote has the prefix {:?} in namespace {} as well, so that their mirrors could not be distinguished",
                    remote.prefix, remote.namespace
                );
                wrong(at("prefix"), problem);
            }
        }
        if let Some(global) = &self.global {
            if let Err(error) = check_prefix(&global.prefix) {
                wrong("global.prefix".into(), error.to_string());
            }
            if !prefixes.insert((&global.namespace, &global.prefix)) {
                wrong("global.prefix".into(), format!("a remote has the prefix {:?} as well", global.prefix));
            }
            if !is_dns_label(&global.namespace) {
                wrong("global.namespace".into(), format!("{:?} is not the name of a namespace", global.namespace));
            }
            if global.label.split('=').next().is_none_or(str::is_empty) {
                wrong("global.label".into(), "a label is written key or key=value".into());
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

impl Remote {
    fn check(&self, wrong: &mut impl FnMut(&str, String)) {
        if !is_label_value(&self.name) {
            let problem = "a name is 1 to 63 letters, digits, -, _ and ., beginning and ending with a letter or digit";
            wrong("name", format!("{problem}, and {:?} is not", self.name));
        }
        if let Err(error) = check_prefix(&self.prefix) {
            wrong("prefix", error.to_string());
        }
        if self.selector.trim().is_empty() {
            wrong("selector", "it is empty, and would mirror every Service there is: name a label".into());
        }
        if !is_dns_label(&self.namespace) {
            wrong("namespace", format!("{:?} is not the name of a namespace", self.namespace));
        }
        let mut seen = HashSet::new();
        for namespace in &self.namespaces {
            if !is_dns_label(namespace) {
                wrong("namespaces", format!("{namespace:?} is not the name of a namespace"));
            }
            if !seen.insert(namespace) {
                wrong("namespaces", format!("{namespace} is named twice"));
            }
        }
        for (zone, locals) in &self.hints {
            if !(1..=MAX_HINTS).contains(&locals.len()) {
                wrong(
                    "hints",
                    format!("zone {zone:?} has {} local zones: 1 to {MAX_HINTS} are possible", locals.len()),
                );
            }
        }
        if matches!(self.stale, Stale::Ttl(ttl) if ttl.is_zero()) {
            wrong("stale", "a ttl of 0 is not allowed: use `delete`".into());
        }
    }
}

/// Whether it can be the name of a namespace (RFC 1123, section 2.1).
fn is_dns_label(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&text.len())
        && text.as_bytes().iter().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether it can be the value of a Kubernetes label, and is not empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}
