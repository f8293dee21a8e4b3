//! The version of this build, and its commit if it is known.

use std::sync::OnceLock;

/// The version of the workspace this binary was built from, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

static COMMIT: OnceLock<&str> = OnceLock::new();

/// Sets the commit, once, before anything reads it. The binary calls this, because it alone is built anew for each commit.
pub fn set_commit(commit: Option<&'static str>) {
    if let Some(commit) = commit.filter(|commit| *commit != "unknown") {
        // Every call sets the same commit.
        let _ = COMMIT.set(commit);
    }
}

/// The commit, or `unknown`.
#[must_use]
pub fn commit() -> &'static str {
    COMMIT.get().copied().unwrap_or("unknown")
}

/// One line for `--version`: `0.1.0`, or `0.1.0 (commit)` where the commit is known.
#[must_use]
pub fn line() -> String {
    match COMMIT.get() {
        Some(commit) => format!("{VERSION} ({commit})"),
        None => VERSION.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_version_and_the_commit_if_there_is_one() {
        assert_eq!(VERSION.split('.').count(), 3);
        set_commit(None);
        set_commit(Some("unknown"));
        assert_eq!((line(), commit()), (VERSION.to_owned(), "unknown"));
        set_commit(Some("0123456789ab"));
        assert_eq!((line(), commit()), (format!("{VERSION} (0123456789ab)"), "0123456789ab"));
    }
}
