//! Names of endpoint files: a path, or a pattern of paths.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glob::{MatchOptions, Pattern};

/// Most files that one pattern may match.
const MAX_FILES: usize = 1000;

/// A `*` matches within one name, but no leading dot, because editors and ConfigMaps keep copies in such files.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A path, or a pattern of paths: `*` and `?` stand for characters of a name, `[...]` for one of a set, `**` for folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePattern(String);

/// Why a text is not a file pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilePattern {
    /// It is empty.
    #[error("is empty: name a file")]
    Empty,
    /// A pattern that cannot be read.
    #[error(
        "{text:?} is not a file pattern: {why} (at byte {position}); to match one of the characters *, ? and [, write [*], [?] or [[]"
    )]
    Unreadable {
        /// The pattern.
        text: String,
        /// What is wrong with it.
        why: &'static str,
        /// Where in it.
        position: usize,
    },
}

// === impl FilePattern ===

impl FilePattern {
    /// Whether it may match several files.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.0.contains(['*', '?', '['])
    }

    /// The path, if it is not a pattern.
    pub(super) fn path(&self) -> Option<&Path> {
        (!self.is_pattern()).then(|| Path::new(&self.0))
    }

    /// The files that the pattern matches now, in the order of their names. Blocks as long as listing folders does.
    ///
    /// # Errors
    /// A text if a folder cannot be listed, or too many files match.
    pub(super) fn matching(&self) -> Result<BTreeSet<PathBuf>, String> {
        list(&self.0)
    }
}

fn list(pattern: &str) -> Result<BTreeSet<PathBuf>, String> {
    let mut files = BTreeSet::new();
    for path in glob::glob_with(pattern, OPTIONS).map_err(|error| error.to_string())? {
        let path = path.map_err(|error| format!("cannot list {}: {}", error.path().display(), error.error()))?;
        if !path.is_dir() {
            files.insert(path);
        }
        if files.len() > MAX_FILES {
            return Err(format!("{pattern} matches more than {MAX_FILES} files"));
        }
    }
    Ok(files)
}

impl FromStr for FilePattern {
    type Err = InvalidFilePattern;

    fn from_str(text: &str) -> Result<Self, InvalidFilePattern> {
        if text.is_empty() {
            return Err(InvalidFilePattern::Empty);
        }
        let pattern = Self(text.to_owned());
        if pattern.is_pattern() {
            Pattern::new(text).map_err(|error| InvalidFilePattern::Unreadable {
                text: text.to_owned(),
                why: error.msg,
                position: error.pos,
            })?;
        }
        Ok(pattern)
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused_with_its_place() {
        for text in ["/etc/targets/*.json", "targets/[a-c]?.yaml", "x/**/*.yml", "plain.json"] {
            assert_eq!(text.parse::<FilePattern>().expect(text).is_pattern(), text != "plain.json");
        }
        assert_eq!("".parse::<FilePattern>(), Err(InvalidFilePattern::Empty));
        for text in ["a/***/b", "[a", "a**"] {
            let error = text.parse::<FilePattern>().expect_err(text).to_string();
            assert!(error.contains("is not a file pattern") && error.contains("at byte"), "{error}");
        }
    }
}
