//! One turn: endpoints, one subject and the load are started, the work is done and measured, everything is ended.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    accounting::{self, Usage},
    cli::{self, Placing},
    cores::{self, Cores, Placement},
    endpoints::{Control, Counts, EndpointServers, Special},
    journal,
    load::{self, Body, ClosedLoop, Load, Shape, h2load},
    metric::{self, Metrics},
    probe,
    process::Helper,
    protocols::{Certificate, Http},
    scenario::{Case, Scenario, Work},
    startup,
    subject::{ACCESS_LOG, AccessLog, Plan, Running, Subject},
};

/// The time limit for copies that arrive after the answer.
const LATE_COPIES_TIMEOUT: Duration = Duration::from_secs(15);
/// The interval at which the restarting endpoint stops and starts.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the file of endpoints is rewritten.
const REWRITE_INTERVAL: Duration = Duration::from_millis(500);
/// The most time for the recovery of a journal, and how often it is asked for.
const MAX_RECOVERY: Duration = Duration::from_secs(60);
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The most time for healthy endpoints to get what they missed, and how often it is asked for.
const MAX_CATCH_UP: Duration = Duration::from_secs(60);
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The time limit of an upload, or of many requests that are to be owed, in seconds.
const UPLOAD_SECONDS: f64 = 300.0;
/// The folder of the journal, within that of the subject.
const JOURNAL: &str = "journal";
/// Connections over which requests come that are to be owed.
const OWING: usize = 128;
/// How many of them there are in a short run, for each second of a measurement.
const JOBS_PER_SECOND: f64 = 50_000.0;
/// File descriptors that a process needs besides those of connections.
const EXTRA_DESCRIPTORS: u64 = 1_000;

/// The result of a turn.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The numbers.
    pub(crate) metrics: Metrics,
    /// Notes about them.
    pub(crate) notes: Vec<String>,
}

/// A running turn.
struct Turn<'a> {
    options: &'a cli::Run,
    scenario: &'a Scenario,
    case: &'a Case,
    endpoints: EndpointServers,
    subject: Running,
    load: Helper,
    /// The cores of a load that is another program.
    load_cores: &'a [usize],
    work: &'a Path,
    /// The file of endpoints, if there is one.
    file: Option<PathBuf>,
    out: Outcome,
}

/// A file that is removed in the end, if it is there.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Without it nothing was logged.
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs one turn. The first one of a case also counts system calls.
pub(crate) fn turn(
    options: &cli::Run,
    scenario: &Scenario,
    case: &Case,
    program: &Path,
    (work, certificate): (&Path, &Certificate),
    first: bool,
) -> anyhow::Result<Outcome> {
    let cores = Cores::deal(&cores::available(), placement(options, scenario), case.threads);
    let endpoints = {
        let kind = (case.special.as_slice(), case.protocols.endpoint);
        EndpointServers::start(options.endpoints, scenario.endpoints, kind, work, &cores.endpoints)?
    };
    let file = match (scenario.work, case.subject.key()) {
        (Work::Churn { .. }, "fanfare") => Some(work.join("endpoints.json")),
        _ => None,
    };
    if let Some(file) = &file {
        rewrite(file, &endpoints, 1.0, 0)?;
    }
    let own = work.join(case.subject.key());
    // Deliveries of another turn do not belong to this one.
    fs::remove_dir_all(own.join(JOURNAL)).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let addresses = endpoints.addresses.clone();
    let plan = Plan {
        endpoints: &addresses,
        file: file.as_deref(),
        flags: case.flags,
        log: case.log,
        protocols: case.protocols,
        certificate,
        threads: case.threads,
        work: &own,
        cores: &cores.subject,
    };
    if matches!(scenario.work, Work::Start) {
        return startup::measure(&case.subject, program, &plan);
    }
    // What a subject logs is of no use to anybody, and may be long.
    let _log = Removed(own.join(ACCESS_LOG));
    let subject = case.subject.start(program, &plan)?;
    let load = load::start(&cores.load)?;
    let load_cores = &cores.load;
    let out = Outcome::default();
    let file = file.clone();
    let mut turn = Turn { options, scenario, case, endpoints, subject, load, load_cores, work, file, out };
    turn.work(first)?;
    if let Some(how) = turn.subject.ended() {
        anyhow::bail!("it has ended while it was measured: {how}");
    }
    match scenario.work {
        Work::Owed { .. } if case.journals() => turn.recover(program, &plan),
        _ => Ok(turn.out),
    }
}

