//! Giving up the lead in order: the claim ends, the work of the term stops, requests in flight are waited for, the lease is released.

use tokio::{join, time::sleep};

use super::*;
use crate::lease::SteppedDown;

/// The longest time that giving up the lead takes as a whole.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// Grace period of the term's participants and of a request in flight.
pub(super) const STOP_GRACE_PERIOD: Duration = Duration::from_secs(2);
/// The time in which a participant confirms that it was cut off.
const CUT_NOTICE_TIME: Duration = Duration::from_millis(250);
/// Grace period of a stop that comes too late because the process or its machine was suspended: a late stop is better than none.
const LATE_STOP_GRACE_PERIOD: Duration = Duration::from_secs(1);
/// Delay between two attempts to write the release.
const RELEASE_RETRY_DELAY: Duration = Duration::from_millis(50);
/// The time limit for sending the last events.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_millis(500);

impl Elector {
    pub(super) fn shut_down(&mut self) {
        self.leaving = Some(Leaving::ShutDown { since: BootTime::now() });
        self.resign(Cause::ShutDown);
    }

    pub(super) fn step_down(&mut self, asked: StepDown) {
        self.candidate.tick(BootTime::now());
        if self.candidate.claim().is_none() {
            self.sync();
            // A caller that no longer waits does not need the answer.
            let _ = asked.send(Err(NotLeading));
            return;
        }
        self.leaving = Some(Leaving::StepDown { since: BootTime::now(), asked });
        self.resign(Cause::SteppedDown);
    }

    fn resign(&mut self, cause: Cause) {
        self.candidate.resign(cause);
        self.sync();
    }

    /// Tells the participants that the term has ended and by when their work must have stopped.
    pub(super) fn ended(&mut self, term: &Term) {
        let now = BootTime::now();
        let lost = self.candidate.lost();
        let cause = lost.map_or(Cause::Expired, |lost| lost.cause);
        let exclusive = lost.map_or(now, |lost| lost.exclusive);
        let late = now >= exclusive + self.timing.skew();
        self.stop_by = if late { now + LATE_STOP_GRACE_PERIOD } else { exclusive.min(now + STOP_GRACE_PERIOD) };
        info!(election = self.name(), transitions = term.transitions, cause = cause.as_str(), "stopped leading");
        counter!(names::ELECTION_TERMS_ENDED, "name" => self.name(), "cause" => cause.as_str()).increment(1);
        gauge!(names::ELECTION_MASTER, "name" => self.name()).set(0.0);
        self.participants.end(term, cause, self.stop_by);
        self.events.report(&term.uid, format!("{} stopped leading", self.election.identity()));
    }

    pub(super) async fn finish_step_down(&mut self, since: BootTime, asked: StepDown) {
        let released = self.release(since).await;
        self.candidate.rest_until(BootTime::now() + self.timing.lease());
        let _ = asked.send(Ok(if released { SteppedDown::Released } else { SteppedDown::RunsOut }));
    }

    pub(super) async fn finish(mut self, since: BootTime) {
        self.release(since).await;
        self.events.flush(LAST_EVENTS_TIMEOUT).await;
    }

    /// Releases the lease if this process still holds it. Returns whether it no longer does.
    async fn release(&mut self, since: BootTime) -> bool {
        let stopped = self.stopped().await;
        if !self.candidate.holds() {
            return true;
        }
        let deadline = since + RELEASE_TIMEOUT;
        let released = stopped && {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => false,
                () = self.write_release() => true,
            }
        };
        let result = if released { "released" } else { "runs_out" };
        counter!(names::ELECTION_RELEASES, "name" => self.name(), "result" => result).increment(1);
        if !released {
            let why = if stopped {
                "the API server did not accept it in time"
            } else {
                "some work of the term has not ended"
            };
            warn!(election = self.name(), "the lease is not released, and will expire by itself: {why}");
        }
        self.sync();
        released
    }

    /// Waits until the participants have ended the term, and the last guarded write has completed.
    async fn stopped(&mut self) -> bool {
        let cut = self.stop_by + CUT_NOTICE_TIME;
        let shared = Arc::clone(self.election.shared());
        let all = async {
            join!(self.participants.all_ended(), shared.writes.wait_idle(Duration::MAX));
        };
        tokio::select! {
            biased;
            () = all => true,
            () = sleep_until(cut) => false,
        }
    }

    /// Reads the lock, and writes the release if the record is still ours, until that succeeds.
    async fn write_release(&mut self) {
        loop {
            let failure = match self.lock.read().await {
                Ok(held) => {
                    let Some(record) = self.candidate.release(held.as_ref(), now()) else { return };
                    match self.lock.write(held.as_ref(), &record).await {
                        Ok(held) => return self.candidate.released(&held, BootTime::now()),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            self.failed(&failure);
            sleep(RELEASE_RETRY_DELAY).await;
        }
    }
}
