//! The files of certificates, keys and tokens that a configuration names: what is wrong with them as they are now, each told by
//! the key that names it.

use std::path::Path;

use access::tokens::TokenFile;
use runtime::{
    config::{Problem, Problems},
    tls::{ServerTls, TlsError},
};

use super::{Config, broadcast::path_in_file};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct CheckedFiles {
    /// What cannot be used.
    pub(crate) problems: Problems,
    /// What can, but probably not for long.
    pub(crate) warnings: Problems,
}

impl Config {
    /// Reads these files once.
    pub(crate) fn check_files(&self) -> CheckedFiles {
        let mut checked = CheckedFiles::default();
        let found = proxy::check_files(&self.proxy);
        found.problems.iter().for_each(|problem| checked.problems.push(in_file(problem)));
        found.outdated.iter().for_each(|problem| checked.warnings.push(in_file(problem)));
        if let Some(settings) = &self.admin_tls {
            let told = |why: &TlsError| {
                // Of the one pair there.
                let key = settings.at_fault(why).map(|key| key.replace("certificates[0]", ""));
                Problem { path: format!("admin.tls{}", key.unwrap_or_default()), message: why.to_string() }
            };
            match ServerTls::check(settings.clone()) {
                Ok(outdated) => outdated.into_iter().for_each(|fault| checked.warnings.push(told(&fault.into()))),
                Err(why) => checked.problems.push(told(&why)),
            }
        }
        let mut tokens = |path: String, file: &Path| {
            if let Err(error) = TokenFile::read(file) {
                checked.problems.push(Problem { path, message: error.to_string() });
            }
        };
        for (l, listener) in self.proxy.listeners.iter().enumerate() {
            if let Some(file) = &listener.auth.tokens {
                tokens(format!("broadcast[{l}].auth.tokens"), file);
            }
        }
        if let Some(file) = &self.admin_tokens {
            tokens("admin.tokens".to_owned(), file);
        }
        checked
    }
}

/// Problems of the data plane with these files, as the file of the configuration would say them.
pub(crate) fn told(problems: &[proxy::TlsProblem]) -> String {
    problems.iter().map(|problem| in_file(problem).to_string()).collect::<Vec<_>>().join("; ")
}

/// The same as the file says it.
fn in_file(problem: &proxy::TlsProblem) -> Problem {
    Problem { path: path_in_file(&problem.path), message: problem.why.to_string() }
}
