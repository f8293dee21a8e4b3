//! Waiting for a condition up to a time limit, instead of sleeping.

use std::fmt::Debug;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// The variable that scales every patience of the harness: a positive number, 1 by default. Set it
/// above 1 on a slow machine.
pub const PATIENCE_VARIABLE: &str = "TEST_PATIENCE";

/// How long the harness waits at most for anything: 30 s times [`PATIENCE_VARIABLE`].
///
/// It only ends a test that has already failed, so it is far above what a busy machine needs.
///
/// # Panics
/// If the variable is set to something else than a positive number.
#[must_use]
pub fn patience() -> Duration {
    scaled(Duration::from_secs(30))
}

/// Another time limit, scaled as [`patience`] is.
///
/// # Panics
/// As [`patience`].
#[must_use]
pub fn scaled(base: Duration) -> Duration {
    let factor = match std::env::var(PATIENCE_VARIABLE) {
        Err(_) => 1.0,
        Ok(text) => match text.parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor <= 1000.0 => factor,
            _ => panic!("{PATIENCE_VARIABLE}={text} is not a number above 0 and up to 1000"),
        },
    };
    base.mul_f64(factor)
}

/// Waits for a future, at most [`patience`].
///
/// # Panics
/// If it is not ready by then: the message says what was awaited, and where.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    within_time(patience(), what, future)
}

/// Waits for a future as [`within`] does, at most so long.
///
/// # Panics
/// As [`within`].
#[track_caller]
pub fn within_time<F: Future>(limit: Duration, what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(value) => value,
            Err(_) => panic!("waited {limit:?} in vain for {what} ({place})"),
        }
    }
}

/// Probes until the value satisfies the condition, at most [`patience`], and returns that value. The
/// macro [`eventually!`](crate::eventually!) is the shorter way to write it.
///
/// # Panics
/// If no value did: the message says what was awaited, where, and the last value.
#[track_caller]
pub fn eventually<T: Debug>(
    what: &str,
    mut probe: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let mut wait = Wait::new();
        loop {
            let value = probe().await;
            if holds(&value) {
                return value;
            }
            if !wait.pause().await {
                let waited = patience();
                panic!("waited {waited:?} in vain for {what} ({place}); last value: {value:#?}");
            }
        }
    }
}

/// The clock of one wait: pauses that grow from 1 ms to 50 ms until the patience is over.
#[derive(Debug)]
pub struct Wait {
    patience: Duration,
    until: Instant,
    next: Duration,
}

impl Wait {
    /// Starts the clock.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Self {
        Self::lasting(patience())
    }

    /// Starts the clock of a wait with this time limit.
    #[must_use]
    pub fn lasting(patience: Duration) -> Self {
        Self { patience, until: Instant::now() + patience, next: Duration::from_millis(1) }
    }

    /// How long it waits.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Pauses before the next probe; `false`, at once, if the patience is over.
    pub async fn pause(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_millis(50));
        true
    }
}

/// Evaluates an expression, which may `.await`, until the condition holds for its value, and returns
/// the value. After [`patience`], or the time given behind `within` ([`scaled`]), it panics with the last value.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut count = 0;
/// let seen = testkit::eventually!("the count to reach three", { count += 1; count }, |n| *n == 3);
/// assert_eq!(seen, 3);
/// # });
/// ```
#[macro_export]
macro_rules! eventually {
    ($what:expr, within $limit:expr, $probe:expr, $holds:expr $(,)?) => {
        $crate::eventually!(@ $crate::eventually::Wait::lasting($crate::eventually::scaled($limit)), $what, $probe, $holds)
    };
    (@ $wait:expr, $what:expr, $probe:expr, $holds:expr) => {{
        let mut wait = $wait;
        loop {
            let value = $probe;
            if $crate::eventually::check(&value, $holds) {
                break value;
            }
            if !wait.pause().await {
                panic!("waited {:?} in vain for {}; last value: {:#?}", wait.patience(), $what, value);
            }
        }
    }};
    ($what:expr, $probe:expr, $holds:expr $(,)?) => {
        $crate::eventually!(@ $crate::eventually::Wait::new(), $what, $probe, $holds)
    };
}

/// Applies the condition to the value. It fixes the type of the closure given to the macro.
#[doc(hidden)]
pub fn check<T>(value: &T, holds: impl FnOnce(&T) -> bool) -> bool {
    holds(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_forms_return_the_value_that_holds() {
        let mut n = 0;
        let by_macro = crate::eventually!(
            "n above 4",
            {
                n += 1;
                n
            },
            |n| *n > 4
        );
        let mut n = 0;
        let probe = async || {
            n += 1;
            n
        };
        let by_function = eventually("n above 4", probe, |n| *n > 4).await;
        assert_eq!((by_macro, by_function), (5, 5));
    }

    #[tokio::test]
    async fn the_panic_names_the_condition_and_the_place() {
        let limit = Duration::from_millis(20);
        let vain = within_time(limit, "never", std::future::pending::<()>());
        let failed = tokio::spawn(vain).await;
        let panic = failed.expect_err("nothing can become ready").into_panic();
        let text = panic.downcast::<String>().expect("a formatted message");
        assert!(text.contains("in vain for never") && text.contains(file!()), "{text}");
    }
}
