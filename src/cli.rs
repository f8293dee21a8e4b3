//! The command line: one subcommand per role, and errors about its arguments.

mod broadcast;
mod commands;
mod dashes;
mod discover;
mod flags;
mod mirror;
mod send;
mod status;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches as _};

pub(crate) use commands::{Check, Completions, Demo, Man, Output, Run};
pub(crate) use flags::Flags;
pub(crate) use mirror::CoreDns;
pub(crate) use send::{PASS, Send};
pub(crate) use status::Status;

use crate::settings::{ROLES, Role, environment::Environment};

/// The command of the process.
#[derive(Debug)]
pub(crate) enum Task {
    /// One role, configured by flags.
    Serve(Flags),
    /// Print the configuration of CoreDNS for mirrors.
    CoreDns(CoreDns),
    /// One request to every endpoint.
    Send(Box<Send>),
    /// Show the state of a process.
    Status(Status),
    /// All roles of a file.
    Run(Run),
    /// Print the faults of a file.
    Check(Check),
    /// Print the completions of a shell.
    Completions(Completions),
    /// Write manual pages.
    Man(Man),
    /// Show a broadcast without anything installed.
    Demo(Demo),
}

/// Reads the command line.
///
/// # Errors
/// The text for the user: help, the version, or the faults of the arguments.
pub(crate) fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Task, clap::Error> {
    parse_with(arguments, &Environment::of_process())
}

pub(crate) fn parse_with<T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
    environment: &Environment,
) -> Result<Task, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if arguments.get(1).is_some_and(|first| is_flag_of_a_role(first)) {
        arguments.insert(1, "broadcast".into());
    }
    let role = arguments.get(1).and_then(|name| Role::named(name.to_str()?));
    if let Some(role) = role {
        arguments = dashes::normalise(role, arguments);
    }
    let matches = command().try_get_matches_from(arguments)?;
    task(&matches, environment)
}

/// Whether the command line begins with a flag that is not one of the program itself. The tool that `broadcast` replaces
/// has no subcommands, and its users are to change nothing but the image.
fn is_flag_of_a_role(first: &std::ffi::OsStr) -> bool {
    let first = first.as_encoded_bytes();
    first.starts_with(b"-") && !matches!(first, b"-h" | b"--help" | b"-V" | b"--version")
}

/// The complete command line.
pub(crate) fn command() -> Command {
    use clap::CommandFactory as _;
    let about = "Sends one HTTP request to every ready endpoint of a service and gives back one answer";
    Command::new("fanfare")
        .version(runtime::build_info::line())
        .about(about)
        .after_help("Try it now, with nothing installed:  fanfare demo")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
        .subcommands(ROLES.iter().map(subcommand))
        .subcommand(send::command())
        .subcommand(status::command())
        .subcommand(Run::command().name("run"))
        .subcommand(commands::check())
        .subcommand(Demo::command().name("demo"))
        .subcommand(Completions::command().name("completions"))
        .subcommand(Man::command().name("man"))
}

/// The subcommand of a role.
fn subcommand(role: &'static Role) -> Command {
    match role.name {
        "mirror" => mirror::command(role),
        _ => flags::command(role),
    }
}

fn task(matches: &ArgMatches, environment: &Environment) -> Result<Task, clap::Error> {
    let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
    let (name, matches) = matches.subcommand().ok_or_else(missing)?;
    match name {
        "send" => send::read(matches, environment).map(|send| Task::Send(Box::new(send))),
        "status" => status::read(matches).map(Task::Status),
        "run" => Run::from_arg_matches(matches).map(Task::Run),
        "check" => commands::read_check(matches).map(Task::Check),
        "demo" => Demo::from_arg_matches(matches).map(Task::Demo),
        "completions" => Completions::from_arg_matches(matches).map(Task::Completions),
        "man" => Man::from_arg_matches(matches).map(Task::Man),
        _ => {
            let role = Role::named(name).ok_or_else(missing)?;
            // The one subcommand that a role has: it takes the role's flags.
            let coredns = matches.subcommand().filter(|(name, _)| *name == mirror::COREDNS).map(|(_, matches)| matches);
            let matches = coredns.unwrap_or(matches);
            let mut flags = Flags::new(role, matches, environment);
            match role.name {
                "broadcast" => broadcast::amend(&mut flags, matches, environment),
                "discover" => discover::amend(&mut flags, environment),
                "mirror" => mirror::amend(&mut flags, environment),
                _ => {}
            }
            Ok(match coredns {
                Some(matches) => Task::CoreDns(mirror::coredns(flags, matches)),
                None => Task::Serve(flags),
            })
        }
    }
}
