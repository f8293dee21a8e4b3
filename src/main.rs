//! The binary: parses the command line, runs the command, and turns the result into an exit status.

mod access;
mod app;
mod broadcast;
mod cli;
mod columns;
mod config;
mod demo;
mod events;
#[cfg(test)]
mod examples;
mod identity;
mod jobs;
mod kubernetes;
mod leader;
mod page;
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
        eprintln!("fanfare: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    runtime::build_info::set_commit(option_env!("FANFARE_COMMIT"));
    let task = match cli::parse(std::env::args_os()) {
        Ok(task) => task,
        Err(error) => {
            // A write error on the terminal cannot be reported.
            let _ = error.print();
            return if error.use_stderr() { UNUSABLE.into() } else { ExitCode::SUCCESS };
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
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanfare: {}", runtime::redact::urls(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
