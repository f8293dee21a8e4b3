//! The policies of a configuration, and how they are written.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use controlplane::guard::LossLimit;
use serde::Serialize;

use crate::marks;

/// What happens to a remote's mirrors while it is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// They stay as they were.
    #[default]
    Keep,
    /// They stay for this time, then they are deleted.
    Ttl(Duration),
    /// They stay, and their endpoints count as not ready.
    NotReady,
    /// They are deleted as soon as the remote counts as lost.
    Delete,
}

/// How many deletions may be inferred from one complete list. More are held back. Deletions that a watch has reported are never held
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxDelete {
    /// Deletions are held back if there are more than `count` at once and more than `percent` of the remote's mirrors.
    Share {
        /// A number of mirrors.
        count: usize,
        /// A share of the remote's mirrors, 0 to 100.
        percent: u8,
    },
    /// Deletions are held back if there are more than this many at once.
    Count(usize),
    /// Nothing is held back.
    Unlimited,
}

/// What happens to Services of type ExternalName.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalNames {
    /// They are refused, with an event.
    #[default]
    Refuse,
    /// The mirror is the same alias. It is resolved in the local cluster, where the name may mean something else.
    Copy,
}

/// Which labels or annotations are copied, by key. `*` at the end of a pattern stands for anything. The keys of Kubernetes itself
/// (`*.kubernetes.io/`, `*.k8s.io/`) and of mirrors are never copied, because local controllers act on them. Those by which
/// deployment tools recognise their objects (`argocd.argoproj.io/instance`) are copied only by a pattern other than `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Propagation {
    /// What is copied.
    pub include: Vec<String>,
    /// What is excluded from that.
    pub exclude: Vec<String>,
}

/// What happens to the endpoints' zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zones {
    /// They are copied.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
    /// They are renamed; a zone without a local name is dropped.
    Map(BTreeMap<String, String>),
}

/// The text is not one of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of {choices}")]
pub struct PolicyError {
    text: String,
    choices: &'static str,
}

impl FromStr for Stale {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let unknown =
            || PolicyError { text: text.to_owned(), choices: "keep, not-ready, delete, ttl=<duration such as 10m>" };
        match text {
            "keep" => Ok(Self::Keep),
            "not-ready" => Ok(Self::NotReady),
            "delete" => Ok(Self::Delete),
            _ => {
                let duration = text.strip_prefix("ttl=").ok_or_else(unknown)?;
                runtime::duration::parse(duration).map(Self::Ttl).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Ttl(ttl) => write!(f, "ttl={}", runtime::duration::format(*ttl)),
            Self::NotReady => f.write_str("not-ready"),
            Self::Delete => f.write_str("delete"),
        }
    }
}

impl Default for MaxDelete {
    fn default() -> Self {
        Self::Share { count: LossLimit::DEFAULT.count, percent: 30 }
    }
}

impl MaxDelete {
    /// Whether `lost` of `known` mirrors may go at once.
    pub(crate) fn permits(self, lost: usize, known: usize) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Count(most) => lost <= most,
            Self::Share { count, percent } => {
                LossLimit { count, share: f64::from(percent) / 100.0 }.permits(lost, known)
            }
        }
    }
}

impl FromStr for MaxDelete {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let unknown = || PolicyError {
            text: text.to_owned(),
            choices: "a number, unlimited, <number>/<percent>% (held back when both are exceeded)",
        };
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let Some((count, percent)) = text.split_once('/') else {
            return text.parse().map(Self::Count).map_err(|_| unknown());
        };
        let percent = percent.strip_suffix('%').and_then(|percent| percent.parse().ok());
        let percent = percent.filter(|percent: &u8| *percent <= 100).ok_or_else(unknown)?;
        Ok(Self::Share { count: count.parse().map_err(|_| unknown())?, percent })
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share { count, percent } => write!(f, "{count}/{percent}%"),
            Self::Count(count) => count.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl Propagation {
    /// Everything.
    pub fn all() -> Self {
        Self { include: vec!["*".into()], exclude: Vec::new() }
    }

    /// Nothing.
    pub fn none() -> Self {
        Self { include: Vec::new(), exclude: Vec::new() }
    }

    /// The entries of a map that are copied.
    pub fn pick<'a>(&self, from: &'a BTreeMap<String, String>) -> impl Iterator<Item = (&'a String, &'a String)> {
        from.iter().filter(|(key, _value)| self.copies(key))
    }

    /// Whether a key is copied.
    pub fn copies(&self, key: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, key));
        let meant =
            !marks::is_of_a_tool(key) || self.include.iter().any(|pattern| pattern != "*" && matches(pattern, key));
        !marks::is_reserved(key) && meant && any(&self.include) && !any(&self.exclude)
    }
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == pattern,
    }
}
