//! The subjects that are measured: Fanfare, the bare loop, and the other proxies, each started on free ports with endpoints to mirror to.

mod ask;
mod envoy;
pub(crate) mod fanfare;
pub(crate) mod nginx;
mod pingora;
mod traefik;

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use testkit::consumers::wheels;

pub(crate) use self::fanfare::Binary;
use crate::{
    clock,
    load::Target,
    process::{Helper, Kept},
    protocols::{Certificate, Http, Protocols},
};

/// The time limit until a subject answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The file of the access log in a subject's folder.
pub(crate) const ACCESS_LOG: &str = "access.log";
/// The interval between two attempts to get a first answer.
const FIRST_ANSWER_INTERVAL: Duration = Duration::from_micros(200);

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The bare loop.
    Bare,
    /// A Fanfare binary.
    Fanfare(Binary),
    /// nginx with `mirror`; with one endpoint as a plain proxy.
    Nginx,
    /// Envoy with `request_mirror_policies`; with one endpoint as a plain proxy.
    Envoy,
    /// Traefik with mirroring; with one endpoint as a plain proxy.
    Traefik,
    /// A broadcaster written with pingora.
    Pingora,
    /// The Go tool whose interface Fanfare keeps.
    GoTool,
}

/// Whether a subject logs each request, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AccessLog {
    /// Not at all.
    #[default]
    Off,
    /// In the plain text that the subject has by default.
    Text,
    /// As JSON.
    Json,
}

/// The settings for the start of a subject.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    /// The endpoints; other proxies than Fanfare answer from the first.
    pub(crate) endpoints: &'a [SocketAddr],
    /// The file of endpoints, for a subject that follows one.
    pub(crate) file: Option<&'a Path>,
    /// Further flags of Fanfare.
    pub(crate) flags: &'a [&'static str],
    /// The protocols on both sides.
    pub(crate) protocols: Protocols,
    /// Its access log, which is written to [`ACCESS_LOG`] in its folder.
    pub(crate) log: AccessLog,
    /// Its server certificate.
    pub(crate) certificate: &'a Certificate,
    /// The number of worker threads.
    pub(crate) threads: usize,
    /// A folder for its files.
    pub(crate) work: &'a Path,
    /// Its cores.
    pub(crate) cores: &'a [usize],
}

/// A running subject.
#[derive(Debug)]
pub(crate) struct Running {
    /// The target for the load.
    pub(crate) target: Target,
    /// The process at the root of all its processes.
    pub(crate) pid: u32,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Own { _helper: Helper },
    Kept { kept: Kept, log: PathBuf },
}

/// The programs that were found, and the reasons why others were not.
#[derive(Debug, Default)]
pub(crate) struct Programs(BTreeMap<String, Result<PathBuf, String>>);

