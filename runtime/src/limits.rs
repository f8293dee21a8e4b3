//! Open file descriptors: raises their limit as far as the system allows, and enlarges their table before it is needed.

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// The table is enlarged for at most so many descriptors, which takes 512 KiB of kernel memory.
const PREALLOCATED_DESCRIPTORS: u64 = 1 << 16;

/// The soft limit of open file descriptors before and after [`raise_open_files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What the process was started with; `None` is unlimited.
    pub before: Option<u64>,
    /// What holds now; `None` is unlimited.
    pub now: Option<u64>,
}

/// Raises the soft limit of open file descriptors (`RLIMIT_NOFILE`) to the hard limit and returns both. A refusal is logged as a warning and
/// is not fatal: the process then runs with what it has. Calling it again changes nothing.
pub fn raise_open_files() -> OpenFiles {
    let limit = getrlimit(Resource::Nofile);
    let unchanged = OpenFiles { before: limit.current, now: limit.current };
    if limit.current == limit.maximum {
        return unchanged;
    }
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => OpenFiles { before: limit.current, now: limit.maximum },
        Err(error) => {
            tracing::warn!(
                %error, soft = limit.current, hard = limit.maximum,
                "cannot raise the limit of open file descriptors to its hard limit: many connections at once may fail; raise it with ulimit -n or in the container runtime"
            );
            unchanged
        }
    }
}

/// Enlarges the process's table of open file descriptors to as many as its limit allows, at most 65,536.
///
/// The kernel doubles a full table, and then waits until no other thread reads the old one: a thread that opens the
/// 257th, 513th, 1025th, ... file or connection would block for 4 to 16 ms, with all connections that it serves.
/// If this fails, the kernel enlarges the table when it has to.
pub fn make_room_for_open_files() {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(PREALLOCATED_DESCRIPTORS).min(PREALLOCATED_DESCRIPTORS);
    // A duplicate with the highest number makes the table that long; it stays so when that is closed.
    let duplicate = std::io::pipe().and_then(|(any, _)| {
        let highest = i32::try_from(most.saturating_sub(1)).unwrap_or(i32::MAX);
        Ok(fcntl_dupfd_cloexec(any, highest)?)
    });
    if let Err(error) = duplicate {
        tracing::debug!(%error, most, "cannot enlarge the table of open files now: the kernel does when it has to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_before_it_is_needed() {
        make_room_for_open_files();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(PREALLOCATED_DESCRIPTORS);
        assert!(size.trim().parse::<u64>().unwrap() >= limit.min(PREALLOCATED_DESCRIPTORS), "{size}");
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_limit() {
        let raised = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raised.now, limit.current);
        assert_eq!(limit.current, limit.maximum);
        let again = raise_open_files();
        assert_eq!(again.before, again.now);
    }
}
