//! TLS for every listener and every connection of the process: certificates are reloaded when their files change, handshakes do
//! not starve other work, and errors name the certificate and its fault.
//!
//! In the order in which data meets them:
//! - [`ServerTls`] is the configuration of a listener, [`ClientTls`] that of connections to endpoints; both are read from files
//!   and reloaded when these change
//! - [`accept`] and [`connect`] do the handshake and return a [`Stream`]; that of a client comes with its [`PeerCertificate`]
//! - [`explain`] explains why a connection has failed
//!
//! The provider of cryptography is always given explicitly, so that nothing depends on what else the process has loaded.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
pub use rustls::pki_types::ServerName;

mod accept;
mod certificate;
mod client;
mod connect;
mod explain;
mod files;
mod follow;
mod identity;
mod metrics;
mod name;
mod plain;
mod read_ahead;
mod server;
mod sni;
mod stream;
mod turns;
mod verify;

pub use accept::{AcceptError, Accepted, accept};
pub use certificate::PeerCertificate;
pub use client::{ClientSettings, ClientTls, Roots, Target, system_roots};
pub use connect::{ConnectError, Connected, connect};
pub use explain::{Side, explain};
pub use files::{CertificateFiles, FileFault, TlsError};
pub use metrics::{count_handshake, handshakes_from_zero};
pub use name::{NameError, NameTemplate, Named, San, default_name};
pub use plain::refuse_plain;
pub use read_ahead::ReadAhead;
pub use server::{ClientAuth, MinVersion, ServerSettings, ServerTls};
pub use stream::{Stream, Tls};
pub use turns::Turns;
pub use verify::Insecure;

/// A protocol that TLS carries, as ALPN knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Protocol {
    /// `http/1.1`.
    #[serde(rename = "http/1.1")]
    Http1,
    /// `h2`.
    #[serde(rename = "h2")]
    Http2,
}

impl Protocol {
    /// Its name in ALPN.
    #[must_use]
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    fn list(protocols: &[Self]) -> Vec<Vec<u8>> {
        protocols.iter().map(|protocol| protocol.alpn().as_bytes().to_vec()).collect()
    }

    /// The negotiated protocol; a peer without ALPN speaks HTTP/1.1.
    fn agreed(alpn: Option<&[u8]>) -> Self {
        if alpn == Some(Self::Http2.alpn().as_bytes()) { Self::Http2 } else { Self::Http1 }
    }
}

/// Appends the metrics of the certificates that are in force.
pub(crate) fn render_metrics(text: &mut String) {
    metrics::render(text);
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}
