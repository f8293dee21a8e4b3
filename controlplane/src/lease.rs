//! Who leads: elections that agree with client-go, and the claim that every guarded writer must hold.
//!
//! In reading order: `record` is what a lock says (pure), `held` the object or the two that say it (pure), `candidate` decides
//! (pure), `lock` reads and writes it, [`Elector`] is the loop around these, [`Election`] what others see of it, [`Terms`] how
//! they take part, [`Leadership`] what guards a writer.

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
