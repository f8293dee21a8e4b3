//! From raw YAML to a checked configuration: reads the whole file and notes every problem with its path, instead of stopping at the
//! first.
//!
//! ```
//! use runtime::config::{self, Collector};
//!
//! let raw = config::parse("listen: 127.0.0.1:0\ntimeuot: 3s\nretries: many\n").expect("is YAML");
//! let problems = Collector::new();
//! let root = problems.root(&raw);
//! let listen = root.required::<std::net::SocketAddr>("listen");
//! let timeout = root.or_default_with("timeout", std::time::Duration::from_secs(10), runtime::duration::parse);
//! let retries = root.or_default::<u32>("retries", 0);
//! root.finish();
//!
//! assert!(listen.is_some() && timeout.as_secs() == 10 && retries == 0);
//! let text = problems.into_problems().to_string();
//! assert!(text.contains("retries: invalid type") && text.contains("did you mean \"timeout\"?"), "{text}");
//! ```

use std::cell::RefCell;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

mod locate;
mod suggest;
mod yaml;

pub use locate::Lines;
pub use suggest::{nearest, quoted};
pub use yaml::{MAX_NODES, MAX_TEXT, parse};

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `broadcast[0].routes[1].match.methods`, `line 3, column 7` for a file that is not YAML, empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order in which it was found. Its `Display` has one line per problem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    list: Vec<Problem>,
}

/// Gathers problems while a configuration is read.
#[derive(Debug, Default)]
pub struct Collector {
    list: RefCell<Vec<Problem>>,
}

/// A mapping of the file. Every key that was asked for is known; [`finish`](Section::finish) reports the others.
#[derive(Debug)]
#[must_use = "call finish() so that unknown keys are reported"]
pub struct Section<'a> {
    collector: &'a Collector,
    path: String,
    map: Option<&'a Mapping>,
    known: RefCell<Vec<String>>,
}

/// A value of the file at its path, which may be absent. `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    collector: &'a Collector,
    path: String,
    value: Option<&'a Value>,
}

// === impl Collector ===

impl Collector {
    /// An empty collector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a problem. It may quote what was written, but no credentials of a URL.
    pub fn add(&self, path: impl Into<String>, message: impl fmt::Display) {
        let message = crate::redact::urls(&message.to_string());
        self.list.borrow_mut().push(Problem { path: path.into(), message });
    }

    /// The file's outermost mapping.
    pub fn root<'a>(&'a self, value: &'a Value) -> Section<'a> {
        let node = Node { collector: self, path: String::new(), value: Some(value) };
        node.section()
    }

    /// Whether nothing was noted so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// What was noted.
    #[must_use]
    pub fn into_problems(self) -> Problems {
        Problems { list: self.list.into_inner() }
    }

    /// The checked value, if nothing was noted.
    ///
    /// # Errors
    /// What was noted.
    pub fn into_result<T>(self, checked: Option<T>) -> Result<T, Problems> {
        match checked {
            Some(checked) if self.is_empty() => Ok(checked),
            None if self.is_empty() => Err(Problems::from(Problem {
                path: String::new(),
                message: "the configuration is incomplete".to_owned(),
            })),
            _ => Err(self.into_problems()),
        }
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    /// The value of a key, which is known from now on.
    #[must_use]
    pub fn get(&self, key: &str) -> Node<'a> {
        self.known.borrow_mut().push(key.to_owned());
        Node {
            collector: self.collector,
            path: self.path_of(key),
            value: self.map.and_then(|map| map.get(key)).filter(|value| !value.is_null()),
        }
    }

