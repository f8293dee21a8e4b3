//! The TLS of connections to an API server, and to a proxy in front of one.
//!
//! Not made by kube, whose way to a configuration leads through the programs and the YAML of a kubeconfig, which are read here: with it
//! a second YAML library would be part of the program.

use std::sync::Arc;

use runtime::tls::{Insecure, system_roots};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::read::{ClientSettings, Identity};

/// The configuration for an API server. The client shows this identity, if there is one.
///
/// # Errors
/// A text if the certificates cannot be used, or there is no authority to verify the server with.
pub(super) fn to_server(settings: &ClientSettings, identity: Option<&Identity>) -> Result<ClientConfig, String> {
    let builder = if settings.insecure {
        builder()?.dangerous().with_custom_certificate_verifier(Arc::new(Insecure))
    } else {
        builder()?.with_root_certificates(match &settings.roots {
            Some(roots) => Arc::new(trusting(roots)?),
            None => system_roots().map_err(|error| error.to_string())?,
        })
    };
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    // What the library says of a key is not passed on, because it may show parts of it.
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or("the client certificate is not one in PEM form")?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key);
    let key = key.map_err(|_| "the key of the client certificate is not a private key in PEM form")?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("the client certificate is refused: {error}"))
}

/// The configuration for proxies, without the client certificate, which is for the server.
///
/// # Errors
/// A text if there is no authority to verify a proxy with.
pub(super) fn to_proxy(roots: Option<&[Vec<u8>]>) -> Result<ClientConfig, String> {
    let mut trusted = trusting(roots.unwrap_or_default())?;
    match system_roots() {
        Ok(system) => trusted.roots.extend_from_slice(&system.roots),
        Err(error) if roots.is_none() => return Err(error.to_string()),
        Err(_) => {}
    }
    Ok(builder()?.with_root_certificates(trusted).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// These authorities (DER).
fn trusting(authorities: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(CertificateDer::from_slice(authority).into_owned());
        added.map_err(|error| format!("a certificate of its authorities is refused: {error}"))?;
    }
    Ok(roots)
}
