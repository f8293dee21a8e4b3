//! A configuration file: its text, as YAML, as a checked configuration, or everything that is wrong with it.

use std::path::{Path, PathBuf};

use runtime::config::{self, Problems};

use super::Config;

/// A file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It cannot be read at all.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It can be read, but not used.
    #[error("{problems}")]
    Problems {
        /// Everything that is wrong.
        problems: Problems,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Unreadable`] with everything that is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, Unreadable> {
        let bytes = std::fs::read(path).map_err(|error| Unreadable::Io { path: path.to_owned(), error })?;
        Self::parse(&bytes).map_err(|problems| Unreadable::Problems { problems })
    }

    /// Parses and checks the content of a file.
    ///
    /// # Errors
    /// Everything that is wrong, with its path in the file, or its line and column where it is not YAML.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, Problems> {
        let text = std::str::from_utf8(content).map_err(|error| config::Problem {
            path: String::new(),
            message: format!("the file is not UTF-8 text: {error}"),
        })?;
        Self::check(&config::parse(text)?)
    }
}
