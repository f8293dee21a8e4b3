//! A relay in front of an API server, which can be cut while the API server goes on.

use std::path::Path;

use tempfile::NamedTempFile;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Relays connections to a port of 127.0.0.1.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    /// Bound and not listening: nobody else gets the port while the relay is cut.
    _reserved: TcpSocket,
    to: u16,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Relays from a free port.
    pub async fn start(to: u16) -> Self {
        let reserved = TcpSocket::new_v4().expect("a socket");
        reserved.set_reuseaddr(true).expect("it is not bound yet");
        reserved.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let port = reserved.local_addr().expect("it is bound").port();
        Self { port, _reserved: reserved, to, accepting: accept(port, to).await }
    }

    /// The port it relays from. While it is cut, a listener of the test may take its place.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A copy of a kubeconfig that goes through the relay.
    pub fn kubeconfig(&self, original: &Path) -> NamedTempFile {
        kubeconfig(original, self.to, self.port)
    }

    /// Closes every connection and refuses new ones.
    pub async fn cut(&mut self) {
        self.accepting.abort();
        let ended = (&mut self.accepting).await;
        assert!(ended.is_err_and(|end| end.is_cancelled()), "the relay was accepting");
    }

    /// Accepts connections again.
    pub async fn restore(&mut self) {
        self.accepting = accept(self.port, self.to).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A copy of a kubeconfig that goes to another port of 127.0.0.1.
pub(crate) fn kubeconfig(original: &Path, from: u16, to: u16) -> NamedTempFile {
    let text = std::fs::read_to_string(original).expect("the kubeconfig can be read");
    let (from, to) = (format!("127.0.0.1:{from}"), format!("127.0.0.1:{to}"));
    assert!(text.contains(&from), "the kubeconfig names the API server");
    let file = NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), text.replace(&from, &to)).expect("it can be written");
    file
}

async fn accept(port: u16, to: u16) -> JoinHandle<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("it is reserved");
    tokio::spawn(async move {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            connections.spawn(async move {
                let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                let _ = copy_bidirectional(&mut from, &mut to).await;
            });
        }
    })
}
