//! Connections and exchanges of the proxy: TLS towards the client, kube's transport towards the API server.

use std::{fmt, future::pending, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::{
    BodyExt as _, BodyStream, Channel, Either, Full, Limited, StreamBody, channel::Sender, combinators::UnsyncBoxBody,
};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::client::{Body, Client};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet, yield_now},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{Call, Fault, LinkState, Rule};
use testkit::boot_time;

/// The largest request body, in bytes. The API server would refuse a larger one as well.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Frames of an answer that are buffered for the client.
const BUFFERED_FRAMES: usize = 4;

/// What the connections of one proxy share.
#[derive(Debug)]
pub(super) struct ProxyState {
    upstream: Upstream,
    rules: Mutex<Vec<Rule>>,
    calls: watch::Sender<Vec<Call>>,
    line: watch::Sender<LinkState>,
    streams: Mutex<Vec<Streaming>>,
    /// Requests on their way to the API server: they arrive even if their client has disconnected.
    under_way: Mutex<JoinSet<()>>,
}

/// The API server.
struct Upstream(Client);

/// An answer whose body is being passed on.
#[derive(Debug)]
struct Streaming {
    call: usize,
    interrupt: oneshot::Sender<Fault>,
}

/// The connection is to be reset.
#[derive(Clone, Copy, Debug)]
struct Reset;

type Payload = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Reset>>;

/// Listens on a free port, with the certificate and the key in these files.
pub(super) async fn accept(shared: Arc<ProxyState>, (certificate, key): (PathBuf, PathBuf)) -> (u16, JoinHandle<()>) {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(&key).expect("the API server's key can be read");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the usual versions")
        .with_no_client_auth()
        .with_single_cert(chain.expect("the API server's certificate can be read"), key)
        .expect("they belong together");
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of 127.0.0.1 is free");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let accepting = tokio::spawn(async move {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            while connections.try_join_next().is_some() {}
            connections.spawn(connection(shared.clone(), tls.clone(), stream));
        }
    });
    (port, accepting)
}

/// Serves one connection, and resets it if a fault says so.
async fn connection(shared: Arc<ProxyState>, tls: TlsAcceptor, stream: TcpStream) {
    // This handle is the last one, so its linger setting decides whether the close is a reset.
    let Ok(handle) = rustix::io::dup(&stream) else { return };
    let mut line = shared.line.subscribe();
    let cut = async {
        // It lives as long as the proxy, which ends this task.
        let _ = line.wait_for(|line| *line == LinkState::Cut).await;
        Reset
    };
    let ended = tokio::select! {
        reset = cut => Err(reset),
        ended = serve(&shared, tls, stream) => ended,
    };
    if ended.is_err() {
        let _ = SockRef::from(&handle).set_linger(Some(Duration::ZERO));
    }
}

async fn serve(shared: &Arc<ProxyState>, tls: TlsAcceptor, stream: TcpStream) -> Result<(), Reset> {
    shared.open().await;
    let Ok(stream) = tls.accept(stream).await else { return Ok(()) };
    // Bodies end with the connection that they go to.
    let bodies = Mutex::new(JoinSet::new());
    let service = service_fn(|request| exchange(shared, &bodies, request));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(|_| Reset)
}

async fn exchange(
    shared: &Arc<ProxyState>,
    bodies: &Mutex<JoinSet<()>>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Reset> {
    let (mut head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Reset)?.to_bytes();
    let (number, fault) = shared.admit(Call::of(&head, body.clone()));
    let late = match fault {
        Some(Fault::Drop) => pending().await,
        Some(Fault::Reset) => return Err(Reset),
        Some(Fault::Answer(status)) => {
            shared.note(number, |call| call.status = Some(status));
            shared.open().await;
            return Ok(made_up(status));
        }
        Some(Fault::Delay(time)) => time,
        _ => Default::default(),
    };
    head.headers.remove(HOST);
    strip(&mut head.headers);
    let answer = shared.clone().pass_on(number, late, Request::from_parts(head, Body::from(body)));
    // Without an API server there is no answer to pass on.
    let answer = answer.await.map_err(|_| Reset)?;
    match fault {
        Some(Fault::DropAnswer) => pending().await,
        Some(Fault::ResetAnswer) => return Err(Reset),
        Some(Fault::DelayAnswer(time)) => sleep(time).await,
        _ => {}
    }
    shared.open().await;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    let (to, payload) = Channel::new(BUFFERED_FRAMES);
    let (interrupt, interrupted) = oneshot::channel();
    shared.streaming(Streaming { call: number, interrupt });
    let mut bodies = bodies.lock();
    while bodies.try_join_next().is_some() {}
    bodies.spawn(stream(shared.clone(), body, to, fault, interrupted));
    // The head is sent while the body is still empty, so that a body that is cut at once does not take the head along.
    let payload = async {
        yield_now().await;
        BodyStream::new(payload)
    };
    Ok(Response::from_parts(head, Either::Right(StreamBody::new(payload.flatten_stream()).boxed_unsync())))
}

/// Passes an answer's body on, until its end or a fault.
async fn stream(
    shared: Arc<ProxyState>,
    mut from: Body,
    mut to: Sender<Bytes, Reset>,
    fault: Option<Fault>,
    mut interrupted: oneshot::Receiver<Fault>,
) {
    let mut end = pin!(end(fault));
    let mut interruptible = true;
    let end = loop {
        let frame = tokio::select! {
            biased;
            fault = &mut end => break fault,
            fault = &mut interrupted, if interruptible => {
                // The sender is dropped only together with the proxy.
                interruptible = false;
                end.set(self::end(fault.ok()));
                continue;
            }
            frame = from.frame() => frame,
        };
        let frame = match frame {
            None => return,
            Some(Err(_)) => return to.abort(Reset),
            Some(Ok(frame)) => frame,
        };
        shared.open().await;
        if to.send(frame).await.is_err() {
            return;
        }
    };
    match end {
        Fault::CutBody(_) => to.abort(Reset),
        Fault::ExpireWatch(_) => {
            let event = format!("{}\n", json!({"type": "ERROR", "object": status_object(410)}));
            // Who has gone away misses it.
            let _ = to.send_data(event.into()).await;
        }
        _ => pending().await,
    }
}

/// Ready when this fault ends an answer's body; never with one that does not.
async fn end(fault: Option<Fault>) -> Fault {
    match fault {
        Some(fault @ (Fault::CutBody(after) | Fault::StallBody(after) | Fault::ExpireWatch(after))) => {
            sleep(after).await;
            fault
        }
        _ => pending().await,
    }
}

/// Removes the fields that concern one connection only.
fn strip(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
}

fn made_up(status: u16) -> Response<Payload> {
    let body = Full::new(Bytes::from(status_object(status).to_string()));
    let mut answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if matches!(status, 429 | 503) {
        answer = answer.header(RETRY_AFTER, "1");
    }
    answer.body(Either::Left(body)).expect("the test chose a valid status")
}

/// The `Status` object that the API server sends with this status.
fn status_object(status: u16) -> serde_json::Value {
    let reason = match status {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let message = format!("the fault proxy was told to answer with {status}");
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
           "reason": reason, "code": status})
}

