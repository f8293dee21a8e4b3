//! The reaction of an accept loop to an error: it goes on at once if one connection was lost, and after a delay if the next
//! attempt would fail as well.

use std::io;
use std::time::Duration;

/// Delay before the next attempt: long enough not to spin, short enough for a probe.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Lost connections in a row after which an error counts as a lasting one.
const MAX_LOST_IN_A_ROW: u32 = 16;

/// The errors since a connection was last accepted.
#[derive(Debug, Default)]
pub struct Errors {
    gone: u32,
    logged: bool,
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Accept the next one at once.
    Continue,
    /// Wait for [`PAUSE`] first. `tell` is true for the first of several pauses in a row, so that one line is logged and not thousands.
    Pause {
        /// Whether this error is to be logged.
        tell: bool,
    },
}

// === impl Errors ===

impl Errors {
    /// Notes that a connection was accepted, which ends a series of errors.
    pub fn accepted(&mut self) {
        *self = Self::default();
    }

    /// What to do after this error. An error lasts if descriptors or memory are used up, a firewall forbids the connection, or it
    /// is unknown: an accept loop that tried again at once would spin.
    pub fn after(&mut self, error: &io::Error) -> After {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) && self.gone < MAX_LOST_IN_A_ROW {
            self.gone += 1;
            return After::Continue;
        }
        After::Pause { tell: !std::mem::replace(&mut self.logged, true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOMEM: i32 = 12;
    const EMFILE: i32 = 24;
    const EPERM: i32 = 1;
    const EPROTO: i32 = 71;
    const ENOBUFS: i32 = 105;
    const ECONNABORTED: i32 = 103;

    #[test]
    fn a_lasting_error_is_followed_by_a_delay_and_logged_once() {
        for code in [ENOMEM, EMFILE, EPERM, EPROTO, ENOBUFS, 9999] {
            let (mut errors, error) = (Errors::default(), io::Error::from_raw_os_error(code));
            assert_eq!(errors.after(&error), After::Pause { tell: true }, "{error}");
            assert_eq!(errors.after(&error), After::Pause { tell: false }, "{error}");
            errors.accepted();
            assert_eq!(errors.after(&error), After::Pause { tell: true }, "{error}, after it was over");
        }
    }

    #[test]
    fn a_lost_connection_causes_no_delay_unless_many_in_a_row_are_lost() {
        let (mut errors, gone) = (Errors::default(), io::Error::from_raw_os_error(ECONNABORTED));
        for _ in 0..MAX_LOST_IN_A_ROW {
            assert_eq!(errors.after(&gone), After::Continue);
        }
        assert_eq!(errors.after(&gone), After::Pause { tell: true });
        errors.accepted();
        assert_eq!(errors.after(&gone), After::Continue);
    }
}
