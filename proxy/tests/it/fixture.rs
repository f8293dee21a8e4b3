//! A proxy in this process over scripted endpoints, with the assertions that tests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::sources::Sources;
use proxy::bench::setup;
use proxy::config::{Config, Limits, Listener, Policy, Route};
use proxy::{Handle, Running, Server};
use serde_json::Value;
use snapshot::{Change, Cluster, ClusterName, Endpoint, Publisher};
use testkit::client::{RawClient, Response, request};
use testkit::eventually;
use testkit::eventually::scaled;
use testkit::origin::{BlackHole, Origin, Refusing, Request, Script};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The cluster that the routes of these tests lead to.
pub(crate) const CLUSTER: &str = "test/cache:http";

/// The route's name.
pub(crate) const ROUTE: &str = "purge";

/// The header field that requests the report.
pub(crate) const REPORT: (&str, &str) = ("Accept", "application/vnd.broadcast+json");

/// More bytes of a body than the system can buffer between a client and an endpoint that reads nothing: a receive buffer grows to
/// 32 MiB (`tcp_rmem`), each of two send buffers to 4 MiB (`tcp_wmem`), and how far depends on the load of the machine.
pub(crate) const MORE_THAN_SYSTEM_BUFFERS: usize = 44 << 20;

/// A time that never passes in a successful test.
pub(crate) const NEVER: Duration = Duration::from_secs(600);

/// Something with an address, dead or alive.
pub(crate) trait Place {
    fn place(&self) -> SocketAddr;
}

/// A server that accepts connections until it is dropped.
pub(crate) struct Serving {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// The settings of a proxy.
pub(crate) struct Setup {
    config: Config,
    endpoints: Vec<Endpoint<snapshot::Place>>,
    access: Arc<Sources>,
}

/// A running proxy. Dropping it ends it.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    running: Option<Running>,
    pub(crate) publisher: Publisher,
    config: Config,
}

impl Place for Origin {
    fn place(&self) -> SocketAddr {
        self.address()
    }
}

impl Place for Refusing {
    fn place(&self) -> SocketAddr {
        self.address()
    }
}

impl Place for BlackHole {
    fn place(&self) -> SocketAddr {
        self.address()
    }
}

