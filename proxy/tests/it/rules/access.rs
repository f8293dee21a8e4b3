//! Rule: access control. 401 for an unknown caller if one must be known, 403 if a caller is not allowed, 429 above its rate; none
//! of these starts a leg.

use std::{path::PathBuf, sync::Arc};

use access::sources::Sources;
use proxy::{
    bench::setup,
    config::{Auth, Listener},
};
use tempfile::TempDir;
use testkit::{
    client::{RawClient, Response},
    eventually,
    origin::{Gate, Origin, Reply},
};

use crate::fixture::{Proxy, Setup, assert_head, assert_made_up, origin, origins, over};

const CI: &str = "Bearer token-of-the-pipeline";
const OPS: &str = "Bearer token-of-the-operators";

/// A file of tokens that is followed.
struct Tokens {
    folder: TempDir,
    sources: Arc<Sources>,
}

impl Tokens {
    fn new() -> Self {
        let tokens = Self { folder: tempfile::tempdir().expect("a folder"), sources: Arc::default() };
        tokens.write("ci:token-of-the-pipeline\nops:token-of-the-operators\n");
        tokens.sources.follow([tokens.path().as_path()]).expect("it can be read");
        tokens
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    fn write(&self, content: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, self.path())).expect("it can be written");
    }

    /// A listener with these tokens and rules.
    fn listener(&self, setup: Setup, allow: &[&str], change: impl FnOnce(&mut Listener)) -> Setup {
        setup.access(&self.sources).listener(|listener| {
            listener.auth = Auth { tokens: Some(self.path()), ..Auth::default() };
            listener.allow = allow.iter().map(|text| text.parse().expect("a rule")).collect();
            change(listener);
        })
    }

    fn over(&self, origin: &Origin, allow: &[&str]) -> Proxy {
        self.listener(over(&[origin]), allow, |_| {}).start()
    }
}

async fn purge(proxy: &Proxy, path: &str, authorization: Option<&str>) -> Response {
    let fields: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
    proxy.request("PURGE", path, &fields, b"").await
}

#[tokio::test]
async fn unknown_callers_get_401_forbidden_ones_403_and_neither_reaches_an_endpoint() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let proxy = tokens.over(&a, &["PURGE,BAN /cache/* by token:ci", "GET /*"]);
    let anonymous = assert_made_up(&purge(&proxy, "/cache/a", None).await, 401, "http_request_denied");
    assert!(anonymous["detail"].as_str().is_some_and(|detail| detail.contains("needs authentication")), "{anonymous}");
    for (authorization, challenge) in [
        (None, "Bearer realm=\"fanfare\""),
        (Some("Basic dTpw"), "Bearer realm=\"fanfare\""),
        (Some("Bearer wrong-token-of-somebody"), "Bearer realm=\"fanfare\", error=\"invalid_token\""),
        (Some("Bearer"), "Bearer realm=\"fanfare\", error=\"invalid_token\""),
    ] {
        let answer = purge(&proxy, "/cache/a", authorization).await.expect_status(401);
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{authorization:?}");
    }
    for (path, authorization) in [("/cache/a", OPS), ("/other", CI), ("/other", OPS)] {
        let answer = purge(&proxy, path, Some(authorization)).await;
        assert_made_up(&answer, 403, "http_request_denied");
        assert_eq!(answer.header("www-authenticate"), None);
    }
    assert_made_up(&purge(&proxy, "/other", None).await, 403, "http_request_denied");
    let twice = proxy.request("PURGE", "/cache/a", &[("Authorization", CI), ("Authorization", CI)], b"").await;
    assert_made_up(&twice, 401, "http_request_denied");
    let ambiguous = proxy.answer_to("PURGE /cache/../x HTTP/1.1\r\nHost: shop\r\n\r\n", "PURGE").await;
    assert_made_up(&ambiguous, 401, "http_request_denied");
    a.assert_untouched();

    purge(&proxy, "/cache/a", Some(CI)).await.expect_status(200);
    purge(&proxy, "/cache/a", Some("bearer  token-of-the-pipeline")).await.expect_status(200);
    proxy.get("/anything").await.expect_status(200);
    assert_eq!(a.requests().len(), 3);
}

