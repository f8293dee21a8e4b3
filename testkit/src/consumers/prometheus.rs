//! Prometheus, and promtool, which reads its files as it does.

use std::{fs, process::Command};

use super::{Consumer, check, installed};
use crate::client;

/// Starts Prometheus with this configuration. `/api/v1/targets` tells what it has found.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn prometheus(config: &str) -> Consumer {
    prometheus_with(config, &[]).await
}

/// The same, with further flags.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn prometheus_with(config: &str, flags: &[&str]) -> Consumer {
    let program = installed("prometheus");
    let prometheus = Consumer::start(&program, |folder, address| {
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).expect("a temporary file can be written");
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args
    })
    .await;
    // It listens before it answers.
    let ready = async || client::get(prometheus.address(), "/-/ready").await.status;
    crate::eventually!("Prometheus to be ready", ready().await, |status| *status == 200);
    prometheus
}

/// Runs promtool and returns what it says.
///
/// # Errors
/// What it writes, where the check failed.
///
/// # Panics
/// Where it is not installed.
pub fn promtool(args: &[&str]) -> Result<String, String> {
    check(Command::new(installed("promtool")).args(args))
}
