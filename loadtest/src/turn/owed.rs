//! Requests that are owed to a dead endpoint, and their cost to live requests, beside a process that owes nothing.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Turn, UPLOAD_SECONDS};
use crate::{
    endpoints::EndpointServers,
    load::{self, Body, ClosedLoop, Load, Shape},
    metric,
    process::Helper,
    scenario::OWES_NOTHING,
    subject::{Plan, Running, Subject},
};

/// The most time for healthy endpoints to get what they missed, and how often it is asked for.
const MAX_CATCH_UP: Duration = Duration::from_secs(60);
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Connections over which requests come that are to be owed.
const OWING: usize = 128;

/// Another process of the same program, with endpoints of its own, that owes nothing. It gets the same load at the same time: a tail
/// latency depends so much on what else the machine does that only the two of one moment can be compared.
pub(super) struct Beside {
    subject: Running,
    load: Helper,
    _endpoints: EndpointServers,
}

impl Beside {
    /// Starts it by the plan of the subject that is measured.
    pub(super) fn start(
        subject: &Subject,
        program: &Path,
        plan: &Plan<'_>,
        endpoints: EndpointServers,
        load_cores: &[usize],
    ) -> anyhow::Result<Self> {
        let work = plan.work.join("beside");
        fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
        let plan = Plan { endpoints: &endpoints.addresses, flags: OWES_NOTHING, work: &work, ..*plan };
        let running = subject.start(program, &plan)?;
        Ok(Self { subject: running, load: load::start(load_cores)?, _endpoints: endpoints })
    }

    fn phase(&mut self, shape: Shape) -> anyhow::Result<Load> {
        load::phase(&mut self.load, &self.subject.target, shape)
    }
}

impl Turn<'_> {
    /// Sends so many requests, which one endpoint misses, and then live ones.
    pub(super) fn owed(&mut self, jobs: u64, live: Shape) -> anyhow::Result<()> {
        self.owe(jobs)?;
        let (mut beside, mut other) = (self.beside.take(), None);
        let load = self.measure(live.clone(), |_| {
            other = beside.as_mut().map(|beside| beside.phase(live)).transpose()?;
            Ok(())
        })?;
        self.latencies(&load);
        if let Some(other) = other {
            anyhow::ensure!(other.requests > 0, "the process beside it answered nothing: {:?}", other.error);
            self.set("p99_beside_us", other.latency.p99);
            self.set("p99_to_beside", load.latency.p99 / other.latency.p99.max(1.0));
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
}
