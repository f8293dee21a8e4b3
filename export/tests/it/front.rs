//! A proxy in front of an HTTP store, with faults that tests switch on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, client::conn::http1 as client, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The fault for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are passed on.
    None,
    /// They are answered with this status and never passed on.
    Status(u16),
    /// They are answered with this status and this body.
    Says(u16, &'static str),
    /// They are swallowed.
    Hang,
    /// The connection is closed before they are passed on.
    Close,
    /// They are passed on, and then the connection is closed without an answer.
    CloseAfter,
}

/// A running front. Dropping it ends it.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    to: SocketAddr,
    /// For all requests, and for those that write.
    faults: Mutex<[Fault; 2]>,
    puts: AtomicUsize,
    requests: AtomicUsize,
}

/// The connection is to be closed.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

impl Front {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let faults = Mutex::new([Fault::None; 2]);
        let shared = Arc::new(Shared { to, faults, puts: AtomicUsize::new(0), requests: AtomicUsize::new(0) });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let shared = shared.clone();
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            }
        });
        Self { address, shared, task }
    }

    /// From now on, for all requests.
    pub(crate) fn fault(&self, fault: Fault) {
        *self.shared.faults.lock() = [fault; 2];
    }

    /// From now on, for requests that write.
    pub(crate) fn write_fault(&self, fault: Fault) {
        self.shared.faults.lock()[1] = fault;
    }

    /// From now on, for requests that read.
    pub(crate) fn read_fault(&self, fault: Fault) {
        self.shared.faults.lock()[0] = fault;
    }

    /// Requests so far, and those of them that write.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.puts.load(Ordering::Relaxed))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let writes = request.method() != Method::GET && request.method() != Method::HEAD;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    shared.puts.fetch_add(usize::from(writes), Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let fault = shared.faults.lock()[usize::from(writes)];
    match fault {
        Fault::None | Fault::CloseAfter => {}
        Fault::Hang => return std::future::pending().await,
        Fault::Close => return Err(Closed),
        Fault::Status(status) | Fault::Says(status, _) => {
            let said = if let Fault::Says(_, said) = fault { said } else { "<Message>asked for</Message>" };
            let mut answer = Response::new(Full::from(format!("<Error><Code>Fault</Code>{said}</Error>")));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a valid status");
            return Ok(answer);
        }
    }
    let stream = TcpStream::connect(shared.to).await.map_err(|_| Closed)?;
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(|_| Closed)?;
    tokio::spawn(connection);
    let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await.map_err(|_| Closed)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    if fault == Fault::CloseAfter {
        return Err(Closed);
    }
    Ok(Response::from_parts(head, Full::new(body)))
}
