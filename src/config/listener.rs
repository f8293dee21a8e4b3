//! TLS and tokens of the listener that a role has for itself.

use std::path::PathBuf;

use runtime::{config::Section, tls::ServerSettings};
use serde::Serialize;

use super::tls;
use crate::settings::Setting;

/// Who is answered there, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerAccess {
    /// TLS; none: in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ServerSettings>,
    /// The file of the tokens that requests have to carry; none: they need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<PathBuf>,
}

/// How a role calls its settings.
pub(super) struct ListenerSettings<'a> {
    pub(super) cert: &'a Setting<PathBuf>,
    pub(super) key: &'a Setting<PathBuf>,
    pub(super) tokens: &'a Setting<PathBuf>,
}

// === impl ListenerAccess ===

impl ListenerAccess {
    /// Reads what is said about a listener that is there or not.
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
