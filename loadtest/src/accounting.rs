//! The resource usage of a process and its descendants, from /proc (proc(5)).

use std::{collections::HashMap, fs, path::Path};

/// The error of times in ticks of 10 ms, in seconds.
const TICK_ERROR_SECONDS: f64 = 0.05;

/// The resource usage, summed over a process and its descendants.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of CPU in user space, in whole ticks of 10 ms.
    user: f64,
    /// Seconds of CPU in the kernel, in whole ticks.
    system: f64,
    /// Nanoseconds of CPU by thread.
    threads: HashMap<u32, u64>,
    /// Resident bytes now. Pages that processes share count in each.
    pub(crate) rss: u64,
    /// The most resident bytes so far.
    pub(crate) peak: u64,
    /// Voluntary context switches.
    pub(crate) voluntary: u64,
    /// Involuntary context switches.
    pub(crate) involuntary: u64,
}

impl Usage {
    /// The usage of a process and its descendants.
    pub(crate) fn of(root: u32) -> Self {
        let mut sum = Self::default();
        for pid in tree(root) {
            sum.add(pid);
        }
        sum
    }

    /// Seconds of CPU since `before`.
    pub(crate) fn cpu_since(&self, before: &Self) -> f64 {
        let ticks = self.user + self.system - before.user - before.system;
        let spent = self.threads.iter().map(|(id, now)| now - before.threads.get(id).copied().unwrap_or(0).min(*now));
        let exact = spent.sum::<u64>() as f64 / 1e9;
        // Threads and processes that have ended since are only in the ticks.
        if ticks > exact + TICK_ERROR_SECONDS { ticks } else { exact }
    }

    /// The share of the CPU time that was spent in the kernel, from 0 to 1; `None` if it is too short to be measured.
    pub(crate) fn system_since(&self, before: &Self) -> Option<f64> {
        let (user, system) = (self.user - before.user, self.system - before.system);
        (user + system > TICK_ERROR_SECONDS).then(|| system / (user + system))
    }

    fn add(&mut self, pid: u32) {
        let at = format!("/proc/{pid}");
        let at = Path::new(&at);
        if let Some(fields) = stat(&at.join("stat")) {
            // cutime and cstime include children that have ended.
            let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
            let hertz = rustix::param::clock_ticks_per_second() as f64;
            self.user += (ticks(11) + ticks(13)) / hertz;
            self.system += (ticks(12) + ticks(14)) / hertz;
        }
        let status = fs::read_to_string(at.join("status")).unwrap_or_default();
        self.rss += number(&status, "VmRSS:") * 1024;
        self.peak += number(&status, "VmHWM:") * 1024;
        // The switches in a process's own status are those of its first thread only.
        for task in fs::read_dir(at.join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let run = fs::read_to_string(task.path().join("schedstat")).ok();
            let run = run.and_then(|run| run.split(' ').next()?.parse().ok());
            if let (Some(id), Some(run)) = (task.file_name().to_str().and_then(|id| id.parse().ok()), run) {
                self.threads.insert(id, run);
            }
            self.voluntary += number(&status, "voluntary_ctxt_switches:");
            self.involuntary += number(&status, "nonvoluntary_ctxt_switches:");
        }
    }
}

/// The number of threads of a process.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// A process and its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let parent = stat(&entry.path().join("stat")).and_then(|fields| fields.get(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// The fields of a stat file after the name of the command, which may hold anything: state, parent, ...
fn stat(path: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The number in the line of a status file that begins with `key`.
fn number(status: &str, key: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| value.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_show_in_the_books() {
        let before = Usage::of(std::process::id());
        let mut sum = 0_u64;
        let memory = vec![1_u8; 32 << 20];
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let after = loop {
            sum = memory.iter().fold(sum, |sum, byte| std::hint::black_box(sum.wrapping_add(u64::from(*byte))));
            let now = Usage::of(std::process::id());
            if now.cpu_since(&before) >= 0.1 || std::time::Instant::now() > until {
                break now;
            }
        };
        assert!(after.cpu_since(&before) >= 0.1, "{before:?} {after:?} {sum}");
        assert!(after.peak >= 32 << 20 && after.rss > 0, "{after:?}");
    }

    #[test]
    fn a_child_is_in_the_tree() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let found = tree(std::process::id());
        assert!(found.contains(&child.id()) && found[0] == std::process::id(), "{found:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
