//! What is known of a connection without asking the connection itself.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{clock, http2::MAX_STREAMS};

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Load {
    /// Exchanges that have a place on it.
    pub(super) streams: AtomicUsize,
    /// How many the endpoint allows.
    pub(super) max_streams: AtomicUsize,
    /// It takes no further streams.
    pub(super) closed: AtomicBool,
    /// So much waits to be sent on it that another one is better.
    pub(super) clogged: AtomicBool,
    began: Instant,
    /// When the last byte came, in milliseconds after it began.
    heard: AtomicU64,
    /// Since when, plus one, no byte has come although a request was given up meanwhile. 0: nothing was given up.
    unheard_since: AtomicU64,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            streams: AtomicUsize::new(0),
            max_streams: AtomicUsize::new(MAX_STREAMS as usize),
            closed: AtomicBool::new(false),
            clogged: AtomicBool::new(false),
            began: clock::now(),
            heard: AtomicU64::new(0),
            unheard_since: AtomicU64::new(0),
        }
    }

    /// Whether it takes another stream.
    pub(super) fn has_room(&self) -> bool {
        let most = self.max_streams.load(Ordering::Acquire).min(MAX_STREAMS as usize);
        self.streams.load(Ordering::Acquire) < most && !self.clogged.load(Ordering::Acquire)
    }

    /// Whether the endpoint lives, and takes no stream for now: it would take none on another connection either.
    pub(super) fn is_refusing(&self) -> bool {
        self.max_streams.load(Ordering::Acquire) == 0 && !self.is_closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Acquire) == 0
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Something has come.
    pub(super) fn heard(&self, now: Instant) {
        self.heard.store(self.millis(now), Ordering::Relaxed);
        self.unheard_since.store(0, Ordering::Relaxed);
    }

    /// A request that was sent then is given up, and nothing has come for it. Returns how long nothing at all has come.
    pub(super) fn unheard(&self, sent: Instant, now: Instant) -> Duration {
        let since = self.millis(sent).max(self.heard.load(Ordering::Relaxed));
        let known = self.unheard_since.compare_exchange(0, since + 1, Ordering::Relaxed, Ordering::Relaxed);
        let since = known.map_or_else(|known| known - 1, |_| since);
        Duration::from_millis(self.millis(now).saturating_sub(since))
    }
}
