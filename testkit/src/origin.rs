//! A scripted HTTP/1.1 origin: a real listener that answers as told, and records every byte it gets.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use testkit::client;
//! use testkit::origin::{At, Gate, Origin, Reply};
//!
//! let gate = Gate::new();
//! let origin = Origin::start([
//!     Reply::ok("first").hold_at(At::Body(2), &gate), // a queue: the first request gets this,
//!     Reply::new(503).reset_at(At::Byte(10)),         // all later ones this
//! ]);
//! gate.release();
//! let answer = client::get(origin.address(), "/a?b=c").await;
//! assert_eq!((answer.status, answer.text().as_str()), (200, "first"));
//! let seen = origin.wait_requests(1).await.remove(0).complete();
//! assert_eq!(seen.target, "/a?b=c");
//! # });
//! ```

mod connection;
mod dead;
mod gate;
mod intake;
mod log;
mod outlet;
mod record;
mod reply;
mod script;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::Socket;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

pub use dead::{BlackHole, Refusing};
pub use gate::Gate;
pub use record::{Connection, Journal, Request};
pub use reply::{Act, After, At, Reading, Reply, When};
pub use script::{Chooser, Script, Welcome};

use crate::http::BodyMode;
use connection::Choice;
use log::{Link, Log};

/// A running origin. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    /// Bound but not listening: keeps the port while the listener is stopped.
    _reserved: Socket,
    address: SocketAddr,
    options: Options,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// How to start an [`Origin`].
#[derive(Clone, Debug)]
pub struct Builder {
    address: SocketAddr,
    welcome: Welcome,
    options: Options,
}

#[derive(Clone, Debug, Default)]
struct Options {
    body_mode: BodyMode,
    receive_buffer: Option<u32>,
    send_buffer: Option<u32>,
}

/// What the origin, its listener and its connections share.
#[derive(Debug)]
struct Shared {
    journal: Arc<watch::Sender<Journal>>,
    script: Mutex<Script>,
    welcome: Mutex<Welcome>,
    /// By connection number.
    live: Mutex<Vec<Live>>,
}

#[derive(Debug)]
struct Live {
    stream: Weak<TcpStream>,
    task: AbortHandle,
}

impl Builder {
    /// The address to listen at: `127.0.0.1:0` (the default), `[::1]:0`, an address of a namespace.
    ///
    /// # Panics
    /// If the text is not an IP address and a port.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        let parsed = address.parse();
        self.address = parsed.unwrap_or_else(|e| panic!("`{address}` is no ip:port: {e}"));
        self
    }

    /// What is kept of request bodies.
    #[must_use]
    pub fn body_mode(mut self, mode: BodyMode) -> Self {
        self.options.body_mode = mode;
        self
    }

    /// The receive buffer of the connections, in bytes (the kernel doubles it, and has a minimum of
    /// about 2 KiB). Small ones let a peer feel at once that nothing is read.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.options.receive_buffer = Some(bytes);
        self
    }

    /// The send buffer of the connections, in bytes (the kernel doubles it).
    #[must_use]
    pub fn send_buffer(mut self, bytes: u32) -> Self {
        self.options.send_buffer = Some(bytes);
        self
    }

    /// What happens to a connection when it is accepted.
    #[must_use]
    pub fn welcome(mut self, welcome: Welcome) -> Self {
        self.welcome = welcome;
        self
    }

    /// Starts the origin. It lives on the tokio runtime of the caller.
    ///
    /// # Panics
    /// If there is no runtime, or the address cannot be listened at.
    #[must_use]
    pub fn start(self, script: impl Into<Script>) -> Origin {
        let asked = self.address;
        let reserved = dead::bound(asked).unwrap_or_else(|e| panic!("cannot bind {asked}: {e}"));
        let address = dead::local(&reserved).expect("a bound socket has an address");
        let origin = Origin {
            shared: Arc::new(Shared {
                journal: Arc::new(watch::Sender::default()),
                script: Mutex::new(script.into()),
                welcome: Mutex::new(self.welcome),
                live: Mutex::new(Vec::new()),
            }),
            _reserved: reserved,
            address,
            options: self.options,
            accepting: Mutex::new(None),
        };
        origin.listen();
        origin
    }
}

