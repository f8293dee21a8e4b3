//! One turn: endpoints, one subject and the load are started, the work is done and measured, everything is ended.

mod measure;
mod owed;
mod work;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use self::owed::Beside;
use crate::{
    cli::{self, Placing},
    cores::{self, Cores, Placement},
    endpoints::EndpointServers,
    load, many,
    metric::{self, Metrics},
    process::Helper,
    protocols::Certificate,
    scenario::{Case, Scenario, Work},
    startup,
    subject::{ACCESS_LOG, Plan, Running},
};

/// The most time for the recovery of a journal, and how often it is asked for.
const MAX_RECOVERY: Duration = Duration::from_secs(60);
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The time limit of an upload, or of many requests that are to be owed, in seconds.
const UPLOAD_SECONDS: f64 = 300.0;
/// The folder of the journal, within that of the subject.
const JOURNAL: &str = "journal";

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
    /// The process that owes nothing, where the subject owes much.
    beside: Option<Beside>,
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
        work::rewrite(file, &endpoints, 1.0, 0)?;
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
    if let Work::Many { routes, each } = scenario.work {
        return many::measure(&case.subject, program, &plan, (routes, each));
    }
    // What a subject logs is of no use to anybody, and may be long.
    let _log = Removed(own.join(ACCESS_LOG));
    let subject = case.subject.start(program, &plan)?;
    let load = load::start(&cores.load)?;
    let load_cores = &cores.load;
    let beside = match scenario.work {
        Work::Owed { .. } if case.journals() => {
            let kind = (case.special.as_slice(), case.protocols.endpoint);
            let others = EndpointServers::start(options.endpoints, scenario.endpoints, kind, work, &cores.endpoints)?;
            Some(Beside::start(&case.subject, program, &plan, others, load_cores)?)
        }
        _ => None,
    };
    let out = Outcome::default();
    let file = file.clone();
    let mut turn = Turn { options, scenario, case, endpoints, subject, load, beside, load_cores, work, file, out };
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
}
