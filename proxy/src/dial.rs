//! Connects to an endpoint with several addresses: the first that answers is used (RFC 8305, "happy eyeballs").
//!
//! The next address is tried when one has failed, or in parallel when the ones in progress have used their share of the time. The
//! source of the endpoint determines the order of the addresses.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::sleep;

use crate::transport::{self, Io};

/// The number of silent addresses among which the time-out is divided.
const SHARES_OF_TIMEOUT: u32 = 4;

/// The longest time for which one address is tried alone (RFC 8305 section 8).
const MAX_TIME_ALONE: Duration = Duration::from_millis(250);

/// Remembers the last address of an endpoint that answered, to try it first the next time.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    answered: AtomicUsize,
}

// === impl Dial ===

impl Dial {
    /// Connects to one of the addresses. The caller enforces `limit`, the total time-out.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr], limit: Duration) -> io::Result<Io> {
        match addresses {
            [] => Err(io::ErrorKind::AddrNotAvailable.into()),
            [one] => transport::connect(*one).await,
            several => self.race(several, (limit / SHARES_OF_TIMEOUT).min(MAX_TIME_ALONE)).await,
        }
    }

    async fn race(&self, addresses: &[SocketAddr], share: Duration) -> io::Result<Io> {
        let first = self.answered.load(Ordering::Relaxed) % addresses.len();
        let rest = (0..addresses.len()).filter(|index| *index != first);
        let mut next = std::iter::once(first).chain(rest).peekable();
        let (mut running, mut failed) = (FuturesUnordered::new(), Vec::new());
        loop {
            if let Some(index) = next.next() {
                running.push(async move { (index, transport::connect(addresses[index]).await) });
            }
            tokio::select! {
                Some((index, connected)) = running.next() => match connected {
                    Ok(io) => {
                        self.answered.store(index, Ordering::Relaxed);
                        return Ok(io);
                    }
                    Err(error) => {
                        failed.push((addresses[index], error));
                        if running.is_empty() && next.peek().is_none() {
                            return Err(all(failed));
                        }
                    }
                },
                () = sleep(share), if next.peek().is_some() => {}
            }
        }
    }
}

/// The combined error of all addresses, with the kind of the first one.
fn all(failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let kind = failed.first().map_or(io::ErrorKind::NotConnected, |(_, error)| error.kind());
    let texts: Vec<String> = failed.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    io::Error::new(kind, texts.join("; "))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use testkit::origin::{BlackHole, Refusing};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn listening(ip: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn refusing(ip: &str) -> (Refusing, SocketAddr) {
        let refusing = Refusing::at(SocketAddr::new(ip.parse().unwrap(), 0));
        let address = refusing.address();
        (refusing, address)
    }

    fn peer(io: Io) -> SocketAddr {
        let Io::Tcp(stream) = io else { panic!("it is in clear") };
        stream.peer_addr().unwrap()
    }

    #[tokio::test]
    async fn the_first_address_is_taken_and_another_one_where_it_refuses() {
        let ((_one, one), (_two, two), (_no, no)) = (listening("127.0.0.1"), listening("::1"), refusing("127.0.0.2"));
        let dial = Dial::default();
        assert_eq!(peer(dial.connect(&[one, two], LIMIT).await.unwrap()), one);
        assert_eq!(peer(dial.connect(&[no, two, one], LIMIT).await.unwrap()), two);
        assert_eq!(peer(dial.connect(&[one, two], LIMIT).await.unwrap()), two, "what answered is tried first");
    }

    #[tokio::test]
    async fn the_next_address_is_tried_while_one_does_not_answer() {
        let (hole, (_one, one)) = (BlackHole::unconnectable(), listening("::1"));
        assert_eq!(peer(Dial::default().connect(&[hole.address(), one], LIMIT).await.unwrap()), one);
    }

    #[tokio::test]
    async fn where_all_fail_each_is_named() {
        let ((_no, no), (_nor, nor)) = (refusing("127.0.0.1"), refusing("::1"));
        let error = Dial::default().connect(&[no, nor], LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains(&no.to_string()) && text.contains(&nor.to_string()), "{text}");
    }
}
