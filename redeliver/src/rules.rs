//! The rules of redelivery for a route, and the bounds of all routes together.

use std::{str::FromStr, time::Duration};

/// The outcomes that can be named, as in reports.
const OUTCOMES: [&str; 6] = ["connect", "reset", "timeout", "rejected", "lagged", "protocol"];

/// The rules of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The age at which requests expire.
    pub keep: Duration,
    /// Whether later requests wait behind owed deliveries.
    pub order: Order,
    /// The policy for owed deliveries of removed endpoints.
    pub gone: Gone,
    /// The longest body that is kept, in bytes.
    pub max_body: usize,
}

/// Whether requests for an endpoint wait behind its owed deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Later requests wait.
    #[default]
    Endpoint,
    /// Later requests are sent at once.
    None,
}

/// The policy for owed deliveries of an endpoint that has left the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// They are kept until they expire, because the endpoint may return.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
}

/// The bounds of one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of heads and bodies of owed jobs.
    pub max_bytes: usize,
    /// The most owed jobs.
    pub max_jobs: usize,
    /// Copies in flight over all endpoints.
    pub concurrency: usize,
    /// The first and the longest retry delay of an endpoint.
    pub backoff: (Duration, Duration),
    /// The most finished jobs that are remembered.
    pub remembered: usize,
    /// The most deliveries that end in one turn. Live requests wait for a turn to end, so what is more waits for the next one.
    pub per_turn: usize,
}

/// The outcomes of a leg that count as missed: the value of `--redeliver-on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedOn {
    outcomes: [bool; OUTCOMES.len()],
    /// By the first digit of the status.
    classes: [bool; 10],
}

/// A word of `--redeliver-on` is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither an outcome ({list}) nor a class of statuses (3xx, 5xx)", list = OUTCOMES.join(", "))]
pub struct NotAnEnd(String);

/// A word is not one of the choices.
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
        let (about, words) = ("whether later requests wait behind pending deliveries", "endpoint or none");
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
        let (about, words) = ("what happens to the deliveries of an endpoint that has left", "keep or drop");
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
            per_turn: 500,
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
    /// Whether a leg with this outcome is owed to its endpoint. A status, if there is one, decides.
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
                // A client error would be the same again.
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
