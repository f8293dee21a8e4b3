//! What a program costs before it has any work: its size, the time until it says its version and until its first answer, and its
//! memory at rest.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    accounting::{self, Usage},
    metric::{self, Metrics},
    results::Spread,
    subject::{Plan, Subject},
    turn::Outcome,
};

/// How often the version is asked for.
const VERSIONS: usize = 21;
/// How often it is started.
const STARTS: usize = 11;
/// The time after its first answer at which a process is at rest.
const REST: Duration = Duration::from_secs(2);

/// Measures one subject.
pub(crate) fn measure(subject: &Subject, program: &Path, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let mut out = Outcome::default();
    if let Some(argument) = subject.version_argument() {
        match stripped(program, plan.work) {
            Ok(bytes) => set(&mut out.metrics, "stripped_bytes", bytes as f64),
            Err(why) => out.notes.push(format!("its stripped size: {why:#}")),
        }
        let took = (0..VERSIONS).map(|_| version(program, argument)).collect::<io::Result<Vec<_>>>()?;
        set(&mut out.metrics, "version_us", median(&took));
    }
    let mut took = Vec::new();
    for start in 1..=STARTS {
        let (running, time) = subject.first_answer(program, plan)?;
        took.push(time);
        if start == STARTS {
            std::thread::sleep(REST);
            let usage = Usage::of(running.pid);
            set(&mut out.metrics, "rss_bytes", usage.rss as f64);
            let threads = accounting::tree(running.pid).into_iter().map(accounting::threads).sum::<usize>();
            set(&mut out.metrics, "threads", threads as f64);
        }
    }
    set(&mut out.metrics, "start_us", median(&took));
    Ok(out)
}

/// The size of a program without symbols.
fn stripped(program: &Path, work: &Path) -> anyhow::Result<u64> {
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let copy = work.join("stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&copy).arg(program).stdin(Stdio::null());
    let output = strip.output().context("strip cannot be started (it comes with binutils)")?;
    anyhow::ensure!(output.status.success(), "strip: {}", String::from_utf8_lossy(&output.stderr).trim());
    let bytes = fs::metadata(&copy)?.len();
    fs::remove_file(&copy)?;
    Ok(bytes)
}

/// The time that a program takes to print its version and end.
fn version(program: &Path, argument: &str) -> io::Result<Duration> {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    command.status()?;
    Ok(began.elapsed())
}

/// The median in microseconds.
fn median(took: &[Duration]) -> f64 {
    Spread::of(took.iter().map(|time| time.as_secs_f64() * 1e6)).map_or(f64::NAN, |spread| spread.median)
}

fn set(metrics: &mut Metrics, key: &str, value: f64) {
    metrics.insert(key.to_owned(), metric::rounded(value));
}
