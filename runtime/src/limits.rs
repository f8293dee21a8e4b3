//! Raises the limit of open file descriptors as far as the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

#[cfg(test)]
mod tests {
    use super::*;

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
