//! Rule: endpoints with TLS get exactly what others get, and only verified ones get anything.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::config::{TlsTo, UpstreamProtocol, UpstreamTls, ViaName};
use runtime::tls::{CertificateFiles, ClientAuth, ClientSettings, MinVersion, Roots, ServerSettings};
use snapshot::{Endpoint, PodRef, ServiceRef};
use testkit::eventually;
use testkit::origin::{Origin, Reply};
use testkit::pki::{Authority, SecretDir};
use testkit::tls_relay::TlsRelay;

use crate::fixture::{
    Place, Setup, assert_head, assert_made_up, bytes, chunked, loopback, origin, over, result_of, route, series,
};

impl Place for TlsRelay {
    fn place(&self) -> SocketAddr {
        self.address
    }
}

/// An authority, and a directory with its certificate (`ca.crt`) and a client certificate (`tls.crt`, `tls.key`).
fn authority() -> (Authority, SecretDir) {
    let authority = Authority::new("endpoints");
    let secret = SecretDir::of(&authority.issue(&["fanfare.example"]), &authority);
    (authority, secret)
}

fn trusting(secret: &SecretDir) -> UpstreamTls {
    UpstreamTls {
        settings: ClientSettings {
            roots: Roots::File(secret.path("ca.crt")),
            sans: Vec::new(),
            certificate: None,
            protocols: Vec::new(),
        },
        server_name: Some("cache.shop.svc".parse().expect("a name")),
        to: TlsTo::default(),
    }
}

/// TLS in front of the `n`-th origin, with a certificate for these names.
async fn front(n: usize, authority: &Authority, names: &[&str], origin: &Origin) -> TlsRelay {
    let config = authority.issue(names).server(&["http/1.1"]);
    TlsRelay::in_front(&loopback(n), config, origin.address()).await
}

impl Setup {
    fn by(self, upstream: UpstreamTls) -> Self {
        self.policy(|policy| policy.tls = Some(Arc::new(upstream)))
    }
}

#[tokio::test]
async fn every_endpoint_gets_the_request_byte_for_byte_on_connections_that_are_kept() {
    let (authority, secret) = authority();
    let (a, b) = (origin(10, Reply::ok("a")), origin(11, Reply::ok("b")));
    let names = ["cache.shop.svc"];
    let (one, two) = (front(0, &authority, &names, &a).await, front(1, &authority, &names, &b).await);
    let proxy = over(&[&one, &two]).by(trusting(&secret)).start();
    for n in 1..=3 {
        let answer = proxy.request("POST", "/p", &[], b"body").await.complete();
        assert_eq!((answer.status, answer.text().as_str(), result_of(&answer)), (200, "a", [2, 2, 0, 0, 2]));
        for seen in [a.wait_requests(n).await.pop(), b.wait_requests(n).await.pop()].into_iter().flatten() {
            let host = seen.headers.get("host").expect("a Host").to_owned();
            assert_head(&seen, &format!("POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n"), &host);
            assert_eq!(seen.text(), "body");
        }
        proxy.settled().await;
    }
    assert_eq!((one.handshakes(), two.handshakes()), (1, 1), "tickets that come later do not spoil a kept connection");
}

#[tokio::test]
async fn long_bodies_arrive_whole_in_both_directions() {
    let (authority, secret) = authority();
    let answer = bytes(5_000_000);
    let (a, b) = (origin(10, Reply::ok(&answer)), origin(11, Reply::ok("b")));
    let one = front(0, &authority, &["cache.shop.svc"], &a).await;
    let two = front(1, &authority, &["cache.shop.svc"], &b).await;
    let proxy = over(&[&one, &two]).by(trusting(&secret)).start();
    let body = bytes(3_000_000);
    let sized = (format!("Content-Length: {}\r\n", body.len()), body.clone());
    let pieces = ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&body.chunks(70_001).collect::<Vec<_>>()));
    for (n, (fields, sent)) in [sized, pieces].into_iter().enumerate() {
        let head = format!("POST /p HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
        let got = proxy.answer_to([head.into_bytes(), sent].concat(), "POST").await.complete();
        assert!(got.status == 200 && got.body == answer, "{} with {} bytes", got.status, got.body.len());
        for origin in [&a, &b] {
            let seen = origin.wait_requests(n + 1).await.remove(n);
            assert!(seen.body == body, "{} bytes", seen.body.len());
        }
    }
}

