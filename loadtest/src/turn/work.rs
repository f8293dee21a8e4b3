//! The phases that each kind of work consists of.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Turn, UPLOAD_SECONDS};
use crate::{
    accounting::Usage,
    endpoints::{Control, EndpointServers},
    journal,
    load::{Body, ClosedLoop, Shape},
    metric,
    protocols::Http,
    scenario::Work,
    subject::{AccessLog, Subject},
};

/// The interval at which the restarting endpoint stops and starts.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the file of endpoints is rewritten.
const REWRITE_INTERVAL: Duration = Duration::from_millis(500);
/// How many of them there are in a short run, for each second of a measurement.
const JOBS_PER_SECOND: f64 = 50_000.0;
/// File descriptors that a process needs besides those of connections.
const EXTRA_DESCRIPTORS: u64 = 1_000;

impl Turn<'_> {
    pub(super) fn work(&mut self, first: bool) -> anyhow::Result<()> {
        let (seconds, warmup) = (self.options.seconds(), self.options.warmup());
        let closed = |seconds, connections, body| Shape::closed(seconds, connections, Body::Length(body));
        match self.scenario.work {
            Work::Saturate { body, connections, rate } => {
                self.saturate((seconds, warmup), (connections, body), rate, first)?;
            }
            Work::Reconnect { connections } => {
                let each = |seconds| {
                    let shape = ClosedLoop::new(seconds, connections, Body::Length(0));
                    Shape::Closed(ClosedLoop { reconnect: true, ..shape })
                };
                self.phase(each(warmup))?;
                let load = self.measure(each(seconds), |_| Ok(()))?;
                self.saturated(&load, 0);
                let cpu = self.out.metrics.get("cpu_us_per_request").copied().unwrap_or_default();
                if self.case.protocols.tls && cpu > 0.0 {
                    self.set("handshakes_per_cpu_second", 1e6 / cpu);
                }
            }
            Work::Streams { streams } if self.case.protocols.client == Http::One => {
                self.phase(closed(warmup, streams, 0))?;
                let load = self.measure(closed(seconds, streams, 0), |_| Ok(()))?;
                self.saturated(&load, 0);
            }
            Work::Streams { streams } => {
                let rate = self.rate(streams, warmup)?;
                let requests = ((rate * seconds) as u64).max(streams as u64);
                let load = self.measure(Shape::Streams { requests, streams }, |_| Ok(()))?;
                self.saturated(&load, 0);
            }
            Work::Chunked { chunks, size, connections } => {
                let body = Body::Chunked { chunks, size };
                self.phase(Shape::closed(warmup, connections, body))?;
                let load = self.measure(Shape::closed(seconds, connections, body), |_| Ok(()))?;
                self.saturated(&load, body.bytes());
            }
            Work::HalfLoad { connections, times } => {
                self.half_load((seconds, warmup), connections, times)?;
            }
            // They have no load: `startup` and `many` do them.
            Work::Start | Work::Many { .. } => {}
            Work::Steady { rate, connections, times } => {
                self.phase(Shape::Open { seconds: warmup, rate, connections })?;
                let load = self.measure(Shape::Open { seconds: seconds * times, rate, connections }, |_| Ok(()))?;
                self.latencies(&load);
            }
            Work::Restart { rate, connections, times } => {
                self.restart((seconds, warmup), rate, connections, times)?;
            }
            Work::Churn { connections, times } => {
                self.phase(closed(warmup, connections, 0))?;
                self.churn(closed(seconds * times, connections, 0), seconds * times)?;
            }
            Work::Upload { bytes } => {
                self.phase(closed(warmup, 1, 0))?;
                self.upload(bytes)?;
            }
            Work::Missed { connections } => self.missed(connections)?,
            Work::Owed { jobs, rate, connections, times } => {
                let live = Shape::Open { seconds: seconds * times, rate, connections };
                self.owed(jobs.min((JOBS_PER_SECOND * seconds) as u64), live)?;
            }
            Work::Idle { connections, request } => self.idle(connections, request)?,
        }
        self.ask_for_owed()?;
        if self.case.log != AccessLog::Off && matches!(self.case.subject, Subject::Fanfare(_)) {
            self.set("log_dropped", self.subject.metric("fanfare_access_log_dropped_total")?);
        }
        Ok(())
    }

    /// As many requests as possible, and then some at a constant rate.
    fn saturate(
        &mut self,
        (seconds, warmup): (f64, f64),
        (connections, body): (usize, u64),
        rate: Option<f64>,
        first: bool,
    ) -> anyhow::Result<()> {
        let closed = |seconds, connections, body| Shape::closed(seconds, connections, Body::Length(body));
        self.phase(closed(warmup, connections, body))?;
        let load = self.measure(closed(seconds, connections, body), |_| Ok(()))?;
        self.saturated(&load, body);
        if let Some(rate) = rate {
            let before = Usage::of(self.subject.pid);
            let open = self.phase(Shape::Open { seconds, rate, connections })?;
            self.settle()?;
            let cpu = Usage::of(self.subject.pid).cpu_since(&before);
            self.set("cpu_us_at_rate", cpu * 1e6 / ((open.requests + open.errors).max(1)) as f64);
            self.latencies(&open);
        }
        if first {
            self.syscalls(closed(1.0, connections, body))?;
        }
        Ok(())
    }

    /// Requests at a constant rate while the last endpoint stops and starts.
    fn restart(
        &mut self,
        (seconds, warmup): (f64, f64),
        rate: f64,
        connections: usize,
        times: f64,
    ) -> anyhow::Result<()> {
        self.phase(Shape::Open { seconds: warmup, rate, connections })?;
        let shape = Shape::Open { seconds: seconds * times, rate, connections };
        let last = self.scenario.endpoints - 1;
        // The bare loop does not survive a restarting endpoint.
        let restarts = self.case.subject != Subject::Bare;
        let load = self.measure(shape, |turn| {
            let until = Instant::now() + Duration::from_secs_f64(seconds * times);
            while restarts && Instant::now() + 2 * RESTART_INTERVAL < until {
                std::thread::sleep(RESTART_INTERVAL);
                turn.endpoints.control(Control::Stop(last))?;
                std::thread::sleep(RESTART_INTERVAL);
                turn.endpoints.control(Control::Start(last))?;
            }
            Ok(())
        })?;
        self.latencies(&load);
        Ok(())
    }

    /// As many requests as possible, and then half of them.
    fn half_load(&mut self, (seconds, warmup): (f64, f64), connections: usize, times: f64) -> anyhow::Result<()> {
        let closed = |seconds, connections, body| Shape::closed(seconds, connections, Body::Length(body));
        self.phase(closed(warmup, connections, 0))?;
        let most = self.phase(closed(seconds, connections, 0))?;
        anyhow::ensure!(most.requests > 0, "no request succeeded: {}", most.error.unwrap_or_default());
        let rate = most.requests as f64 / most.seconds.max(1e-9) / 2.0;
        let load = self.measure(Shape::Open { seconds: seconds * times, rate, connections }, |_| Ok(()))?;
        self.latencies(&load);
        self.set("rate_per_second", rate);
        Ok(())
    }

    /// Its pending deliveries, and the number of writes to its journal.
    fn ask_for_owed(&mut self) -> anyhow::Result<()> {
        if self.case.journals() {
            self.set("owed", self.subject.metric("fanfare_deliveries_owed")?);
            self.set("journal_commits", self.subject.metric("fanfare_journal_commit_seconds_count")?);
        }
        Ok(())
    }

    /// As many requests as possible, which one endpoint misses, and then the journal alone.
    fn missed(&mut self, connections: usize) -> anyhow::Result<()> {
        let (seconds, warmup) = (self.options.seconds(), self.options.warmup());
        let closed = |seconds| Shape::closed(seconds, connections, Body::Length(0));
        self.phase(closed(warmup))?;
        let load = self.measure(closed(seconds), |_| Ok(()))?;
        self.saturated(&load, 0);
        if self.case.journals() {
            let alone = journal::acknowledged_per_second(&self.work.join("alone"), connections, seconds)?;
            self.set("journal_alone_per_second", alone);
        }
        Ok(())
    }

    /// Loads while the file with the endpoints is written again and again.
    fn churn(&mut self, shape: Shape, seconds: f64) -> anyhow::Result<()> {
        let mut rewrites = 0_u32;
        let load = self.measure(shape, |turn| {
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while let Some(file) = turn.file.clone().filter(|_| Instant::now() + REWRITE_INTERVAL < until) {
                std::thread::sleep(REWRITE_INTERVAL);
                rewrite(&file, &turn.endpoints, 0.9, rewrites)?;
                rewrites += 1;
            }
            Ok(())
        })?;
        self.set("rewrites", f64::from(rewrites));
        self.saturated(&load, 0);
        Ok(())
    }

    /// Sends one large body.
    fn upload(&mut self, bytes: u64) -> anyhow::Result<()> {
        let before = Usage::of(self.subject.pid);
        let shape = ClosedLoop::new(UPLOAD_SECONDS, 1, Body::Length(bytes));
        let shape = Shape::Closed(ClosedLoop { requests: Some(1), ..shape });
        let load = self.measure(shape, |_| Ok(()))?;
        self.saturated(&load, bytes);
        let peak = self.out.metrics.get("peak_bytes").copied().unwrap_or_default();
        // Both are rounded, so that a difference of zero may seem negative.
        let growth = peak - metric::rounded(before.rss as f64);
        self.set("growth_bytes", growth.max(0.0));
        Ok(())
    }

    /// Idle connections.
    fn idle(&mut self, connections: usize, request: bool) -> anyhow::Result<()> {
        // A warm-up, so that the memory of first requests does not count.
        self.phase(match self.subject.target.http2 {
            true => Shape::Idle { connections: 1, request: true },
            false => Shape::closed(0.2, 1, Body::Length(0)),
        })?;
        let limit = crate::machine::Machine::this().open_files.saturating_sub(EXTRA_DESCRIPTORS);
        // The bare loop has a connection to each endpoint for each client that has sent something.
        let each = if request && self.case.subject == Subject::Bare { 1 + self.scenario.endpoints as u64 } else { 1 };
        let possible = usize::try_from(limit / each).unwrap_or(usize::MAX).min(connections);
        if possible < connections {
            self.note(format!("{possible} connections: the limit of file descriptors allows no more"));
        }
        let before = Usage::of(self.subject.pid);
        let load = self.phase(Shape::Idle { connections: possible, request })?;
        let after = self.steady()?;
        let open = load.requests as f64;
        anyhow::ensure!(load.requests > 0, "no connection was opened: {}", load.error.unwrap_or_default());
        self.set("connections", open);
        self.set("errors", load.errors as f64);
        self.set("rss_bytes", after.rss as f64);
        self.set("bytes_per_connection", (after.rss.saturating_sub(before.rss)) as f64 / open);
        if let Some(error) = load.error {
            self.note(format!("first error: {error}"));
        }
        Ok(())
    }
}

/// Writes a file of endpoints with about this share of them, in one step. The seed decides which, so that every subject gets the
/// same files.
pub(super) fn rewrite(file: &Path, endpoints: &EndpointServers, share: f64, seed: u32) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed.into());
    let chosen = endpoints.addresses.iter().filter(|_| random.f64() < share);
    let targets: Vec<String> = chosen.map(ToString::to_string).collect();
    let fresh = file.with_extension("fresh");
    let write = || {
        std::fs::write(&fresh, serde_json::to_vec(&serde_json::json!([{"targets": targets}]))?)?;
        std::fs::rename(&fresh, file)?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}
