//! The handshake with a client.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{AcceptedAlert, Acceptor};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsStream};

use super::certificate::PeerCertificate;
use super::explain::{Side, explain};
use super::read_ahead::ReadAhead;
use super::{Protocol, Stream, Turns};

/// Record type of a handshake, the first byte of a connection with TLS.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Bytes of the first read: most ClientHello messages fit.
const FIRST_READ_BYTES: usize = 2048;

/// A client after its handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// The negotiated protocol.
    pub protocol: Protocol,
    /// The client's verified certificate, if it has sent one.
    pub certificate: Option<PeerCertificate>,
    /// The server name that the client asked for (SNI).
    pub server_name: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The client does not speak TLS. If it speaks HTTP it can be told so: see [`refuse_plain`](super::refuse_plain).
    #[error("the client does not speak TLS")]
    NotTls {
        /// The connection.
        stream: TcpStream,
        /// What was read of it.
        read: Vec<u8>,
    },
    /// The client has not done its part in time.
    #[error("the client has not finished the TLS handshake in time")]
    TimedOut,
    /// The client has gone.
    #[error("the client has closed the connection during the TLS handshake")]
    Closed,
    /// The handshake has failed; the text says why.
    #[error("{0}")]
    Refused(String),
}

// === impl AcceptError ===

impl AcceptError {
    /// One word, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTls { .. } => "not_tls",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::Refused(_) => "refused",
        }
    }

    fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match explain(error, Side::Client) {
            Some(text) => Self::Refused(text),
            None if matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) => {
                Self::Closed
            }
            None => Self::Refused(format!("the TLS handshake has failed: {error}")),
        }
    }
}

/// Does the handshake with a client, of which `read` was read already (what came behind a PROXY header, say). Where no protocol
/// is common to both an alert tells the client; one that offers none will speak HTTP/1.1.
///
/// # Errors
/// The client does not speak TLS, is not in time, or the handshake fails.
pub async fn accept(
    stream: TcpStream,
    read: &[u8],
    config: Arc<ServerConfig>,
    turns: &Turns,
    deadline: Instant,
) -> Result<Accepted, AcceptError> {
    let mut stream = Some(stream);
    let handshake = async {
        let mut first = read.to_vec();
        if first.is_empty() {
            let stream = stream.as_ref().ok_or(AcceptError::Closed)?;
            first = read_first(stream).await.map_err(|error| AcceptError::of(&error))?;
        }
        match (first.first(), stream.take()) {
            (Some(&HANDSHAKE_RECORD), Some(stream)) => turns.take(handshake(stream, &first, config)).await,
            (Some(_), Some(stream)) => Err(AcceptError::NotTls { stream, read: first }),
            _ => Err(AcceptError::Closed),
        }
    };
    timeout_at(deadline, handshake).await.unwrap_or(Err(AcceptError::TimedOut))
}

/// What the client sends first; nothing where it has closed the connection.
async fn read_first(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = [0; FIRST_READ_BYTES];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(length) => return Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn handshake(stream: TcpStream, first: &[u8], config: Arc<ServerConfig>) -> Result<Accepted, AcceptError> {
    let refused = |error: io::Error| AcceptError::of(&error);
    let mut acceptor = Acceptor::default();
    let mut unread = first;
    while !unread.is_empty() {
        acceptor.read_tls(&mut unread).map_err(refused)?;
    }
    let start = match acceptor.accept() {
        Ok(Some(accepted)) => StartHandshake::from_parts(accepted, ReadAhead::new(stream)),
        // The ClientHello is longer than the first read.
        Ok(None) => LazyConfigAcceptor::new(acceptor, ReadAhead::new(stream)).await.map_err(refused)?,
        Err((error, alert)) => return Err(refuse(stream, error, alert).await),
    };
    finish(start.into_stream(config).await.map_err(refused)?)
}

/// Sends the client an alert about its ClientHello.
async fn refuse(mut stream: TcpStream, error: rustls::Error, mut alert: AcceptedAlert) -> AcceptError {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and a lost alert does not matter.
    let _ = alert.write_all(&mut bytes);
    let _ = stream.write_all(&bytes).await;
    AcceptError::of(&io::Error::new(io::ErrorKind::InvalidData, error))
}

fn finish(stream: tokio_rustls::server::TlsStream<ReadAhead>) -> Result<Accepted, AcceptError> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(PeerCertificate::read).transpose();
    let certificate =
        certificate.map_err(|why| AcceptError::Refused(format!("the certificate of the client is refused: {why}")))?;
    let protocol = Protocol::agreed(session.alpn_protocol());
    let server_name = session.server_name().map(str::to_owned);
    let stream = Stream::Tls(Box::new(TlsStream::Server(stream)));
    Ok(Accepted { stream, protocol, certificate, server_name })
}
