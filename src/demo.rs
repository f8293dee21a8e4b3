//! `fanfare demo`: three origins, the broadcaster in front of them, a self-check, and commands to try. Everything is real except
//! for the origins' errors.

mod check;
mod client;
mod origin;
mod row;
mod screen;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use runtime::{
    signal::Request,
    systemd::PassedSockets,
    telemetry::{self, Format, Level},
};
use tokio::sync::mpsc;

use crate::{app::BoundProcess, cli::Demo, config::Config};
use origin::Origin;
use screen::Screen;

/// The addresses of everything.
struct Stage {
    origins: [Origin; 3],
    broadcaster: SocketAddr,
    admin: SocketAddr,
}

/// The names of the origins, in the order of their addresses.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// The time limit for the broadcaster to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the demo until a signal asks for its end. Returns whether the self-check passed.
pub(crate) async fn run(arguments: &Demo, mut signals: mpsc::Receiver<Request>) -> anyhow::Result<bool> {
    // No warnings, because the origins fail on purpose.
    let telemetry = telemetry::init(Level::Error, Format::Text);
    runtime::limits::raise_open_files();
    let origins = Origin::start(NAMES).await.context("cannot start the origins")?;
    let bound =
        BoundProcess::bind(config(arguments.interface, &origins)?, &telemetry, PassedSockets::default()).await?;
    let admin = bound.admin_address().context("the demo has an admin API")?;
    let mut stage = Stage { broadcaster: bound.addresses()[0], admin, origins };
    let readiness = bound.readiness();
    let (ask, asked) = mpsc::channel(1);
    let mut running = tokio::spawn(bound.run(asked, None));

    let screen = Screen::new();
    screen.introduction(&stage);
    let passed = tokio::select! {
        ready = tokio::time::timeout(START_TIMEOUT, readiness.ready()) => {
            ready.map_err(|_| anyhow::anyhow!("not ready: {}", readiness.check().err().unwrap_or_default()))?;
            tokio::select! {
                passed = check::run(&mut stage, &screen) => passed?,
                _ = signals.recv() => return Ok(false),
            }
        }
        ended = &mut running => anyhow::bail!("the broadcaster has ended: {ended:?}"),
        _ = signals.recv() => return Ok(false),
    };
    if !arguments.once {
        screen.lines_to_try(&stage);
        tokio::select! {
            _ = signals.recv() => screen.goodbye(),
            ended = &mut running => anyhow::bail!("the broadcaster has ended: {ended:?}"),
        }
    }
    ask.send(Request::Drain).await.context("the broadcaster has ended")?;
    tokio::select! {
        ended = &mut running => { ended??; }
        _ = signals.recv() => {}
    }
    Ok(passed)
}

/// The demo's configuration is a file like any other.
fn config(listen: SocketAddr, origins: &[Origin; 3]) -> anyhow::Result<Config> {
    let endpoints = origins.iter().map(|origin| origin.address().to_string()).collect::<Vec<_>>().join(", ");
    let file = format!(
        "
admin: {{listen: '127.0.0.1:0'}}
threads: 2
access_log: 'off'
drain_timeout: 2s
broadcast:
  - listen: '{listen}'
    routes:
      - {{name: any, match: {{path: /any/*}}, require: any, to: &origins {{endpoints: ['{endpoints}']}}}}
      - {{name: majority, match: {{path: /majority/*}}, require: majority, to: *origins}}
      - {{name: all, require: all, to: *origins}}
"
    );
    Config::parse(file.as_bytes()).context("the demo's own configuration")
}
