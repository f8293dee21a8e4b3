//! The claim that a writer must hold, checked at the moment of the write.

use std::{sync::Arc, time::Duration};

use runtime::boot_time::{BootTime, sleep_until};

use super::election::{Election, SharedElection, Watch};

/// Whether this process may write to shared state now. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    elected: Option<Elected>,
}

/// The claim of a candidate.
#[derive(Clone, Debug)]
struct Elected {
    shared: Arc<SharedElection>,
    watch: Watch,
    /// The term returned by the last wait for a change.
    told: Option<Term>,
}

/// A claim to lead, at the moment of the call.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its term; none if there is no election.
    pub term: Option<Term>,
    /// Its remaining time.
    pub remaining: Duration,
}

/// One leader's time in office: the fencing token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The lock's UID (`metadata.uid`): transitions are ordered within one UID only.
    pub uid: Arc<str>,
    /// `leaseTransitions` of the record that this process wrote.
    pub transitions: u64,
}

/// This process does not lead, or its claim has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process does not lead")]
pub struct NotLeading;

/// A guarded write that did not happen, or whose outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// It was not started.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// It was cut off at its deadline; the outcome is unknown.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// It failed.
    #[error(transparent)]
    Failed(E),
}

impl Leadership {
    /// The leadership of a process that is the only writer: it always leads.
    pub fn alone() -> Self {
        Self { elected: None }
    }

    pub(super) fn elected(election: &Election) -> Self {
        let elected = Elected { shared: Arc::clone(election.shared()), watch: election.watch(), told: None };
        Self { elected: Some(elected) }
    }

    /// The current claim. The clock is read here, so that a process that was stopped, or whose machine was suspended, has none.
    ///
    /// # Errors
    /// [`NotLeading`].
    pub fn claim(&self) -> Result<Claim, NotLeading> {
        let Some(elected) = &self.elected else { return Ok(Claim { term: None, remaining: Duration::MAX }) };
        let (claimed, remaining) = elected.shared.claim().ok_or(NotLeading)?;
        Ok(Claim { term: Some(claimed.term), remaining })
    }

    /// Does one write under the claim: it does not begin without one, and is cut off after `limit` or at the claim's end, whichever
    /// comes first. The lease is not released during the write.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write<T, E>(
        &self,
        limit: Duration,
        write: impl AsyncFnOnce(&Claim) -> Result<T, E>,
    ) -> Result<T, WriteError<E>> {
        // Writes without a claim are not counted, or many of them could delay a release.
        self.claim()?;
        // Counted before the decisive check of the claim, so that a release that begins in between waits for the write.
        let _counted = self.elected.as_ref().map(|elected| elected.shared.writes.watch().begin_work());
        let asked = BootTime::now();
        let claim = self.claim()?;
        let limit = limit.min(claim.remaining);
        tokio::select! {
            biased;
            // Checked first, so that a process that was stopped during a write does not continue it.
            () = sleep_until(asked + limit) => Err(WriteError::Deadline(limit)),
            done = write(&claim) => done.map_err(WriteError::Failed),
        }
    }

    /// Waits until the claim is gained or lost, or has another term than at the last call. The first call returns at once if there
    /// is a claim. Safe to cancel.
    pub async fn changed(&mut self) {
        let Some(elected) = &mut self.elected else { return std::future::pending().await };
        let told = elected.told.clone();
        let view = elected.watch.until(|now| now.own_term() != told.as_ref()).await;
        elected.told = view.own_term().cloned();
    }
}

#[cfg(test)]
mod tests;
