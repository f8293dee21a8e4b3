//! The server of an endpoint that speaks HTTP/2 and can be taken down.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use h2::{Reason, RecvStream, server, server::SendResponse};
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, watch},
    task::JoinHandle,
};

use super::{Mode, Noted};

/// The server.
pub(super) struct Http2Server {
    pub(super) address: SocketAddr,
    /// Bound and not listening: nobody else gets the port while the server is down.
    _reserved: TcpSocket,
    noted: Arc<Noted>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Changes when every connection is to be reset.
    resets: watch::Sender<u32>,
    open: Arc<AtomicUsize>,
}

/// Counts a connection until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Http2Server {
    pub(super) async fn start(noted: Arc<Noted>) -> Self {
        let reserved = TcpSocket::new_v4().expect("a socket");
        reserved.set_reuseaddr(true).expect("it is not bound yet");
        reserved.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = reserved.local_addr().expect("it is bound");
        let listener = TcpListener::bind(address).await.expect("it is reserved");
        let (resets, _) = watch::channel(0);
        let server =
            Self { address, _reserved: reserved, noted, accepting: Mutex::new(None), resets, open: Arc::default() };
        server.accept(listener).await;
        server
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) async fn listen_again(&self) {
        self.accept(TcpListener::bind(self.address).await.expect("it is reserved")).await;
    }

    /// Refuses connections, and resets those that there are.
    pub(super) async fn go_down(&self) {
        if let Some(accepting) = self.accepting.lock().await.take() {
            accepting.abort();
            // It has let go of its listener then.
            let _ = accepting.await;
        }
        self.resets.send_modify(|count| *count += 1);
    }

    async fn accept(&self, listener: TcpListener) {
        let (noted, resets, open) = (self.noted.clone(), self.resets.clone(), self.open.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                open.fetch_add(1, Ordering::SeqCst);
                let open = Open(open.clone());
                tokio::spawn(serve(stream, noted.clone(), resets.subscribe(), open));
            }
        });
        *self.accepting.lock().await = Some(accepting);
    }
}

/// Serves a connection. When it is reset, nothing more of it is noted.
async fn serve(stream: TcpStream, noted: Arc<Noted>, mut resets: watch::Receiver<u32>, _open: Open) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    let mut requests = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = resets.changed() => return,
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => requests.push(answer(request, respond, &noted)),
                _ => return,
            },
            Some(()) = requests.next() => {}
        }
    }
}

/// Notes a request that came whole, and answers it.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, noted: &Noted) {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let id = head.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let status = match noted.note(head.method.as_str(), id, &String::from_utf8_lossy(&bytes)) {
        Mode::Well => 200,
        Mode::Unwell => 503,
        Mode::Resetting | Mode::Down => return respond.send_reset(Reason::INTERNAL_ERROR),
        Mode::Silent => {
            // Until the other side gives it up.
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            return;
        }
    };
    let response = Response::builder().status(status).body(()).expect("a response");
    let _ = respond.send_response(response, true);
}
