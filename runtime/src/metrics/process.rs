//! The standard `process_*` metrics, read from `/proc/self` at each scrape.

use std::fmt::Write as _;
use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Appends the process metrics, without those that the system does not provide.
pub(super) fn render(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Stat::parse(&stat));
    let ticks = clock_ticks_per_second() as f64;
    if let Some(stat) = &stat {
        metric(
            text,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            stat.resident_pages as f64 * page_size() as f64,
        );
        metric(
            text,
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            stat.virtual_bytes as f64,
        );
        metric(
            text,
            "process_cpu_seconds_total",
            "counter",
            "User and system CPU time spent, in seconds.",
            stat.cpu_ticks as f64 / ticks,
        );
        metric(text, "process_threads", "gauge", "Number of threads.", stat.threads as f64);
    }
    if let (Some(stat), Some(boot)) = (&stat, boot_time()) {
        let start = boot as f64 + stat.start_ticks as f64 / ticks;
        metric(text, "process_start_time_seconds", "gauge", "Start time in seconds since 1970-01-01 UTC.", start);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Reading the directory takes a descriptor of its own, which is not counted.
        metric(
            text,
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            open.count().saturating_sub(1) as f64,
        );
    }
    let limit = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |limit| limit as f64);
    metric(text, "process_max_fds", "gauge", "Limit of open file descriptors.", limit);
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
    // Writing to a String cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

/// What is used of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The command name may hold spaces and parentheses: the fields after it start at the last closing one, with number 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds since 1970 at which the system booted.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|seconds| seconds.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 50 6 0 0 20 0 9 0 777 123456 42 18446744073709551615 1 1";
        let expected = Stat { cpu_ticks: 56, threads: 9, start_ticks: 777, virtual_bytes: 123_456, resident_pages: 42 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
