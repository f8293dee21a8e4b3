//! nginx as an HTTP/2 endpoint, in clear text with prior knowledge and with TLS and ALPN: its log, and the requests at an origin
//! behind it, show what the client sent.

use std::net::SocketAddr;

use proxy::config::UpstreamProtocol;
use testkit::clients::curl;
use testkit::consumers::{self, Consumer};
use testkit::eventually;
use testkit::origin::{Origin, Reply};

use super::Certificates;
use crate::fixture::{Place, Proxy, Setup, bytes, over, result_of};

/// nginx's log format.
const LOGGED: &str = "$server_protocol|$ssl_alpn_protocol|$request_method|$request_uri|$http_host|$http_via|$status";

/// An nginx, and the origin behind it.
struct Nginx {
    consumer: Consumer,
    behind: Origin,
    folder: tempfile::TempDir,
}

/// A request in nginx's log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Logged {
    version: String,
    /// The protocol by ALPN, `-` without TLS.
    agreed: String,
    /// Method, target and host.
    request: [String; 3],
    via: String,
    status: String,
}

impl Place for Nginx {
    fn place(&self) -> SocketAddr {
        self.consumer.address()
    }
}

impl Nginx {
    /// One that speaks HTTP/2 where `http2` says so, by TLS where there are certificates.
    async fn start(http2: bool, certificates: Option<&Certificates>, reply: Reply) -> Self {
        let behind = Origin::start(reply);
        let folder = tempfile::tempdir().expect("a directory");
        let log = folder.path().join("log").display().to_string();
        let (mut words, mut tls) = (String::new(), String::new());
        if let Some(Certificates { endpoint, .. }) = certificates {
            words.push_str(" ssl");
            let (cert, key) = (endpoint.path("tls.crt"), endpoint.path("tls.key"));
            tls = format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
        }
        if http2 {
            words.push_str(" http2");
        }
        let address = behind.address();
        let http = format!(
            "log_format told '{LOGGED}';
             server {{
               listen LISTEN{words};
               {tls}
               access_log {log} told;
               client_max_body_size 0;
               location / {{
                 proxy_pass http://{address};
                 proxy_http_version 1.1;
                 proxy_set_header Host $http_host;
               }}
             }}"
        );
        let consumer = consumers::nginx(consumers::Nginx { http, ..Default::default() }).await;
        Self { consumer, behind, folder }
    }

    /// What it has logged, once that is so many requests.
    async fn logged(&self, count: usize) -> Vec<Logged> {
        let file = self.folder.path().join("log");
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        let text = eventually!("requests in the log of nginx", read(), |text| text.matches('\n').count() >= count);
        text.lines().map(Logged::of).collect()
    }
}

impl Logged {
    fn of(line: &str) -> Self {
        let parts: Vec<_> = line.split('|').map(str::to_owned).collect();
        let Ok([version, agreed, method, target, host, via, status]) = <[String; 7]>::try_from(parts) else {
            panic!("a line that nginx has not written: {line}");
        };
        Self { version, agreed, request: [method, target, host], via, status }
    }
}

/// Asserts that a request of curl, by either version of HTTP, reaches both whole.
async fn assert_reached(proxy: &Proxy, endpoints: [&Nginx; 2], version: &str, agreed: &str) {
    let body = bytes(700_000);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("body");
    std::fs::write(&file, &body).expect("it can be written");
    let (file, url) = (format!("@{}", file.display()), format!("http://{}/a%2Fb?c=d", proxy.address));
    for (number, (flag, spoken)) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2.0")].into_iter().enumerate() {
        let arguments = [flag, "--include", "--request", "PUT", "--header", "X-Own: 1", "--data-binary", &file, &url];
        let written = curl(arguments).await.to_lowercase();
        assert!(written.contains("x-broadcast-result: total=2, ok=2, failed=0, pending=0, required=2"), "{written}");
        assert!(written.ends_with("\r\n\r\na") && written.contains("x-from: a"), "{written}");
        for endpoint in endpoints {
            let logged = endpoint.logged(number + 1).await.remove(number);
            assert_eq!((&*logged.version, &*logged.agreed, &*logged.status), (version, agreed, "200"));
            let host = proxy.address.to_string();
            // nginx has one variable for `:authority` and Host.
            assert_eq!(logged.request, ["PUT".to_owned(), "/a%2Fb?c=d".to_owned(), host.clone()]);
            assert!(logged.via.starts_with(&format!("{spoken} fanfare-")), "{logged:?}");
            let seen = endpoint.behind.wait_requests(number + 1).await.remove(number).complete();
            assert!(seen.body == body, "{} bytes", seen.body.len());
            assert_eq!((seen.headers.get("x-own"), seen.headers.get("host")), (Some("1"), Some(&*host)));
            assert_eq!(seen.headers.get("content-length"), Some(&*body.len().to_string()));
            assert_eq!(seen.headers.get("x-forwarded-for"), Some("127.0.0.1"));
        }
    }
}

