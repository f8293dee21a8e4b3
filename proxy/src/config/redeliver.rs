//! What becomes of requests that endpoints missed.

use std::{path::PathBuf, str::FromStr, time::Duration};

use redeliver::rules::{Limits, MissedOn, Rules};

/// What a route sends again to endpoints that missed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Redeliver {
    /// What is promised, and for how long.
    pub rules: Rules,
    /// The methods of requests that are sent again: they must be harmless when they arrive twice.
    pub methods: Vec<Box<str>>,
    /// Which ends of a leg count as missed.
    pub on: MissedOn,
    /// Who is the same endpoint when it returns.
    pub identity: Identity,
    /// Where what is owed survives the process; none: in memory only.
    pub journal: Option<PathBuf>,
    /// How long an answer waits for legs that are about to end where the others are enough, before they count as pending.
    pub grace: Duration,
    /// Bounds of all that shares the journal. Routes with the same journal have the same.
    pub limits: Limits,
    /// The status where every leg that failed is sent again; none: that of the failure.
    pub on_deferred: Option<u16>,
}

/// Who is the same endpoint when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// The pod of that name, at whatever address; where there is no pod, the address.
    #[default]
    Name,
    /// Whoever is at that address.
    Address,
}

impl Redeliver {
    /// Sends again for so long, in memory, with every default.
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
        }
    }

    /// Where what is owed is kept, in words.
    #[must_use]
    pub fn kept_in(&self) -> String {
        self.journal
            .as_ref()
            .map_or_else(|| "memory".to_owned(), |journal| format!("the journal {}", journal.display()))
    }

    /// Whether requests with this method are sent again.
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