impl Place for Serving {
    fn place(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Serving {
    /// A server that is the `n`-th in snapshot order, and handles its listener with this function.
    pub(crate) async fn start<F>(n: usize, serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(loopback(n)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        Self { address, task: tokio::spawn(serve(listener)) }
    }
}

impl Place for SocketAddr {
    fn place(&self) -> SocketAddr {
        *self
    }
}

/// Milliseconds.
pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A loopback address for each number, so that endpoints sort by their numbers.
pub(crate) fn loopback(n: usize) -> String {
    format!("127.0.0.{}:0", n + 1)
}

/// An origin that comes `n`-th in the order of the snapshot.
pub(crate) fn origin(n: usize, script: impl Into<Script>) -> Origin {
    Origin::builder().address(&loopback(n)).start(script)
}

/// An endpoint that refuses connections and comes `n`-th in the order of the snapshot.
pub(crate) fn refusing(n: usize) -> Refusing {
    Refusing::at(loopback(n).parse().expect("an address"))
}

/// Origins in the order of the snapshot.
pub(crate) fn origins<const N: usize, S: Into<Script>>(scripts: [S; N]) -> [Origin; N] {
    let mut n = 0;
    scripts.map(|script| {
        n += 1;
        origin(n - 1, script)
    })
}

/// Bytes without repetition, so that a lost or repeated piece is detected.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// The body of a chunked message: each piece one chunk, and the end.
pub(crate) fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut wire = unfinished(pieces);
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// Each piece one chunk, and no end.
pub(crate) fn unfinished(pieces: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in pieces {
        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// The head of a POST with a chunked body.
pub(crate) const CHUNKED_POST: &str = "POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The head of a POST with a body of so many bytes.
pub(crate) fn sized_post(length: usize) -> String {
    format!("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: {length}\r\n\r\n")
}

/// The lines that the proxy adds to the head of a request with this Host and version of HTTP and without a request id. The name in
/// `Via` and the id are copied from the request as it arrived, after a check of their form.
pub(crate) fn added_over(version: &str, seen: &Request, host: &str) -> String {
    let via = seen.headers.get("via").unwrap_or_else(|| panic!("no Via in {seen}"));
    assert!(
        via.starts_with(&format!("{version} fanfare-")) && via.bytes().all(|b| b.is_ascii_graphic() || b == b' '),
        "Via: {via}"
    );
    let id = seen.headers.get("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id in {seen}"));
    assert!(id.len() >= 16 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "X-Request-Id: {id}");
    format!(
        "Via: {via}\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\n\
         X-Request-Id: {id}\r\n\r\n"
    )
}

/// Asserts every byte of the head that an endpoint received: these lines, and those that the proxy adds.
#[track_caller]
pub(crate) fn assert_head(seen: &Request, lines: &str, host: &str) {
    assert_head_over("1.1", seen, lines, host);
}

/// The same for a request that came over another version of HTTP.
#[track_caller]
pub(crate) fn assert_head_over(version: &str, seen: &Request, lines: &str, host: &str) {
    let want = format!("{lines}{}", added_over(version, seen, host));
    assert_eq!(String::from_utf8_lossy(&seen.head), want);
}

/// A proxy over endpoints that are all ready.
pub(crate) fn over(places: &[&dyn Place]) -> Setup {
    Setup::new(places.iter().map(|place| Endpoint::ready(place.place())).collect())
}

/// A route that matches everything, with every default but one: a loaded machine may take more than a second to connect.
pub(crate) fn route(name: &str, cluster: &str) -> Route {
    let mut route = setup::route(name, cluster);
    route.policy.timeouts.connect = scaled(Duration::from_secs(10));
    route
}

fn cluster<E: Into<Endpoint<snapshot::Place>>>(endpoints: Vec<E>) -> Change {
    let name = ClusterName::new(CLUSTER).expect("a cluster name");
    Change::Set(Arc::new(Cluster::new(name, endpoints)))
}

impl Setup {
    /// A proxy over these endpoints with one thread, so that there is one connection pool.
    pub(crate) fn new<E: Into<Endpoint<snapshot::Place>>>(endpoints: Vec<E>) -> Self {
        let config = setup::config(vec![route(ROUTE, CLUSTER)]);
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self { config, endpoints, access: Arc::default() }
    }

    /// Callers are authenticated by these sources.
    pub(crate) fn access(self, access: &Arc<Sources>) -> Self {
        Self { access: access.clone(), ..self }
    }

    pub(crate) fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn listener(self, change: impl FnOnce(&mut Listener)) -> Self {
        self.config(|config| change(&mut config.listeners[0]))
    }

    /// Changes its route.
    pub(crate) fn route(self, change: impl FnOnce(&mut Route)) -> Self {
        self.listener(|listener| change(Arc::make_mut(&mut listener.routes[0])))
    }

    pub(crate) fn policy(self, change: impl FnOnce(&mut Policy)) -> Self {
        self.route(|route| change(&mut route.policy))
    }

    pub(crate) fn limits(self, change: impl FnOnce(&mut Limits)) -> Self {
        self.config(|config| change(&mut config.limits))
    }

    pub(crate) fn require(self, text: &str) -> Self {
        self.policy(|policy| policy.require = text.parse().expect("a requirement"))
    }

    /// Sets the legs to begin at the first piece of a body.
    pub(crate) fn streaming(self) -> Self {
        self.policy(|policy| policy.stream = true)
    }

    pub(crate) fn total(self, timeout: Duration) -> Self {
        self.policy(|policy| policy.timeouts.total = timeout)
    }

    pub(crate) fn start(self) -> Proxy {
        let proxy = self.start_at_once();
        let deadline = std::time::Instant::now() + scaled(Duration::from_secs(20));
        // The thread of a journal needs nothing of this one.
        while proxy.handle.routes().iter().any(|route| route.unread_journal.is_some()) {
            assert!(std::time::Instant::now() < deadline, "the journal was not read in time");
            std::thread::sleep(ms(1));
        }
        proxy
    }

    /// The same, though a journal may not have been read yet.
    pub(crate) fn start_at_once(self) -> Proxy {
        let Self { config, endpoints, access } = self;
        assert_eq!(config.check(), [], "a configuration that can be used");
        let (publisher, reader) = snapshot::channel();
        publisher.apply([cluster(endpoints)]);
        let server = Server::bind_with(config.clone(), reader, access).expect("a free port of loopback");
        let address = server.addresses()[0];
        let running = server.start();
        Proxy { address, handle: running.handle(), running: Some(running), publisher, config }
    }
}

impl Proxy {
    /// A connection to it.
    pub(crate) async fn client(&self) -> RawClient {
        RawClient::connect(self.address).await
    }

    /// A connection on which these bytes were sent.
    pub(crate) async fn sent(&self, bytes: impl AsRef<[u8]>) -> RawClient {
        let mut client = self.client().await;
        client.send(bytes).await;
        client
    }

    /// So many connections, on each of which these bytes were sent.
    pub(crate) async fn sent_times(&self, count: usize, bytes: &str) -> Vec<RawClient> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.sent(bytes).await);
        }
        clients
    }

    /// The answer to a request on a connection of its own.
    pub(crate) async fn request(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        request(self.address, method, path, fields, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, body: &[u8]) -> Response {
        self.request("POST", "/p", &[], body).await
    }

    /// The answer to bytes that may be anything, read as the answer to that method.
    pub(crate) async fn answer_to(&self, bytes: impl AsRef<[u8]>, method: &str) -> Response {
        self.sent(bytes).await.read_response(method).await
    }

    /// The report on a request, and the status it came with.
    pub(crate) async fn report(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let answer = self.request(method, path, &[REPORT], body).await.complete();
        let report = serde_json::from_slice(&answer.body);
        let report = report.unwrap_or_else(|e| panic!("the report is no JSON ({e}): {answer}"));
        (answer.status, report)
    }

    /// Puts other endpoints into the snapshot.
    pub(crate) fn publish(&self, places: &[&dyn Place]) {
        self.publish_endpoints(places.iter().map(|place| Endpoint::ready(place.place())).collect());
    }

    pub(crate) fn publish_endpoints<E: Into<Endpoint<snapshot::Place>>>(&self, endpoints: Vec<E>) {
        self.publisher.apply([cluster(endpoints)]);
    }

    /// Takes the list of endpoints out of the snapshot.
    pub(crate) fn unpublish(&self) {
        self.publisher.apply([Change::Remove(ClusterName::new(CLUSTER).expect("a cluster name"))]);
    }

    /// Puts the endpoints of another cluster into the snapshot.
    pub(crate) fn publish_cluster(&self, name: &str, places: &[&dyn Place]) {
        let endpoints = places.iter().map(|place| Endpoint::ready(place.place())).collect();
        let name = ClusterName::new(name).expect("a cluster name");
        self.publisher.apply([Change::Set(Arc::new(Cluster::new(name, endpoints)))]);
    }

    /// Reloads with a changed configuration.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.handle.reload(self.config.clone()).expect("a configuration that can be used");
    }

    /// The configuration it was last given.
    pub(crate) fn given(&self) -> Config {
        self.config.clone()
    }

    /// The sum of all series of a metric whose labels hold all of these, 0 if there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        series(&self.handle.metrics(), name, labels).iter().map(|(_, value)| value).sum()
    }

