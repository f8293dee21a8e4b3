//! Connections of the load to a subject, in clear text or with TLS.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::Target;
use crate::protocols::NAME;

/// A connection.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Makes connections to one target.
#[derive(Clone)]
pub(crate) struct Connector {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    /// For this target; each connection has a full handshake.
    pub(crate) fn new(target: &Target) -> anyhow::Result<Self> {
        let tls = target.ca.as_deref().map(|ca| tls(ca, target.http2)).transpose()?;
        Ok(Self { address: target.address, tls })
    }

    /// A new connection.
    ///
    /// # Errors
    /// The failed step.
    pub(crate) async fn connect(&self) -> Result<Stream, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                stream.map(|stream| Either::Right(Box::new(stream))).map_err(|error| format!("handshake: {error}"))
            }
        }
    }
}

fn tls(ca: &Path, http2: bool) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
    let mut roots = RootCertStore::empty();
    let at = || format!("cannot read {}", ca.display());
    for certificate in CertificateDer::pem_file_iter(ca).with_context(at)? {
        roots.add(certificate.with_context(at)?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    // Session tickets would avoid the handshakes that are measured.
    config.resumption = Resumption::disabled();
    Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from(NAME)?))
}
