//! Commands that run when this process's terms begin and end.

use std::{fmt, str::FromStr, time::Duration};

use ::metrics::{counter, gauge};
use controlplane::lease::{Election, Ending, Term, TermEvent, Terms};
use runtime::{boot_time::BootTime, readiness::Gate};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::metrics as names;
use crate::command::{CommandLine, Running};

/// The time that is left for the release of the lease after the stop command was killed.
const TIME_FOR_RELEASE: Duration = Duration::from_millis(500);

/// The longest time of a stop command when the process drains, so that the whole release takes less than 3 s.
const MAX_STOP_TIME: Duration = Duration::from_secs(2);

/// The commands of one election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Started when a term of this process begins, and ended with it.
    pub on_start: Option<CommandLine>,
    /// What happens if that command ends before the term does, or cannot be started.
    pub on_start_exit: OnStartExit,
    /// Started when a term has ended. It has finished, or is killed, before anybody else can lead.
    pub on_stop: Option<CommandLine>,
}

/// What happens if the start command ends before the term does, or cannot be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStartExit {
    /// This process continues to lead. For commands that do something once.
    Keep,
    /// It steps down, so that another process can run the command.
    #[default]
    StepDown,
    /// The process drains and exits.
    Exit,
}

/// The text is not an [`OnStartExit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write keep, step-down or exit")]
pub struct InvalidOnStartExit;

/// The dependencies of an election's commands.
pub struct HookContext {
    /// The election.
    pub election: Election,
    /// Not ready while the last start command has failed.
    pub gate: Gate,
    /// Receives the reason why the process is to exit.
    pub exit: oneshot::Sender<String>,
}

/// The commands of a running election.
struct RunningHooks {
    hooks: Hooks,
    name: String,
    election: Election,
    gate: Gate,
    exit: Option<oneshot::Sender<String>>,
}

/// How a start command ended before its term.
enum Ended {
    Well,
    Failed(String),
    NotStarted(String),
}

/// Runs the commands for every term until the elector has ended.
pub async fn run(hooks: Hooks, about: HookContext, mut terms: Terms) {
    let HookContext { election, gate, exit } = about;
    let mut hooked = RunningHooks { hooks, name: election.name().to_owned(), election, gate, exit: Some(exit) };
    hooked.show();
    let mut started: Option<Running> = None;
    loop {
        let Some(running) = &mut started else {
            match terms.next().await {
                Some(event) => started = hooked.follow(event, None).await,
                None => return,
            }
            continue;
        };
        // Biased: a command that ends together with its term has not ended early.
        let event = tokio::select! {
            biased;
            event = terms.next() => event,
            status = running.ended() => {
                let ended = match status {
                    Ok(status) if status.success() => Ended::Well,
                    Ok(status) => Ended::Failed(status.to_string()),
                    Err(error) => Ended::Failed(error.to_string()),
                };
                started = None;
                hooked.ended(&ended);
                continue;
            }
        };
        match (event, started.take()) {
            (Some(event), running) => started = hooked.follow(event, running).await,
            (None, Some(running)) => return running.stop_by(BootTime::now() + MAX_STOP_TIME).await,
            (None, None) => return,
        }
    }
}

// === impl RunningHooks ===

impl RunningHooks {
    /// Shows all counters as 0 from the start, so that a first increase is visible.
    fn show(&self) {
        self.gate.set_ready();
        if self.hooks.on_start.is_none() {
            return;
        }
        self.running(false);
        for ended in [Ended::Well, Ended::Failed(String::new()), Ended::NotStarted(String::new())] {
            counter!(names::START_COMMAND_ENDS, "name" => self.name.clone(), "result" => ended.result()).increment(0);
        }
    }

    fn running(&self, runs: bool) {
        if self.hooks.on_start.is_some() {
            gauge!(names::START_COMMAND_RUNNING, "name" => self.name.clone()).set(u8::from(runs));
        }
    }

