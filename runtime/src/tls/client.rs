//! TLS of connections to endpoints: trusted authorities, client certificate, and a configuration for every target.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tracing::warn;

use super::certificate::Validity;
use super::files::{self, CertificateFiles, FileFault, TlsError};
use super::follow::{Followed, Material};
use super::identity::Identity;
use super::name::San;
use super::verify::{Insecure, Verifier};
use super::{Protocol, provider};

/// Sessions that a target keeps for resumption: one name's worth.
const SESSIONS: usize = 8;

/// TLS to endpoints, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClientSettings {
    /// Who vouches for endpoints.
    pub roots: Roots,
    /// If not empty, one of these must be in the certificate of an endpoint, instead of the name by which it is reached.
    pub sans: Vec<San>,
    /// The client certificate for endpoints.
    pub certificate: Option<CertificateFiles>,
    /// The offered protocols, the preferred one first.
    pub protocols: Vec<Protocol>,
}

/// Who vouches for endpoints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Roots {
    /// The authorities that the system trusts, as they were at the first use.
    System,
    /// Those in this file, which is followed.
    File(PathBuf),
    /// No certificate is verified.
    Insecure,
}

/// TLS to the endpoints of a route, as its files are now. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Followed<Trust>>);

/// TLS to one endpoint. Its sessions are its own: endpoints that share a name do not share tickets.
#[derive(Debug)]
pub struct Target {
    tls: ClientTls,
    name: ServerName<'static>,
    made: ArcSwapOption<Made>,
}

/// A configuration, and the trust that it was built from.
#[derive(Debug)]
struct Made {
    trust: Arc<Trust>,
    config: Arc<ClientConfig>,
}

/// The trusted authorities and the client certificate.
#[derive(Debug)]
struct Trust {
    config: ClientConfig,
    validities: Vec<Validity>,
}

/// Presents no certificate.
#[derive(Debug)]
struct Nothing;

// === impl ClientSettings ===

impl ClientSettings {
    /// Which of these settings an error is about, for instance `certificate.key`.
    #[must_use]
    pub fn at_fault(&self, error: &TlsError) -> Option<String> {
        let is_about_roots = match &self.roots {
            Roots::File(path) => error.is_about(path),
            Roots::System => matches!(error, TlsError::NoSystemRoots(_)),
            Roots::Insecure => false,
        };
        if is_about_roots {
            return Some("roots".to_owned());
        }
        self.certificate.as_ref()?.at_fault(error).map(|key| format!("certificate.{key}"))
    }
}

// === impl ClientTls ===

impl ClientTls {
    /// Reads the files, and follows them from then on.
    ///
    /// # Errors
    /// A file cannot be used, or the system trusts nobody.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn load(settings: ClientSettings) -> Result<Self, TlsError> {
        if settings.roots == Roots::Insecure {
            warn!(
                "certificates of endpoints are NOT verified: any server at an endpoint's address receives every request"
            );
        }
        Followed::start(settings).map(Self)
    }

    /// Reads the files once, to find out whether they can be used. What is not valid yet, has expired or soon will is told.
    ///
    /// # Errors
    /// A file cannot be used, or the system trusts nobody.
    pub fn check(settings: ClientSettings) -> Result<Vec<FileFault>, TlsError> {
        let read = Followed::<Trust>::read(settings)?;
        Ok(read.outdated())
    }

    /// The settings that it was loaded with.
    #[must_use]
    pub fn settings(&self) -> &ClientSettings {
        self.0.settings()
    }

    /// TLS to an endpoint that is asked for by this name.
    #[must_use]
    pub fn target(&self, name: ServerName<'static>) -> Target {
        Target { tls: self.clone(), name, made: ArcSwapOption::empty() }
    }
}

// === impl Target ===

impl Target {
    /// The name that the endpoint is asked for, and that its certificate must have where no other is configured.
    #[must_use]
    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// What is offered to the endpoint, the preferred protocol first.
    #[must_use]
    pub fn protocols(&self) -> &[Protocol] {
        &self.tls.settings().protocols
    }

    /// The current configuration. Sessions cannot be resumed after a file has changed.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let trust = self.tls.0.current();
        if let Some(made) = self.made.load().as_ref().filter(|made| Arc::ptr_eq(&made.trust, &trust)) {
            return made.config.clone();
        }
        let mut config = trust.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        self.made.store(Some(Arc::new(Made { trust, config: config.clone() })));
        config
    }
}

// === impl Trust ===

impl Material for Trust {
    type Settings = ClientSettings;

    fn paths(settings: &ClientSettings) -> Vec<PathBuf> {
        let roots = match &settings.roots {
            Roots::File(path) => Some(path.clone()),
            Roots::System | Roots::Insecure => None,
        };
        let pair = settings.certificate.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]);
        roots.into_iter().chain(pair).collect()
    }

    fn make(settings: &ClientSettings, contents: &[Vec<u8>], _before: Option<&Self>) -> Result<Self, TlsError> {
        let (mut rest, mut validities) = (contents, Vec::new());
        let verifier: Arc<dyn ServerCertVerifier> = match &settings.roots {
            Roots::Insecure => Arc::new(Insecure),
            Roots::System => Arc::new(Verifier::new(system_roots()?, settings.sans.clone())?),
            Roots::File(path) => {
                let (roots, validity) = files::authorities(path, &rest[0])?;
                rest = &rest[1..];
                validities.push(validity);
                Arc::new(Verifier::new(Arc::new(roots), settings.sans.clone())?)
            }
        };
        let shown: Arc<dyn ResolvesClientCert> = match (&settings.certificate, rest) {
            (Some(files), [cert, key, ..]) => {
                let identity = Identity::read(files, cert, key)?;
                validities.push(identity.validity);
                Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(identity.key)))
            }
            _ => Arc::new(Nothing),
        };
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError::Library(error.to_string()))?;
        let mut config =
            builder.dangerous().with_custom_certificate_verifier(verifier).with_client_cert_resolver(shown);
        config.alpn_protocols = Protocol::list(&settings.protocols);
        Ok(Self { config, validities })
    }

    fn validities(&self) -> &[Validity] {
        &self.validities
    }
}

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The authorities that the system trusts, read once.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);
    let mut known = ROOTS.lock();
    if let Some(roots) = known.as_ref() {
        return Ok(roots.clone());
    }
    // The library would wait for a pipe.
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from)
        && let Ok(Err(error)) = std::fs::metadata(&path).map(|found| crate::files::check_regular(&found))
    {
        return Err(TlsError::NoSystemRoots(format!("SSL_CERT_FILE names {}: {error}", path.display())));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if why.is_empty() { "none were found".to_owned() } else { why.join("; ") };
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(known.insert(Arc::new(roots)).clone())
}
