//! Leader elections compatible with client-go, and the claim that every guarded writer must hold.
//!
//! In reading order: `record` is the content of a lock (pure), `held` the one or two objects with it (pure), `candidate` decides
//! (pure), `lock` reads and writes the objects, [`Elector`] is the loop around these, [`Election`] its public state, [`Terms`]
//! notifies participants, [`Leadership`] guards writers.

mod candidate;
mod config;
mod election;
mod elector;
mod events;
mod failure;
mod held;
mod leadership;
mod lock;
mod record;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod store;
mod terms;

pub use config::{Config, ConfigError, LockKind, LockKindError, Timing, TimingError, UNKNOWN};
pub use election::{Election, ElectionView, SteppedDown, Watch};
pub use elector::Elector;
pub use leadership::{Claim, Leadership, NotLeading, Term, WriteError};
pub use terms::{Cause, Ending, TermEvent, Terms};
