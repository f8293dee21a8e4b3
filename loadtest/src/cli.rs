//! The command line, with the hidden commands by which the harness starts its own child processes.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

/// Measures Fanfare side by side with a bare loop of system calls and with other proxies.
#[derive(Debug, Parser)]
#[command(max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure, print a table, write results.json, results.md and chart.svg.
    Run(Run),
    /// Name the scenarios.
    List,
    /// Show what changed from one results.json to another.
    Compare(Compare),
    /// Write the tables of README.md and docs/performance.md anew from a results.json.
    Tables(Tables),
    /// Serve the endpoints of a turn.
    #[command(hide = true)]
    Endpoints(Endpoints),
    /// Serve the bare loop.
    #[command(hide = true)]
    Bare(Bare),
    /// Make load, controlled by standard input.
    #[command(hide = true)]
    Load,
    /// Run a command until standard input ends.
    #[command(hide = true)]
    Keep(Keep),
}

/// The options of a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Scenarios by name or by the beginning of their name (`tiny`); none: all.
    pub(crate) scenarios: Vec<String>,
    /// The same, as a list: `--scenario tls,h2,grpc`.
    #[arg(long = "scenario", value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) more_scenarios: Vec<String>,
    /// How often every subject has its turn [default: 5].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: Option<u16>,
    /// How long one measurement takes, in seconds [default: 3, in a quick run 1].
    #[arg(short, long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// How long a subject is warmed up before it is measured, in seconds [default: 1, in a quick run 0.5].
    #[arg(long, value_parser = seconds)]
    pub(crate) warmup: Option<f64>,
    /// Measure this binary instead of the one of this workspace; several to compare them in turns.
    #[arg(long, value_name = "[LABEL=]PATH")]
    pub(crate) fanfare: Vec<String>,
    /// Only these of bare, fanfare, nginx, envoy, traefik, pingora, go-tool. The bare loop always takes part.
    #[arg(long, value_delimiter = ',')]
    pub(crate) subjects: Vec<String>,
    /// Which endpoints answer where nothing but answering is asked of them.
    #[arg(long, value_enum, default_value_t = Kind::Own)]
    pub(crate) endpoints: Kind,
    /// Where the results go [default: loadtest/results/DATE-MACHINE].
    #[arg(short, long)]
    pub(crate) out: Option<PathBuf>,
    /// Who shares cores with whom.
    #[arg(long, value_enum, default_value_t = Placing::Scenario)]
    pub(crate) cores: Placing,
    /// Measure only Fanfare and the bare loop, in a few scenarios, and fail where a ratio is worse than the kept one by more than
    /// its noise. Takes a few minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Keep the ratios of this quick run instead of comparing it with the kept ones.
    #[arg(long, requires = "quick")]
    pub(crate) keep: bool,
    /// The file of the kept ratios [default: loadtest/ratios.json].
    #[arg(long, value_name = "FILE", requires = "quick")]
    pub(crate) ratios: Option<PathBuf>,
    /// Write the tables of README.md and docs/performance.md anew from the results of this run.
    #[arg(long, conflicts_with = "quick")]
    pub(crate) markdown: bool,
}

impl Run {
    /// How often every subject has its turn.
    pub(crate) fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(5)
    }

    /// Seconds of one measurement.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(3.0)
    }

    /// Seconds of a warm-up.
    pub(crate) fn warmup(&self) -> f64 {
        self.warmup.unwrap_or(1.0)
    }
}

/// The arguments of `tables`.
#[derive(Debug, Args)]
pub(crate) struct Tables {
    /// The results.json of a run.
    pub(crate) results: PathBuf,
    /// The pages to write tables into [default: README.md and docs/performance.md].
    pub(crate) pages: Vec<PathBuf>,
}

/// Which endpoints answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The harness's own, which count every copy per endpoint.
    Own,
    /// One nginx process, which counts all copies together.
    Nginx,
}

/// Who shares cores with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Placing {
    /// As fits each scenario.
    Scenario,
    /// Subject, endpoints and load on one core.
    Together,
    /// The subject on cores of its own.
    Apart,
    /// As the scheduler likes.
    Any,
}

/// The arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    pub(crate) before: PathBuf,
    pub(crate) after: PathBuf,
}

/// The number of endpoints, and the special ones.
#[derive(Debug, Args)]
pub(crate) struct Endpoints {
    #[arg(long)]
    pub(crate) count: usize,
    /// `index:slow:<ms>`, `index:silent` or `index:dropped`.
    #[arg(long)]
    pub(crate) special: Vec<String>,
}

/// Where the bare loop writes to.
#[derive(Debug, Args)]
pub(crate) struct Bare {
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) endpoints: Vec<SocketAddr>,
}

/// A command and where its output goes.
#[derive(Debug, Args)]
pub(crate) struct Keep {
    #[arg(long)]
    pub(crate) log: PathBuf,
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("not a number: {error}"))?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("must be from 0.1 to 600 seconds".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["loadtest", "run", "tiny", "--seconds", "0"]).is_err());
        assert!(
            Cli::try_parse_from(["loadtest", "run", "tiny-n1", "--rounds", "2", "--subjects", "bare,nginx"]).is_ok()
        );
    }
}
