//! HTTP/2 to endpoints: the requests that they get, shared connections, and retries.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;
use proxy::config::{Policy, TlsTo, UpstreamProtocol, UpstreamTls};
use runtime::tls::{ClientSettings, Roots};
use testkit::{
    eventually,
    origin::Gate,
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{NEVER, Place, Proxy, Serving, Setup, bytes, ms, over};

/// The reaction of an endpoint to a request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Answers 200 with this body.
    Answer(Vec<u8>),
    /// Answers with this body once the gate is open.
    Hold(Gate),
    /// Answers with this status and this body.
    Status(u16, Vec<u8>),
    /// Answers with them once the gate is open.
    After(Gate, Box<Does>),
    /// Resets the stream without an answer.
    Reset(Reason),
    /// Sends GOAWAY without having processed this request, and closes the connection.
    GoAway,
    /// Stops reading and writing on this connection, and keeps it open.
    FallSilent,
    /// Resets the stream in the middle of the answer.
    Break,
    /// Answers as a gRPC server: this body, then this status; without a body the status alone.
    Grpc(Vec<u8>, u8),
    /// Answers with this status of HTTP and this one of gRPC.
    Refuse(u16, &'static str),
}

impl Does {
    /// Does this once the gate is open.
    pub(crate) fn after(self, gate: &Gate) -> Self {
        Self::After(gate.clone(), Box::new(self))
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    connection: usize,
    pub(crate) head: Request<()>,
    pub(crate) body: Vec<u8>,
    /// Whether it was complete.
    whole: bool,
    pub(crate) trailers: Option<HeaderMap>,
}

#[derive(Debug, Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    /// Requests whose head has come.
    begun: AtomicUsize,
    script: Mutex<Vec<Does>>,
}

/// An endpoint that speaks HTTP/2 by prior knowledge. It follows its script, whose last entry repeats.
pub(crate) struct Endpoint {
    serving: Serving,
    log: Arc<Log>,
}

impl Place for Endpoint {
    fn place(&self) -> SocketAddr {
        self.serving.place()
    }
}

impl Seen {
    /// Whether it came to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Endpoint {
    /// An endpoint that allows this number of streams at a time.
    async fn with_streams(n: usize, streams: u32, script: impl IntoIterator<Item = Does>) -> Self {
        let log = Arc::new(Log { script: Mutex::new(script.into_iter().collect()), ..Log::default() });
        let serving = Serving::start(n, |listener| accept(listener, log.clone(), streams)).await;
        Self { serving, log }
    }

    pub(crate) async fn start(n: usize, script: impl IntoIterator<Item = Does>) -> Self {
        Self::with_streams(n, 100, script).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().clone()
    }

    pub(crate) async fn wait(&self, n: usize) -> Vec<Seen> {
        eventually!("requests", self.seen(), |seen| seen.len() >= n)
    }

    fn accepted(&self) -> usize {
        self.log.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, log: Arc<Log>, streams: u32) {
    while let Ok((stream, _)) = listener.accept().await {
        let number = log.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(stream, number, log.clone(), streams));
    }
}

async fn serve(stream: TcpStream, number: usize, log: Arc<Log>, streams: u32) {
    let mut builder = server::Builder::new();
    let Ok(mut connection) = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        log.begun.fetch_add(1, Ordering::SeqCst);
        let does = {
            let mut script = log.script.lock();
            if script.len() > 1 { script.remove(0) } else { script[0].clone() }
        };
        let (head, body) = request.into_parts();
        let head = Request::from_parts(head, ());
        match does {
            Does::GoAway => {
                log.seen.lock().push(Seen { connection: number, head, body: Vec::new(), whole: false, trailers: None });
                respond.send_reset(Reason::REFUSED_STREAM);
                connection.graceful_shutdown();
                continue;
            }
            Does::FallSilent => {
                log.seen.lock().push(Seen { connection: number, head, body: Vec::new(), whole: false, trailers: None });
                return std::future::pending().await;
            }
            Does::Reset(reason) => {
                log.seen.lock().push(Seen { connection: number, head, body: Vec::new(), whole: false, trailers: None });
                respond.send_reset(reason);
                continue;
            }
            _ => {}
        }
        let log = log.clone();
        tokio::spawn(async move {
            let (body, trailers, whole) = read(body).await;
            log.seen.lock().push(Seen { connection: number, head, body, whole, trailers });
            react(does, respond).await;
        });
    }
}

/// The body of a request, its trailers, and whether it was complete.
async fn read(mut body: h2::RecvStream) -> (Vec<u8>, Option<HeaderMap>, bool) {
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                bytes.extend_from_slice(&data);
            }
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let trailers = body.trailers().await.ok().flatten();
    (bytes, trailers, whole)
}

