//! What becomes of requests that endpoints missed.

use std::{path::PathBuf, time::Duration};

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
            limits: Limits::default(),
            on_deferred: None,
        }
    }

    /// Whether requests with this method are sent again.
    #[must_use]
    pub fn takes(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known.as_bytes() == method)
    }
}