    /// Whether the key is in the file, even with the value `null`. This does not make the key known.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(key))
    }

    /// The value of a key that must be there. `None` means that a problem was noted.
    #[must_use]
    pub fn required<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.get(key).required()?.read()
    }

    /// The value of a key, `None` if it is absent or a problem was noted.
    #[must_use]
    pub fn optional<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.get(key).read()
    }

    /// The value of a key, or the default if it is absent or a problem was noted.
    #[must_use]
    pub fn or_default<T: DeserializeOwned>(&self, key: &str, default: T) -> T {
        self.get(key).read().unwrap_or(default)
    }

    /// The value of a key through a parser of text, `None` if it is absent or a problem was noted. Numbers and booleans are handed over as text.
    #[must_use]
    pub fn parse_with<T, E: fmt::Display>(&self, key: &str, parser: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.get(key).parse_with(parser)
    }

    /// Like [`parse_with`](Self::parse_with) for a key that must be there.
    #[must_use]
    pub fn required_with<T, E: fmt::Display>(&self, key: &str, parser: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.get(key).required()?.parse_with(parser)
    }

    /// Like [`parse_with`](Self::parse_with) with a default.
    #[must_use]
    pub fn or_default_with<T, E: fmt::Display>(
        &self,
        key: &str,
        default: T,
        parser: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        self.parse_with(key, parser).unwrap_or(default)
    }

    /// The mapping under a key; an absent one is empty, so that its required keys are reported as missing.
    pub fn section(&self, key: &str) -> Section<'a> {
        self.get(key).section()
    }

    /// The mapping under a key, `None` if the key is not written. A key without a value is an empty mapping.
    #[must_use]
    pub fn optional_section(&self, key: &str) -> Option<Section<'a>> {
        let node = self.get(key);
        self.contains(key).then(|| node.section())
    }

    /// The elements of the list under a key; an absent one is empty.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<Node<'a>> {
        self.get(key).list()
    }

    /// Notes a problem with one key of this section.
    pub fn problem(&self, key: &str, message: impl fmt::Display) {
        self.collector.add(self.path_of(key), message);
    }

    /// Notes a problem with the section as a whole.
    pub fn own_problem(&self, message: impl fmt::Display) {
        self.collector.add(self.path.clone(), message);
    }

    /// Where this section stands in the file; empty for the outermost.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reports every key that nobody asked for, with the known key that was probably meant.
    pub fn finish(self) {
        let known = self.known.borrow();
        for key in self.map.into_iter().flat_map(Mapping::keys) {
            // Keys are strings: the YAML reader refuses others.
            let Some(key) = key.as_str().filter(|key| !known.iter().any(|k| k == key)) else { continue };
            let hint = match suggest::nearest(key, &known) {
                Some(meant) => format!("unknown key, did you mean {meant:?}?"),
                None if known.is_empty() => "unknown key, nothing is allowed here".to_owned(),
                None => format!("unknown key; the known ones are: {}", suggest::sorted(&known).join(", ")),
            };
            self.collector.add(self.path_of(key), hint);
        }
    }

    fn path_of(&self, key: &str) -> String {
        let key = suggest::quoted(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

// === impl Node ===

impl<'a> Node<'a> {
    /// Where this value stands in the file.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The raw value, `None` if absent.
    #[must_use]
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// Notes a problem with this value.
    pub fn problem(&self, message: impl fmt::Display) {
        self.collector.add(self.path.clone(), message);
    }

    /// This value, or `None` and a problem if it is absent.
    #[must_use]
    pub fn required(self) -> Option<Self> {
        if self.value.is_none() {
            self.problem("is missing");
            return None;
        }
        Some(self)
    }

    /// The value as a `T`, `None` if it is absent or a problem was noted.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        match serde_path_to_error::deserialize(self.value?) {
            Ok(read) => Some(read),
            Err(error) => {
                let inner = error.path().to_string();
                let dot = if inner.starts_with('[') || self.path.is_empty() { "" } else { "." };
                let path = if inner == "." { self.path.clone() } else { format!("{}{dot}{inner}", self.path) };
                self.collector.add(path, error.inner());
                None
            }
        }
    }

    /// The value through a parser of text, `None` if it is absent or a problem was noted. Numbers and booleans are handed over as text.
    #[must_use]
    pub fn parse_with<T, E: fmt::Display>(&self, parser: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = match self.value? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            other => {
                self.problem(format_args!("expected a single value, found {}", kind(other)));
                return None;
            }
        };
        parser(&text).map_err(|error| self.problem(error)).ok()
    }

    /// The value as a mapping; an absent one is empty, any other kind of value is a problem and counts as empty.
    pub fn section(&self) -> Section<'a> {
        let map = match self.value {
            None | Some(Value::Null) => None,
            Some(Value::Mapping(map)) => Some(map),
            Some(other) => {
                self.problem(format_args!("expected a mapping, found {}", kind(other)));
                None
            }
        };
        Section { collector: self.collector, path: self.path.clone(), map, known: RefCell::default() }
    }

    /// The elements of a list; an absent one is empty, any other kind of value is a problem and counts as empty.
    #[must_use]
    pub fn list(&self) -> Vec<Node<'a>> {
        let items = match self.value {
            None => return Vec::new(),
            Some(Value::Sequence(items)) => items,
            Some(other) => {
                self.problem(format_args!("expected a list, found {}", kind(other)));
                return Vec::new();
            }
        };
        let element = |(index, value): (usize, &'a Value)| Node {
            collector: self.collector,
            path: format!("{}[{index}]", self.path),
            value: Some(value).filter(|value| !value.is_null()),
        };
        items.iter().enumerate().map(element).collect()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

// === impl Problems ===

impl Problems {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { list: vec![problem] }
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests;
