//! Commands at the beginning and the end of this process's terms.

use std::time::Duration;

use controlplane::lease::{Ending, Term, TermEvent, Terms};
use runtime::boot_time::BootTime;
use tracing::{info, warn};

use crate::command::{CommandLine, Running};

/// What is left for the process to give the lease back in, after the stop command was killed.
const RELEASE: Duration = Duration::from_millis(500);

/// The longest that a stop command may take where the process ends in order, so that the whole release stays below 3 s.
const IN_ORDER: Duration = Duration::from_secs(2);

/// The commands of one election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Started when a term of this process begins, and ended with it.
    pub on_start: Option<CommandLine>,
    /// Started when a term has ended. It is finished, or killed, before anybody else can lead.
    pub on_stop: Option<CommandLine>,
}

/// Runs them for every term until the elector has ended.
pub async fn run(hooks: Hooks, election: String, mut terms: Terms) {
    let mut started: Option<Running> = None;
    while let Some(event) = next(&mut terms, &mut started, &election).await {
        match event {
            TermEvent::Began(term) => started = start(hooks.on_start.as_ref(), &election, &term),
            TermEvent::Ended(ending) => end(&hooks, &election, &ending, started.take()).await,
        }
    }
    if let Some(running) = started {
        running.stop_by(BootTime::now() + IN_ORDER).await;
    }
}

/// The next event. A start command that ends meanwhile is told of.
async fn next(terms: &mut Terms, started: &mut Option<Running>, election: &str) -> Option<TermEvent> {
    loop {
        let Some(running) = started else { return terms.next().await };
        tokio::select! {
            event = terms.next() => return event,
            ended = running.ended() => {
                match ended {
                    Ok(status) if status.success() => info!(election, "the start command has ended"),
                    Ok(status) => warn!(election, %status, "the start command has failed"),
                    Err(error) => warn!(election, %error, "the start command has been lost"),
                }
                *started = None;
            }
        }
    }
}

async fn end(hooks: &Hooks, election: &str, ending: &Ending, started: Option<Running>) {
    let stop_by = ending.stop_by.min(BootTime::now() + IN_ORDER) - RELEASE;
    // Both at once: the stop command may be what makes the other one end.
    let stop = start(hooks.on_stop.as_ref(), election, &ending.term);
    let both = async {
        if let Some(running) = started {
            running.stop_by(stop_by).await;
        }
    };
    let stopped = async {
        let Some(running) = stop else { return };
        match running.end_by(stop_by).await {
            Some(status) if status.success() => {}
            Some(status) => warn!(election, %status, "the stop command has failed"),
            None => warn!(election, "the stop command took too long and was killed"),
        }
    };
    tokio::join!(both, stopped);
}

fn start(command: Option<&CommandLine>, election: &str, term: &Term) -> Option<Running> {
    let command = command?;
    let transitions = term.transitions.to_string();
    let variables = [
        ("FANFARE_ELECTION", election),
        ("FANFARE_LEASE_UID", &*term.uid),
        ("FANFARE_TRANSITIONS", transitions.as_str()),
    ];
    match command.start(&variables) {
        Ok(running) => {
            info!(election, %command, "started");
            Some(running)
        }
        Err(error) => {
            warn!(election, %error, "a command cannot be started");
            None
        }
    }
}
