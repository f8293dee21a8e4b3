//! Forward proxies, by HTTP CONNECT and by SOCKS 5, that record what clients ask for.

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<ProxyRequest>>>,
    accepting: JoinHandle<()>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP with the method CONNECT.
    Http,
    /// SOCKS 5.
    Socks5,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRequest {
    /// Host and port, as they were written.
    pub target: String,
    /// CONNECT: the field `Proxy-Authorization`. SOCKS: `user:password`.
    pub credentials: Option<String>,
}

impl ForwardProxy {
    /// A proxy that connects every client to this address, whichever target it asks for, so that names need not resolve.
    ///
    /// # Panics
    /// No port of 127.0.0.1 is free.
    pub async fn start(kind: Kind, to: SocketAddr) -> Self {
        Self::serve(kind, Some(to)).await
    }

    /// A proxy that refuses every client: with 407, or with "no acceptable method" of SOCKS.
    ///
    /// # Panics
    /// No port of 127.0.0.1 is free.
    pub async fn refusing(kind: Kind) -> Self {
        Self::serve(kind, None).await
    }

    async fn serve(kind: Kind, to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let asked = Arc::<Mutex<Vec<ProxyRequest>>>::default();
        let record = asked.clone();
        let accepting = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let record = record.clone();
                connections.spawn(async move {
                    let asked = match kind {
                        Kind::Http => connect(&mut client, to.is_some()).await,
                        Kind::Socks5 => socks(&mut client, to.is_some()).await,
                    };
                    let Ok(asked) = asked else { return };
                    record.lock().push(asked);
                    let Some(to) = to else { return };
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, asked, accepting }
    }

    /// Everything that was asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<ProxyRequest> {
        self.asked.lock().clone()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(client: &mut TcpStream, accept: bool) -> io::Result<ProxyRequest> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1"));
    let target = target.ok_or_else(|| io::Error::other(format!("no CONNECT: {head}")))?.to_owned();
    let credentials = lines.find_map(|line| line.strip_prefix("Proxy-Authorization: ")).map(str::to_owned);
    let answer: &[u8] =
        if accept { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n" };
    client.write_all(answer).await?;
    Ok(ProxyRequest { target, credentials })
}

/// Answers by RFC 1928, with the password of RFC 1929 if the client offers that.
async fn socks(client: &mut TcpStream, accept: bool) -> io::Result<ProxyRequest> {
    let [_version, count] = array(client).await?;
    let methods = bytes(client, count.into()).await?;
    let method = if methods.contains(&2) { 2 } else { 0 };
    client.write_all(&[5, if accept { method } else { 0xFF }]).await?;
    if !accept {
        return Ok(ProxyRequest { target: String::new(), credentials: None });
    }
    let mut credentials = None;
    if method == 2 {
        let [_version, length] = array(client).await?;
        let user = text(bytes(client, length.into()).await?)?;
        let length = client.read_u8().await?;
        credentials = Some(format!("{user}:{}", text(bytes(client, length.into()).await?)?));
        client.write_all(&[1, 0]).await?;
    }
    let [_version, _connect, _reserved, kind] = array(client).await?;
    let host = match kind {
        1 => std::net::Ipv4Addr::from(array(client).await?).to_string(),
        4 => std::net::Ipv6Addr::from(array::<16>(client).await?).to_string(),
        _ => {
            let length = client.read_u8().await?;
            text(bytes(client, length.into()).await?)?
        }
    };
    let target = format!("{host}:{}", client.read_u16().await?);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(ProxyRequest { target, credentials })
}

async fn array<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    client.read_exact(&mut array).await?;
    Ok(array)
}

async fn bytes(client: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(io::Error::other)
}
