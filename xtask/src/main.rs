//! Development tasks. `cargo xtask check` is the quick lane: all checks that do not need the built test peers.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write as _},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

/// One run of cargo.
struct Step {
    /// Its name in the output.
    name: &'static str,
    /// The arguments of `cargo`.
    arguments: &'static [&'static str],
    /// What the programs that cargo runs are given.
    then: &'static [&'static str],
    /// An environment variable that the step needs.
    variable: Option<(&'static str, &'static str)>,
}

/// What compilers and linters say, cheapest first.
const LINTS: [Step; 3] = [
    Step { name: "format", arguments: &["fmt", "--all", "--check"], then: &[], variable: None },
    Step {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--quiet"],
        then: &["-D", "warnings"],
        variable: None,
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--quiet"],
        then: &[],
        variable: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
];

/// Tests mostly wait, for time-outs and for each other's processes, so more of them run at a time than there are cores.
const TEST_THREADS: Option<(&str, &str)> = Some(("RUST_TEST_THREADS", "6"));

/// The tests that need neither Kubernetes, stores, DNS servers nor load balancers: pure logic, and real sockets on loopback.
const TESTS: [Step; 3] = [
    // Without the tests whose peers would first have to be built.
    Step {
        name: "tests of the data plane and the crates that it depends on",
        arguments: &["test", "--quiet", "-p", "snapshot", "-p", "runtime", "-p", "h2client", "-p", "proxy"],
        then: &["--skip", "peers::grpc::"],
        variable: TEST_THREADS,
    },
    // Its simulations of long histories take longer than all other pure tests together.
    Step {
        name: "pure tests of redelivery, without simulations",
        arguments: &["test", "--quiet", "-p", "redeliver", "--lib"],
        then: &["--skip", "::simulation::", "--skip", "::oracle::"],
        variable: TEST_THREADS,
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
        then: &[],
        variable: TEST_THREADS,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let ["check"] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        eprintln!("usage: cargo xtask check    format, clippy, documentation, and the tests that need no built peers");
        return ExitCode::from(64);
    };
    let began = Instant::now();
    match check() {
        Ok(()) => {
            eprintln!("{:5} s  in all", began.elapsed().as_secs());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("== FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all steps and prints the time of each. Stops at the first that fails, but for tests that are already running.
fn check() -> Result<(), String> {
    for step in &LINTS {
        step.run(&[])?;
    }
    // Built one after the other, so that no test has to keep its time beside a compiler.
    for step in &TESTS {
        step.run(&["--no-run"])?;
    }
    // Side by side, because tests spend most of their time waiting.
    thread::scope(|scope| {
        let running = TESTS.each_ref().map(|step| scope.spawn(|| step.run_apart()));
        let ended = running.map(|step| step.join().unwrap_or_else(|_panic| Err("a step has panicked".to_owned())));
        ended.into_iter().collect()
    })
}

// === impl Step ===

impl Step {
    /// Runs it, and shows what it prints while it does.
    fn run(&self, further: &[&str]) -> Result<(), String> {
        let building = if further.is_empty() { "" } else { "building the " };
        eprintln!("== {building}{}", self.name);
        let began = Instant::now();
        let status = self.cargo(further).status().map_err(|error| cannot_run(&error))?;
        self.ended(status.success(), building, began.elapsed())
    }

    /// Runs it beside others: shows what it has printed when it has ended.
    fn run_apart(&self) -> Result<(), String> {
        let began = Instant::now();
        let output = self.cargo(&[]).output().map_err(|error| cannot_run(&error))?;
        let mut shown = io::stderr().lock();
        // Whoever does not read the output wants the status only.
        let _ = writeln!(shown, "== {}", self.name);
        let _ = shown.write_all(&output.stdout).and_then(|()| shown.write_all(&output.stderr));
        drop(shown);
        self.ended(output.status.success(), "", began.elapsed())
    }

    fn cargo(&self, further: &[&str]) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(self.arguments).args(further).envs(self.variable);
        if !self.then.is_empty() {
            cargo.arg("--").args(self.then);
        }
        cargo
    }

    fn ended(&self, well: bool, building: &str, time: Duration) -> Result<(), String> {
        let name = self.name;
        eprintln!("{:5} s  {building}{name}", time.as_secs());
        if well {
            return Ok(());
        }
        let cargo = self.cargo(&[]);
        let again: Vec<_> = cargo.get_args().map(OsStr::to_string_lossy).collect();
        Err(format!("{name}. Again: cargo {}", again.join(" ")))
    }
}

fn cannot_run(error: &io::Error) -> String {
    format!("cannot run cargo: {error}")
}