impl Origin {
    /// An origin on a free port of 127.0.0.1. The script is a [`Reply`] for all requests, a list of
    /// them, or a [`Script`].
    ///
    /// # Panics
    /// As [`Builder::start`].
    #[must_use]
    pub fn start(script: impl Into<Script>) -> Self {
        Self::builder().start(script)
    }

    /// An origin with options.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { address: SocketAddr::from(([127, 0, 0, 1], 0)), welcome: Welcome::Serve, options: Options::default() }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script. Requests whose heads have arrived keep the reply they got.
    pub fn set(&self, script: impl Into<Script>) {
        *self.shared.script.lock() = script.into();
    }

    /// What happens to the connections accepted from now on.
    pub fn set_welcome(&self, welcome: Welcome) {
        *self.shared.welcome.lock() = welcome;
    }

    /// Everything seen so far.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.shared.journal.borrow().clone()
    }

    /// The requests whose heads have arrived so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.journal.borrow().requests.clone()
    }

    /// How many connections have been accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.journal.borrow().connections.len()
    }

    /// How many connections are open: ended by neither side.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.journal.borrow().open()
    }

    /// Waits until `n` requests are over (complete, cut or malformed), and returns all that are.
    ///
    /// # Panics
    /// If they are not within [`patience`](crate::eventually::patience): with the journal.
    #[track_caller]
    pub fn wait_requests(&self, n: usize) -> impl Future<Output = Vec<Request>> + '_ {
        let what = format!("{n} requests to arrive to their end");
        let over = |j: &Journal| j.requests.iter().filter(|r| r.end.is_over()).count();
        let wait = self.wait_until(what, move |journal| over(journal) >= n);
        async move { wait.await.over() }
    }

    /// Waits until the heads of `n` requests have arrived, and returns all requests.
    ///
    /// # Panics
    /// As [`Origin::wait_requests`].
    #[track_caller]
    pub fn wait_heads(&self, n: usize) -> impl Future<Output = Vec<Request>> + '_ {
        let what = format!("{n} request heads");
        let wait = self.wait_until(what, move |journal| journal.requests.len() >= n);
        async move { wait.await.requests }
    }

    /// Waits until `n` connections have been accepted, and returns all of them.
    ///
    /// # Panics
    /// As [`Origin::wait_requests`].
    #[track_caller]
    pub fn wait_connections(&self, n: usize) -> impl Future<Output = Vec<Connection>> + '_ {
        let what = format!("{n} connections");
        let wait = self.wait_until(what, move |journal| journal.connections.len() >= n);
        async move { wait.await.connections }
    }

    /// Waits until at least one connection has been accepted and all of them are closed or reset by
    /// either side, and returns them.
    ///
    /// # Panics
    /// As [`Origin::wait_requests`].
    #[track_caller]
    pub fn wait_closed(&self) -> impl Future<Output = Vec<Connection>> + '_ {
        let closed = |j: &Journal| !j.connections.is_empty() && j.open() == 0;
        let wait = self.wait_until("all connections to be closed", closed);
        async move { wait.await.connections }
    }

    /// Waits until the condition holds for the journal, and returns the journal as it is then.
    ///
    /// # Panics
    /// As [`Origin::wait_requests`].
    #[track_caller]
    pub fn wait_until(
        &self,
        what: impl Into<String>,
        holds: impl Fn(&Journal) -> bool,
    ) -> impl Future<Output = Journal> {
        self.wait_at_most(crate::eventually::patience(), what.into(), holds)
    }

    #[track_caller]
    fn wait_at_most(
        &self,
        patience: Duration,
        what: String,
        holds: impl Fn(&Journal) -> bool,
    ) -> impl Future<Output = Journal> {
        let place = std::panic::Location::caller();
        let address = self.address;
        let mut watcher = self.shared.journal.subscribe();
        async move {
            let wait = tokio::time::timeout(patience, watcher.wait_for(holds));
            // The sender lives as long as the origin, which `self` borrows.
            let seen = wait.await.ok().and_then(Result::ok).map(|j| j.clone());
            seen.unwrap_or_else(|| {
                let journal = watcher.borrow().clone();
                panic!("origin {address} waited {patience:?} in vain for {what} ({place}).\n{journal}")
            })
        }
    }

    /// Asserts that nobody has connected.
    ///
    /// # Panics
    /// If somebody has: with the journal.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let journal = self.journal();
        let address = self.address;
        assert!(journal.connections.is_empty(), "somebody connected to origin {address}:\n{journal}");
    }

    /// Closes the connections that wait for a next request, and waits until they are closed.
    ///
    /// # Panics
    /// If they are not within [`patience`](crate::eventually::patience).
    pub async fn close_idle(&self) {
        self.end_connections(|connection| connection.idle, |_| {}).await;
    }

    /// Resets all connections that are open at this side, and waits until they are gone.
    ///
    /// # Panics
    /// If they are not within [`patience`](crate::eventually::patience).
    pub async fn reset_all(&self) {
        self.end_connections(|connection| !connection.done, connection::reset_on_close).await;
    }

    /// Stops to listen: from now on connections are refused, the port stays reserved, and the open
    /// connections go on. A connection that the kernel has but the origin has not accepted is reset.
    pub async fn stop_listening(&self) {
        let task = self.accepting.lock().take();
        if let Some(task) = task {
            task.abort();
            // The error says that the task was aborted, as intended.
            let _ = task.await;
        }
    }

    /// Listens again at the same address, after [`Origin::stop_listening`].
    ///
    /// # Panics
    /// If it cannot.
    pub async fn listen_again(&self) {
        self.stop_listening().await;
        self.listen();
    }

    fn listen(&self) {
        let Options { receive_buffer, send_buffer, body_mode } = self.options;
        let address = self.address;
        let listening = || -> std::io::Result<TcpListener> {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            // Before listening: the accepted sockets inherit the sizes, and the window follows.
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            if let Some(bytes) = send_buffer {
                socket.set_send_buffer_size(bytes)?;
            }
            socket.bind(address)?;
            socket.listen(1024)
        };
        let listener = listening().unwrap_or_else(|e| panic!("cannot listen at {address}: {e}"));
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared), body_mode));
        *self.accepting.lock() = Some(task);
    }

    async fn end_connections(&self, chosen: impl Fn(&Connection) -> bool, before: impl Fn(&TcpStream)) {
        let mut numbers = Vec::new();
        {
            let live = self.shared.live.lock();
            for connection in &self.shared.journal.borrow().connections {
                if chosen(connection) {
                    let Live { stream, task } = &live[connection.number];
                    if let Some(stream) = stream.upgrade() {
                        before(&stream);
                    }
                    task.abort();
                    numbers.push(connection.number);
                }
            }
        }
        let done = |j: &Journal| numbers.iter().all(|n| j.connections[*n].done);
        self.wait_until("connections to be ended", done).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().take() {
            task.abort();
        }
        for live in self.shared.live.lock().iter() {
            live.task.abort();
        }
    }
}

