//! Reads a configuration file into a checked configuration, or reports every problem.

use std::fmt;

use runtime::config::{self, Lines, Problem, Problems};
use serde::Serialize;

use super::{
    Config,
    variables::{self, FileEnvironment, Outranked},
};
use crate::settings::environment::Environment;

/// Everything that is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}", one_line(.0))]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

/// Something that is wrong with a file, or probably is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// Where, from 1 on, if it stands somewhere.
    pub(crate) line: Option<usize>,
    /// The key: `broadcast[0].routes[1].timeout`. Empty for the file as a whole.
    pub(crate) key: String,
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
}

// === impl Config ===

impl Config {
    /// Checks the content of a file in the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong, each with its line.
    pub(crate) fn read_text(content: &[u8]) -> Result<Self, Faults> {
        let checked = Self::of_file(content, &Environment::of_process());
        checked.map_err(|problems| Faults(faults(content, &problems)))
    }

    /// Parses and checks the content of a file in an empty environment.
    ///
    /// # Errors
    /// Everything that is wrong, with its path in the file, or its line and column where it is not YAML.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, Problems> {
        Self::of_file(content, &Environment::default())
    }

    /// The same in an environment.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn of_file(content: &[u8], environment: &Environment) -> Result<Self, Problems> {
        let text = text(content).map_err(|message| config::Problem { path: String::new(), message })?;
        let mut raw = config::parse(text)?;
        let outranked = Outranked::apply(&mut raw, environment);
        let (checked, filled) = Self::check_in(&raw, &FileEnvironment::of(environment));
        match checked {
            Ok(mut config) => {
                let mut warnings = variables::doubtful(&raw, environment, &filled.names());
                config.warnings().iter().for_each(|warning| warnings.push(filled.without_values(warning)));
                config.written.warnings = Some(warnings);
                Ok(config)
            }
            Err(problems) => {
                let mut named = Problems::default();
                problems.into_iter().for_each(|problem| named.push(outranked.named(problem)));
                Err(named)
            }
        }
    }
}

/// The text of a file, without the byte order mark that some editors put in front.
fn text(content: &[u8]) -> Result<&str, String> {
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err("the file is UTF-16 text: save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(content).map_err(|error| format!("the file is not UTF-8 text: {error}"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The problems of a file with the lines on which they stand.
pub(crate) fn faults(content: &[u8], problems: &Problems) -> Vec<Fault> {
    let lines = Lines::of(text(content).unwrap_or_default());
    let fault = |Problem { path, message }: &Problem| Fault {
        line: lines.line(path),
        key: path.clone(),
        message: message.clone(),
    };
    problems.iter().map(fault).collect()
}

/// Faults as a line of a log.
fn one_line(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, message } = self;
        match key.as_str() {
            "" => f.write_str(message)?,
            key => write!(f, "{key}: {message}")?,
        }
        match line {
            // Where the text is no YAML the line stands where the key would.
            Some(line) if !key.starts_with("line ") => write!(f, " (line {line})"),
            _ => Ok(()),
        }
    }
}
