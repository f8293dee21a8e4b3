//! PEM files: certificates, private keys, authorities. Errors name the path, the fault and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, Validity};

/// A certificate with its chain, and the private key that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
pub struct CertificateFiles {
    /// The chain in PEM form, the certificate itself first.
    pub cert: PathBuf,
    /// The private key in PEM form, not encrypted.
    pub key: PathBuf,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do about it.
    pub why: String,
}

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The system has no certificates of authorities.
    #[error(
        "the system has no certificates of authorities ({0}): install them (the package is often called ca-certificates), or name a file of them"
    )]
    NoSystemRoots(String),
    /// No certificate was given for a listener.
    #[error("a listener with TLS needs at least one certificate and its key")]
    NoCertificate,
    /// The library refuses what was asked of it.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

// === impl FileFault ===

impl FileFault {
    pub(super) fn new(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into() }
    }
}

impl CertificateFiles {
    /// Which of the two an error is about. One file may be both.
    pub(super) fn at_fault(&self, error: &TlsError) -> Option<&'static str> {
        [("cert", &self.cert), ("key", &self.key)]
            .into_iter()
            .find(|(_, path)| error.is_about(path))
            .map(|(key, _)| key)
    }
}

impl TlsError {
    /// Whether it is about this file.
    pub(super) fn is_about(&self, path: &Path) -> bool {
        matches!(self, Self::File(fault) if fault.path == path)
    }
}

/// That a file cannot be read, and what to do about it.
pub(super) fn unreadable(path: &Path, why: &str) -> FileFault {
    let advice = match crate::files::open(path).map_err(|error| error.kind()) {
        Err(io::ErrorKind::IsADirectory) => " (tls.crt, say)",
        Err(io::ErrorKind::NotFound) => ": correct the path, or see that the volume is mounted",
        Err(io::ErrorKind::PermissionDenied) => ": let the user that the process runs as read it",
        _ => "",
    };
    FileFault::new(path, format!("it cannot be read: {why}{advice}"))
}

/// The certificates in a file, in order.
pub(super) fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| FileFault::new(path, broken(&error)))?;
    if found.is_empty() {
        return Err(FileFault::new(path, format!("there is no certificate in it{}", hint(text))));
    }
    Ok(found)
}

/// The first private key in a file.
pub(super) fn private_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, FileFault> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if contains(text, "ENCRYPTED PRIVATE KEY") => {
            let why = "the private key in it is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`";
            Err(FileFault::new(path, why))
        }
        Err(pem::Error::NoItemsFound) => {
            Err(FileFault::new(path, format!("there is no private key in it{}", hint(text))))
        }
        Err(error) => Err(FileFault::new(path, broken(&error))),
    }
}

/// The authorities in a file, and when all of them are valid.
pub(super) fn authorities(path: &Path, text: &[u8]) -> Result<(RootCertStore, Validity), FileFault> {
    let (mut roots, mut parsed) = (RootCertStore::empty(), Vec::new());
    for (index, certificate) in certificates(path, text)?.into_iter().enumerate() {
        let fault = |why: String| FileFault::new(path, format!("certificate {} of it is refused: {why}", index + 1));
        parsed.push(Certificate::parse(&certificate).map_err(fault)?);
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    Ok((roots, Validity::of(path, &parsed)))
}

/// What is wrong with the form. Nothing of the content is told: it may be a key.
fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it is cut off: a section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line in it is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a section of it is not base64".to_owned(),
        other => format!("it is not in PEM form: {other}"),
    }
}

/// A guess at what the file contains instead.
fn hint(text: &[u8]) -> &'static str {
    if text.is_empty() {
        "; it is empty"
    } else if text.starts_with(&[0x30]) {
        "; it seems to be in DER form: convert it with `openssl x509 -inform der` or `openssl pkey -inform der`"
    } else if contains(text, "PRIVATE KEY-----") {
        ", but a private key: were the two files mixed up?"
    } else if contains(text, "BEGIN CERTIFICATE-----") {
        ", but a certificate: were the two files mixed up?"
    } else {
        "; PEM form is expected (-----BEGIN ...)"
    }
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use testkit::pki::Authority;

    use super::*;

    fn path() -> &'static Path {
        Path::new("/etc/tls/file.pem")
    }

    #[test]
    fn faults_of_a_file_have_its_path_and_never_its_content() {
        let issued = Authority::new("ca").issue(&["a.example"]);
        let secret = issued.key.lines().nth(1).expect("a line of the key");
        let cut = &issued.key[..issued.key.len() - 40];
        let bad = issued.key.replace(secret, &format!("{secret}!"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cases = [
            (private_key(path(), cut.as_bytes()).err(), "cut off"),
            (private_key(path(), bad.as_bytes()).err(), "not base64"),
            (private_key(path(), encrypted.as_bytes()).err(), "openssl pkey -in"),
            (private_key(path(), issued.chain.as_bytes()).err(), "mixed up"),
            (private_key(path(), b"").err(), "it is empty"),
            (certificates(path(), issued.key.as_bytes()).err(), "mixed up"),
            (certificates(path(), &[0x30, 0x82]).err(), "DER form"),
            (certificates(path(), b"hello").err(), "PEM form is expected"),
        ];
        for (fault, expected) in cases {
            let text = fault.unwrap_or_else(|| panic!("no fault, but {expected} was expected")).to_string();
            assert!(text.starts_with("/etc/tls/file.pem: ") && text.contains(expected), "{text}");
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_named_by_its_place() {
        let good = Authority::new("ca").pem();
        let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let fault = authorities(path(), format!("{good}{bad}").as_bytes()).expect_err("the second one is refused");
        assert!(fault.why.starts_with("certificate 2 of it is refused"), "{fault}");
    }
}
