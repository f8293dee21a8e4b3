//! The proxy between third-party clients and servers.

mod clients;
mod grpc;
mod nginx;

use std::sync::Arc;

use proxy::config::{TlsTo, UpstreamTls};
use runtime::tls::{CertificateFiles, ClientAuth, ClientSettings, MinVersion, Roots, ServerSettings};
use testkit::pki::{Authority, SecretDir};

use crate::fixture::Setup;

/// The proxy's name in TLS.
const PROXY: &str = "broadcast.example";

/// The name of all endpoints in TLS.
const ENDPOINT: &str = "cache.shop.svc";

/// The files of one authority, and of its certificates for the proxy and the endpoints.
struct Certificates {
    proxy: SecretDir,
    endpoint: SecretDir,
}

impl Certificates {
    fn new() -> Self {
        let authority = Authority::new("authority");
        let secret = |name| SecretDir::of(&authority.issue(&[name]), &authority);
        Self { proxy: secret(PROXY), endpoint: secret(ENDPOINT) }
    }
}

impl Setup {
    /// Clients speak TLS with it.
    fn clients_by_tls(self, certificates: &Certificates) -> Self {
        let secret = &certificates.proxy;
        self.listener(|listener| {
            listener.tls = Some(ServerSettings {
                certificates: vec![CertificateFiles { cert: secret.path("tls.crt"), key: secret.path("tls.key") }],
                client_ca: None,
                client_auth: ClientAuth::Require,
                min_version: MinVersion::Tls12,
                protocols: Vec::new(),
            });
        })
    }

    /// It speaks TLS with its endpoints.
    fn endpoints_by_tls(self, certificates: &Certificates) -> Self {
        let settings = ClientSettings {
            roots: Roots::File(certificates.endpoint.path("ca.crt")),
            sans: Vec::new(),
            certificate: None,
            protocols: Vec::new(),
        };
        let server_name = Some(ENDPOINT.parse().expect("a name"));
        self.policy(|policy| policy.tls = Some(Arc::new(UpstreamTls { to: TlsTo::default(), settings, server_name })))
    }
}
