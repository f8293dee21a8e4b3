//! A listener that takes clients by TLS and says what it makes of each, and clients for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::tls::{
    AcceptError, Accepted, CertificateFiles, ClientAuth, MinVersion, PeerCertificate, Protocol, ServerSettings,
    ServerTls, Turns, accept,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use testkit::eventually::within;
use testkit::pki::SecretDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Never passes within a test.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// What the listener makes of a client.
pub(crate) type Taken = Result<Client, AcceptError>;

/// A client that was taken.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) protocol: Protocol,
    pub(crate) certificate: Option<PeerCertificate>,
    pub(crate) server_name: Option<String>,
}

/// A listener. It answers "ok" to every client that it takes.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) taken: mpsc::Receiver<Taken>,
}

/// What a client sees of a handshake.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) resumed: bool,
    pub(crate) alpn: Option<String>,
}

/// Settings for a certificate in a directory like that of a Secret.
pub(crate) fn settings(secret: &SecretDir) -> ServerSettings {
    ServerSettings {
        certificates: vec![files(secret)],
        client_ca: None,
        client_auth: ClientAuth::Require,
        min_version: MinVersion::Tls12,
        protocols: vec![Protocol::Http2, Protocol::Http1],
    }
}

pub(crate) fn files(secret: &SecretDir) -> CertificateFiles {
    CertificateFiles { cert: secret.path("tls.crt"), key: secret.path("tls.key") }
}

impl Listener {
    pub(crate) async fn start(settings: ServerSettings) -> Self {
        Self::with_deadline(settings, NEVER).await
    }

    pub(crate) async fn with_deadline(settings: ServerSettings, within: Duration) -> Self {
        runtime::metrics::install().expect("installs");
        let tls = ServerTls::load(settings).unwrap_or_else(|error| panic!("{error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("it has an address");
        let (told, taken) = mpsc::channel(10_000);
        let turns = Turns::default();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, turns, told) =
                    (tls.config(stream.local_addr().ok().map(|local| local.ip())), turns.clone(), told.clone());
                tokio::spawn(async move {
                    let accepted = accept(stream, &[], config, &turns, Instant::now() + within).await;
                    let taken = match accepted {
                        Ok(Accepted { mut stream, protocol, certificate, server_name }) => {
                            let _ = stream.write_all(b"ok").await;
                            let _ = stream.shutdown().await;
                            Ok(Client { protocol, certificate, server_name })
                        }
                        Err(error) => Err(error),
                    };
                    let _ = told.send(taken).await;
                });
            }
        });
        Self { address, taken }
    }

    /// What the listener makes of the next client.
    pub(crate) async fn next(&mut self) -> Taken {
        within("a client", self.taken.recv()).await.expect("the listener is there")
    }

    /// What the listener makes of the next client, which it refuses.
    pub(crate) async fn refused(&mut self) -> String {
        match self.next().await {
            Err(error) => error.to_string(),
            Ok(client) => panic!("{client:?} was taken"),
        }
    }
}

/// Connects and reads to the end: in TLS 1.3 only that shows whether the client was taken.
pub(crate) async fn ask(config: &Arc<ClientConfig>, name: &str, address: SocketAddr) -> io::Result<Seen> {
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"ok");
        let session = stream.get_ref().1;
        let certificates = session.peer_certificates().expect("a server has a certificate");
        Ok(Seen {
            certificate: certificates[0].clone(),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        })
    };
    within("an answer", asking).await
}