#[tokio::test]
async fn an_endpoint_without_the_expected_name_gets_nothing() {
    let (authority, secret) = authority();
    let (a, b, c) = (origin(10, Reply::ok("a")), origin(11, Reply::ok("b")), origin(12, Reply::ok("c")));
    let right = front(0, &authority, &["cache.shop.svc"], &a).await;
    let wrong = front(1, &authority, &["other.shop.svc"], &b).await;
    let stranger = front(2, &Authority::new("a stranger"), &["cache.shop.svc"], &c).await;
    let proxy = over(&[&right, &wrong, &stranger]).by(trusting(&secret)).start();
    let (status, report) = proxy.report("PURGE", "/x", b"").await;
    assert_eq!(status, 502, "{report}");
    let results = &report["results"];
    assert_eq!(results[0]["outcome"], "ok", "{report}");
    for (n, why) in [(1, "is for other.shop.svc, not for cache.shop.svc"), (2, "is signed by CN=a stranger")] {
        assert_eq!(results[n]["outcome"], "connect", "{report}");
        let error = results[n]["error"].as_str().unwrap_or_else(|| panic!("no error: {report}"));
        assert!(error.contains("the certificate of the endpoint") && error.contains(why), "{error}");
    }
    assert_made_up(&proxy.request("PURGE", "/x", &[], b"").await, 502, "tls_certificate_error");
    b.assert_untouched();
    c.assert_untouched();
}

#[tokio::test]
async fn an_endpoint_that_demands_a_certificate_says_so_and_gets_it() {
    let (authority, secret) = authority();
    let a = origin(10, Reply::ok("a"));
    let config = authority.demanding(&authority.issue(&["cache.shop.svc"]), &["http/1.1"]);
    let relay = TlsRelay::in_front(&loopback(0), config, a.address()).await;
    let mut proxy = over(&[&relay]).by(trusting(&secret)).start();
    let (status, report) = proxy.report("PURGE", "/x", b"").await;
    let error = report["results"][0]["error"].as_str().unwrap_or_default();
    assert!(status == 502 && error.contains("requires a client certificate"), "{report}");
    a.assert_untouched();
    let certificate = CertificateFiles { cert: secret.path("tls.crt"), key: secret.path("tls.key") };
    proxy.reload(|config| {
        let mut upstream = trusting(&secret);
        upstream.settings.certificate = Some(certificate);
        Arc::make_mut(&mut config.listeners[0].routes[0]).policy.tls = Some(Arc::new(upstream));
    });
    proxy.request("PURGE", "/x", &[], b"").await.complete().expect_status(200);
}

#[tokio::test]
async fn each_pod_is_asked_for_by_its_own_name_where_the_template_says_so() {
    let (authority, secret) = authority();
    let (a, b) = (origin(10, Reply::ok("a")), origin(11, Reply::ok("b")));
    let one = front(0, &authority, &["cache-0.cache.shop.svc"], &a).await;
    let two = front(1, &authority, &["cache-1.cache.shop.svc"], &b).await;
    let pod = |relay: &TlsRelay, name: &str| {
        let pod = PodRef { namespace: "shop".into(), name: name.into(), uid: name.into() };
        let service = Arc::new(ServiceRef { namespace: "shop".into(), name: "cache".into() });
        Endpoint { pod: Some(pod), service: Some(service), ..Endpoint::ready(relay.address) }
    };
    let upstream = UpstreamTls {
        server_name: Some("{pod}.{service}.{namespace}.svc".parse().expect("a template")),
        ..trusting(&secret)
    };
    let proxy = Setup::new(vec![pod(&one, "cache-0"), pod(&two, "cache-1")]).by(upstream).start();
    proxy.get("/").await.complete().expect_status(200);
    proxy.publish_endpoints(vec![Endpoint::ready(one.address)]);
    eventually!("the endpoint without a pod", proxy.report("GET", "/", b"").await.1, |report| {
        report["results"][0]["error"].as_str().is_some_and(|error| error.contains("has no pod"))
    });
}

#[tokio::test]
async fn routes_that_reach_an_endpoint_differently_share_no_connection_to_it_and_one_series() {
    let (authority, secret) = authority();
    let a = origin(10, Reply::ok("a"));
    let relay = front(0, &authority, &["cache.shop.svc"], &a).await;
    let mut upstream = trusting(&secret);
    upstream.server_name = Some("other.shop.svc".parse().expect("a name"));
    let proxy = over(&[&relay])
        .by(trusting(&secret))
        .listener(|listener| {
            let mut second = route("second", listener.routes[0].cluster.as_str());
            second.matches = "/second".parse().expect("a match");
            second.policy.tls = Some(Arc::new(upstream));
            listener.routes.insert(0, second.into());
        })
        .start();
    proxy.get("/").await.complete().expect_status(200);
    proxy.get("/second").await.complete().expect_status(502);
    let endpoint = relay.address.to_string();
    let shown = series(&proxy.handle.metrics(), "fanfare_legs_total", &[("endpoint", &endpoint), ("outcome", "ok")]);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!((proxy.legs(&relay, "ok"), proxy.legs(&relay, "connect")), (1, 1));
}