impl Shared {
    fn choose(&self, request: &Request) -> Choice {
        let mut script = self.script.lock();
        match &mut *script {
            Script::Always(reply) => Choice::Reply(reply.clone()),
            Script::Queue(replies) if replies.len() > 1 => {
                Choice::Reply(Box::new(replies.pop_front().expect("longer than 1")))
            }
            Script::Queue(replies) => {
                let last = replies.front().cloned();
                let reply = last.unwrap_or_else(|| Reply::new(500).body("the script is empty"));
                Choice::Reply(Box::new(reply))
            }
            Script::OnHead(choose) => {
                let choose = Arc::clone(choose);
                // Called without the lock, because the test's closure may use the origin.
                drop(script);
                Choice::Reply(Box::new(choose(request)))
            }
            Script::OnRequest(choose) => Choice::Later(Arc::clone(choose)),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mode: BodyMode) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Going on could spin; a test that needs the origin fails on the refused connection.
                eprintln!("an origin stops listening: {e}");
                return;
            }
        };
        // Pieces of a reply are to leave when they are written. It fails only on a dead socket.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let welcome = shared.welcome.lock().clone();
        // Held across both, so that the index of a task is its connection's number.
        let mut live = shared.live.lock();
        let log = Log::connection(&shared.journal, peer, mode);
        let link = Link::new(Arc::clone(&stream), log.clone());
        let weak = Arc::downgrade(&stream);
        drop(stream);
        let task = tokio::spawn(connection::serve(link, log, Arc::clone(&shared), welcome));
        live.push(Live { stream: weak, task: task.abort_handle() });
    }
}
