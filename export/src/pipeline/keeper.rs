//! Keeps one sink up to date: only while this process leads, with retries, and without removing many endpoints whose deletion is only
//! inferred.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::lease::{Claim, Leadership, WriteError};
use metrics::{counter, gauge, histogram};
use runtime::{backoff::Backoff, drain::DrainWatch, readiness::Gate};
use tokio::{sync::watch, time::sleep};

use super::{Export, Output, Pace, Process};
use crate::{
    guard::Limits,
    metrics::{CONFLICTS, IN_SYNC, PROPAGATION, PUTS},
    sink::{Done, Sink, SinkError, SinkErrorKind, Target, Term, Writer},
};

/// The first delay after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// One sink of an export.
pub(super) struct Keeper {
    sink: Sink,
    leadership: Leadership,
    writer: Writer,
    limits: Limits,
    pace: Pace,
    gate: Gate,
    /// The labels of its metrics: the export and the sink.
    labels: [(&'static str, String); 2],
    /// Whether nothing was written yet, so that the content of the sink may come from an earlier process.
    fresh: bool,
    /// When an empty result was first held back.
    empty_since: Option<Instant>,
    backoff: Backoff,
}

/// Why the sink was not updated.
#[derive(Debug)]
enum NotDone {
    /// Another replica leads and writes.
    Standby,
    /// Too many endpoints would vanish without a deletion event. To be checked again at `again`.
    Held { why: String, again: Option<Instant> },
    /// The sink failed.
    Sink(SinkError),
}

impl Keeper {
    pub(super) fn new(export: &Export, target: &Target, sink: Sink, process: &Process) -> Self {
        let gate = process.readiness.register(format!("discover {} to {target}", export.name));
        crate::metrics::sink_from_zero(&export.name, &target.to_string());
        let leadership = if target.is_outside() { process.leadership.clone() } else { Leadership::alone() };
        let writer = Writer { cluster: export.cluster.clone(), id: process.identity.clone(), term: None };
        Self {
            sink,
            leadership,
            writer,
            limits: export.limits,
            pace: export.pace,
            gate,
            labels: [("export", export.name.to_string()), ("sink", target.to_string())],
            fresh: true,
            empty_since: None,
            backoff: Backoff::new(RETRY.0, 2.0, RETRY.1),
        }
    }

    /// Keeps the sink up to date until the drain, and finishes the write in progress.
    pub(super) async fn run(mut self, mut outputs: watch::Receiver<Option<Arc<Output>>>, drain: DrainWatch) {
        self.gate.set_not_ready("nothing has been written yet");
        // Whether this update repeats an older one: then its age is no propagation time.
        let mut repeated = false;
        loop {
            let output = tokio::select! {
                biased;
                () = drain.wait() => return,
                output = outputs.wait_for(Option::is_some) => match output {
                    Ok(output) => output.clone(),
                    Err(_closed) => return,
                },
            };
            let Some(output) = output else { return };
            // Only a newer output counts as a change from here on.
            outputs.mark_unchanged();
            let done = self.put(&output).await;
            self.report(&output, &done, repeated);
            let pause = self.pause(&done);
            tokio::select! {
                biased;
                () = drain.wait() => return,
                () = sleep(pause) => {
                    repeated = done.is_ok();
                    if repeated {
                        self.sink.forget();
                    }
                }
                // After a failure the whole delay passes: a burst of changes must not lead to more requests to a failing store.
                changed = outputs.changed(), if !matches!(done, Err(NotDone::Sink(_))) => {
                    repeated = false;
                    if changed.is_err() {
                        // Rendering has ended, because the process ends.
                        drain.wait().await;
                        return;
                    }
                }
                () = self.leadership.changed() => repeated = false,
            }
        }
    }

    /// Updates the sink once. Errors that may pass are retried until the deadline.
    pub(super) async fn once(mut self, output: &Output, deadline: Instant) -> Result<(), String> {
        let target = self.labels[1].1.clone();
        loop {
            let why = match self.put(output).await {
                Ok(_done) => return Ok(()),
                Err(NotDone::Standby) => "another replica leads".to_owned(),
                Err(NotDone::Held { why, again: None }) => return Err(format!("{target}: {why}")),
                Err(NotDone::Held { why, .. }) => why,
                Err(NotDone::Sink(error)) if !error.kind.may_pass() => return Err(error.to_string()),
                Err(NotDone::Sink(error)) => error.what,
            };
            let pause = self.backoff.next_delay();
            if Instant::now() + pause >= deadline {
                return Err(format!("{target}: {why}"));
            }
            sleep(pause).await;
        }
    }

    /// Updates the sink, if this process leads.
    async fn put(&mut self, output: &Output) -> Result<Done, NotDone> {
        let limit = self.pace.timeout;
        let leadership = self.leadership.clone();
        let done = leadership.write(limit, async |claim| self.write(output, claim).await).await;
        match done {
            Ok(done) => Ok(done),
            Err(WriteError::NotLeading(_)) => Err(NotDone::Standby),
            Err(WriteError::Failed(not_done)) => Err(not_done),
            Err(WriteError::Deadline(limit)) => {
                // The write may or may not have happened.
                self.sink.forget();
                let what = format!("no answer within {limit:?}");
                Err(NotDone::Sink(SinkError { place: self.sink.to_string(), kind: SinkErrorKind::Unavailable, what }))
            }
        }
    }

    async fn write(&mut self, output: &Output, claim: &Claim) -> Result<Done, NotDone> {
        let term = claim.term.as_ref();
        self.writer.term = term.map(|term| Term { uid: term.uid.to_string(), transitions: term.transitions });
        let until = Instant::now().checked_add(claim.remaining);
        if self.fresh {
            self.check(output).await?;
        }
        let done = self.sink.put(&output.documents, &self.writer, until).await.map_err(NotDone::Sink)?;
        self.fresh = false;
        Ok(done)
    }

    /// Applies the shrink guard after a restart, when the content of the sink is the only record of earlier endpoints.
    async fn check(&mut self, output: &Output) -> Result<(), NotDone> {
        // Everything is read again, even if an earlier attempt has read it.
        self.sink.forget();
        let there = self.sink.look(&output.documents).await.map_err(NotDone::Sink)?;
        let here = Sink::addresses(&output.documents);
        if !output.unlisted.is_empty() {
            let lost = there.difference(&here).count();
            if lost > 0 {
                let why = format!(
                    "{lost} endpoints would be removed, but there is no complete list of {}",
                    output.unlisted.join(", ")
                );
                return Err(NotDone::Held { why, again: None });
            }
        }
        let lost = there.len().saturating_sub(here.len());
        if !self.limits.permit(lost, there.len()) {
            return Err(NotDone::Held { why: self.limits.explain(lost, there.len()), again: None });
        }
        if here.is_empty() && !there.is_empty() {
            let again = *self.empty_since.get_or_insert_with(Instant::now) + self.limits.empty_hold;
            if Instant::now() < again {
                let why = format!("all {lost} endpoints would be removed: they are kept for a while (--empty-hold)");
                return Err(NotDone::Held { why, again: Some(again) });
            }
        } else {
            self.empty_since = None;
        }
        Ok(())
    }

    fn pause(&mut self, done: &Result<Done, NotDone>) -> Duration {
        match done {
            Ok(_) => {
                self.backoff.reset();
                // Replicas that started together do not all check at once.
                self.pace.resync.mul_f64(0.9 + 0.1 * fastrand::f64())
            }
            Err(NotDone::Held { again: Some(again), .. }) => again.saturating_duration_since(Instant::now()),
            // There is nothing to do until something changes.
            Err(NotDone::Standby | NotDone::Held { again: None, .. }) => self.pace.resync,
            Err(NotDone::Sink(error)) if error.kind == SinkErrorKind::Foreign => self.pace.resync,
            Err(NotDone::Sink(_)) => self.backoff.next_delay(),
        }
    }

    fn report(&self, output: &Output, done: &Result<Done, NotDone>, repeated: bool) {
        let [export, sink] = self.labels.clone();
        let labels = [export.clone(), sink.clone()];
        let result = match done {
            Ok(done) => {
                counter!(CONFLICTS, &labels).increment(done.conflicts as u64);
                if done.written + done.removed > 0 {
                    if !repeated {
                        histogram!(PROPAGATION, &[export]).record(output.since.elapsed().as_secs_f64());
                    }
                    tracing::info!(
                        export = labels[0].1,
                        sink = labels[1].1,
                        written = done.written,
                        removed = done.removed,
                        backends = output.backends,
                        endpoints = output.endpoints,
                        "up to date"
                    );
                    "written"
                } else {
                    "unchanged"
                }
            }
            Err(NotDone::Standby) => "standby",
            Err(NotDone::Held { why, .. }) => {
                tracing::warn!(export = labels[0].1, sink = labels[1].1, "held back: {why}");
                "held"
            }
            Err(NotDone::Sink(error)) => {
                tracing::warn!(export = labels[0].1, "{error}");
                error.kind.as_str()
            }
        };
        match done {
            Ok(_) | Err(NotDone::Standby) => self.gate.set_ready(),
            Err(NotDone::Held { why, .. }) => self.gate.set_not_ready(why.clone()),
            Err(NotDone::Sink(error)) => self.gate.set_not_ready(error.what.clone()),
        }
        gauge!(IN_SYNC, &labels).set(if done.is_ok() { 1.0 } else { 0.0 });
        let [export, sink] = labels;
        counter!(PUTS, &[export, sink, ("result", result.to_owned())]).increment(1);
    }
}
