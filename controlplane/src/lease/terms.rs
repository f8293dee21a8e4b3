//! The beginning and the end of terms, for participants that work only while this process leads.

use std::convert::Infallible;

use runtime::boot_time::BootTime;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::Term;

/// The elector does not begin a term before everybody has ended the last one: at most an end and a beginning wait.
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
    /// It does not lead any more: the claim has been false since before this was told.
    Ended(Ending),
}

/// A term that has ended. The lease is not released, and no other term begun, before every one of these is dropped.
#[derive(Debug)]
pub struct Ending {
    /// The term.
    pub term: Term,
    /// How it came to its end.
    pub cause: Cause,
    /// By then all that only a leader may do must have ended, by force if need be: afterwards somebody else may lead. At the
    /// shortest ttl it is now. Where somebody else may lead already, because the process was stopped or its machine slept, it
    /// is a second from now: a late end in order is better than none.
    pub stop_by: BootTime,
    _pending: mpsc::Sender<Infallible>,
}

/// How a term comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It was not renewed in time.
    Expired,
    /// Somebody else wrote the lock.
    Overtaken,
    /// The lock was deleted.
    Deleted,
    /// It was asked to step down.
    SteppedDown,
    /// The process ends.
    ShutDown,
}

/// All participants, as the elector sees them.
#[derive(Debug, Default)]
pub(super) struct Participants {
    senders: Vec<mpsc::Sender<TermEvent>>,
    /// Closed as soon as the last term is ended by all.
    ending: Option<mpsc::Receiver<Infallible>>,
}

impl Terms {
    /// What happened next; `None` when the elector is gone. Safe to cancel.
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

    /// Whether everybody has ended the last term.
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

    /// Waits until everybody has ended the last term.
    pub(super) async fn all_ended(&mut self) {
        if let Some(ending) = &mut self.ending {
            // Nobody can send an `Infallible`: it returns when all senders are dropped.
            let _ = ending.recv().await;
            self.ending = None;
        }
    }

    pub(super) fn began(&self, term: &Term) {
        self.tell(|| TermEvent::Began(term.clone()));
    }

    pub(super) fn end(&mut self, term: &Term, cause: Cause, stop_by: BootTime) {
        let (pending, ending) = mpsc::channel(1);
        self.tell(|| TermEvent::Ended(Ending { term: term.clone(), cause, stop_by, _pending: pending.clone() }));
        self.ending = Some(ending);
    }

    fn tell(&self, event: impl Fn() -> TermEvent) {
        for sender in &self.senders {
            // The queue is never full (see above), and a participant that is gone has ended everything.
            let _ = sender.try_send(event());
        }
    }
}

#[cfg(test)]
mod tests;
