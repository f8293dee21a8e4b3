//! One certificate with its key, as a listener or a client shows it.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::certificate::{Certificate, Validity};
use super::files::{self, CertificateFiles, FileFault};
use super::provider;

/// A certificate with its key.
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) certificate: Certificate,
    /// The file of the certificate, and when its chain is valid.
    pub(super) validity: Validity,
}

// === impl Identity ===

impl Identity {
    /// Reads a certificate and its key, which must belong together.
    pub(super) fn read(files: &CertificateFiles, cert: &[u8], key: &[u8]) -> Result<Self, FileFault> {
        let chain = files::certificates(&files.cert, cert)?;
        let key = files::private_key(&files.key, key)?;
        let mut parsed = Vec::with_capacity(chain.len());
        for (index, certificate) in chain.iter().enumerate() {
            let fault = |why| FileFault::new(&files.cert, format!("certificate {} of it is refused: {why}", index + 1));
            parsed.push(Certificate::parse(certificate).map_err(fault)?);
        }
        let validity = Validity::of(&files.cert, &parsed);
        let key = certify(files, chain, key)?;
        Ok(Self { key: Arc::new(key), certificate: parsed.swap_remove(0), validity })
    }
}

/// Puts the two together where they belong together.
fn certify(
    files: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, FileFault> {
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        // What the library says of a key is not passed on: it is for keys of every kind, and long.
        let why = "the private key is of a kind that is not supported: use RSA with at least 2048 bits, ECDSA with P-256 or P-384, or Ed25519";
        FileFault::new(&files.key, why)
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let behind = (1..certified.cert.len()).find(|index| {
                CertifiedKey::new(vec![certified.cert[*index].clone()], certified.key.clone()).keys_match().is_ok()
            });
            let cert = files.cert.display();
            let why = match behind {
                Some(index) => format!(
                    "this key belongs to certificate {} of {cert}: that one must be the first in the file",
                    index + 1
                ),
                None => format!("this key does not belong to the certificate in {cert}"),
            };
            Err(FileFault::new(&files.key, why))
        }
        Err(error) => Err(FileFault::new(&files.cert, format!("it is refused: {error}"))),
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, names) = (&self.validity.path, self.certificate.names());
        f.debug_struct("Identity").field("path", path).field("names", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use testkit::pki::Authority;

    use super::*;

    fn read(cert: &str, key: &str) -> Result<Identity, FileFault> {
        let files = CertificateFiles { cert: "/tls.crt".into(), key: "/tls.key".into() };
        Identity::read(&files, cert.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_key_must_belong_to_the_first_certificate() {
        let (root, other) = (Authority::new("root"), Authority::new("other"));
        let (one, two) = (root.under("between").issue(&["a.example"]), other.issue(&["b.example"]));
        let identity = read(&one.chain, &one.key).expect("they belong together");
        assert_eq!((identity.key.cert.len(), identity.certificate.fits("a.example")), (2, 2));
        let fault = read(&one.chain, &two.key).expect_err("they do not").to_string();
        assert_eq!(fault, "/tls.key: this key does not belong to the certificate in /tls.crt");
        let fault = read(&format!("{}{}", two.chain, one.chain), &one.key).expect_err("wrong order").to_string();
        assert!(fault.contains("certificate 2 of /tls.crt: that one must be the first"), "{fault}");
    }

    #[test]
    fn a_key_is_never_shown() {
        let issued = Authority::new("root").issue(&["a.example"]);
        let shown = format!("{:?}", read(&issued.chain, &issued.key));
        assert!(shown.contains("a.example") && !shown.to_lowercase().contains("private"), "{shown}");
    }
}
