//! Counts the system calls of a process with perf, where it is permitted.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The time in which perf attaches.
const ATTACH_TIME: Duration = Duration::from_millis(300);

/// Counts the system calls of these processes while `work` runs.
///
/// # Errors
/// The reason why they cannot be counted; `work` has not run then, or its result is lost.
pub(crate) fn syscalls<T>(pids: &[u32], work: impl FnOnce() -> T) -> Result<(u64, T), String> {
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &list]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("not available: perf cannot be started: {error}"))?;
    std::thread::sleep(ATTACH_TIME);
    if let Ok(Some(_)) = child.try_wait() {
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().find(|line| !line.trim().is_empty()).unwrap_or("it ends at once");
        return Err(format!("not available: perf: {}", why.trim()));
    }
    let done = work();
    // Interrupted, it prints what it has counted. It has not been waited for, so the id is still its own.
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find(|line| line.contains("raw_syscalls")).and_then(|line| line.split(',').next());
    match count.and_then(|count| count.parse().ok()) {
        Some(count) => Ok((count, done)),
        None => Err("not available: perf may not count system calls here".to_owned()),
    }
}