/// Another proxy is an endpoint that speaks both.
#[tokio::test]
async fn the_protocol_is_negotiated_with_the_endpoint() {
    let (authority, secret) = authority();
    let own = SecretDir::of(&authority.issue(&["cache.shop.svc"]), &authority);
    for (http2, protocol, version) in [
        (true, UpstreamProtocol::Auto, "2.0"),
        (false, UpstreamProtocol::Auto, "1.1"),
        (true, UpstreamProtocol::Http1, "1.1"),
        (true, UpstreamProtocol::H2, "2.0"),
    ] {
        let a = origin(0, Reply::ok(bytes(300_000)));
        let inner = over(&[&a])
            .listener(|listener| {
                listener.http2 = http2;
                listener.via_name = ViaName::for_deployment("inner");
                listener.tls = Some(ServerSettings {
                    certificates: vec![CertificateFiles { cert: own.path("tls.crt"), key: own.path("tls.key") }],
                    client_ca: None,
                    client_auth: ClientAuth::Require,
                    min_version: MinVersion::Tls13,
                    protocols: Vec::new(),
                });
            })
            .start();
        let outer = over(&[&inner.address]).by(trusting(&secret)).policy(|policy| policy.protocol = protocol).start();
        let body = bytes(500_000);
        let answers = futures::future::join_all((0..8).map(|_| outer.request("PUT", "/x", &[], &body))).await;
        for answer in answers {
            let answer = answer.complete().expect_status(200);
            assert_eq!(answer.body.len(), 300_000);
        }
        for seen in a.wait_requests(8).await {
            assert!(seen.body == body, "{} bytes", seen.body.len());
            let via = seen.headers.all("via").join(", ");
            let (_, last) = via.rsplit_once(", ").expect("both have passed it on");
            assert!(last.starts_with(&format!("{version} fanfare-")), "{via}, but {protocol:?} and {http2}");
        }
    }
    // A server that speaks only HTTP/1.1 is not an HTTP/2 endpoint.
    let a = origin(10, Reply::ok("a"));
    let config = authority.issue(&["cache.shop.svc"]).server(&["http/1.1"]);
    let relay = TlsRelay::in_front(&loopback(0), config, a.address()).await;
    let proxy = over(&[&relay]).by(trusting(&secret)).policy(|policy| policy.protocol = UpstreamProtocol::H2).start();
    assert_made_up(&proxy.get("/").await, 502, "tls_alert_received");
    a.assert_untouched();
}

#[tokio::test]
async fn authorities_that_are_renewed_count_from_then_on() {
    let (authority, secret) = authority();
    let next = Authority::new("the next one");
    let a = origin(10, Reply::ok("a").connection_close());
    let relay = front(0, &next, &["cache.shop.svc"], &a).await;
    let proxy = over(&[&relay]).by(trusting(&secret)).start();
    proxy.get("/").await.complete().expect_status(502);
    secret.renew(&authority.issue(&["fanfare.example"]), &next);
    eventually!("the next authority", proxy.get("/").await.status, |status| *status == 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_and_refuse_a_reload() {
    let (_, secret) = authority();
    let a = origin(0, Reply::ok("a"));
    let mut missing = trusting(&secret);
    missing.settings.roots = Roots::File(secret.path("nowhere"));
    let proxy = over(&[&a]).start();
    let mut config = proxy.given();
    Arc::make_mut(&mut config.listeners[0].routes[0]).policy.tls = Some(Arc::new(missing));
    let error = proxy.handle.reload(config.clone()).expect_err("it is not there").to_string();
    assert!(error.starts_with("listeners[0].routes[0].policy.tls.roots: ") && error.contains("nowhere"), "{error}");
    proxy.get("/").await.complete().expect_status(200);
    let (_, reader) = snapshot::channel();
    let error = proxy::Server::bind(config, reader).expect_err("it is not there").to_string();
    assert!(error.contains("nowhere"), "{error}");
}
