//! The binary: parses the command line, runs the command, and turns the result into an exit status.

// `console` writes without a panic where nobody reads.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

mod access;
mod app;
mod broadcast;
mod cli;
mod columns;
mod config;
mod console;
mod demo;
mod events;
#[cfg(test)]
mod examples;
mod identity;
mod jobs;
mod kubernetes;
mod leader;
mod memory;
mod page;
mod parts;
mod reload;
mod roles;
mod routes_gate;
mod samples;
mod send;
mod settings;
mod shared;
mod sources;
mod status;
mod tasks;

use std::process::ExitCode;

use cli::Task;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The status for arguments or a configuration that cannot be used: `EX_USAGE` of sysexits.h.
const UNUSABLE: u8 = 64;

fn main() -> ExitCode {
    // First of all, because TLS libraries use the default provider of the process.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        console::tell("fanfare: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    runtime::build_info::set_commit(option_env!("FANFARE_COMMIT"));
    let task = match cli::parse(std::env::args_os()) {
        Ok(task) => task,
        Err(error) => {
            let printed = error.print();
            return match (error.use_stderr(), printed) {
                (true, _) => UNUSABLE.into(),
                (false, Ok(())) => ExitCode::SUCCESS,
                (false, Err(why)) => console::failed(&console::Unwritable::from(why).into()),
            };
        }
    };
    let done = match task {
        Task::Serve(flags) => tasks::serve(&flags),
        Task::CoreDns(arguments) => tasks::coredns::print(&arguments),
        Task::Send(send) => tasks::send(&send),
        Task::Status(status) => tasks::status(&status),
        Task::Run(run) => tasks::run(run.file.path()),
        Task::Check(check) => tasks::check::print(&check),
        Task::Completions(completions) => tasks::completions(&completions),
        Task::Man(man) => tasks::man(&man),
        Task::Demo(demo) => tasks::demo(&demo),
    };
    done.unwrap_or_else(|error| console::failed(&error))
}
