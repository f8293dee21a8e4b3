//! What is spoken on both sides of a subject, and the certificate for TLS.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use testkit::pki::Authority;

/// The name that clients ask for, and that is in the certificate.
pub(crate) const NAME: &str = "load.test";

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1
    #[default]
    One,
    /// HTTP/2, in clear by prior knowledge
    Two,
}

/// What is spoken on both sides of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protocols {
    /// Whether clients speak TLS. Endpoints never do here.
    pub(crate) tls: bool,
    /// With clients.
    pub(crate) client: Http,
    /// With endpoints.
    pub(crate) endpoint: Http,
    /// Whether requests are unary calls of gRPC.
    pub(crate) grpc: bool,
}

/// The files of a certificate that subjects show their clients.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The chain.
    pub(crate) chain: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
    /// What clients verify it with.
    pub(crate) ca: PathBuf,
}

impl Certificate {
    /// Makes one for [`NAME`] (ECDSA, P-256), with its files in this folder.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let authority = Authority::new("load test");
        let issued = authority.issue(&[NAME]);
        let file = |name: &str, content: &str| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            chain: file("certificate.pem", &issued.chain)?,
            key: file("key.pem", &issued.key)?,
            ca: file("ca.pem", &authority.pem())?,
        })
    }
}
