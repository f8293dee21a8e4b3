//! Verifies the certificate of an endpoint: its chain, then its name or a name that is configured instead.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::certificate::{Certificate, shown};
use super::files::TlsError;
use super::name::San;
use super::provider;

/// Verifies the chain and the name, or one of the names that are configured instead.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Arc<RootCertStore>,
    chain_and_name: Arc<WebPkiServerVerifier>,
    sans: Vec<San>,
}

/// Verifies nothing but that the server has the key of the certificate that it shows.
#[derive(Debug)]
pub struct Insecure;

/// A fault for which the library has no error.
#[derive(Debug)]
pub(super) struct CertificateFault(String);

// === impl CertificateFault ===

impl CertificateFault {
    fn error(text: String) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Self(text)))))
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CertificateFault {}

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(roots: Arc<RootCertStore>, sans: Vec<San>) -> Result<Self, TlsError> {
        let chain_and_name = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
        let chain_and_name = chain_and_name.map_err(|error| TlsError::Library(error.to_string()))?;
        Ok(Self { roots, chain_and_name, sans })
    }

    fn verify_chain_and_san(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = provider().signature_verification_algorithms;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms.all)?;
        let certificate = Certificate::parse(end_entity).map_err(CertificateFault::error)?;
        if self.sans.iter().any(|san| san.is_in(&certificate)) {
            return Ok(ServerCertVerified::assertion());
        }
        let wanted: Vec<String> = self.sans.iter().map(ToString::to_string).collect();
        let several_ids = certificate.uris.len() > 1 && wanted.iter().any(|san| san.starts_with("spiffe://"));
        Err(CertificateFault::error(format!(
            "is for {}, not for {}{}",
            certificate.names(),
            wanted.join(" or "),
            if several_ids { " (with more than one URI it has no SPIFFE id)" } else { "" }
        )))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = match self.sans.is_empty() {
            true => self.chain_and_name.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            false => self.verify_chain_and_san(end_entity, intermediates, now),
        };
        verified.map_err(|error| match error {
            // The message names the unknown issuer, because operators need that first.
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let last = intermediates.last().unwrap_or(end_entity);
                let issuer = Certificate::parse(last).map_or_else(|_| "nobody".to_owned(), |last| shown(&last.issuer));
                CertificateFault::error(format!(
                    "is signed by {issuer}, which is none of the authorities that are trusted"
                ))
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain_and_name.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain_and_name.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain_and_name.supported_verify_schemes()
    }
}

// === impl Insecure ===

impl ServerCertVerifier for Insecure {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
