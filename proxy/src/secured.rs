//! TLS of a configuration: what is in its files, for its listeners and for its routes.

use std::sync::Arc;

use runtime::tls::{ClientSettings, ClientTls, ServerTls, TlsError};

use crate::config::Config;

/// TLS of a configuration. It follows its files.
#[derive(Debug, Default)]
pub struct Secured {
    /// One entry for each listener; none speaks in clear.
    listeners: Vec<Option<ServerTls>>,
    endpoints: Vec<(ClientSettings, ClientTls)>,
}

/// What is wrong with the files of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsProblem {
    /// Where in the configuration, for instance `listeners[0].tls`.
    pub path: String,
    /// What is wrong.
    pub why: TlsError,
}

impl Secured {
    /// Reads the files of a configuration. What the configuration before had with the same settings is taken over: the keys of tickets,
    /// and what is known of the files.
    ///
    /// # Errors
    /// Some files cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where there are files.
    pub(crate) fn load(config: &Config, before: Option<&Self>) -> Result<Arc<Self>, Vec<TlsProblem>> {
        let (mut secured, mut problems) = (Self::default(), Vec::new());
        for (l, listener) in config.listeners.iter().enumerate() {
            let tls = match listener.server_tls() {
                None => None,
                Some(settings) => {
                    let before = before.and_then(|before| before.listener(l));
                    match before.filter(|before| *before.settings() == settings).cloned() {
                        Some(before) => Some(before),
                        None => ServerTls::load(settings)
                            .map_err(|why| problems.push(TlsProblem { path: format!("listeners[{l}].tls"), why }))
                            .ok(),
                    }
                }
            };
            secured.listeners.push(tls);
            for (r, route) in listener.routes.iter().enumerate() {
                let Some(settings) = route.policy.client_tls() else { continue };
                if secured.endpoints(&settings).is_some() {
                    continue;
                }
                let path = format!("listeners[{l}].routes[{r}].tls");
                let known = before.and_then(|before| before.endpoints(&settings)).cloned();
                match known.map_or_else(|| ClientTls::load(settings.clone()), Ok) {
                    Ok(tls) => secured.endpoints.push((settings, tls)),
                    Err(why) => problems.push(TlsProblem { path, why }),
                }
            }
        }
        if problems.is_empty() { Ok(Arc::new(secured)) } else { Err(problems) }
    }

    /// TLS of the listener with this number.
    pub(crate) fn listener(&self, number: usize) -> Option<&ServerTls> {
        self.listeners.get(number)?.as_ref()
    }

    /// TLS to endpoints, by what is configured for them.
    pub(crate) fn endpoints(&self, settings: &ClientSettings) -> Option<&ClientTls> {
        self.endpoints.iter().find(|(known, _)| known == settings).map(|(_, tls)| tls)
    }
}
