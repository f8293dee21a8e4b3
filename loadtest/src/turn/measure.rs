//! Runs a phase of load, and measures what the subject used for it and which copies arrived.

use std::time::{Duration, Instant};

use super::{Turn, UPLOAD_SECONDS};
use crate::{
    accounting::{self, Usage},
    endpoints::{Counts, Special},
    load::{self, Load, Shape, h2load},
    metric, probe,
    scenario::Work,
};

/// The time limit for copies that arrive after the answer.
const LATE_COPIES_TIMEOUT: Duration = Duration::from_secs(15);

impl Turn<'_> {
    /// Runs a phase, and measures the subject's resource usage and the copies that arrived.
    pub(super) fn measure(
        &mut self,
        shape: Shape,
        meanwhile: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Load> {
        self.settle()?;
        let before = self.endpoints.counts()?;
        let (used, started) = (Usage::of(self.subject.pid), Instant::now());
        let load = match shape {
            Shape::Streams { .. } => self.phase(shape)?,
            shape => {
                let patience = Duration::from_secs_f64(UPLOAD_SECONDS) + 2 * load::PATIENCE;
                self.load.tell(&load::Phase { target: self.subject.target.clone(), shape })?;
                meanwhile(self)?;
                self.load.hear(patience)?
            }
        };
        let mut counts = self.endpoints.counts()?;
        let until = Instant::now() + LATE_COPIES_TIMEOUT;
        while self.shortage(&counts.since(&before), &load).0 > 0.0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            counts = self.endpoints.counts()?;
        }
        let usage = Usage::of(self.subject.pid);
        let (lost, extra) = self.shortage(&counts.since(&before), &load);
        let requests = (load.requests + load.errors) as f64;
        let cpu = usage.cpu_since(&used);
        if requests > 0.0 {
            self.set("cpu_us_per_request", cpu * 1e6 / requests);
            self.set(
                "voluntary_switches_per_request",
                usage.voluntary.saturating_sub(used.voluntary) as f64 / requests,
            );
            let involuntary = usage.involuntary.saturating_sub(used.involuntary);
            self.set("involuntary_switches_per_request", involuntary as f64 / requests);
        }
        if let Some(system) = usage.system_since(&used) {
            self.set("cpu_system_percent", system * 100.0);
        }
        self.set("rss_bytes", usage.rss as f64);
        self.set("peak_bytes", usage.peak as f64);
        self.set("requests", load.requests as f64);
        self.set("errors", load.errors as f64);
        self.set("lost_copies", lost);
        self.set("extra_copies", extra);
        if let Some(error) = &load.error {
            self.note(format!("first error: {error}"));
        }
        if load.requests == 0 {
            self.note(format!("no request succeeded in {:.1} s", started.elapsed().as_secs_f64()));
        }
        Ok(load)
    }

    /// Missing and superfluous copies.
    pub(super) fn shortage(&self, got: &Counts, load: &Load) -> (f64, f64) {
        let tried = load.requests + load.errors;
        let excess =
            |least: u64, got: u64, most: u64| (least.saturating_sub(got) as f64, got.saturating_sub(most) as f64);
        // With changing endpoints only the answers have the number of copies.
        if self.file.is_some() {
            return excess(load.legs, got.total(), load.legs + load.errors * self.scenario.endpoints as u64);
        }
        let per_endpoint = got.copies.len() == self.scenario.endpoints;
        if !per_endpoint {
            let all = self.scenario.endpoints as u64;
            return excess(load.requests * all, got.total(), tried * all);
        }
        let restarting = matches!(self.scenario.work, Work::Restart { .. }).then(|| self.scenario.endpoints - 1);
        let dead = [Special::Dropped, Special::Refused];
        let unreachable = |index: usize| dead.iter().any(|kind| self.case.special.contains(&(index, *kind)));
        let counted =
            got.copies.iter().enumerate().filter(|(index, _)| Some(*index) != restarting && !unreachable(*index));
        counted.fold((0.0, 0.0), |(lost, extra), (_, copies)| {
            let (l, e) = excess(load.requests, *copies, tried);
            (lost + l, extra + e)
        })
    }

    /// Waits until no more copies arrive.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LATE_COPIES_TIMEOUT;
        let mut counts = self.endpoints.counts()?;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.endpoints.counts()?;
            if now == counts || Instant::now() > until {
                return Ok(());
            }
            counts = now;
        }
    }

    pub(super) fn phase(&mut self, shape: Shape) -> anyhow::Result<Load> {
        let Shape::Streams { requests, streams } = shape else {
            return load::phase(&mut self.load, &self.subject.target, shape);
        };
        let task = h2load::Task { target: &self.subject.target, requests, streams, grpc: self.case.protocols.grpc };
        h2load::Job::start(&task, self.work, self.load_cores, shape.patience())?.finish()
    }

    /// Requests per second that so many streams of one connection make, found out in about this time. h2load is told how many
    /// requests to send and not for how long, because it would cut off those that are in flight at the end.
    pub(super) fn rate(&mut self, streams: usize, seconds: f64) -> anyhow::Result<f64> {
        let mut requests = 100_u64.max(streams as u64);
        loop {
            let load = self.phase(Shape::Streams { requests, streams })?;
            anyhow::ensure!(load.requests > 0, "no request succeeded: {}", load.error.unwrap_or_default());
            if load.seconds >= seconds / 3.0 || requests > 10_000_000 {
                return Ok(load.requests as f64 / load.seconds.max(1e-3));
            }
            requests *= 4;
        }
    }

    pub(super) fn saturated(&mut self, load: &Load, body: u64) {
        let seconds = load.seconds.max(1e-9);
        self.set("requests_per_second", load.requests as f64 / seconds);
        self.set("saturated_p50_us", load.latency.p50);
        self.set("saturated_p99_us", load.latency.p99);
        if body > 0 {
            self.set("bytes_per_second", load.requests as f64 * body as f64 / seconds);
            let mib = body as f64 / f64::from(1 << 20);
            if let Some(cpu) = self.out.metrics.get("cpu_us_per_request").copied() {
                self.set("cpu_us_per_mib", cpu / mib);
            }
        }
    }

    pub(super) fn latencies(&mut self, load: &Load) {
        let latency = load.latency;
        self.set("p50_us", latency.p50);
        self.set("p90_us", latency.p90);
        self.set("p99_us", latency.p99);
        self.set("p999_us", latency.p999);
        self.set("max_us", latency.max);
        self.set("unsent", load.unsent as f64);
        let errors = self.out.metrics.get("errors").copied().unwrap_or_default();
        // Those of the phase that was measured, where this is another one.
        if errors == 0.0 {
            self.set("errors", load.errors as f64);
        }
    }

    pub(super) fn syscalls(&mut self, shape: Shape) -> anyhow::Result<()> {
        let pids = accounting::tree(self.subject.pid);
        match probe::syscalls(&pids, || self.phase(shape)) {
            Ok((calls, load)) => {
                let load = load?;
                let requests = load.requests + load.errors;
                if requests > 0 {
                    self.set("syscalls_per_request", calls as f64 / requests as f64);
                }
            }
            Err(why) => self.note(format!("system calls: {why}")),
        }
        Ok(())
    }

    /// The usage once accepting has caught up: resident size and CPU no longer change.
    pub(super) fn steady(&self) -> anyhow::Result<Usage> {
        let mut before = Usage::of(self.subject.pid);
        let until = Instant::now() + LATE_COPIES_TIMEOUT;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = Usage::of(self.subject.pid);
            if (now.rss == before.rss && now.cpu_since(&before) < 0.001) || Instant::now() > until {
                return Ok(now);
            }
            before = now;
        }
    }

    pub(super) fn set(&mut self, key: &str, value: f64) {
        self.out.metrics.insert(key.to_owned(), metric::rounded(value));
    }

    pub(super) fn note(&mut self, note: String) {
        self.out.notes.push(note);
    }
}
