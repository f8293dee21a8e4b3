//! A certificate authority, and TLS in front of a scripted origin.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use testkit::origin::Origin;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// One who vouches for servers.
pub(in crate::client) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Whether a server has to show who it is as well, because somebody else vouches for it.
    between: bool,
}

/// What a client connects to. It ends when it is dropped.
pub(in crate::client) struct Front {
    pub(in crate::client) address: SocketAddr,
    shown: Arc<Mutex<Arc<ServerConfig>>>,
    accepting: JoinHandle<()>,
}

impl Authority {
    pub(in crate::client) fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(params(name), key()).expect("it can vouch for itself");
        Self { issuer, between: false }
    }

    /// One for which this one vouches.
    pub(in crate::client) fn under(&self, name: &str) -> Self {
        let issuer = CertifiedIssuer::signed_by(params(name), key(), &self.issuer).expect("it can vouch for others");
        Self { issuer, between: true }
    }

    /// Its certificate, as a file holds it.
    pub(in crate::client) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What a server shows for which it vouches.
    fn server(&self) -> Arc<ServerConfig> {
        let key = key();
        let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a valid name");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can vouch for others");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.between.then(|| self.issuer.der().clone()));
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.expect("they belong together"))
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

impl Front {
    /// Stands in front of an origin, with a certificate of this authority.
    pub(in crate::client) async fn start(authority: &Authority, origin: &Origin) -> Self {
        let shown = Arc::new(Mutex::new(authority.server()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (to, certificate) = (origin.address(), shown.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let tls = TlsAcceptor::from(certificate.lock().clone());
                connections.spawn(async move {
                    let Ok(mut client) = tls.accept(stream).await else { return };
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, shown, accepting }
    }

    /// Shows a certificate of another authority to whoever connects from now on.
    pub(in crate::client) fn show(&self, authority: &Authority) {
        *self.shown.lock() = authority.server();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
