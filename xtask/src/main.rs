//! Development tasks. `cargo xtask check` is the quick lane: all checks that do not need the built test peers.

use std::{
    env,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// One step of the quick lane.
struct Step {
    /// Its name in the output.
    name: &'static str,
    /// The arguments of `cargo`.
    arguments: &'static [&'static str],
    /// An environment variable that the step needs.
    variable: Option<(&'static str, &'static str)>,
}

/// The quick lane, cheapest first. The tests are those that need neither Kubernetes, stores, DNS servers nor load balancers:
/// pure logic, and real sockets on loopback.
const CHECK: &[Step] = &[
    Step { name: "format", arguments: &["fmt", "--all", "--check"], variable: None },
    Step {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
        variable: None,
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--quiet"],
        variable: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    Step {
        name: "tests of the data plane and the crates that it depends on",
        arguments: &["test", "--quiet", "-p", "snapshot", "-p", "runtime", "-p", "h2client", "-p", "proxy"],
        variable: None,
    },
    // Its simulations of long histories take longer than all other pure tests together.
    Step {
        name: "pure tests of redelivery, without simulations",
        arguments: &[
            "test",
            "--quiet",
            "-p",
            "redeliver",
            "--lib",
            "--",
            "--skip",
            "::simulation::",
            "--skip",
            "::oracle::",
        ],
        variable: None,
    },
    Step {
        name: "pure tests of the other crates",
        arguments: &[
            "test",
            "--quiet",
            "--lib",
            "--bins",
            "-p",
            "access",
            "-p",
            "controlplane",
            "-p",
            "export",
            "-p",
            "mirror",
            "-p",
            "sidecar",
            "-p",
            "spans",
            "-p",
            "fanfare",
        ],
        variable: None,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => run(CHECK),
        _ => {
            eprintln!(
                "usage: cargo xtask check    format, clippy, documentation, and the tests that need no built peers"
            );
            ExitCode::from(64)
        }
    }
}

/// Runs the steps one after the other, stops at the first that fails, and prints the time of each.
fn run(steps: &[Step]) -> ExitCode {
    let began = Instant::now();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for step in steps {
        eprintln!("== {}", step.name);
        let started = Instant::now();
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(step.arguments).envs(step.variable);
        match cargo.status() {
            Ok(status) if status.success() => times.push((step.name, started.elapsed())),
            Ok(status) => {
                eprintln!("== FAILED ({status}): {}. Again: cargo {}", step.name, step.arguments.join(" "));
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("== FAILED: cannot run cargo: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    for (name, time) in &times {
        eprintln!("{:5} s  {name}", time.as_secs());
    }
    eprintln!("{:5} s  in all", began.elapsed().as_secs());
    ExitCode::SUCCESS
}
