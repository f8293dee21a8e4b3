//! Checks the current files of certificates, keys and tokens, and the directories of journals, that a configuration names, and
//! reports problems by the key that names them.

use std::path::Path;

use access::tokens::TokenFile;
use runtime::{
    config::{Problem, Problems},
    files,
    tls::{ServerSettings, ServerTls, TlsError},
};

use super::{Config, broadcast::path_in_file};

/// The result of the check.
#[derive(Debug, Default)]
pub(crate) struct CheckedFiles {
    /// Files that cannot be used.
    pub(crate) problems: Problems,
    /// Files that can be used, but probably not for long.
    pub(crate) warnings: Problems,
}

impl Config {
    /// Reads these files once.
    pub(crate) fn check_files(&self) -> CheckedFiles {
        let mut checked = CheckedFiles::default();
        let found = proxy::check_files(&self.proxy);
        found.problems.iter().for_each(|problem| checked.problems.push(in_file(problem)));
        found.outdated.iter().for_each(|problem| checked.warnings.push(in_file(problem)));
        for (key, settings) in self.pairs() {
            let problem = |why: &TlsError| {
                let which = settings.at_fault(why).and_then(|key| Some(key.rsplit_once('.')?.1.to_owned()));
                let path =
                    which.map_or_else(|| key.trim_end_matches(['.', '_']).to_owned(), |which| key.clone() + &which);
                Problem { path, message: why.to_string() }
            };
            match ServerTls::check(settings.clone()) {
                Ok(outdated) => outdated.into_iter().for_each(|fault| checked.warnings.push(problem(&fault.into()))),
                Err(why) => checked.problems.push(problem(&why)),
            }
        }
        self.check_journals(&mut checked.problems);
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
        for (key, listener) in self.listeners_of_roles() {
            if let Some(file) = &listener.tokens {
                tokens(format!("{key}_tokens"), file);
            }
        }
        self.check_files_of_roles(&mut checked.problems);
        checked
    }

    /// The tokens for stepping down, and the authorities of stores.
    fn check_files_of_roles(&self, problems: &mut Problems) {
        for (e, election) in self.elect.iter().enumerate() {
            // What the caller has opened can be read only once, by the role.
            let file = election.step_down_token_file.as_deref().filter(|file| file.is_file() || !file.exists());
            if let Some(Err(message)) = file.map(single_token) {
                problems.push(Problem { path: format!("elect[{e}].step_down_token_file"), message });
            }
        }
        let of_exports = self.discover.iter().map(|export| &export.access).enumerate().map(|at| ("discover", at));
        let of_bridges = self.bridge.iter().map(|bridge| &bridge.access).enumerate().map(|at| ("bridge", at));
        for (section, (index, access)) in of_exports.chain(of_bridges) {
            if let Some(file) = &access.s3.ca_file
                && let Err(error) = files::read(file)
            {
                let (path, message) = (format!("{section}[{index}].s3.ca_file"), cannot_read(file, &error));
                problems.push(Problem { path, message });
            }
        }
    }

    /// The certificates of listeners beside the data plane, each with the prefix of its keys.
    fn pairs(&self) -> impl Iterator<Item = (String, &ServerSettings)> {
        let admin = self.admin_tls.iter().map(|settings| ("admin.tls.".to_owned(), settings));
        let roles = self.listeners_of_roles();
        admin.chain(roles.filter_map(|(key, listener)| Some((format!("{key}_tls_"), listener.tls.as_ref()?))))
    }
}

/// The only token in a file: that with which clients on other machines may ask a leader to step down, or that of `status`.
///
/// # Errors
/// The file cannot be read, or there is no token in it.
pub(crate) fn single_token(file: &Path) -> Result<String, String> {
    let read = files::read_once(file, files::MAX_BYTES).map_err(|error| cannot_read(file, &error))?;
    let text = String::from_utf8(read).map_err(|error| cannot_read(file, &error))?;
    match text.trim_start_matches('\u{feff}').trim() {
        "" => Err(format!("there is no token in {}", file.display())),
        token => Ok(token.to_owned()),
    }
}

fn cannot_read(file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("cannot read {}: {why}", file.display())
}

/// Problems of the data plane with these files, with their paths in the configuration file.
pub(crate) fn tls_problems_text(problems: &[proxy::TlsProblem]) -> String {
    problems.iter().map(|problem| in_file(problem).to_string()).collect::<Vec<_>>().join("; ")
}

/// A problem with its path in the configuration file.
fn in_file(problem: &proxy::TlsProblem) -> Problem {
    Problem { path: path_in_file(&problem.path), message: problem.why.to_string() }
}