/// Answers a request that was read, or does not.
async fn react(does: Does, mut respond: server::SendResponse<Bytes>) {
    let does = match does {
        Does::After(gate, then) => {
            eventually!("the gate is open", gate.is_open(), |open| *open);
            *then
        }
        does => does,
    };
    let whole = |answer: Vec<u8>| (200, answer, true);
    let (status, answer, is_whole) = match does {
        Does::Reset(reason) => return respond.send_reset(reason),
        Does::Refuse(status, code) => {
            let response = Response::builder().status(status).header("grpc-status", code).body(());
            let _ = respond.send_response(response.expect("a response"), true);
            return;
        }
        Does::Grpc(body, code) => return answer_grpc(respond, body, code),
        Does::Status(status, body) => (status, body, true),
        Does::Answer(answer) => whole(answer),
        Does::Hold(gate) => {
            eventually!("the gate is open", gate.is_open(), |open| *open);
            whole(b"held".to_vec())
        }
        _ => (200, b"broken".to_vec(), false),
    };
    let response = Response::builder().status(status).body(()).expect("a response");
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    let _ = stream.send_data(Bytes::from(answer), is_whole);
    if !is_whole {
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
}

fn answer_grpc(mut respond: server::SendResponse<Bytes>, body: Vec<u8>, code: u8) {
    let response = Response::builder().header("content-type", "application/grpc");
    if body.is_empty() {
        let response =
            response.header("grpc-status", u16::from(code)).header("grpc-message", "no").body(()).expect("a response");
        let _ = respond.send_response(response, true);
        return;
    }
    let Ok(mut stream) = respond.send_response(response.body(()).expect("a response"), false) else { return };
    let _ = stream.send_data(Bytes::from(body), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(code).into());
    let _ = stream.send_trailers(trailers);
}

pub(crate) fn over_h2(endpoints: &[&dyn Place]) -> Setup {
    over(endpoints).policy(|policy: &mut Policy| policy.protocol = UpstreamProtocol::H2)
}

fn answer(text: &str) -> Does {
    Does::Answer(text.into())
}

#[tokio::test]
async fn a_request_means_the_same_over_http2() {
    let (a, b) = (Endpoint::start(0, [answer("a")]).await, Endpoint::start(1, [answer("b")]).await);
    let proxy = over_h2(&[&a, &b]).start();
    let answer = proxy
        .request("PURGE", "/x?y", &[("X-Own", "1"), ("Connection", "x-gone"), ("X-Gone", "1"), ("TE", "trailers")], b"")
        .await;
    assert_eq!(answer.expect_status(200).text(), "a");
    for endpoint in [&a, &b] {
        let seen = endpoint.wait(1).await.remove(0);
        assert_eq!(
            (seen.head.method().as_str(), seen.head.uri().path_and_query().unwrap().as_str()),
            ("PURGE", "/x?y")
        );
        assert!(seen.whole && seen.body.is_empty());
        let fields: &HeaderMap = seen.head.headers();
        assert!(fields["x-own"] == "1" && fields["x-forwarded-for"] == "127.0.0.1", "{fields:?}");
        assert!(!fields.contains_key("x-gone") && !fields.contains_key("connection") && !fields.contains_key("host"));
        assert!(seen.head.uri().authority().is_some(), "the Host of the request");
    }
}

#[tokio::test]
async fn what_is_asked_for_has_the_scheme_by_which_the_endpoint_is_reached() {
    let authority = Authority::new("authority");
    let issued = authority.issue(&["127.0.0.1"]);
    let secret = SecretDir::of(&issued, &authority);
    let a = Endpoint::start(10, [answer("a")]).await;
    let relay = TlsRelay::in_front("127.0.0.1:0", issued.server(&["h2"]), a.place()).await;
    let roots = Roots::File(secret.path("ca.crt"));
    let settings = ClientSettings { roots, sans: Vec::new(), certificate: None, protocols: Vec::new() };
    let tls = UpstreamTls { to: TlsTo::default(), settings, server_name: None };
    let (clear, secured) = (over_h2(&[&a]), over(&[&relay]).policy(|policy| policy.tls = Some(Arc::new(tls))));
    for (number, (setup, scheme)) in [(clear, "http"), (secured, "https")].into_iter().enumerate() {
        let proxy = setup.start();
        proxy.get("/").await.complete().expect_status(200);
        let seen = a.wait(number + 1).await.remove(number);
        assert_eq!(seen.head.uri().scheme_str(), Some(scheme));
    }
}

#[tokio::test]
async fn every_copy_of_a_body_is_whole_whatever_versions_a_request_goes_to() {
    let body = bytes(3 << 20);
    let (a, b) = (Endpoint::start(0, [answer("a")]).await, Endpoint::start(1, [answer("b")]).await);
    let proxy = over_h2(&[&a, &b]).total(NEVER).start();
    proxy.request("PUT", "/p", &[], &body).await.expect_status(200);
    let mut client = proxy.sent("PUT /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunk in body.chunks(100_000) {
        client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
    }
    client.send("0\r\n\r\n").await;
    client.read_response("PUT").await.expect_status(200);
    for endpoint in [&a, &b] {
        let seen = endpoint.wait(2).await;
        assert!(seen.iter().all(|seen| seen.whole && seen.body == body));
        assert_eq!(seen[0].head.headers()["content-length"], body.len().to_string());
        assert_eq!(seen[1].head.headers().get("content-length"), None);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_never_looks_whole() {
    let a = Endpoint::start(0, [answer("a")]).await;
    let proxy = over_h2(&[&a]).streaming().start();
    let mut client = proxy.sent("PUT /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("5\r\nhello\r\n").await;
    eventually!("the head of the copy", a.log.begun.load(Ordering::SeqCst), |n| *n == 1);
    client.close();
    let seen = a.wait(1).await.remove(0);
    assert!(!seen.whole, "{seen:?}");
}

/// So many requests at a time, each on a connection of its own.
async fn at_once(proxy: &Proxy, count: usize) -> Vec<u16> {
    let requests = (0..count).map(|_| proxy.get("/"));
    futures::future::join_all(requests).await.into_iter().map(|answer| answer.status).collect()
}

#[tokio::test]
async fn exchanges_share_a_connection_up_to_what_the_endpoint_allows_and_then_another() {
    let gate = Gate::new();
    let a = Endpoint::with_streams(0, 4, [answer("first"), Does::Hold(gate.clone())]).await;
    let proxy = over_h2(&[&a]).total(NEVER).start();
    proxy.get("/").await.expect_status(200);
    let held = async {
        a.wait(1 + 10).await;
        gate.release();
    };
    let (statuses, ()) = tokio::join!(at_once(&proxy, 10), held);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let mut per_connection = vec![0; a.accepted()];
    a.seen()[1..].iter().for_each(|seen| per_connection[seen.connection] += 1);
    assert!(per_connection.iter().all(|streams| *streams <= 4) && a.accepted() <= 4, "{per_connection:?}");
    at_once(&proxy, 4).await;
    assert!(a.accepted() <= 4, "they are used again");
}

#[tokio::test]
async fn past_the_last_connection_an_exchange_waits_for_a_stream() {
    let gate = Gate::new();
    let a = Endpoint::with_streams(0, 1, [Does::Hold(gate.clone())]).await;
    let proxy = over_h2(&[&a]).limits(|limits| limits.pool = 1).policy(|p| p.timeouts.connect = NEVER).start();
    let release = async {
        a.wait(1).await;
        gate.release();
    };
    let (statuses, ()) = tokio::join!(at_once(&proxy, 3), release);
    assert_eq!((statuses, a.accepted()), (vec![200; 3], 1));
}

#[tokio::test]
async fn what_an_endpoint_has_not_touched_is_sent_again_whatever_the_method() {
    for refusing in [Does::Reset(Reason::REFUSED_STREAM), Does::GoAway] {
        let a = Endpoint::start(0, [refusing.clone(), answer("a")]).await;
        let proxy = over_h2(&[&a]).start();
        let answer = proxy.post(b"body").await;
        assert_eq!(answer.expect_status(200).text(), "a", "{refusing:?}");
        let seen = a.wait(2).await;
        assert!(seen[1].whole && seen[1].body == b"body");
    }
    // An endpoint that always refuses streams is given up.
    let a = Endpoint::start(0, [Does::Reset(Reason::REFUSED_STREAM)]).await;
    let proxy = over_h2(&[&a]).start();
    proxy.post(b"body").await.expect_status(502);
    assert_eq!(a.wait(4).await.len(), 4);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    for failing in [Does::Reset(Reason::INTERNAL_ERROR), Does::Break] {
        let a = Endpoint::start(0, [failing.clone(), answer("a")]).await;
        let proxy = over_h2(&[&a]).policy(|policy| policy.retries = 3).start();
        let answer = proxy.post(b"body").await;
        assert!(answer.status == 502 || !answer.is_complete(), "{failing:?}: {answer}");
        assert_eq!(a.seen().len(), 1, "{failing:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_something_else_is_said_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let other = testkit::origin::Origin::builder().start(testkit::origin::Reply::ok("HTTP/1.1"));
    drop(listener);
    let proxy = over_h2(&[&other as &dyn Place]).start();
    let answer = proxy.get("/").await;
    assert!(answer.status == 502, "{answer}");
    let refused = over_h2(&[&address as &dyn Place]).start();
    let answer = refused.get("/").await;
    assert!(answer.status == 502 && answer.text().contains("connect"), "{answer}");
}

#[tokio::test]
async fn a_time_out_cancels_the_stream_and_no_other() {
    let gate = Gate::new();
    let a = Endpoint::start(0, [Does::Hold(gate.clone()), answer("quick")]).await;
    let proxy = over_h2(&[&a]).policy(|policy| policy.timeouts.total = std::time::Duration::from_millis(300)).start();
    let (slow, quick) = tokio::join!(proxy.get("/slow"), async {
        a.wait(1).await;
        proxy.get("/quick").await
    });
    assert_eq!((slow.status, quick.expect_status(200).text()), (504, "quick".to_owned()));
    assert_eq!(a.accepted(), 1);
    gate.release();
}

#[tokio::test]
async fn a_connection_on_which_an_endpoint_has_fallen_silent_gets_no_further_requests() {
    let a = Endpoint::start(0, [answer("before"), Does::FallSilent, answer("after")]).await;
    let proxy = over_h2(&[&a]).total(ms(1200)).start();
    for (status, connections) in [(200, 1), (504, 1), (200, 2)] {
        assert_eq!(proxy.get("/").await.status, status);
        assert_eq!(a.accepted(), connections);
    }
    let connections: Vec<usize> = a.wait(3).await.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[tokio::test]
async fn a_connection_stays_that_brings_answers_while_one_request_on_it_is_given_up() {
    let gate = Gate::new();
    let a = Endpoint::start(0, [Does::Hold(gate.clone()), answer("quick")]).await;
    let proxy = over_h2(&[&a]).total(ms(1200)).start();
    let (slow, ()) = tokio::join!(proxy.get("/slow"), async {
        a.wait(1).await;
        // Until the first one is given up: other frames show that the endpoint is alive.
        while proxy.legs(&a, "timeout") == 0 {
            proxy.get("/quick").await.expect_status(200);
        }
    });
    assert_eq!(slow.status, 504);
    proxy.get("/quick").await.expect_status(200);
    assert_eq!(a.accepted(), 1);
    gate.release();
}

/// Bytes of the endpoint's answers count like those of any other.
#[tokio::test]
async fn a_long_answer_comes_whole() {
    let body = bytes(1 << 20);
    let a = Endpoint::start(0, [Does::Answer(body.clone())]).await;
    let proxy = over_h2(&[&a]).start();
    let answer = proxy.get("/").await;
    assert!(answer.expect_status(200).body == body);
}

#[tokio::test]
async fn trailers_of_a_request_reach_endpoints_that_know_them() {
    let a = Endpoint::start(0, [answer("a")]).await;
    let proxy = over_h2(&[&a]).start();
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = proxy.sent(format!("{head}4\r\nbody\r\n0\r\nX-Sum: 1\r\nHost: other\r\n\r\n")).await;
    client.read_response("PUT").await.expect_status(200);
    let seen = a.wait(1).await.remove(0);
    let trailers = seen.trailers.expect("there are some");
    assert_eq!((seen.body.as_slice(), trailers.len(), &trailers["x-sum"]), (&b"body"[..], 1, &"1".parse().unwrap()));
}

#[tokio::test]
async fn who_waits_for_a_stream_waits_no_longer_than_for_a_connection() {
    let gate = Gate::new();
    let a = Endpoint::with_streams(0, 1, [answer("first"), Does::Hold(gate.clone())]).await;
    let setup = over_h2(&[&a]).total(NEVER).limits(|limits| limits.pool = 1);
    let proxy = setup.policy(|policy| policy.timeouts.connect = std::time::Duration::from_millis(300)).start();
    // The stream limit is unknown before that.
    proxy.get("/").await.expect_status(200);
    let (held, late) = tokio::join!(proxy.get("/held"), async {
        a.wait(2).await;
        let late = proxy.get("/late").await;
        gate.release();
        late
    });
    assert_eq!((held.status, late.status), (200, 504), "{late}");
    assert!(late.text().contains("no connection within 300ms"), "{late}");
    assert!(a.seen().iter().all(|seen| seen.head.uri().path() != "/late"));
    proxy.get("/after").await.expect_status(200);
    assert_eq!(a.accepted(), 1);
}

#[tokio::test]
async fn trailers_of_the_chosen_answer_alone_reach_a_client_of_http1_that_takes_them() {
    let (a, b) = (
        Endpoint::start(0, [Does::Grpc(b"a".to_vec(), 7)]).await,
        Endpoint::start(1, [Does::Grpc(b"b".to_vec(), 9)]).await,
    );
    let proxy = over_h2(&[&a, &b]).start();
    for (te, want) in [("TE: trailers\r\n", "1\r\na\r\n0\r\ngrpc-status: 7\r\n\r\n"), ("", "1\r\na\r\n0\r\n\r\n")] {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{te}Connection: close, TE\r\n\r\n");
        let answer = proxy.sent(head).await.read_response("GET").await;
        assert_eq!(String::from_utf8_lossy(&answer.raw_body), want, "{te}");
    }
}
