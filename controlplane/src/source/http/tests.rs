//! The HTTP source against real servers: what they are asked, and what becomes of their answers.

use std::net::SocketAddr;

use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use testkit::{
    origin::{At, BlackHole, Origin, Reply, Request, Script},
    pki::Authority,
    tls_relay::TlsRelay,
};
use tokio::task::JoinHandle;

use super::fetch::{Fetched, Fetcher, MAX_BYTES};
use super::*;
use crate::source::dns::Settings;
use crate::source::dns::server::{Server, addresses, cluster, wait_for, wait_not_ready, wait_ready};

const ONE: &str = r#"[{"targets": ["192.0.2.1:80"], "labels": {"zone": "west", "__node__": "n1", "pod": "p", "namespace": "ns", "job": "x"}}]"#;
const TWO: &str = r#"[{"targets": ["192.0.2.2:80"]}]"#;

/// Often enough for tests.
const OFTEN: Duration = Duration::from_millis(20);

struct Running {
    reader: Reader,
    readiness: Readiness,
    resolver: Resolver,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(url: &str, refresh: Duration, resolver: Resolver) -> Self {
        let (publisher, reader) = channel();
        let readiness = Readiness::new();
        let source = HttpSource {
            cluster: cluster(),
            url: url.parse().unwrap(),
            refresh,
            resolver: resolver.clone(),
            publisher,
            gate: readiness.register("url"),
        };
        Self { reader, readiness, resolver, task: tokio::spawn(source.run()) }
    }

    fn of(origin: &Origin) -> Self {
        Self::start(&url(origin.address(), "/targets"), OFTEN, no_names())
    }

    async fn expect(&self, expected: &[&str]) {
        wait_for(&self.reader, "c", expected).await;
    }
}

