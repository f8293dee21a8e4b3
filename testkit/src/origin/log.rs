//! How a connection's task writes into the journal.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::record::{Connection, Journal, Request};
use crate::http::{BodyMode, Cut, End, Headers, KEEP_LIMIT, RequestHead};

/// The most stray bytes kept per connection, in bytes.
const STRAY_LIMIT: usize = 1 << 20;

/// The journal, as one connection sees it.
#[derive(Clone)]
pub(super) struct Log {
    journal: Arc<watch::Sender<Journal>>,
    connection: usize,
    mode: BodyMode,
}

/// Holds the connection's socket, and notes its end once the socket is closed, also when the task is
/// aborted.
pub(super) struct Link {
    stream: Option<Arc<TcpStream>>,
    log: Log,
}

impl Link {
    pub(super) fn new(stream: Arc<TcpStream>, log: Log) -> Self {
        Self { stream: Some(stream), log }
    }

    pub(super) fn stream(&self) -> Arc<TcpStream> {
        let stream = self.stream.as_ref();
        Arc::clone(stream.expect("only drop takes the stream"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stream = None;
        self.log.done();
    }
}

impl Log {
    /// Enters a new connection into the journal.
    pub(super) fn connection(journal: &Arc<watch::Sender<Journal>>, peer: SocketAddr, mode: BodyMode) -> Self {
        let mut number = 0;
        journal.send_modify(|journal| {
            number = journal.connections.len();
            journal.connections.push(Connection {
                number,
                peer,
                open: true,
                peer_end: None,
                done: false,
                idle: true,
                requests: Vec::new(),
                stray: Vec::new(),
                fault: None,
                received: 0,
                sent: 0,
            });
        });
        Self { journal: Arc::clone(journal), connection: number, mode }
    }

    pub(super) fn received(&self, n: usize) {
        self.on_connection(|c| {
            c.received += n as u64;
            c.idle = false;
        });
    }

    pub(super) fn idle(&self) {
        self.on_connection(|c| c.idle = true);
    }

    pub(super) fn peer_ended(&self, how: Cut) {
        self.on_connection(|c| {
            c.peer_end = Some(how);
            c.open = false;
            c.idle = false;
        });
    }

    pub(super) fn stray(&self, bytes: &[u8], fault: Option<&str>) {
        self.on_connection(|c| {
            let room = STRAY_LIMIT.saturating_sub(c.stray.len());
            c.stray.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if c.fault.is_none() {
                c.fault = fault.map(str::to_owned);
            }
        });
    }

    /// Enters a request and gives back a copy of the entry.
    pub(super) fn request(&self, head: RequestHead) -> Request {
        let mut entry = None;
        self.journal.send_modify(|journal| {
            let number = journal.requests.len();
            let connection = &mut journal.connections[self.connection];
            let place = connection.requests.len();
            connection.requests.push(number);
            let request = Request::new(number, self.connection, place, head);
            entry = Some(request.clone());
            journal.requests.push(request);
        });
        entry.expect("send_modify runs the closure")
    }

    /// A copy of a request's entry as it is now.
    pub(super) fn copy(&self, request: usize) -> Request {
        self.journal.borrow().requests[request].clone()
    }

    pub(super) fn body(&self, request: usize, raw: &[u8], decoded: &[u8]) {
        self.on_request(request, |r| {
            r.raw_length += raw.len() as u64;
            r.body_length += decoded.len() as u64;
            r.running.update(decoded);
            r.digest = r.running.value();
            if self.mode == BodyMode::Keep {
                keep(&mut r.raw_body, raw);
                keep(&mut r.body, decoded);
            }
        });
    }

    pub(super) fn ended(&self, request: usize, end: End, trailers: &Headers) {
        self.on_request(request, |r| {
            r.trailers = trailers.clone();
            r.finish(end);
        });
    }

    pub(super) fn sent(&self, request: Option<usize>, n: usize) {
        self.journal.send_modify(|journal| {
            journal.connections[self.connection].sent += n as u64;
            if let Some(request) = request {
                journal.requests[request].answer_length += n as u64;
            }
        });
    }

    pub(super) fn answered(&self, request: usize) {
        self.on_request(request, |r| r.answered = true);
    }

    fn done(&self) {
        self.journal.send_modify(|journal| {
            let Journal { connections, requests } = journal;
            let connection = &mut connections[self.connection];
            connection.open = false;
            connection.idle = false;
            connection.done = true;
            for number in &connection.requests {
                requests[*number].finish(End::Abandoned);
            }
        });
    }

    fn on_connection(&self, change: impl FnOnce(&mut Connection)) {
        self.journal.send_modify(|journal| change(&mut journal.connections[self.connection]));
    }

    fn on_request(&self, request: usize, change: impl FnOnce(&mut Request)) {
        self.journal.send_modify(|journal| change(&mut journal.requests[request]));
    }
}

fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    let room = KEEP_LIMIT.saturating_sub(kept.len());
    kept.extend_from_slice(&more[..more.len().min(room)]);
}