    /// How many legs to that endpoint had that outcome.
    pub(crate) fn legs(&self, place: &dyn Place, outcome: &str) -> u64 {
        let endpoint = place.place().to_string();
        self.metric("fanfare_legs_total", &[("endpoint", &endpoint), ("outcome", outcome)]) as u64
    }

    /// Waits until a leg to that endpoint has that outcome.
    pub(crate) async fn wait_leg(&self, place: &dyn Place, outcome: &str) {
        eventually!(
            format!("a leg to {} to end as {outcome}; {}", place.place(), self.leg_lines()),
            self.legs(place, outcome),
            |legs| *legs > 0
        );
    }

    fn leg_lines(&self) -> String {
        let metrics = self.handle.metrics();
        metrics.lines().filter(|line| line.starts_with("fanfare_legs_total")).collect::<Vec<_>>().join("; ")
    }

    /// How many requests had that result.
    pub(crate) fn results(&self, result: &str) -> u64 {
        self.metric("fanfare_requests_total", &[("result", result)]) as u64
    }

    /// How many requests had that result when their last leg had ended.
    pub(crate) fn completed(&self, result: &str) -> u64 {
        self.metric("fanfare_requests_completed_total", &[("result", result)]) as u64
    }

    /// Legs that run now, at any endpoint.
    pub(crate) fn legs_in_flight(&self) -> u64 {
        self.metric("fanfare_legs_in_flight", &[]) as u64
    }

