//! Load of HTTP/2 by h2load, the tool of nghttp2: so many requests over one connection, with a fixed number in flight.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{Latency, Load, Target};
use crate::{process::Kept, subject};

/// The interval of checks whether h2load has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A message of gRPC: not compressed, 100 bytes.
const MESSAGE_BYTES: u8 = 100;

/// The path of h2load.
pub(crate) fn program() -> Result<PathBuf, String> {
    subject::installed("h2load").ok_or_else(|| {
        "h2load is not installed: install it from the distribution (apt-get install nghttp2-client)".to_owned()
    })
}

/// A running h2load.
#[derive(Debug)]
pub(crate) struct Job {
    kept: Kept,
    log: PathBuf,
    until: Instant,
}

/// The load for h2load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// The proxy.
    pub(crate) target: &'a Target,
    /// The total number of requests.
    pub(crate) requests: u64,
    /// Requests in flight.
    pub(crate) streams: usize,
    /// Whether they are calls of gRPC.
    pub(crate) grpc: bool,
}

impl Job {
    /// Starts it on these cores, with its files in this folder.
    pub(crate) fn start(task: &Task<'_>, work: &Path, on: &[usize], patience: Duration) -> anyhow::Result<Self> {
        fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
        let log = work.join("h2load.log");
        let mut command = vec![program().map_err(anyhow::Error::msg)?.display().to_string()];
        let mut add = |flag: &str, value: &str| command.extend([flag.to_owned(), value.to_owned()]);
        add("-n", &task.requests.to_string());
        add("-c", "1");
        add("-m", &task.streams.to_string());
        add("-t", "1");
        add("-H", "user-agent: loadtest");
        if task.grpc {
            let message = work.join("message");
            let mut bytes = vec![0, 0, 0, 0, MESSAGE_BYTES];
            bytes.resize(5 + usize::from(MESSAGE_BYTES), b'x');
            fs::write(&message, bytes).with_context(|| format!("cannot write {}", message.display()))?;
            add("-d", &message.display().to_string());
            add("-H", "content-type: application/grpc");
            add("-H", "te: trailers");
        }
        let scheme = if task.target.ca.is_some() { "https" } else { "http" };
        let path = if task.grpc { "/load.Test/Unary" } else { "/load/test" };
        command.push(format!("{scheme}://{}{path}", task.target.address));
        let kept = Kept::start(&command, &log, None, on)?;
        Ok(Self { kept, log, until: Instant::now() + patience })
    }

    /// Waits until it has ended.
    pub(crate) fn finish(self) -> anyhow::Result<Load> {
        while self.kept.ended().is_none() {
            if Instant::now() > self.until {
                bail!("h2load does not end");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let text = fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        load(&text).with_context(|| format!("h2load says {text:?}"))
    }
}

/// Parses its output.
fn load(text: &str) -> anyhow::Result<Load> {
    let line = |start: &str| {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(start));
        line.with_context(|| format!("no line {start:?}"))
    };
    let finished = line("finished in ")?.split(',').next().and_then(seconds).context("no duration")?;
    let counts = line("requests: ")?;
    let count = |name: &str| {
        let mut parts = counts.split(',').filter_map(|part| part.trim().split_once(' '));
        let number = parts.find(|(_, what)| *what == name).and_then(|(number, _)| number.parse::<u64>().ok());
        number.with_context(|| format!("no number of requests {name}"))
    };
    let (total, requests) = (count("total")?, count("succeeded")?);
    let errors = total.saturating_sub(requests);
    let micros = |column: usize| {
        let times = line("time for request:").ok().and_then(|times| times.split_ascii_whitespace().nth(column));
        times.and_then(seconds).unwrap_or_default() * 1e6
    };
    // It prints the mean and no percentiles.
    let latency = Latency { max: micros(1), ..Latency::default() };
    let error = (errors > 0).then(|| line("status codes: ").unwrap_or(counts).to_owned());
    Ok(Load { requests, errors, seconds: finished, latency, error, ..Load::default() })
}

/// `1.05s`, `950.12ms` or `7us`
fn seconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_h2load_is_parsed() {
        let text = "finished in 950.50ms, 10520.78 req/s, 1.19MB/s\n\
            requests: 10000 total, 10000 started, 10000 done, 9990 succeeded, 10 failed, 0 errored, 0 timeout\n\
            status codes: 9990 2xx, 0 3xx, 0 4xx, 10 5xx\n\
            time for request:       58us      2.39ms        91us        35us    95.11%\n";
        let load = load(text).unwrap();
        assert_eq!((load.requests, load.errors, load.seconds), (9990, 10, 0.9505));
        assert_eq!((load.latency.max, load.error.as_deref()), (2390.0, Some("9990 2xx, 0 3xx, 0 4xx, 10 5xx")));
        assert!(super::load("could not connect").is_err());
    }
}