fn reply(text: &str) -> Reply {
    Reply::ok(text).header("X-From", text)
}

fn speaking(setup: Setup, protocol: UpstreamProtocol) -> Setup {
    setup.policy(|policy| policy.protocol = protocol)
}

#[tokio::test]
async fn nginx_is_reached_by_http2_in_clear() {
    let (a, b) = (Nginx::start(true, None, reply("a")).await, Nginx::start(true, None, reply("b")).await);
    let (first, second) = in_order(&a, &b);
    first.behind.set(reply("a"));
    second.behind.set(reply("b"));
    let proxy = speaking(over(&[&a, &b]), UpstreamProtocol::H2).start();
    assert_reached(&proxy, [&a, &b], "HTTP/2.0", "-").await;
}

/// The order in which the proxy has them.
fn in_order<'a>(a: &'a Nginx, b: &'a Nginx) -> (&'a Nginx, &'a Nginx) {
    if a.place() < b.place() { (a, b) } else { (b, a) }
}

#[tokio::test]
async fn nginx_is_reached_by_the_version_that_it_agrees_to() {
    let certificates = Certificates::new();
    for (http2, version, agreed) in [(true, "HTTP/2.0", "h2"), (false, "HTTP/1.1", "http/1.1")] {
        let a = Nginx::start(http2, Some(&certificates), reply("a")).await;
        let b = Nginx::start(http2, Some(&certificates), reply("b")).await;
        let (first, second) = in_order(&a, &b);
        first.behind.set(reply("a"));
        second.behind.set(reply("b"));
        let proxy = over(&[&a, &b]).endpoints_by_tls(&certificates).start();
        assert_reached(&proxy, [&a, &b], version, agreed).await;
    }
}

#[tokio::test]
async fn one_route_has_endpoints_of_both_versions_and_each_gets_the_whole_body() {
    let certificates = Certificates::new();
    let a = Nginx::start(true, Some(&certificates), Reply::ok("answer")).await;
    let b = Nginx::start(false, Some(&certificates), Reply::ok("answer")).await;
    let proxy = over(&[&a, &b]).endpoints_by_tls(&certificates).start();
    let body = bytes(3_000_000);
    let answer = proxy.request("PUT", "/p", &[], &body).await.complete().expect_status(200);
    assert_eq!((answer.text().as_str(), result_of(&answer)), ("answer", [2, 2, 0, 0, 2]));
    for (endpoint, version) in [(&a, "HTTP/2.0"), (&b, "HTTP/1.1")] {
        assert_eq!(endpoint.logged(1).await.remove(0).version, version);
        let seen = endpoint.behind.wait_requests(1).await.remove(0).complete();
        assert!(seen.body == body, "{} bytes by {version}", seen.body.len());
    }
}

#[tokio::test]
async fn connections_that_nginx_closes_fail_no_request() {
    // It ends each connection after a thousand requests (`keepalive_requests`), with GOAWAY.
    let a = Nginx::start(true, None, Reply::ok("a")).await;
    let proxy = speaking(over(&[&a]), UpstreamProtocol::H2).start();
    let answers = (0..16).map(|_| async {
        let mut client = proxy.client().await;
        for _ in 0..150 {
            client.send("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody").await;
            client.read_response("POST").await.complete().expect_status(200);
        }
    });
    futures::future::join_all(answers).await;
    let seen = a.behind.wait_requests(16 * 150).await;
    assert_eq!(seen.len(), 16 * 150, "each of them once");
    assert!(seen.iter().all(|seen| seen.is_complete() && seen.body == b"body"));
}