    /// Handles the beginning or the end of a term. Returns the running start command, if there is one.
    async fn follow(&mut self, event: TermEvent, running: Option<Running>) -> Option<Running> {
        let term = match event {
            TermEvent::Began(term) => term,
            TermEvent::Ended(ending) => {
                self.running(false);
                end(&self.hooks, &self.name, &ending, running).await;
                return None;
            }
        };
        match start(self.hooks.on_start.as_ref()?, &self.name, &term) {
            Ok(running) => {
                self.running(true);
                self.gate.set_ready();
                Some(running)
            }
            Err(error) => {
                self.ended(&Ended::NotStarted(error.to_string()));
                None
            }
        }
    }

    /// Handles a start command that ended before its term or could not be started.
    fn ended(&mut self, ended: &Ended) {
        let (election, policy) = (&self.name, self.hooks.on_start_exit);
        self.running(false);
        counter!(names::START_COMMAND_ENDS, "name" => election.clone(), "result" => ended.result()).increment(1);
        match ended {
            Ended::Well => info!(election, "the start command {ended}, and this process still leads: {policy}"),
            _ => {
                warn!(election, "the start command {ended}, and this process still leads: {policy}");
                self.gate.set_not_ready(format!("the start command {ended}"));
            }
        }
        match policy {
            OnStartExit::Keep => {}
            OnStartExit::StepDown => {
                // In a task of its own, because the end of the term waits for this one.
                let stepping = self.election.clone();
                tokio::spawn(async move { stepping.step_down().await });
            }
            OnStartExit::Exit => {
                error!(election, "the process ends, because the start command {ended}");
                if let Some(exit) = self.exit.take() {
                    // Without a receiver the process is exiting already.
                    let _ = exit.send(format!("the start command of election {election} {ended}"));
                }
            }
        }
    }
}

async fn end(hooks: &Hooks, election: &str, ending: &Ending, started: Option<Running>) {
    let stop_by = ending.stop_by.min(BootTime::now() + MAX_STOP_TIME) - TIME_FOR_RELEASE;
    // Concurrently, because the stop command may be what makes the start command end.
    let stop = hooks.on_stop.as_ref().map(|command| start(command, election, &ending.term));
    let both = async {
        if let Some(running) = started {
            running.stop_by(stop_by).await;
        }
    };
    let stopped = async {
        let running = match stop {
            Some(Ok(running)) => running,
            Some(Err(error)) => return warn!(election, %error, "the stop command cannot be started"),
            None => return,
        };
        match running.end_by(stop_by).await {
            Some(status) if status.success() => {}
            Some(status) => warn!(election, %status, "the stop command has failed"),
            None => warn!(election, "the stop command took too long and was killed"),
        }
    };
    tokio::join!(both, stopped);
}

fn start(command: &CommandLine, election: &str, term: &Term) -> std::io::Result<Running> {
    let transitions = term.transitions.to_string();
    let variables = [
        ("FANFARE_ELECTION", election),
        ("FANFARE_LEASE_UID", &*term.uid),
        ("FANFARE_TRANSITIONS", transitions.as_str()),
    ];
    let running = command.start(&variables)?;
    info!(election, %command, "started");
    Ok(running)
}

// === impl Ended ===

impl Ended {
    /// The value of the metric's label.
    fn result(&self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Failed(_) => "failed",
            Self::NotStarted(_) => "not_started",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("has ended"),
            Self::Failed(how) => write!(f, "has failed ({how})"),
            Self::NotStarted(why) => write!(f, "could not be started ({why})"),
        }
    }
}

// === impl Hooks ===

impl Hooks {
    /// Whether there are no commands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.on_start.is_none() && self.on_stop.is_none()
    }
}

// === impl OnStartExit ===

impl OnStartExit {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::StepDown => "step-down",
            Self::Exit => "exit",
        }
    }
}

impl fmt::Display for OnStartExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OnStartExit {
    type Err = InvalidOnStartExit;

    fn from_str(text: &str) -> Result<Self, InvalidOnStartExit> {
        [Self::Keep, Self::StepDown, Self::Exit].into_iter().find(|one| one.as_str() == text).ok_or(InvalidOnStartExit)
    }
}
