//! Measurements of whole processes, side by side: Fanfare, the bare loop of system calls, and other proxies, in turns.
//!
//! ```text
//! run -> scenario -> round -> turn: endpoints + subject + load -> metrics -> ratios to the bare loop -> table, chart, JSON
//! ```
//!
//! The modules in that order: [`cli`], [`scenario`], [`run`], [`turn`], then the processes of a turn ([`endpoints`], [`subject`],
//! [`bare`], [`load`], [`journal`]), their start and their resource usage ([`process`], [`protocols`], [`cores`], [`accounting`], [`probe`]),
//! and the evaluation ([`metric`], [`results`], [`bar`], [`table`], [`pages`], [`chart`], [`compare`], [`quick`]).

mod accounting;
mod bar;
mod bare;
mod chart;
mod cli;
mod clock;
mod compare;
mod cores;
mod endpoints;
mod journal;
mod keep;
mod load;
mod machine;
mod many;
mod metric;
mod pages;
mod probe;
mod process;
mod protocols;
mod quick;
mod results;
mod run;
mod scenario;
mod startup;
mod subject;
mod table;
mod turn;
mod wire;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    match cli::Cli::parse().command {
        cli::Command::Run(run) => run::run(&run),
        cli::Command::Tables(tables) => pages::command(&tables.results, &tables.pages),
        cli::Command::List => {
            scenario::all(&[]).iter().for_each(|scenario| println!("{:16} {}", scenario.name, scenario.about));
            Ok(())
        }
        cli::Command::Compare(files) => compare::compare(&files.before, &files.after),
        cli::Command::Endpoints(arguments) => endpoints::serve(&arguments),
        cli::Command::Bare(arguments) => bare::serve(&arguments.endpoints),
        cli::Command::Load => load::serve(),
        cli::Command::Keep(arguments) => keep::keep(&arguments.log, arguments.output.as_deref(), &arguments.command),
    }
}
