//! `fanfare status`: shows the state of a process from its admin listener, as tables or JSON.

mod admin;
mod page;
mod samples;

use std::{process::ExitCode, time::Duration};

use runtime::signal::Request;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::{Output, Status};
use admin::Admin;
use samples::Samples;

/// The interval of `--watch`.
const REFRESH: Duration = Duration::from_secs(2);

/// Reads and prints the state; with `--watch` repeatedly until a signal.
///
/// # Errors
/// The admin listener does not answer, or standard output is closed.
pub(crate) async fn run(arguments: &Status, mut signals: mpsc::Receiver<Request>) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(arguments)?;
    loop {
        let status = tokio::select! {
            status = gather(&admin) => status?,
            _ = signals.recv() => return Ok(ExitCode::SUCCESS),
        };
        page::print(arguments, &status)?;
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            _ = signals.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The combined data of the admin listener.
async fn gather(admin: &Admin) -> anyhow::Result<Value> {
    let ready = admin.get("/-/ready").await?;
    // Every process has both, but a listener with tokens answers other paths only with a token.
    let metrics = admin.get("/metrics").await?.text_of("/metrics")?;
    let endpoints = admin.get("/-/endpoints").await?;
    let jobs = admin.get("/-/jobs?state=owed&limit=100").await?;
    let samples = Samples::read(&metrics);
    let why = ready.text.trim().trim_start_matches("NOT READY: ").to_owned();
    let endpoints: Value = serde_json::from_str(&endpoints.text).unwrap_or_default();
    let jobs: Value = if jobs.is_ok() { serde_json::from_str(&jobs.text).unwrap_or_default() } else { Value::Null };
    Ok(json!({
        "admin": admin.address(),
        "version": samples.label("fanfare_build_info", "version"),
        "ready": ready.is_ok(),
        "why": if ready.is_ok() { Value::Null } else { why.into() },
        "config_in_force": samples.first("fanfare_config_in_force").map(|value| value > 0.0),
        "routes": endpoints["routes"].as_array().cloned().unwrap_or_default(),
        "watches": samples.rows(&[("fanfare_watch_age_seconds", "age_seconds")]),
        "lists": samples.rows(&[("fanfare_endpoint_url_age_seconds", "age_seconds"), ("fanfare_endpoints_age_seconds", "age_seconds")]),
        "owed": samples.rows(&[("fanfare_deliveries_owed", "owed")]),
        "jobs": jobs,
        "elections": samples.elections(),
        "exports": samples.rows(&[("fanfare_export_in_sync", "in_sync")]),
        "bridges": samples.rows(&[("fanfare_bridge_in_sync", "in_sync")]),
        "mirrors": samples.rows(&[
            ("fanfare_mirror_remote_in_sync", "in_sync"),
            ("fanfare_mirror_remote_staleness_seconds", "staleness_seconds"),
            ("fanfare_mirror_remote_services", "services"),
        ]),
    }))
}

/// Whether the output is JSON.
fn is_json(arguments: &Status) -> bool {
    arguments.output == Output::Json
}
