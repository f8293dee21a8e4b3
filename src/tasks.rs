//! What each subcommand does with its arguments: get a checked configuration, and take it the one way there is.

pub(crate) mod check;
pub(crate) mod coredns;

use std::{fmt::Display, path::Path, process::ExitCode, thread, time::Duration};

use anyhow::Context as _;

use runtime::{
    config::Problems,
    signal::{Request, Signals},
    systemd::PassedSockets,
    telemetry,
};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::{
    UNUSABLE,
    app::{BoundProcess, Ended, unless_ended},
    cli,
    config::{CheckedFiles, Config, faults},
    console, demo,
    reload::Reloader,
    send, status,
};

/// Threads for the control plane and the admin API; the data plane has its own.
const CONTROL_THREADS: usize = 2;

/// How long tasks that still run at the end may take to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves as the flags say.
pub(crate) fn serve(flags: &cli::Flags) -> anyhow::Result<ExitCode> {
    match flags.config() {
        Ok(config) => {
            let CheckedFiles { problems, .. } = config.check_files();
            if !problems.is_empty() {
                return Ok(unusable("what the command line names", flags.by_flag(&problems)));
            }
            let mut warnings = flags.doubtful().clone();
            flags.by_flag(&config.warnings()).into_iter().for_each(|warning| warnings.push(warning));
            run_with(config, &warnings, None)
        }
        Err(problems) => {
            let code = unusable("the command line", &problems);
            tell(flags.doubtful());
            Ok(code)
        }
    }
}

/// Serves as the file says, and follows it.
pub(crate) fn run(path: &Path) -> anyhow::Result<ExitCode> {
    match apart(|| read_with_files(path))? {
        // Whatever is outdated is logged when it is used.
        Ok((config, _)) => {
            let warnings = config.warnings();
            run_with(config, &warnings, Some(path))
        }
        Err(code) => Ok(code),
    }
}

/// Shows the main job.
pub(crate) fn demo(arguments: &cli::Demo) -> anyhow::Result<ExitCode> {
    let runtime = control_runtime()?;
    let passed = runtime.block_on(async { demo::run(arguments, signals()?).await });
    runtime.shutdown_background();
    Ok(if passed? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends one request to every endpoint.
pub(crate) fn send(arguments: &cli::Send) -> anyhow::Result<ExitCode> {
    // Nobody else on this machine is to send anything by this process.
    let pass = uuid::Uuid::new_v4().simple().to_string();
    let flags = arguments.broadcaster(&pass);
    let config = match flags.config() {
        Ok(config) => config,
        Err(problems) => return Ok(unusable("the command line", &problems)),
    };
    let CheckedFiles { problems, .. } = config.check_files();
    if !problems.is_empty() {
        return Ok(unusable("what the command line names", flags.by_flag(&problems)));
    }
    let body = match send::Body::open(arguments.data.as_deref()) {
        Ok(body) => body,
        Err(why) => return Ok(unusable("the command line", [why])),
    };
    tell(flags.doubtful());
    let telemetry = telemetry::init(config.process.log_level, config.process.log_format);
    runtime::limits::raise_open_files();
    let runtime = control_runtime()?;
    let sent = runtime.block_on(async {
        let signals = signals()?;
        send::run(arguments, config, &pass, body, &telemetry, signals).await
    });
    runtime.shutdown_background();
    sent
}

/// Shows what a process says of itself.
pub(crate) fn status(arguments: &cli::Status) -> anyhow::Result<ExitCode> {
    let runtime = control_runtime()?;
    let shown = runtime.block_on(status::run(arguments, signals));
    runtime.shutdown_background();
    shown
}

/// Prints what a shell completes command lines with.
pub(crate) fn completions(arguments: &cli::Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::command(), "fanfare", &mut script);
    console::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes manual pages.
pub(crate) fn man(arguments: &cli::Man) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // What `help` says of each command stands on the page of the command.
    let command = cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn run_with(config: Config, warnings: &Problems, follow: Option<&Path>) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(config.process.log_level, config.process.log_format);
    let open_files = runtime::limits::raise_open_files();
    tracing::info!(version = runtime::build_info::line(), open_files = open_files.now, "starting");
    warn(warnings);
    // Before there are threads that could read the environment.
    let passed = PassedSockets::take_all()?;
    let runtime = control_runtime()?;
    let ended = runtime.block_on(async {
        let mut requests = signals()?;
        // Whatever the start waits for, a signal ends it.
        match unless_ended(BoundProcess::bind(config, &telemetry, passed), &mut requests).await {
            Ok((bound, reload)) => bound?.reload_at_once(reload).run(requests, follow.map(Reloader::new)).await,
            Err(request) => Ok(Ended::before_start(request)),
        }
    });
    // Whatever still runs, after the drain or instead of it, is dropped, and with it the programs that it started; what
    // blocks a thread is not waited for.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    Ok(match ended? {
        Ended::Drained { cut } => {
            tracing::info!(cut, "drained");
            ExitCode::SUCCESS
        }
        Ended::AtOnce => {
            tracing::warn!("second signal: requests in flight are aborted");
            ExitCode::FAILURE
        }
    })
}

/// Does this on a thread of its own. Reading a configuration needs several times the memory of the result, and other threads can use what
/// a thread has freed only after its end.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("start".into()).spawn_scoped(scope, work);
        let done = thread.context("cannot start a thread")?.join();
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Prints warnings.
fn tell(warnings: &Problems) {
    for warning in warnings {
        console::tell(format_args!("warning: {warning}"));
    }
}

/// Logs the warnings about a configuration.
pub(crate) fn warn(warnings: &Problems) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// The requests that signals make, from now on.
fn signals() -> std::io::Result<mpsc::Receiver<Request>> {
    let mut signals = Signals::install()?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move { while sender.send(signals.next().await).await.is_ok() {} });
    Ok(receiver)
}

fn control_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
}

/// The configuration in a file, where the files that it names can be used as well, and warnings about these.
fn read_with_files(path: &Path) -> Result<(Config, Problems), ExitCode> {
    let content = content(path)?;
    let config = parse(path, &content)?;
    let CheckedFiles { problems, warnings } = config.check_files();
    match problems.is_empty() {
        true => Ok((config, warnings)),
        false => Err(unusable(&format!("what {} names", path.display()), faults(&content, &problems))),
    }
}

/// The configuration in a file.
fn read(path: &Path) -> Result<Config, ExitCode> {
    parse(path, &content(path)?)
}

fn content(path: &Path) -> Result<Vec<u8>, ExitCode> {
    runtime::files::read(path).map_err(|error| {
        console::tell(format_args!("fanfare: cannot read {}: {error}", path.display()));
        UNUSABLE.into()
    })
}

fn parse(path: &Path, content: &[u8]) -> Result<Config, ExitCode> {
    Config::read_text(content).map_err(|faults| unusable(&path.display().to_string(), &faults.0))
}

/// Prints problems of what was given.
fn unusable<P: Display>(what: &str, problems: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator>) -> ExitCode {
    let problems = problems.into_iter();
    console::tell(format_args!("fanfare: {} in {what}", counted((problems.len(), "problem"))));
    for problem in problems {
        console::tell(format_args!("  {problem}"));
    }
    UNUSABLE.into()
}

/// `1 route`, `2 routes`, `2 sources of endpoints`.
fn counted((count, what): (usize, &str)) -> String {
    let (noun, rest) = what.split_once(' ').map_or((what, String::new()), |(noun, rest)| (noun, format!(" {rest}")));
    format!("{count} {noun}{}{rest}", if count == 1 { "" } else { "s" })
}
