//! A relay that adds or removes TLS: in front of an origin without TLS, or between a raw client and a TLS server.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Relays bytes between a side with TLS and a side in clear text, until it is dropped.
#[derive(Debug)]
pub struct TlsRelay {
    /// Where it listens.
    pub address: SocketAddr,
    side: Arc<Side>,
    handshakes: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// The side that speaks TLS.
#[derive(Debug)]
enum Side {
    Clients(Mutex<Arc<ServerConfig>>),
    Server(Arc<ClientConfig>, ServerName<'static>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl TlsRelay {
    /// Accepts TLS clients at this address and relays in clear text.
    ///
    /// # Panics
    /// The address cannot be bound.
    pub async fn in_front(address: &str, config: ServerConfig, to: SocketAddr) -> Self {
        Self::serve(address, Side::Clients(Mutex::new(Arc::new(config))), to).await
    }

    /// Accepts clients in clear text and relays by TLS, to the server of this name.
    ///
    /// # Panics
    /// The name is not valid, or no port of 127.0.0.1 is free.
    pub async fn towards(to: SocketAddr, config: ClientConfig, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self::serve("127.0.0.1:0", Side::Server(Arc::new(config), name), to).await
    }

    async fn serve(address: &str, side: Side, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let (side, handshakes) = (Arc::new(side), Arc::<AtomicUsize>::default());
        let (of_all, count) = (side.clone(), handshakes.clone());
        let accepting = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let (side, count) = (of_all.clone(), count.clone());
                connections.spawn(async move {
                    let Ok((mut one, mut other)) = side.join(stream, to).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = copy_bidirectional(&mut one, &mut other).await;
                });
            }
        });
        Self { address, side, handshakes, accepting }
    }

    /// Presents the certificate of this configuration on new connections.
    ///
    /// # Panics
    /// The relay does not accept TLS clients.
    pub fn show(&self, config: ServerConfig) {
        match &*self.side {
            Side::Clients(shown) => *shown.lock() = Arc::new(config),
            Side::Server(..) => panic!("this relay accepts clients in clear text and presents no certificate"),
        }
    }

    /// Number of completed handshakes.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }
}

impl Side {
    async fn join(&self, stream: TcpStream, to: SocketAddr) -> io::Result<(Box<dyn Stream>, Box<dyn Stream>)> {
        stream.set_nodelay(true)?;
        match self {
            Self::Clients(shown) => {
                let acceptor = TlsAcceptor::from(shown.lock().clone());
                let one = acceptor.accept(stream).await?;
                let other = TcpStream::connect(to).await?;
                other.set_nodelay(true)?;
                Ok((Box::new(one), Box::new(other)))
            }
            Self::Server(config, name) => {
                let connector = TlsConnector::from(config.clone());
                let other = TcpStream::connect(to).await?;
                other.set_nodelay(true)?;
                Ok((Box::new(stream), Box::new(connector.connect(name.clone(), other).await?)))
            }
        }
    }
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