#[tokio::test]
async fn a_refused_request_with_a_body_leaves_the_connection_usable_or_says_that_it_ends() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let proxy = tokens.over(&a, &["/* by token:ci"]);
    let mut client = proxy.sent("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody").await;
    client.read_response("POST").await.complete().expect_status(401);
    client.send(format!("GET / HTTP/1.1\r\nHost: shop\r\nAuthorization: {CI}\r\n\r\n")).await;
    client.read_response("GET").await.complete().expect_status(200);
    let mut client = proxy.sent("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\n").await;
    let refused = client.read_response("POST").await.complete().expect_status(401);
    assert_eq!(refused.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_token_of_ours_stays_here_and_everything_else_in_authorization_goes_on() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let proxy = tokens.over(&a, &["GET /*"]);
    let ask = async |lines: &str| {
        let head = format!("GET /x HTTP/1.1\r\nHost: shop\r\n{lines}\r\n");
        proxy.answer_to(head, "GET").await.expect_status(200);
        let requests = a.requests();
        requests.last().expect("it came").clone()
    };
    assert_head(
        &ask(&format!("authorization: {CI}\r\nX-A: 1\r\n")).await,
        "GET /x HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n",
        "shop",
    );
    for lines in [
        "Authorization: Bearer token-of-an-endpoint\r\n",
        "Authorization: Basic dTpw\r\n",
        "Authorization: Bearer token-of-the-pipeline\r\nAuthorization: Basic dTpw\r\n",
    ] {
        assert_head(&ask(lines).await, &format!("GET /x HTTP/1.1\r\nHost: shop\r\n{lines}"), "shop");
    }
    // A route may give the endpoints a token of its own.
    let [b] = origins([Reply::ok("b")]);
    let proxy = tokens.listener(over(&[&b]), &["/* by token:ci"], |listener| {
        let line = "Authorization: Bearer token-of-the-endpoints".parse().expect("a line");
        Arc::make_mut(&mut listener.routes[0]).changes.headers.request =
            proxy::config::FieldEdits::new(vec![line], Vec::new(), Vec::new());
    });
    let proxy = proxy.start();
    proxy.request("GET", "/x", &[("Authorization", CI)], b"").await.expect_status(200);
    assert_eq!(b.requests()[0].headers.all("authorization"), ["Bearer token-of-the-endpoints"]);
}

#[tokio::test]
async fn an_address_is_enough_where_a_rule_names_its_network() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let proxy = tokens.over(&a, &["/near by cidr:127.0.0.0/8,token:ci", "/far by cidr:192.0.2.0/24"]);
    proxy.get("/near").await.expect_status(200);
    assert_made_up(&proxy.get("/far").await, 403, "http_request_denied");
    let forwarded = proxy.request("GET", "/far", &[("X-Forwarded-For", "192.0.2.1")], b"").await;
    assert_made_up(&forwarded, 403, "http_request_denied");
}

#[tokio::test]
async fn an_edit_of_the_token_file_counts_for_the_next_request_of_an_open_connection() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let proxy = tokens.over(&a, &["/* by token:ci,token:ops"]);
    let mut client = proxy.client().await;
    let mut ask = async |token: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: shop\r\nAuthorization: {token}\r\n\r\n")).await;
        client.read_response("GET").await.complete().status
    };
    assert_eq!((ask(CI).await, ask(OPS).await), (200, 200));
    tokens.write("ci:another-token-of-it\n");
    eventually!("the edit to count", ask("Bearer another-token-of-it").await, |status| *status == 200);
    assert_eq!((ask(CI).await, ask(OPS).await), (401, 401));
    tokens.write("ci:yet-another-token\nbroken line\n");
    // The file is checked every half second: once a later good edit applies, the bad one has been read.
    tokens.write("ops:another-token-of-them\n");
    eventually!("the next edit to count", ask("Bearer another-token-of-them").await, |status| *status == 200);
    assert_eq!(ask("Bearer yet-another-token").await, 401);
}