/// The cores of each part.
pub(crate) fn placement(options: &cli::Run, scenario: &Scenario) -> Placement {
    match options.cores {
        Placing::Scenario => scenario.placement,
        Placing::Together => Placement::Together,
        Placing::Apart => Placement::Apart,
        Placing::Any => Placement::Anywhere,
    }
}

impl Turn<'_> {
    fn work(&mut self, first: bool) -> anyhow::Result<()> {
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
            // It has no load: `startup` does it.
            Work::Start => {}
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
                self.owe(jobs.min((JOBS_PER_SECOND * seconds) as u64))?;
                let load = self.measure(Shape::Open { seconds: seconds * times, rate, connections }, |_| Ok(()))?;
                self.latencies(&load);
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

    /// Sends this number of requests, which one endpoint misses.
    fn owe(&mut self, jobs: u64) -> anyhow::Result<()> {
        let shape = ClosedLoop::new(UPLOAD_SECONDS, OWING, Body::Length(1));
        let shape = Shape::Closed(ClosedLoop { requests: Some(jobs), ..shape });
        let load = self.phase(shape)?;
        anyhow::ensure!(load.requests == jobs, "{} of {jobs} acknowledged: {:?}", load.requests, load.error);
        if self.case.journals() {
            let mut owed = self.subject.metric("fanfare_deliveries_owed")?;
            // A healthy endpoint that could not keep up first gets what it missed meanwhile.
            let began = Instant::now();
            while owed > jobs as f64 && began.elapsed() < MAX_CATCH_UP {
                std::thread::sleep(CATCH_UP_POLL_INTERVAL);
                owed = self.subject.metric("fanfare_deliveries_owed")?;
            }
            anyhow::ensure!(
                metric::rounded(owed) == metric::rounded(jobs as f64),
                "{owed} deliveries are owed, expected {jobs}"
            );
        }
        Ok(())
    }

    /// Ends the subject, starts it again with its pending deliveries, and measures the time until it has them all: it answers before that,
    /// while it still reads its journal.
    fn recover(self, program: &Path, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
        let Self { case, subject, mut out, endpoints: _endpoints, .. } = self;
        drop(subject);
        let began = Instant::now();
        let again = case.subject.start(program, plan)?;
        let before = out.metrics.get("owed").copied();
        let mut owed = again.metric("fanfare_deliveries_owed")?;
        while before != Some(metric::rounded(owed)) && began.elapsed() < MAX_RECOVERY {
            std::thread::sleep(RECOVERY_POLL_INTERVAL);
            owed = again.metric("fanfare_deliveries_owed")?;
        }
        let took = began.elapsed();
        anyhow::ensure!(before == Some(metric::rounded(owed)), "{owed} deliveries recovered of {before:?}");
        out.metrics.insert("recovery_us".to_owned(), metric::rounded(took.as_secs_f64() * 1e6));
        Ok(out)
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

    /// Runs a phase, and measures the subject's resource usage and the copies that arrived.
    fn measure(
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
    fn shortage(&self, got: &Counts, load: &Load) -> (f64, f64) {
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
    fn settle(&mut self) -> anyhow::Result<()> {
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

    fn phase(&mut self, shape: Shape) -> anyhow::Result<Load> {
        let Shape::Streams { requests, streams } = shape else {
            return load::phase(&mut self.load, &self.subject.target, shape);
        };
        let task = h2load::Task { target: &self.subject.target, requests, streams, grpc: self.case.protocols.grpc };
        h2load::Job::start(&task, self.work, self.load_cores, shape.patience())?.finish()
    }

    /// Requests per second that so many streams of one connection make, found out in about this time. h2load is told how many
    /// requests to send and not for how long, because it would cut off those that are in flight at the end.
    fn rate(&mut self, streams: usize, seconds: f64) -> anyhow::Result<f64> {
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

    fn saturated(&mut self, load: &Load, body: u64) {
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

    fn latencies(&mut self, load: &Load) {
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

    fn syscalls(&mut self, shape: Shape) -> anyhow::Result<()> {
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

    /// The usage once accepting has caught up: resident size and CPU no longer change.
    fn steady(&self) -> anyhow::Result<Usage> {
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

    fn set(&mut self, key: &str, value: f64) {
        self.out.metrics.insert(key.to_owned(), metric::rounded(value));
    }

    fn note(&mut self, note: String) {
        self.out.notes.push(note);
    }
}

/// Writes a file of endpoints with about this share of them, in one step. The seed decides which, so that every subject gets the
/// same files.
fn rewrite(file: &Path, endpoints: &EndpointServers, share: f64, seed: u32) -> anyhow::Result<()> {
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