    /// Waits until nothing is in flight: no request, no leg, no straggler, no byte of a body.
    pub(crate) async fn settled(&self) {
        let names = [
            "fanfare_requests_in_flight",
            "fanfare_legs_in_flight",
            "fanfare_straggling_requests",
            "fanfare_buffered_bytes",
        ];
        let now = || names.map(|name| (name, self.metric(name, &[])));
        eventually!("nothing to be under way any more", now(), |now| now.iter().all(|(_, value)| *value == 0.0));
    }

    /// Drains the proxy, and ends it. Its metrics stay readable.
    pub(crate) async fn drain(&mut self, patience: Duration) -> usize {
        let running = self.running.take().expect("a proxy that was not drained yet");
        running.drain(ms(100), patience).await.cut
    }

    /// The names of the routes without a ready endpoint.
    pub(crate) fn empty_routes(&self) -> Vec<Arc<str>> {
        let routes = self.handle.routes().into_iter();
        routes.filter(|route| !route.has_endpoint).map(|route| route.name).collect()
    }

    /// Returns the server, to drain it elsewhere.
    pub(crate) fn running(&mut self) -> Running {
        self.running.take().expect("a proxy that was not drained yet")
    }
}

/// The series of a metric in Prometheus text whose labels hold all of these: labels and value.
pub(crate) fn series(text: &str, name: &str, labels: &[(&str, &str)]) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in the line {line:?}"));
        let (metric, own) = key.split_once('{').unwrap_or((key, ""));
        let has = |(label, value): &(&str, &str)| own.contains(&format!("{label}=\"{value}\""));
        if metric == name && labels.iter().all(has) {
            let value = value.parse().unwrap_or_else(|e| panic!("no number in the line {line:?}: {e}"));
            found.push((own.trim_end_matches('}').to_owned(), value));
        }
    }
    found
}

/// The numbers in `X-Broadcast-Result`: total, ok, failed, pending, required.
#[track_caller]
pub(crate) fn result_of(answer: &Response) -> [usize; 5] {
    let value = answer.header("x-broadcast-result").unwrap_or_else(|| panic!("no X-Broadcast-Result: {answer}"));
    let mut numbers = [0; 5];
    let names = ["total", "ok", "failed", "pending", "required"];
    let parts: Vec<&str> = value.split(", ").collect();
    assert_eq!(parts.len(), names.len(), "X-Broadcast-Result: {value}");
    for ((number, name), part) in numbers.iter_mut().zip(names).zip(parts) {
        let (key, text) = part.split_once('=').unwrap_or_else(|| panic!("X-Broadcast-Result: {value}"));
        assert_eq!(key, name, "X-Broadcast-Result: {value}");
        *number = text.parse().unwrap_or_else(|e| panic!("X-Broadcast-Result: {value}: {e}"));
    }
    numbers
}

/// Asserts a made-up answer: its status, its `Proxy-Status` error, and that head and body agree.
#[track_caller]
pub(crate) fn assert_made_up(answer: &Response, status: u16, error: &str) -> Value {
    assert_eq!(answer.status, status, "in this answer: {answer}");
    assert!(answer.is_complete(), "this answer is not complete: {answer}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer}");
    let proxy_status = answer.header("proxy-status").unwrap_or_default();
    assert!(proxy_status.starts_with(&format!("fanfare; error={error}; details=\"")), "{answer}");
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("no JSON ({e}): {answer}"));
    assert_eq!(body["status"], status, "{answer}");
    assert_eq!(body["type"], "about:blank", "{answer}");
    for member in ["title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {answer}");
    }
    body
}