#[tokio::test]
async fn a_caller_beyond_its_rate_gets_429_with_the_time_to_wait_and_others_do_not() {
    let (tokens, a) = (Tokens::new(), origin(0, Reply::ok("a")));
    let mut proxy =
        tokens.listener(over(&[&a]), &[], |l| l.auth.rate_limit = Some("3/h".parse().expect("a rate"))).start();
    let mut client = proxy.client().await;
    let mut ask = async |more: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: shop\r\n{more}\r\n")).await;
        client.read_response("GET").await.complete()
    };
    let ci = format!("Authorization: {CI}\r\n");
    for more in ["", &ci] {
        for _ in 0..3 {
            ask(more).await.expect_status(200);
        }
        let refused = ask(more).await;
        assert_made_up(&refused, 429, "http_request_denied");
        let wait: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
        assert!((1..=1200).contains(&wait), "{wait}");
    }
    assert_eq!(a.requests().len(), 6, "no leg for what is too much");
    // Requests with wrong tokens count for the client's address.
    assert_eq!(ask("Authorization: Bearer a-guess-at-a-token\r\n").await.status, 429);
    ask(&format!("Authorization: {OPS}\r\n")).await.expect_status(200);
    // Counts outlive a reload, and another rate begins anew.
    proxy.reload(|config| config.listeners[0].keepalive = false);
    assert_eq!(proxy.get("/").await.status, 429);
    proxy.reload(|config| config.listeners[0].auth.rate_limit = Some("5/h".parse().expect("a rate")));
    proxy.get("/").await.expect_status(200);
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may_and_one_that_closes_makes_room() {
    let gate = Gate::new();
    let a = origin(0, vec![Reply::ok("a").hold(&gate), Reply::ok("b")]);
    let proxy = over(&[&a]).config(|config| config.threads = 2).limits(|l| l.connections_per_client = Some(3)).start();
    let head = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let mut kept = proxy.sent_times(1, head).await;
    gate.wait_reached(1).await;
    kept.extend(proxy.sent_times(2, head).await);
    for client in &mut kept[1..] {
        client.read_response("GET").await.complete().expect_status(200);
    }
    // A request counts until its exchange is dropped, which is after its answer has arrived.
    let counts = serde_json::json!([{"address": "127.0.0.1", "connections": 3, "requests": 1}]);
    eventually!("one request in flight", proxy.handle.clients()["clients"].clone(), |clients| *clients == counts);
    assert_eq!(proxy.handle.clients()["addresses"], 1);
    let refused = proxy.answer_to(head, "GET").await;
    let problem = assert_made_up(&refused, 429, "connection_limit_reached");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("max-connections-per-client")),
        "{problem}"
    );
    assert!(refused.header("retry-after").is_some() && refused.header("connection") == Some("close"));
    // Another address of this machine is another client.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.77:0".parse().expect("an address")).expect("it is ours");
    let mut other = RawClient::over(socket.connect(proxy.address).await.expect("it listens"));
    other.send(head).await;
    other.read_response("GET").await.complete().expect_status(200);
    kept.pop().expect("three").close();
    eventually!("room again", proxy.answer_to(head, "GET").await.status, |status| *status == 200);
    gate.release();
    kept[0].read_response("GET").await.complete().expect_status(200);
    drop((kept, other));
    eventually!("nobody", proxy.handle.clients()["addresses"].clone(), |addresses| *addresses == 0);
}

#[test]
fn a_rule_that_names_what_nobody_can_prove_is_a_fault_of_the_configuration() {
    let check = |allow: &str, auth: Auth| {
        let mut config = setup::config(vec![setup::route("r", "c")]);
        (config.listeners[0].allow, config.listeners[0].auth) = (vec![allow.parse().expect("a rule")], auth);
        config.check().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let tokens = || Auth { tokens: Some("t".into()), ..Auth::default() };
    let accounts = || Auth { service_accounts: Some("a".into()), ..Auth::default() };
    assert_eq!(check("/* by token:ci,cidr:::/0", tokens()), [""; 0]);
    assert_eq!(check("/* by sa:shop/cms", accounts()), [""; 0]);
    for (allow, auth, key) in [
        ("/* by token:ci", accounts(), "auth.tokens"),
        ("/* by sa:a/b", tokens(), "auth.service_accounts"),
        ("/* by token:ci,san:a.b", tokens(), "tls.client_ca"),
    ] {
        let problems = check(allow, auth);
        assert!(
            problems.len() == 1 && problems[0].contains("listeners[0].allow[0]") && problems[0].contains(key),
            "{problems:?}"
        );
    }
}