// === impl ProxyState ===

impl ProxyState {
    pub(super) fn new(upstream: Client) -> Self {
        Self {
            upstream: Upstream(upstream),
            rules: Mutex::default(),
            calls: watch::Sender::default(),
            line: watch::Sender::new(LinkState::Open),
            streams: Mutex::default(),
            under_way: Mutex::default(),
        }
    }

    pub(super) fn add(&self, rule: Rule) {
        self.rules.lock().push(rule);
    }

    pub(super) fn clear(&self) {
        self.rules.lock().clear();
    }

    pub(super) fn line(&self, line: LinkState) {
        self.line.send_replace(line);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    pub(super) fn count(&self, when: impl Fn(&Call) -> bool) -> usize {
        self.calls.borrow().iter().filter(|call| when(call)).count()
    }

    pub(super) async fn wait(&self, count: usize, when: impl Fn(&Call) -> bool) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.iter().filter(|call| when(call)).count() >= count).await;
        enough.expect("the sender is in `self`").clone()
    }

    pub(super) fn interrupt(&self, when: impl Fn(&Call) -> bool, fault: Fault) -> usize {
        let calls = self.calls.borrow();
        let mut streams = self.streams.lock();
        let (hit, others) = streams.drain(..).partition(|stream| when(&calls[stream.call]));
        *streams = others;
        let hit: Vec<Streaming> = hit;
        hit.into_iter().filter_map(|stream| stream.interrupt.send(fault).ok()).count()
    }

    /// Ends all requests under way, which hold references to this.
    pub(super) fn end(&self) {
        self.under_way.lock().abort_all();
    }

    /// Decides about a request, and remembers it.
    fn admit(&self, mut call: Call) -> (usize, Option<Fault>) {
        let mut number = 0;
        let mut fault = None;
        self.calls.send_modify(|calls| {
            number = calls.len();
            // Under the lock of the log, so that the log has the order of the decisions.
            fault = self.rules.lock().iter_mut().find_map(|rule| rule.fault(&call));
            call.fault = fault;
            calls.push(call);
        });
        (number, fault)
    }

    fn note(&self, number: usize, note: impl FnOnce(&mut Call)) {
        self.calls.send_modify(|calls| note(&mut calls[number]));
    }

    fn streaming(&self, stream: Streaming) {
        let mut streams = self.streams.lock();
        streams.retain(|stream| !stream.interrupt.is_closed());
        streams.push(stream);
    }

    /// Waits until something may pass.
    async fn open(&self) {
        let mut line = self.line.subscribe();
        let _ = line.wait_for(|line| *line != LinkState::Hanging).await;
    }

    /// Sends a request to the API server, whether or not anybody waits for the answer.
    async fn pass_on(
        self: Arc<Self>,
        number: usize,
        after: Duration,
        request: Request<Body>,
    ) -> Result<Response<Body>, oneshot::error::RecvError> {
        let (answer, answered) = oneshot::channel();
        let this = self.clone();
        let send = async move {
            sleep(after).await;
            this.open().await;
            this.note(number, |call| call.passed_on = Some(boot_time::now()));
            if let Ok(response) = this.upstream.0.send(request).await {
                let (now, status) = (boot_time::now(), response.status().as_u16());
                this.note(number, |call| (call.answered, call.status) = (Some(now), Some(status)));
                // Who has gone away misses it.
                let _ = answer.send(response);
            }
        };
        {
            let mut under_way = self.under_way.lock();
            while under_way.try_join_next().is_some() {}
            under_way.spawn(send);
        }
        answered.await
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be reset")
    }
}

impl std::error::Error for Reset {}
