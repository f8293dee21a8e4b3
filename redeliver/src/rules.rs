//! What a route promises to redeliver, and the bounds of all routes together.

use std::{str::FromStr, time::Duration};

/// The outcomes that can be named, in the words of reports.
const OUTCOMES: [&str; 6] = ["connect", "reset", "timeout", "rejected", "lagged", "protocol"];

/// What one route promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How old a request may become.
    pub keep: Duration,
    /// Whether later requests wait behind what is owed.
    pub order: Order,
    /// What becomes of what is owed to an endpoint that has left.
    pub gone: Gone,
    /// The longest body that is kept.
    pub max_body: usize,
}

/// Whether requests for an endpoint wait behind what it is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Later requests wait.
    #[default]
    Endpoint,
    /// Later requests are sent at once.
    None,
}

/// What becomes of what is owed to an endpoint that has left the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// It is kept until it expires: the endpoint may return.
    #[default]
    Keep,
    /// It is dropped: whoever comes next is another one.
    Drop,
}

/// Bounds of everything that shares one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of heads and bodies that may be owed.
    pub max_bytes: usize,
    /// Jobs that may be owed.
    pub max_jobs: usize,
    /// Copies in flight over all endpoints.
    pub concurrency: usize,
    /// Pauses between tries for one endpoint: the first and the longest.
    pub backoff: (Duration, Duration),
    /// Jobs that are remembered when they are done.
    pub remembered: usize,
}

/// Which ends of a leg count as missed: the value of `--redeliver-on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedOn {
    outcomes: [bool; OUTCOMES.len()],
    /// By the first digit of the status.
    classes: [bool; 10],
}

/// A word of `--redeliver-on` that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither an outcome ({list}) nor a class of statuses (3xx, 5xx)", list = OUTCOMES.join(", "))]
pub struct NotAnEnd(String);

/// A word that is none of those that can be said.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} does not say {about}: use {words}")]
pub struct UnknownWord {
    text: String,
    about: &'static str,
    words: &'static str,
}

impl FromStr for Order {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let (about, words) = ("whether later requests wait behind what is owed", "endpoint or none");
        match text {
            "endpoint" => Ok(Self::Endpoint),
            "none" => Ok(Self::None),
            _ => Err(UnknownWord { text: text.to_owned(), about, words }),
        }
    }
}

impl FromStr for Gone {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let (about, words) = ("what becomes of what an endpoint that has left is owed", "keep or drop");
        match text {
            "keep" => Ok(Self::Keep),
            "drop" => Ok(Self::Drop),
            _ => Err(UnknownWord { text: text.to_owned(), about, words }),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { keep: Duration::from_secs(3600), order: Order::Endpoint, gone: Gone::Keep, max_body: 1 << 20 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_jobs: 100_000,
            concurrency: 8,
            backoff: (Duration::from_millis(250), Duration::from_secs(30)),
            remembered: 10_000,
        }
    }
}

impl Default for MissedOn {
    fn default() -> Self {
        let mut missed = Self { outcomes: [true; OUTCOMES.len()], classes: [false; 10] };
        missed.outcomes[5] = false;
        missed.classes[5] = true;
        missed
    }
}

impl MissedOn {
    /// Whether a leg that ended so is owed to its endpoint. A status decides where there was one.
    #[must_use]
    pub fn counts(&self, outcome: &str, status: Option<u16>) -> bool {
        let named = OUTCOMES.iter().position(|known| *known == outcome);
        match (named, status) {
            (Some(index), _) => self.outcomes[index],
            (None, Some(status)) => self.classes.get(usize::from(status / 100)).copied().unwrap_or(false),
            (None, None) => false,
        }
    }
}

impl FromStr for MissedOn {
    type Err = NotAnEnd;

    fn from_str(text: &str) -> Result<Self, NotAnEnd> {
        let mut missed = Self { outcomes: [false; OUTCOMES.len()], classes: [false; 10] };
        for word in text.split(',').map(str::trim) {
            let class = word.strip_suffix("xx").and_then(|digit| digit.parse::<usize>().ok());
            match (OUTCOMES.iter().position(|known| *known == word), class) {
                (Some(index), _) => missed.outcomes[index] = true,
                // A request that was wrong does not become right by being sent again.
                (None, Some(class @ (3 | 5))) => missed.classes[class] = true,
                _ => return Err(NotAnEnd(word.to_owned())),
            }
        }
        Ok(missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_transport_failures_and_5xx_are_missed_and_never_a_4xx() {
        let missed = MissedOn::default();
        for outcome in ["connect", "reset", "timeout", "rejected", "lagged"] {
            assert!(missed.counts(outcome, None), "{outcome}");
        }
        assert!(missed.counts("server_error", Some(503)));
        assert!(!missed.counts("client_error", Some(404)));
        assert!(!missed.counts("protocol", None));
        assert!(!missed.counts("cancelled", None));
        assert_eq!("connect, reset,timeout,rejected,lagged,5xx".parse::<MissedOn>().unwrap(), missed);
    }

    #[test]
    fn a_list_names_what_it_means_and_cannot_name_4xx() {
        let missed: MissedOn = "timeout".parse().unwrap();
        assert!(missed.counts("timeout", None) && !missed.counts("reset", None) && !missed.counts("x", Some(500)));
        for wrong in ["4xx", "", "timeout,", "9xx", "ok"] {
            assert!(wrong.parse::<MissedOn>().is_err(), "{wrong}");
        }
    }
}
