//! Deferred legs: those that failed or were held back, and are redelivered later.

use bytes::Bytes;

use super::{Exchange, quorum::Deferred};
use crate::{
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

/// The outcome of a leg that is held back because earlier requests to its endpoint are pending.
pub(super) fn held_back() -> (Outcome, LegError) {
    let detail = "the endpoint is owed earlier requests, which go first";
    (Outcome::Deferred, LegError::new(ProxyError::DestinationUnavailable, detail))
}

impl Exchange {
    /// Holds this leg back when the legs begin.
    pub fn hold_back(&mut self, index: usize) {
        self.held_back.push(index);
    }

    /// Counts the legs that were held back, which are never polled.
    pub fn count_held_back(&mut self) {
        for index in std::mem::take(&mut self.held_back) {
            self.settle(index);
        }
    }

    /// Sets the whole body at once, before the legs begin.
    pub fn give_body(&mut self, body: Bytes) {
        if !body.is_empty() {
            self.window.push(body);
        }
        self.window.finish();
    }

    /// The whole body, if it is still there.
    #[must_use]
    pub fn whole_body(&self) -> Option<Bytes> {
        self.window.whole()
    }

    /// The head that the legs send, or the first of them.
    #[must_use]
    pub fn first_head(&self) -> Option<Bytes> {
        if !self.head.is_empty() {
            return Some(Bytes::copy_from_slice(&self.head));
        }
        self.legs.iter().find_map(|leg| leg.own_head()).cloned()
    }

    /// Marks a failed leg as deferred.
    pub fn mark_deferred(&mut self, index: usize) {
        self.legs.get_mut(index).defer();
    }

    /// Marks a held-back leg as rejected, because it is not redelivered either.
    pub fn mark_rejected(&mut self, index: usize, error: LegError) {
        self.legs.get_mut(index).reject(error);
    }

    /// Sets the number of deferred legs.
    pub fn set_deferred(&mut self, deferred: Deferred) {
        self.quorum.deferred = Some(deferred);
    }
}
