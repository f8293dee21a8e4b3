//! The configuration of redelivery: requests that endpoints missed are sent to them again.

use std::{path::PathBuf, str::FromStr, time::Duration};

use redeliver::rules::{Limits, MissedOn, Rules};

/// Redelivery for a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Redeliver {
    /// The rules, including how long requests are kept.
    pub rules: Rules,
    /// The methods of redelivered requests, which must be idempotent.
    pub methods: Vec<Box<str>>,
    /// The outcomes of a leg that count as missed.
    pub on: MissedOn,
    /// Who is the same endpoint when it returns.
    pub identity: Identity,
    /// The directory of the journal; without it pending requests are in memory only.
    pub journal: Option<PathBuf>,
    /// The time for which a successful answer waits for legs that have not ended, before they count as pending.
    pub grace: Duration,
    /// Bounds of everything in one journal. Routes with the same journal have the same bounds.
    pub limits: Limits,
    /// The status if every failed leg is redelivered; by default that of the failure.
    pub on_deferred: Option<u16>,
    /// Whether a client may ask to be answered before the endpoints are (`Prefer: respond-async`).
    pub respond_async: bool,
}

/// Who is the same endpoint when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// By the pod's name, whatever its address; without a pod, by the address.
    #[default]
    Name,
    /// By the address.
    Address,
}

impl Redeliver {
    /// Redelivery for this time, in memory, with every default.
    #[must_use]
    pub fn lasting(keep: Duration) -> Self {
        Self {
            rules: Rules { keep, ..Rules::default() },
            methods: ["PURGE", "BAN", "PUT", "DELETE"].map(Into::into).to_vec(),
            on: MissedOn::default(),
            identity: Identity::Name,
            journal: None,
            grace: Duration::from_millis(5),
            limits: Limits::default(),
            on_deferred: None,
            respond_async: false,
        }
    }

    /// The place of pending requests, in words.
    #[must_use]
    pub fn kept_in(&self) -> String {
        self.journal
            .as_ref()
            .map_or_else(|| "memory".to_owned(), |journal| format!("the journal {}", journal.display()))
    }

    /// Whether requests with this method are redelivered.
    #[must_use]
    pub fn takes(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known.as_bytes() == method)
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "name" => Ok(Self::Name),
            "address" => Ok(Self::Address),
            _ => Err(format!("{text:?} does not say who is the same endpoint when it returns: use name or address")),
        }
    }
}