impl Subject {
    /// Its name for `--subjects`.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Fanfare(_) => "fanfare",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Pingora => "pingora",
            Self::GoTool => "go-tool",
        }
    }

    /// The path of its program, or the reason why it cannot take part.
    pub(crate) fn find(&self, work: &Path) -> Result<PathBuf, String> {
        match self {
            Self::Bare => std::env::current_exe().map_err(|error| error.to_string()),
            Self::Fanfare(binary) => binary.find(),
            Self::Nginx => nginx::program(),
            Self::Envoy => wheels::program(work, wheels::ENVOY),
            Self::Traefik => wheels::program(work, wheels::TRAEFIK),
            Self::Pingora => pingora::build(),
            Self::GoTool => Err("takes its endpoints from a Kubernetes API server only, and none runs here".to_owned()),
        }
    }

    /// The version of its program.
    pub(crate) fn version(&self, program: &Path) -> String {
        match self {
            Self::Bare => env!("CARGO_PKG_VERSION").to_owned(),
            Self::Nginx => version(program, "-v"),
            Self::Traefik => version(program, "version"),
            // With the commit, which distinguishes binaries of one version.
            Self::Fanfare(_) => said(program, "--version")
                .ok()
                .and_then(|text| text.trim().strip_prefix("fanfare ").map(str::to_owned))
                .unwrap_or_else(|| version(program, "--version")),
            Self::Envoy | Self::GoTool => version(program, "--version"),
            Self::Pingora => pingora::version().unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// The argument with which its program prints its version and ends; none for the bare loop.
    pub(crate) fn version_argument(&self) -> Option<&'static str> {
        match self {
            Self::Bare | Self::GoTool => None,
            Self::Nginx => Some("-v"),
            Self::Traefik => Some("version"),
            Self::Fanfare(_) | Self::Envoy | Self::Pingora => Some("--version"),
        }
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self, program: &Path, plan: &Plan<'_>) -> anyhow::Result<Running> {
        fs::create_dir_all(plan.work).with_context(|| format!("cannot make {}", plan.work.display()))?;
        if *self == Self::Bare {
            return start_bare(plan);
        }
        let log = plan.work.join("log");
        // Another process may take the chosen port first: each try chooses another one.
        let mut last = None;
        for _ in 0..3 {
            let port = match self {
                // It tells which one it has got.
                Self::Fanfare(_) => 0,
                _ => free_ports(1)?[0],
            };
            let kept = self.keep(program, plan, port)?;
            let started = match self {
                Self::Fanfare(_) => fanfare::address(&kept, &log),
                _ => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            };
            let answering = started.and_then(|address| {
                let target = plan.target(address);
                wait_for_an_answer(&target, plan.protocols.grpc, &kept, &log)?;
                Ok(target)
            });
            match answering {
                Ok(target) => return Ok(Running { target, pid: kept.pid, process: Process::Kept { kept, log } }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("{self} was never tried")))
    }

    /// Starts it, and takes the time from the start of its process to its first answer.
    pub(crate) fn first_answer(&self, program: &Path, plan: &Plan<'_>) -> anyhow::Result<(Running, Duration)> {
        fs::create_dir_all(plan.work).with_context(|| format!("cannot make {}", plan.work.display()))?;
        if *self == Self::Bare {
            let began = clock::monotonic();
            let running = start_bare(plan)?;
            ask::first(running.target.address, START_TIMEOUT, FIRST_ANSWER_INTERVAL)?;
            return Ok((running, clock::monotonic().saturating_sub(began)));
        }
        let log = plan.work.join("log");
        let port = free_ports(1)?[0];
        let kept = self.keep(program, plan, port)?;
        let target = plan.target(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        ask::first(target.address, START_TIMEOUT, FIRST_ANSWER_INTERVAL).with_context(|| tail(&log))?;
        let took = clock::monotonic().saturating_sub(kept.began);
        let pid = kept.pid;
        Ok((Running { target, pid, process: Process::Kept { kept, log } }, took))
    }

    /// Starts its process.
    fn keep(&self, program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Kept> {
        let access_log = plan.work.join(ACCESS_LOG);
        let command = match self {
            Self::Bare | Self::GoTool => bail!("{self} is not started like this"),
            Self::Fanfare(_) => fanfare::command(program, plan, port)?,
            Self::Nginx => nginx::proxy(program, plan, port)?,
            Self::Envoy => envoy::command(program, plan, port)?,
            Self::Traefik => traefik::command(program, plan, port)?,
            Self::Pingora => pingora::command(program, plan, port),
        };
        // Only Fanfare writes its access log to standard output, and nothing else.
        let output = matches!(self, Self::Fanfare(_)).then_some(access_log.as_path());
        Kept::start(&command, &plan.work.join("log"), output, plan.cores)
    }
}

fn start_bare(plan: &Plan<'_>) -> anyhow::Result<Running> {
    let list = plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let helper = Helper::start(&["bare".into(), "--endpoints".into(), list], plan.cores)?;
    let target = Target { address: helper.hear(START_TIMEOUT)?, ca: None, http2: false };
    let pid = helper.id();
    Ok(Running { target, pid, process: Process::Own { _helper: helper } })
}

impl Plan<'_> {
    /// The target for the load of a proxy with this plan.
    fn target(&self, address: SocketAddr) -> Target {
        let ca = self.protocols.tls.then(|| self.certificate.ca.clone());
        Target { address, ca, http2: self.protocols.client == Http::Two }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => f.write_str("bare loop"),
            Self::Fanfare(binary) => f.write_str(&binary.label),
            Self::Nginx => f.write_str("nginx"),
            Self::Envoy => f.write_str("Envoy"),
            Self::Traefik => f.write_str("Traefik"),
            Self::Pingora => f.write_str("pingora"),
            Self::GoTool => f.write_str("k8s-service-broadcasting"),
        }
    }
}

impl Running {
    /// A number of Fanfare's metrics, over all series of that name.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        match &self.process {
            Process::Own { .. } => bail!("the bare loop has no metrics"),
            Process::Kept { log, .. } => fanfare::metric(log, name),
        }
    }

    /// Its output, if it has ended.
    pub(crate) fn ended(&self) -> Option<String> {
        match &self.process {
            Process::Own { .. } => None,
            Process::Kept { kept, log } => kept.ended().map(|how| format!("{how}: {}", tail(log))),
        }
    }
}

impl Programs {
    /// The path of a subject's program, which is searched once.
    pub(crate) fn get(&mut self, subject: &Subject, work: &Path) -> Result<PathBuf, String> {
        self.0.entry(subject.to_string()).or_insert_with(|| subject.find(work)).clone()
    }
}

/// `count` ports that are free now.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let bind = || TcpListener::bind("127.0.0.1:0").context("no free port");
    let listeners = (0..count).map(|_| bind()).collect::<anyhow::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// The path of a program of the distribution.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(extra);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

fn wait_for_an_answer(target: &Target, grpc: bool, kept: &Kept, log: &Path) -> anyhow::Result<()> {
    let until = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(how) = kept.ended() {
            bail!("{how}: {}", tail(log));
        }
        let status = ask::ask(target, grpc);
        if matches!(status, Ok(1..=399)) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("does not answer at {} after {START_TIMEOUT:?}: {status:?}; {}", target.address, tail(log));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The end of a log, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

/// The version that a program prints when asked for it: the first number with dots in it, or else the first line.
fn version(program: &Path, argument: &str) -> String {
    let text = said(program, argument).unwrap_or_default();
    let numbers = |part: &&str| part.contains('.') && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown");
    text.split([' ', '/', '\n', '\t']).find(numbers).unwrap_or(line).to_owned()
}

/// What a program prints, if it ends in time.
fn said(program: &Path, argument: &str) -> std::io::Result<String> {
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let until = Instant::now() + START_TIMEOUT;
    while child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    // No effect if it has ended.
    let _ = child.kill();
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
