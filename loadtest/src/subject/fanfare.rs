//! Fanfare: the release binary of this workspace, or any other that is given.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{AccessLog, Plan, START_TIMEOUT};
use crate::{machine, process::Kept, protocols::Http};

/// The placeholder in flags for the folder of the turn.
const WORK: &str = "{work}";

/// Which binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binary {
    /// Its name in tables.
    pub(crate) label: String,
    /// Its path; without one it is built from this workspace.
    path: Option<PathBuf>,
}

impl Binary {
    /// The one of this workspace.
    pub(crate) fn workspace() -> Self {
        Self { label: "fanfare".to_owned(), path: None }
    }

    /// `[label=]path`
    pub(crate) fn parse(text: &str) -> Self {
        let (label, path) = match text.split_once('=') {
            Some((label, path)) => (label.to_owned(), path),
            None => (Path::new(text).file_name().unwrap_or_default().display().to_string(), text),
        };
        Self { label, path: Some(path.into()) }
    }

    /// Its path. Builds the binary if it is that of the workspace.
    pub(super) fn find(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.path {
            return if path.is_file() { Ok(path.clone()) } else { Err(format!("{} is no file", path.display())) };
        }
        eprintln!("building fanfare (release)");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let root = machine::workspace();
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--package", "fanfare"]).current_dir(&root);
        match command.status() {
            Ok(status) if status.success() => Ok(machine::target().join("release/fanfare")),
            Ok(status) => Err(format!("cargo build --release -p fanfare: {status}")),
            Err(error) => Err(format!("cargo cannot be started: {error}")),
        }
    }
}

pub(super) fn command(program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Vec<String>> {
    let mut command = vec![program.display().to_string(), "broadcast".to_owned()];
    let mut add = |flag: &str, value: String| command.extend([flag.to_owned(), value]);
    add("--interface", format!("127.0.0.1:{port}"));
    add("--metrics-interface", "127.0.0.1:0".to_owned());
    let log = match plan.log {
        AccessLog::Off => "off",
        AccessLog::Text => "text",
        AccessLog::Json => "json",
    };
    add("--access-log", log.to_owned());
    add("--threads", plan.threads.to_string());
    if plan.protocols.tls {
        add("--tls-cert", plan.certificate.chain.display().to_string());
        add("--tls-key", plan.certificate.key.display().to_string());
    }
    if plan.protocols.endpoint == Http::Two {
        add("--upstream-protocol", "h2".to_owned());
    }
    match plan.file {
        Some(file) => add("--endpoints-file", file.display().to_string()),
        None => add("--endpoints", plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    }
    let work = plan.work.display().to_string();
    command.extend(plan.flags.iter().map(|flag| flag.replace(WORK, &work)));
    Ok(command)
}

/// A number of its metrics, over all series of that name.
pub(super) fn metric(log: &Path, name: &str) -> anyhow::Result<f64> {
    let log = fs::read_to_string(log).context("its log is there")?;
    let admin = admin_in(&log).context("it has an admin API")?;
    Ok(sum(&get(admin, "/metrics")?, name))
}

/// The sum over all series of that name.
pub(crate) fn sum(metrics: &str, name: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}

/// What its admin API answers, head and body. By HTTP/1.0, in which no sizes of chunks stand between the lines.
pub(crate) fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, START_TIMEOUT)?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Waits until it is ready. Returns the address of its admin API.
pub(crate) fn ready(kept: &Kept, log: &Path) -> anyhow::Result<SocketAddr> {
    let until = Instant::now() + START_TIMEOUT;
    loop {
        let admin = admin_in(&fs::read_to_string(log).unwrap_or_default());
        let answer = admin.and_then(|admin| get(admin, "/-/ready").ok());
        if let (Some(admin), Some(true)) = (admin, answer.map(|answer| answer.starts_with("HTTP/1.0 200"))) {
            return Ok(admin);
        }
        if let Some(how) = kept.ended() {
            bail!("{how}: {}", super::tail(log));
        }
        if Instant::now() > until {
            bail!("is not ready after {START_TIMEOUT:?}: {}", super::tail(log));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn admin_in(log: &str) -> Option<SocketAddr> {
    log.lines().find(|line| line.contains("for the admin API")).and_then(address_in)
}

/// The address in a line of its log.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("://").nth(1)?.split(' ').next()?.parse().ok()
}

/// Its address, from its log.
pub(super) fn address(kept: &Kept, log: &Path) -> anyhow::Result<SocketAddr> {
    let until = Instant::now() + START_TIMEOUT;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let listening = text.lines().find(|line| line.contains(" to broadcast"));
        if let Some(line) = listening {
            return address_in(line).context("no address in the log");
        }
        if let Some(how) = kept.ended() {
            bail!("{how}: {}", super::tail(log));
        }
        if Instant::now() > until {
            bail!("does not listen after {START_TIMEOUT:?}: {}", super::tail(log));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_may_have_a_label() {
        let plain = Binary::parse("/a/fanfare");
        let labelled = Binary::parse("before=/a/fanfare");
        assert_eq!((plain.label.as_str(), labelled.label.as_str()), ("fanfare", "before"));
        assert_eq!(plain.path, labelled.path);
        assert!(plain.find().is_err());
    }
}
