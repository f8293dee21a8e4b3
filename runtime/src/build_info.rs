//! Which build this is: the version, and the commit where the build was told.

/// The version of the workspace this binary was built from, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, where the environment variable `FANFARE_COMMIT` was set at build time, else `unknown`.
pub const COMMIT: &str = match option_env!("FANFARE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// One line for `--version`: `0.1.0`, or `0.1.0 (commit)` where the commit is known.
#[must_use]
pub fn line() -> String {
    match option_env!("FANFARE_COMMIT") {
        Some(commit) => format!("{VERSION} ({commit})"),
        None => VERSION.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_starts_with_the_version() {
        assert!(super::line().starts_with(super::VERSION));
        assert_eq!(super::VERSION.split('.').count(), 3);
    }
}