fn no_names() -> Resolver {
    let nowhere = std::path::Path::new("/nowhere");
    Resolver::of_files(nowhere, nowhere, Settings::default())
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

fn fetcher(url: &str) -> Fetcher {
    Fetcher::new(url.parse().unwrap())
}

/// What a request says in a header field.
fn field(request: &Request, name: &str) -> Option<String> {
    request.headers.get(name).map(str::to_owned)
}

async fn failure(url: &str) -> String {
    fetcher(url).fetch().await.expect_err(url).to_string()
}

#[tokio::test]
async fn a_list_is_followed_and_its_labels_describe_the_endpoints() {
    let origin = Origin::start(Reply::ok(ONE));
    let running = Running::of(&origin);
    running.expect(&["192.0.2.1:80"]).await;
    wait_ready(&running.readiness).await;
    let snapshot = running.reader.load();
    let endpoints = snapshot.cluster("c").unwrap().endpoints();
    let (one, 1) = (&endpoints[0], endpoints.len()) else { panic!("one endpoint: {endpoints:?}") };
    assert_eq!((one.zone.as_deref(), one.node.as_deref(), one.label()), (Some("west"), Some("n1"), Some("p")));
    let asked = origin.wait_requests(1).await.remove(0).complete();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/targets"));
    assert_eq!(field(&asked, "accept").as_deref(), Some("application/json"));
    assert!(field(&asked, "user-agent").is_some_and(|agent| agent.starts_with("fanfare/")));

    origin.set(Reply::ok(TWO));
    running.expect(&["192.0.2.2:80"]).await;
    origin.set(Reply::ok("[]"));
    running.expect(&[]).await;
    assert!(running.readiness.is_ready(), "an empty list is a list");
}

#[tokio::test]
async fn failed_requests_keep_the_last_good_list() {
    let origin = Origin::start(Reply::ok(ONE));
    let running = Running::of(&origin);
    running.expect(&["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    for broken in [
        Reply::new(500).body(TWO),
        Reply::new(404).body("[]"),
        Reply::new(204),
        Reply::new(304),
        Reply::ok(""),
        Reply::ok("null"),
        Reply::ok("{}"),
        Reply::ok("<html>log in</html>"),
        Reply::ok(r#"[{"tragets": []}]"#),
        Reply::ok(r#"[{"targets": ["192.0.2.2"]}]"#),
        Reply::ok(TWO).header("Content-Encoding", "gzip"),
        Reply::ok(TWO).close_at(At::Body(5)),
        Reply::raw("no HTTP\r\n\r\n"),
    ] {
        let told = format!("{broken:?}");
        origin.set(broken);
        let asked = origin.requests().len();
        origin.wait_heads(asked + 2).await;
        assert_eq!(running.reader.load().version(), before, "{told}");
        assert!(running.readiness.is_ready(), "{told}");
    }
    origin.set(Reply::ok(TWO));
    running.expect(&["192.0.2.2:80"]).await;
}

#[tokio::test]
async fn without_a_first_list_it_is_not_ready_and_says_why() {
    let origin = Origin::start(Reply::new(503));
    let running = Running::start(&format!("http://user:s3cret@{}/targets", origin.address()), OFTEN, no_names());
    wait_not_ready(&running.readiness, "/targets: the server answers 503").await;
    let told = running.readiness.check().unwrap_err();
    assert!(!told.contains("s3cret") && told.contains("user:***@"), "{told}");
    assert_eq!(addresses(&running.reader, "c"), None);
    origin.set(Reply::ok("{}"));
    wait_not_ready(&running.readiness, "the answer is not a list of endpoints: invalid type: map").await;
    origin.set(Reply::ok(ONE));
    running.expect(&["192.0.2.1:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn a_list_is_asked_for_again_under_the_condition_that_it_has_changed() {
    let time = "Wed, 21 Oct 2015 07:28:00 GMT";
    let script = move |request: &Request| match field(request, "if-none-match").as_deref() {
        None => Reply::ok(ONE).header("ETag", "W/\"1\"").header("Last-Modified", time),
        Some("W/\"1\"") => Reply::new(304),
        Some(other) => panic!("{other}"),
    };
    let origin = Origin::start(Script::on_request(script));
    let running = Running::of(&origin);
    running.expect(&["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    let seen = origin.wait_requests(3).await;
    assert_eq!((field(&seen[0], "if-none-match"), field(&seen[0], "if-modified-since")), (None, None));
    for request in &seen[1..3] {
        assert_eq!(field(request, "if-none-match").as_deref(), Some("W/\"1\""));
        assert_eq!(field(request, "if-modified-since").as_deref(), Some(time));
    }
    // An answer that is no list says nothing about the one that is in force.
    origin.set(Reply::ok("{}").header("ETag", "\"2\""));
    let asked = origin.requests().len();
    let seen = origin.wait_requests(asked + 3).await;
    assert_eq!(field(&seen[asked + 2], "if-none-match").as_deref(), Some("W/\"1\""));
    assert_eq!(running.reader.load().version(), before);
    origin.set(Reply::ok(TWO).header("Last-Modified", time));
    running.expect(&["192.0.2.2:80"]).await;
    let asked = origin.requests().len();
    let seen = origin.wait_requests(asked + 2).await;
    assert_eq!(field(&seen[asked + 1], "if-none-match"), None, "the list in force has none");
    assert_eq!(field(&seen[asked + 1], "if-modified-since").as_deref(), Some(time));
}

#[tokio::test]
async fn the_list_is_fetched_at_once_on_request() {
    let origin = Origin::start(Reply::ok(ONE));
    let running = Running::start(&url(origin.address(), "/"), Duration::from_secs(3600), no_names());
    running.expect(&["192.0.2.1:80"]).await;
    origin.set(Reply::ok(TWO));
    running.resolver.ask_again();
    running.expect(&["192.0.2.2:80"]).await;
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn names_in_a_list_are_resolved_and_one_that_does_not_is_an_endpoint_all_the_same() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 1]], 1);
    let origin = Origin::start(Reply::ok(r#"[{"targets": ["a.example.:80", "lost.example.:80"]}]"#));
    let running = Running::start(&url(origin.address(), "/"), OFTEN, server.client(&[], 1));
    running.expect(&["a.example:80=192.0.2.1", "lost.example:80=?"]).await;
}

#[tokio::test]
async fn credentials_in_the_url_are_sent_and_not_to_another_server() {
    let other = Origin::start(Reply::ok(ONE));
    let elsewhere = url(other.address(), "/elsewhere");
    let script = move |request: &Request| match request.target.as_str() {
        "/first" => Reply::new(302).header("Location", "/second"),
        _ => Reply::new(307).header("Location", &elsewhere),
    };
    let origin = Origin::start(Script::on_request(script));
    let fetched = fetcher(&format!("http://user:s3cret@{}/first", origin.address())).fetch().await;
    assert!(matches!(fetched, Ok(Fetched::List(list)) if list.len() == 1));
    let basic = Some("Basic dXNlcjpzM2NyZXQ=".to_owned());
    let seen: Vec<_> = origin.requests().iter().map(|one| (one.target.clone(), field(one, "authorization"))).collect();
    assert_eq!(seen, [("/first".to_owned(), basic.clone()), ("/second".to_owned(), basic)]);
    let seen = other.requests();
    assert_eq!((seen.len(), field(&seen[0], "authorization")), (1, None));
}

#[tokio::test]
async fn redirections_time_and_bytes_are_bounded() {
    let origin = Origin::start(Reply::new(302).header("Location", "/again"));
    let told = failure(&format!("http://user:s3cret@{}/", origin.address())).await;
    assert!(told.contains("more than 5 redirections") && !told.contains("s3cret"), "{told}");
    assert_eq!(origin.requests().len(), 6);

    let long = Origin::start(Reply::ok("").filler(" ", MAX_BYTES as u64 + 1));
    let told = failure(&url(long.address(), "/")).await;
    assert!(told.contains("more than the 16777216 bytes"), "{told}");

    let (connect, total) = (Duration::from_millis(100), Duration::from_millis(300));
    let silent = Origin::start(Reply::ok(ONE).hang_at(At::Body(3)));
    let mut fetcher = Fetcher::with_timeouts(url(silent.address(), "/").parse().unwrap(), connect, total);
    let told = fetcher.fetch().await.expect_err("it never ends").to_string();
    assert!(told.contains("no complete answer within 300ms"), "{told}");

    let hole = BlackHole::unconnectable();
    let mut fetcher = Fetcher::with_timeouts(url(hole.address(), "/").parse().unwrap(), connect, total);
    let told = fetcher.fetch().await.expect_err("nobody answers").to_string();
    assert!(told.contains("no connection within 100ms"), "{told}");
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_gets_no_request() {
    let origin = Origin::start(Reply::ok(ONE));
    let config = Authority::new("unknown").issue(&["127.0.0.1"]).server(&[]);
    let server = TlsRelay::in_front("127.0.0.1:0", config, origin.address()).await;
    let told = failure(&format!("https://user:s3cret@{}/", server.address)).await;
    assert!(told.contains("certificate") && !told.contains("s3cret"), "{told}");
    origin.assert_untouched();
}
