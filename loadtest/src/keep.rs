//! Runs another program until the harness ends: it is stopped when standard input ends, for whatever reason.

use std::{
    fs::File,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::clock;

/// The time between SIGTERM and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// Runs `command`, prints `pid <id> at <nanoseconds>`, and later `exited` if it ends by itself.
pub(crate) fn keep(log: &Path, output: Option<&Path>, command: &[String]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { anyhow::bail!("no command") };
    let file = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    let log = file(log)?;
    let output = output.map_or_else(|| Ok(log.try_clone()?), file)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(log).process_group(0);
    let began = clock::monotonic();
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let pid = Pid::from_child(&child);
    println!("pid {} at {}", pid.as_raw_nonzero(), began.as_nanos());
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let status = child.wait();
        let _ = ended.send(());
        // If the harness has ended, nobody reads it.
        println!("exited {status:?}");
    });
    // The pipe is never written to.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    for signal in [Signal::TERM, Signal::KILL] {
        // The id cannot be reused before the child was waited for.
        if !matches!(end.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            break;
        }
        let _ = match signal {
            // Workers survive a master that is killed.
            Signal::KILL => kill_process_group(pid, signal),
            _ => kill_process(pid, signal),
        };
        if end.recv_timeout(GRACE_PERIOD).is_ok() {
            break;
        }
    }
    Ok(())
}
