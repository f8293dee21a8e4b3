//! The beginning and the end of terms, for participants that work only while this process leads.

use std::convert::Infallible;

use runtime::boot_time::BootTime;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::Term;

/// The most queued events. The elector begins no term before every participant has ended the last one, so at most an end and a
/// beginning are queued.
const MAX_WAITING_EVENTS: usize = 2;

/// Reports every term of this process to one participant, in order.
#[derive(Debug)]
pub struct Terms {
    events: mpsc::Receiver<TermEvent>,
}

/// A reported event.
#[derive(Debug)]
pub enum TermEvent {
    /// This process leads from now on.
    Began(Term),
    /// It does not lead any more; the claim ended before this event.
    Ended(Ending),
}

/// A term that has ended. The lease is not released, and no other term begins, before every participant has dropped this.
#[derive(Debug)]
pub struct Ending {
    /// The term.
    pub term: Term,
    /// Why it ended.
    pub cause: Cause,
    /// The time by which all work of a leader must have ended, by force if necessary, because afterwards another process may lead.
    /// At the shortest ttl it is the current time. If another process may lead already, because this one was stopped or its machine
    /// was suspended, it is a second from now: a late orderly end is better than none.
    pub stop_by: BootTime,
    _pending: mpsc::Sender<Infallible>,
}

/// Why a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It was not renewed in time.
    Expired,
    /// Another candidate wrote the lock.
    Overtaken,
    /// The lock was deleted.
    Deleted,
    /// This process was asked to step down.
    SteppedDown,
    /// The process ends.
    ShutDown,
}

/// The elector's side of all participants.
#[derive(Debug, Default)]
pub(super) struct Participants {
    senders: Vec<mpsc::Sender<TermEvent>>,
    /// Closed when all participants have ended the last term.
    ending: Option<mpsc::Receiver<Infallible>>,
}

impl Terms {
    /// The next event; `None` when the elector has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<TermEvent> {
        self.events.recv().await
    }
}

impl Cause {
    /// The value of the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Overtaken => "overtaken",
            Self::Deleted => "deleted",
            Self::SteppedDown => "stepped_down",
            Self::ShutDown => "shut_down",
        }
    }
}

impl Participants {
    pub(super) fn join(&mut self) -> Terms {
        let (sender, events) = mpsc::channel(MAX_WAITING_EVENTS);
        self.senders.push(sender);
        Terms { events }
    }

    /// Whether all participants have ended the last term.
    pub(super) fn ended(&mut self) -> bool {
        let ended = match &mut self.ending {
            Some(ending) => matches!(ending.try_recv(), Err(TryRecvError::Disconnected)),
            None => true,
        };
        if ended {
            self.ending = None;
        }
        ended
    }

    /// Waits until all participants have ended the last term.
    pub(super) async fn all_ended(&mut self) {
        if let Some(ending) = &mut self.ending {
            // An `Infallible` is never sent, so this returns when all senders are dropped.
            let _ = ending.recv().await;
            self.ending = None;
        }
    }

    pub(super) fn began(&self, term: &Term) {
        self.send(|| TermEvent::Began(term.clone()));
    }

    pub(super) fn end(&mut self, term: &Term, cause: Cause, stop_by: BootTime) {
        let (pending, ending) = mpsc::channel(1);
        self.send(|| TermEvent::Ended(Ending { term: term.clone(), cause, stop_by, _pending: pending.clone() }));
        self.ending = Some(ending);
    }

    fn send(&self, event: impl Fn() -> TermEvent) {
        for sender in &self.senders {
            // The queue is never full (see above), and a dropped participant has ended its work.
            let _ = sender.try_send(event());
        }
    }
}

#[cfg(test)]
mod tests;
