//! `fanfare status`: shows the state of a process from its admin listener, as tables or JSON.

mod admin;
mod page;

use std::{io, process::ExitCode, time::Duration};

use runtime::signal::Request;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::{
    cli::{Output, Status},
    console,
    page::MOST_ENDPOINTS,
};
use admin::Admin;

/// The interval of `--watch`.
const REFRESH: Duration = Duration::from_secs(2);

/// Reads and prints the state; with `--watch` repeatedly until a signal, also while the process is not there.
///
/// # Errors
/// The admin listener does not answer, with `--watch` the first time, or standard output is closed.
pub(crate) async fn run(
    arguments: &Status,
    signals: impl FnOnce() -> io::Result<mpsc::Receiver<Request>>,
) -> anyhow::Result<ExitCode> {
    // It reads files, among them what its caller writes: until then a signal ends the process by itself.
    let admin = Admin::new(arguments)?;
    let mut signals = signals()?;
    // Why there is no answer now, after there was one.
    let (mut is_first, mut failure) = (true, None);
    loop {
        let status = tokio::select! {
            status = gather(&admin) => status,
            _ = signals.recv() => return Ok(ExitCode::SUCCESS),
        };
        match status {
            Ok(status) => {
                page::print(arguments, &status)?;
                (is_first, failure) = (false, None);
            }
            Err(error) if is_first => return Err(error),
            Err(error) => {
                let why = console::why(&error);
                if failure.as_ref() != Some(&why) {
                    console::tell(format_args!("{why}; asking again every {REFRESH:?}"));
                    failure = Some(why);
                }
            }
        }
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            _ = signals.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The data of the live page, with the address of the listener.
async fn gather(admin: &Admin) -> anyhow::Result<Value> {
    let text = admin.get(&format!("/-/overview?limit={MOST_ENDPOINTS}")).await?;
    let overview = serde_json::from_str::<Map<String, Value>>(&text).ok();
    // Every version has said which one it is; other programs answer with JSON, too.
    let Some(mut overview) = overview.filter(|overview| overview.get("version").is_some_and(Value::is_string)) else {
        anyhow::bail!("{} answers, but not as an admin listener of fanfare", admin.address());
    };
    overview.insert("admin".to_owned(), admin.address().into());
    Ok(overview.into())
}

/// Whether the output is JSON.
fn is_json(arguments: &Status) -> bool {
    arguments.output == Output::Json
}
