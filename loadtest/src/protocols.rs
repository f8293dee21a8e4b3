//! The protocols on both sides of a subject, and the certificate for TLS.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use testkit::pki::Authority;

/// The server name of clients, which the certificate has.
pub(crate) const NAME: &str = "load.test";

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1
    #[default]
    One,
    /// HTTP/2, in clear text with prior knowledge
    Two,
}

/// The protocols on both sides of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protocols {
    /// Whether clients speak TLS. Endpoints never do here.
    pub(crate) tls: bool,
    /// The version of HTTP with clients.
    pub(crate) client: Http,
    /// The version of HTTP with endpoints.
    pub(crate) endpoint: Http,
    /// Whether requests are unary calls of gRPC.
    pub(crate) grpc: bool,
}

/// The files of the subjects' server certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The chain.
    pub(crate) chain: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
    /// The authority, with which clients verify it.
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
