//! TLS of a listener: its certificates, and the client certificates that it accepts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::certificate::Validity;
use super::files::{self, CertificateFiles, FileFault, TlsError};
use super::follow::{Followed, Material};
use super::identity::Identity;
use super::sni::BySni;
use super::{Protocol, provider};

/// TLS for a listener, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServerSettings {
    /// The certificates; a client gets the one with the name that it asks for, else the first.
    pub certificates: Vec<CertificateFiles>,
    /// A file with the authorities of client certificates; without it no client certificate is requested.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate. Without `client_ca` it does not matter.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// What is spoken, the preferred protocol first.
    pub protocols: Vec<Protocol>,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// A client without one is refused.
    #[default]
    Require,
    /// A client may have none; one that it has must be good.
    Request,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// TLS of a listener, as its files are now. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Followed<Shown>>);

/// The certificates and configurations of a listener.
struct Shown {
    config: Arc<ServerConfig>,
    /// Configurations by local address, for addresses that a certificate other than the first is for: a client that connects to
    /// an IP address sends no server name.
    by_address: Vec<(IpAddr, Arc<ServerConfig>)>,
    tickets: Arc<dyn ProducesTickets>,
    client_ca: Option<Vec<u8>>,
    validities: Vec<Validity>,
}

// === impl ServerSettings ===

impl ServerSettings {
    /// Which of these settings names the file that an error is about, for instance `certificates[0].key`.
    #[must_use]
    pub fn at_fault(&self, error: &TlsError) -> Option<String> {
        let pair = |(index, files): (usize, &CertificateFiles)| {
            files.at_fault(error).map(|key| format!("certificates[{index}].{key}"))
        };
        let client_ca = self.client_ca.iter().find(|path| error.is_about(path)).map(|_| "client_ca".to_owned());
        self.certificates.iter().enumerate().find_map(pair).or(client_ca)
    }
}

// === impl ServerTls ===

impl ServerTls {
    /// Reads the files, and follows them from then on.
    ///
    /// # Errors
    /// A file cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn load(settings: ServerSettings) -> Result<Self, TlsError> {
        Followed::start(settings).map(Self)
    }

    /// Reads the files once, to find out whether they can be used. What is not valid yet, has expired or soon will is told.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn check(settings: ServerSettings) -> Result<Vec<FileFault>, TlsError> {
        let read = Followed::<Shown>::read(settings)?;
        Ok(read.outdated())
    }

    /// The settings that it was loaded with.
    #[must_use]
    pub fn settings(&self) -> &ServerSettings {
        self.0.settings()
    }

    /// The current configuration for a client that has connected to this local address.
    #[must_use]
    pub fn config(&self, local: Option<IpAddr>) -> Arc<ServerConfig> {
        let shown = self.0.current();
        let local = local.map(|local| local.to_canonical());
        let other = shown.by_address.iter().find(|(address, _)| Some(*address) == local);
        other.map_or(&shown.config, |(_, config)| config).clone()
    }
}

// === impl Shown ===

impl Material for Shown {
    type Settings = ServerSettings;

    fn paths(settings: &ServerSettings) -> Vec<PathBuf> {
        let pairs = settings.certificates.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]);
        pairs.chain(settings.client_ca.clone()).collect()
    }

    fn make(settings: &ServerSettings, contents: &[Vec<u8>], before: Option<&Self>) -> Result<Self, TlsError> {
        let (pairs, rest) = contents.split_at(settings.certificates.len() * 2);
        let mut identities = Vec::with_capacity(settings.certificates.len());
        for (files, pair) in settings.certificates.iter().zip(pairs.chunks_exact(2)) {
            identities.push(Identity::read(files, &pair[0], &pair[1])?);
        }
        if identities.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let mut validities: Vec<_> = identities.iter().map(|one| one.validity.clone()).collect();
        let client_ca = match (&settings.client_ca, rest.first()) {
            (Some(path), Some(text)) => {
                let (roots, validity) = files::authorities(path, text)?;
                validities.push(validity);
                Some((path, roots, text.clone()))
            }
            _ => None,
        };
        let text = client_ca.as_ref().map(|(.., text)| text.clone());
        let tickets = match before {
            Some(before) if before.client_ca == text => before.tickets.clone(),
            // A resumed session brings along its client certificate without another verification. New ticket keys keep sessions of
            // authorities that were removed from being resumed.
            _ => Ticketer::new().map_err(|error| TlsError::Library(error.to_string()))?,
        };
        let config = base(settings, client_ca.map(|(path, roots, _)| (path, roots)), tickets.clone())?;
        let identities: Arc<[Identity]> = identities.into();
        let with = |nameless: usize| {
            let mut config = config.clone();
            config.cert_resolver = Arc::new(BySni { identities: identities.clone(), nameless });
            Arc::new(config)
        };
        let mut by_address: Vec<(IpAddr, Arc<ServerConfig>)> = Vec::new();
        for (index, identity) in identities.iter().enumerate() {
            for address in &identity.certificate.addresses {
                if by_address.iter().all(|(known, _)| known != address) {
                    by_address.push((*address, with(index)));
                }
            }
        }
        Ok(Self { config: with(0), by_address, tickets, client_ca: text, validities })
    }

    fn validities(&self) -> &[Validity] {
        &self.validities
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("validities", &self.validities).finish_non_exhaustive()
    }
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }
}

/// Everything but the certificates.
fn base(
    settings: &ServerSettings,
    client_ca: Option<(&PathBuf, RootCertStore)>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(settings.min_version.versions())
        .map_err(|error| TlsError::Library(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = match settings.client_auth {
                ClientAuth::Require => verifier,
                ClientAuth::Request => verifier.allow_unauthenticated(),
            };
            let refused = |error: rustls::server::VerifierBuilderError| FileFault::new(path, error.to_string());
            builder.with_client_cert_verifier(verifier.build().map_err(refused)?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(BySni { identities: Arc::new([]), nameless: 0 }));
    config.alpn_protocols = Protocol::list(&settings.protocols);
    config.ticketer = tickets;
    // Sessions are in tickets only, because a store would be a lock that all workers share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // No early data: an attacker could replay it, and every endpoint would receive it again.
    config.max_early_data_size = 0;
    Ok(config)
}
