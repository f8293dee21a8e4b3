//! The loaded TLS of a configuration, for its listeners and routes.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use runtime::tls::{self, ClientSettings, ClientTls, FileFault, ServerSettings, ServerTls, TlsError};

use crate::config::Config;

/// The loaded TLS of a configuration, which follows its files.
#[derive(Debug, Default)]
pub struct Secured {
    /// One entry for each listener; none for clear text.
    listeners: Vec<Option<ServerTls>>,
    endpoints: Vec<(ClientSettings, ClientTls)>,
    /// For endpoints whose source says that they use TLS, without a configuration. Created for the first such endpoint, so that
    /// other processes do not need the system's authorities.
    unconfigured: Mutex<Vec<(ClientSettings, ClientTls)>>,
}

/// A problem with a file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsProblem {
    /// The path in the configuration, for instance `listeners[0].tls.certificates[0].key`.
    pub path: String,
    /// The error.
    pub why: TlsError,
}

/// The result of [`check_files`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedFiles {
    /// Files that cannot be used.
    pub problems: Vec<TlsProblem>,
    /// Files that have expired or soon will.
    pub outdated: Vec<TlsProblem>,
}

/// Reads the files of certificates, keys and authorities once, to find out whether they can be used.
#[must_use]
pub fn check_files(config: &Config) -> CheckedFiles {
    let mut checked = CheckedFiles::default();
    let mut note = |result: Result<Vec<FileFault>, TlsError>, problem: &dyn Fn(TlsError) -> TlsProblem| match result {
        Ok(outdated) => checked.outdated.extend(outdated.into_iter().map(|fault| problem(fault.into()))),
        Err(why) => checked.problems.push(problem(why)),
    };
    let mut seen = Vec::new();
    for (l, listener) in config.listeners.iter().enumerate() {
        if let Some(settings) = listener.server_tls() {
            note(ServerTls::check(settings.clone()), &|why| TlsProblem::of_listener(l, &settings, why));
        }
        for (r, route) in listener.routes.iter().enumerate() {
            let Some(settings) = route.policy.configured_tls().filter(|settings| !seen.contains(settings)) else {
                continue;
            };
            note(ClientTls::check(settings.clone()), &|why| TlsProblem::of_route(l, r, &settings, why));
            seen.push(settings);
        }
    }
    checked
}

impl TlsProblem {
    fn of_listener(l: usize, settings: &ServerSettings, why: TlsError) -> Self {
        Self::at(format!("listeners[{l}].tls"), settings.at_fault(&why), why)
    }

    fn of_route(l: usize, r: usize, settings: &ClientSettings, why: TlsError) -> Self {
        Self::at(format!("listeners[{l}].routes[{r}].policy.tls"), settings.at_fault(&why), why)
    }

    fn at(path: String, key: Option<String>, why: TlsError) -> Self {
        Self { path: key.map_or(path.clone(), |key| format!("{path}.{key}")), why }
    }
}

impl Secured {
    /// Reads the files of a configuration. Loaded TLS with the same settings is taken over from the previous configuration, with
    /// its ticket keys.
    ///
    /// # Errors
    /// [`TlsProblem`]s of files that cannot be used.
    ///
    /// # Panics
    /// If there are files, outside of a tokio runtime.
    pub(crate) fn load(config: &Config, before: Option<&Self>) -> Result<Arc<Self>, Vec<TlsProblem>> {
        let (mut secured, mut problems) = (Self::default(), Vec::new());
        for (l, listener) in config.listeners.iter().enumerate() {
            let tls = match listener.server_tls() {
                None => None,
                Some(settings) => {
                    let before = before.and_then(|before| before.listener(l));
                    match before.filter(|before| *before.settings() == settings).cloned() {
                        Some(before) => Some(before),
                        None => ServerTls::load(settings.clone())
                            .map_err(|why| problems.push(TlsProblem::of_listener(l, &settings, why)))
                            .ok(),
                    }
                }
            };
            secured.listeners.push(tls);
            for (r, route) in listener.routes.iter().enumerate() {
                let Some(settings) = route.policy.configured_tls() else { continue };
                if secured.configured(&settings).is_some() {
                    continue;
                }
                let known = before.and_then(|before| before.configured(&settings)).cloned();
                match known.map_or_else(|| ClientTls::load(settings.clone()), Ok) {
                    Ok(tls) => secured.endpoints.push((settings, tls)),
                    Err(why) => problems.push(TlsProblem::of_route(l, r, &settings, why)),
                }
            }
        }
        if problems.is_empty() { Ok(Arc::new(secured)) } else { Err(problems) }
    }

    /// Registers the handshake metrics of listeners with 0; `bound` are their addresses.
    pub(crate) fn show_handshakes(&self, bound: &[SocketAddr]) {
        let secured = bound.iter().zip(&self.listeners).filter(|(_, tls)| tls.is_some());
        secured.for_each(|(address, _)| tls::handshakes_from_zero(&address.to_string()));
    }

    /// TLS of the listener with this number.
    pub(crate) fn listener(&self, number: usize) -> Option<&ServerTls> {
        self.listeners.get(number)?.as_ref()
    }

    /// The TLS for endpoints with these configured settings.
    fn configured(&self, settings: &ClientSettings) -> Option<&ClientTls> {
        self.endpoints.iter().find(|(known, _)| known == settings).map(|(_, tls)| tls)
    }

    /// The TLS for endpoints with these settings, which is created if necessary.
    pub(crate) fn endpoints(&self, settings: &ClientSettings) -> Result<ClientTls, TlsError> {
        if let Some(configured) = self.configured(settings) {
            return Ok(configured.clone());
        }
        let mut made = self.unconfigured.lock();
        if let Some((_, known)) = made.iter().find(|(known, _)| known == settings) {
            return Ok(known.clone());
        }
        let tls = ClientTls::load(settings.clone())?;
        made.push((settings.clone(), tls.clone()));
        Ok(tls)
    }
}
