//! TLS and tokens of a role's own listener.

use std::path::PathBuf;

use runtime::{config::Section, tls::ServerSettings};
use serde::Serialize;

use super::tls;
use crate::settings::Setting;

/// TLS and tokens of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerAccess {
    /// TLS; without it, clear text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ServerSettings>,
    /// The token file; without it no token is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<PathBuf>,
}

/// The settings of a role for its listener.
pub(super) struct ListenerSettings<'a> {
    pub(super) cert: &'a Setting<PathBuf>,
    pub(super) key: &'a Setting<PathBuf>,
    pub(super) tokens: &'a Setting<PathBuf>,
}

// === impl ListenerAccess ===

impl ListenerAccess {
    /// Reads TLS and tokens; it is a problem if they are given without a listener.
    pub(super) fn read(section: &Section<'_>, settings: &ListenerSettings<'_>, listens: bool) -> Self {
        let ListenerSettings { cert, key, tokens } = settings;
        for setting in [cert, key, tokens] {
            if !listens && setting.is_given(section) {
                setting.problem(section, "is about a listener, and there is none: say where to listen");
            }
        }
        Self { tls: tls::pair(section, cert, key).map(tls::of_pair), tokens: tokens.read(section) }
    }
}
