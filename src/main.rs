//! The binary: reads the command line, does what it asks, and turns the result into an exit status.

mod app;
mod cli;
mod config;
mod demo;
mod reload;
mod roles;
mod routes_gate;
mod settings;
mod sources;

use std::process::ExitCode;

use cli::Role;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The status for arguments or a configuration that cannot be used: `EX_USAGE` of sysexits.h.
const UNUSABLE: u8 = 64;

fn main() -> ExitCode {
    // First of all: whatever makes a TLS connection later takes the process's default provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("fanfare: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let role = match cli::parse(std::env::args_os()) {
        Ok(role) => role,
        Err(error) => {
            // Nobody is left to tell where the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { UNUSABLE.into() } else { ExitCode::SUCCESS };
        }
    };
    let done = match role {
        Role::Broadcast(flags) => roles::broadcast(&flags),
        Role::Run(run) => roles::run(&run.config),
        Role::Check(check) => roles::check(&check.config),
        Role::Demo(demo) => roles::demo(&demo),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fanfare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
