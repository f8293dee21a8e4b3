//! Who is answered where clients take what there is: silent ones, slow ones, and those that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use runtime::listener::{Bound, Limits, WaitingRoom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// Never passes within a test: what happens is not a time-out's doing.
const NEVER: Duration = Duration::from_secs(3600);

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

struct Instance {
    addr: SocketAddr,
    /// Lets one of those that wait or are held go on.
    release: Arc<Notify>,
    /// Told by each handler that waits or is held.
    entered: mpsc::Receiver<()>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

/// A listener with a probe, with answers that wait (`/wait`, `/stream`), one that is held (`/held`), a long one (`/long`), and one that
/// reads a body (`/body`).
async fn start(limits: Limits) -> Instance {
    let (release, (told, entered)) = (Arc::new(Notify::new()), mpsc::channel(10_000));
    let held = {
        let (release, told) = (release.clone(), told.clone());
        async move || {
            let _ = told.send(()).await;
            release.notified().await;
            "held"
        }
    };
    let wait = {
        let held = held.clone();
        async move |Extension(room): Extension<WaitingRoom>| match room.enter() {
            Ok(_waiter) => held().await.into_response(),
            Err(full) => full.into_response(),
        }
    };
    let stream = async move || -> Response {
        let first = futures::stream::once(async { Ok::<_, std::io::Error>("first;") });
        Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending())).into_response()
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/wait", get(wait))
        .route("/held", get(held))
        .route("/stream", get(stream))
        .route("/long", get(async || "x".repeat(64 << 20)))
        .route("/body", post(async |body: Bytes| body));
    let bound = Bound::bind("test", ([127, 0, 0, 1], 0).into(), router, limits).await.expect("a free port");
    let addr = bound.addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async move { drop(stopped.await) }));
    Instance { addr, release, entered, stop, running }
}

fn patient(connections: usize, waiting: usize) -> Limits {
    Limits { connections, waiting, read_timeout: NEVER, idle_timeout: NEVER, ..Limits::default() }
}

impl Instance {
    async fn sent(&self, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("the listen queue takes it");
        stream.write_all(bytes.as_bytes()).await.expect("sends");
        stream
    }

    /// The answer to a probe on a connection of its own.
    async fn probe(&self) {
        let mut stream = self.sent(PROBE).await;
        assert_probed(&mut stream).await;
    }
}

/// Reads until the answer so far ends like this, and returns it.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("goes on in time");
        assert_ne!(read.expect("reads"), 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).expect("is text")
}

async fn assert_probed(stream: &mut TcpStream) {
    let answer = until(stream, "\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Reads to the end, which may be a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("ends in time");
    String::from_utf8(answer).expect("is text")
}

#[tokio::test]
async fn a_probe_is_answered_beside_any_number_that_owe_their_request() {
    for owing in [
        "",
        "GET /healthz HTTP/1.1\r\nHost:",
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let instance = start(Limits { read_timeout: NEVER, idle_timeout: NEVER, ..Limits::default() }).await;
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(instance.sent(owing).await);
        }
        instance.probe().await;
        for _ in 0..200 {
            held.push(instance.sent(owing).await);
        }
        instance.probe().await;
    }
}

#[tokio::test]
async fn the_connection_longest_without_a_whole_request_makes_room() {
    let instance = start(patient(3, 0)).await;
    let mut first = instance.sent("").await;
    let mut asks = instance.sent(PROBE).await;
    assert_probed(&mut asks).await;
    let mut half = instance.sent("GET /healthz HT").await;
    // Now the last one to have had a whole request.
    asks.write_all(PROBE.as_bytes()).await.expect("sends");
    assert_probed(&mut asks).await;
    let mut fourth = instance.sent(PROBE).await;
    assert_probed(&mut fourth).await;
    assert_eq!(rest(&mut first).await, "", "it has never sent anything");
    let mut fifth = instance.sent(PROBE).await;
    assert_probed(&mut fifth).await;
    assert_eq!(rest(&mut half).await, "", "its request has never been whole");
    for stays in [&mut asks, &mut fourth, &mut fifth] {
        stays.write_all(PROBE.as_bytes()).await.expect("sends");
        assert_probed(stays).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_makes_room() {
    let instance = start(patient(2, 0)).await;
    let mut unread = Vec::new();
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(instance.addr).await.expect("connects");
        stream.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sends");
        stream.readable().await.expect("the answer begins");
        unread.push(stream);
    }
    instance.probe().await;
}

#[tokio::test]
async fn a_whole_request_that_is_being_answered_is_not_cut() {
    let mut instance = start(patient(2, 0)).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(instance.sent("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await);
        instance.entered.recv().await.expect("the handler is entered");
    }
    let mut third = instance.sent(PROBE).await;
    let mut byte = [0; 1];
    let unserved = tokio::time::timeout(Duration::from_millis(100), third.read(&mut byte)).await;
    assert!(unserved.is_err(), "there is no room");
    instance.release.notify_waiters();
    for stream in &mut held {
        assert!(until(stream, "held").await.starts_with("HTTP/1.1 200"));
    }
    assert_probed(&mut third).await;
}

#[tokio::test]
async fn waiting_requests_have_a_bound_of_their_own_and_keep_no_other_out() {
    let limits = Limits { read_timeout: NEVER, idle_timeout: NEVER, waiting: 300, ..Limits::default() };
    let mut instance = start(limits).await;
    let (wait, stream) = ["wait", "stream"].map(|path| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).into();
    let mut waiting = Vec::new();
    for _ in 0..150 {
        waiting.push(instance.sent(&wait).await);
        instance.entered.recv().await.expect("it waits");
        let mut streaming = instance.sent(&stream).await;
        until(&mut streaming, "first;\r\n").await;
        waiting.push(streaming);
    }
    for path in [&wait, &stream] {
        let mut refused = instance.sent(path).await;
        let answer = until(&mut refused, "later\n").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    }
    let silent: Vec<_> = futures::future::join_all((0..200).map(|_| instance.sent(""))).await;
    instance.probe().await;
    // Nobody of those that wait was asked to leave for it.
    instance.release.notify_waiters();
    for stream in waiting.iter_mut().step_by(2) {
        assert!(until(stream, "held").await.starts_with("HTTP/1.1 200"));
    }
    let mut another = instance.sent(&wait).await;
    instance.entered.recv().await.expect("there is room to wait again");
    instance.release.notify_waiters();
    until(&mut another, "held").await;
    drop(silent);
}

#[tokio::test]
async fn a_kept_connection_may_bring_one_more_request_when_the_listener_closes() {
    let instance = start(patient(8, 0)).await;
    let (mut kept, mut idle) = (instance.sent(PROBE).await, instance.sent(PROBE).await);
    assert_probed(&mut kept).await;
    assert_probed(&mut idle).await;
    let mut fresh = instance.sent("").await;
    instance.stop.send(()).expect("it runs");
    let closed = async {
        while TcpStream::connect(instance.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("nobody listens any more");
    for stream in [&mut kept, &mut fresh] {
        stream.write_all(PROBE.as_bytes()).await.expect("sends");
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close\r\n"), "{answer}");
    }
    assert_eq!(rest(&mut idle).await, "", "and whoever brings none is let go");
    tokio::time::timeout(PATIENCE, instance.running).await.expect("ends in time").expect("no panic").expect("no error");
}
