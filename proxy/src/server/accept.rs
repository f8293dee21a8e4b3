//! The connections that a worker accepts on its listening sockets.

use std::{
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use runtime::accept::{After, Errors, PAUSE};
use tokio::{net::TcpStream, sync::watch};

use super::sockets;
use crate::{
    arrival::{Arrival, canonical},
    clock,
    connection::Connection,
    downstream::Downstream,
    shared::{Capacity, Worker},
};

/// One listener of one worker.
pub(super) struct App {
    pub(super) worker: Arc<Worker>,
    pub(super) listener: usize,
}

/// The socket of one listener of one worker.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) socket: TcpListener,
    /// Whether other processes may listen at the address.
    pub(super) is_shared: bool,
}

/// Accepts connections until the shutdown, and then those that had come in before it.
pub(super) async fn accept(app: Arc<App>, on: Listening, flag: watch::Receiver<Duration>) {
    let Listening { address, socket, is_shared } = on;
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            return tracing::error!(%address, %error, "a worker cannot accept connections; restart the process");
        }
    };
    // A drain waits until all that has come in is accepted.
    let _listening = app.worker.shared.work.begin_work();
    // The flag is never marked as seen, so that connections learn of the shutdown whenever they begin.
    let mut shutdown = flag.clone();
    accept_until(&app, address, &listener, &flag, async move { drop(shutdown.changed().await) }).await;
    if is_shared {
        let handshakes = tokio::time::sleep(sockets::leave_address(&listener));
        accept_until(&app, address, &listener, &flag, handshakes).await;
    }
    // Closing the socket would reset the connections in its backlog.
    let Ok(rest) = listener.into_std() else { return };
    while let Ok((stream, peer)) = rest.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            app.take(stream, peer, &flag);
        }
    }
}

/// Accepts connections until then.
async fn accept_until(
    app: &Arc<App>,
    address: SocketAddr,
    listener: &tokio::net::TcpListener,
    flag: &watch::Receiver<Duration>,
    end: impl Future<Output = ()>,
) {
    let (mut end, mut errors) = (pin!(end), Errors::default());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                errors.accepted();
                app.take(stream, peer, flag);
            }
            Err(error) => {
                let After::Pause { tell } = errors.after(&error) else { continue };
                if tell {
                    tracing::error!(%address, %error, "cannot accept connections, trying again; raise the limit (ulimit -n)");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

// === impl App ===

impl App {
    /// Serves an accepted connection in a task of its own.
    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: &watch::Receiver<Duration>) {
        // Writes are whole heads and bodies, which Nagle's algorithm would only delay. Errors mean that the socket is closed.
        let _ = stream.set_nodelay(true);
        let (app, shutdown, peer) = (self.clone(), shutdown.clone(), canonical(peer));
        // Registered before the accept loop ends, so that the drain waits for it.
        let work = self.worker.shared.work.begin_work();
        tokio::spawn(async move {
            app.serve(stream, peer, shutdown).await;
            drop(work);
        });
    }

    /// The accepted connection with the current configuration of its listener; none if the table does not have it.
    fn arrival(&self, stream: TcpStream, peer: SocketAddr) -> Option<Arrival> {
        let shared = &self.worker.shared;
        let table = shared.table.load();
        let config = table.listeners.get(self.listener)?.config.clone();
        let listener = shared.bound.get(self.listener).copied().unwrap_or(config.address);
        Some(Arrival { stream, peer, config, tls: table.secured.listener(self.listener).cloned(), listener })
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, shutdown: watch::Receiver<Duration>) {
        let Some(arrival) = self.arrival(stream, peer) else { return };
        let (mut connected, mut capacity) = self.worker.shared.connect(arrival.client());
        let client = if arrival.is_plain() {
            Downstream::new(arrival.stream, peer)
        } else {
            // Boxed, because it is large and most connections use clear text.
            let Some(client) = Box::pin(arrival.arrive(&mut connected, &shutdown)).await else { return };
            client
        };
        if !connected.is_counted() {
            capacity = Capacity::ClientFull;
        }
        let connection = Connection::new(&self.worker.shared, self.listener, client, shutdown, &connected);
        let Some(connection) = connection else { return };
        match capacity {
            Capacity::Room => {
                // Each box is as large as what is spoken needs, and gone when it has done its part.
                let http2 = clock::per_wake_up(Box::pin(connection.serve(&self.worker))).await;
                if let Some(connection) = http2 {
                    clock::per_wake_up(Box::pin(connection.serve_http2(&self.worker))).await;
                }
            }
            Capacity::Full | Capacity::ClientFull => {
                clock::per_wake_up(Box::pin(connection.refuse(&self.worker.shared, capacity))).await;
            }
        }
    }
}
