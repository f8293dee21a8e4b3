//! Rule: unless configured otherwise, the source of an endpoint decides its protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use proxy::config::{TlsTo, UpstreamTls, ViaName};
use runtime::tls::{ClientSettings, Roots};
use snapshot::{Change, Cluster, ClusterName, Endpoint, Scheme, Spoken};
use testkit::eventually;
use testkit::origin::{Origin, Reply};
use testkit::pki::{Authority, SecretDir};
use testkit::tls_relay::TlsRelay;

use crate::fixture::{Place, Proxy, Setup, bytes, loopback, origin, over, result_of, route, series};
use crate::http2::{Client, request};
use crate::http2_endpoints::{Does, Endpoint as Http2Endpoint};

const HTTP: Spoken = Spoken::Scheme(Scheme::Http);
const HTTPS: Spoken = Spoken::Scheme(Scheme::Https);

fn said(place: &dyn Place, spoken: Spoken) -> Endpoint {
    Endpoint { spoken, ..Endpoint::ready(place.place()) }
}

/// TLS in front of an origin, with a certificate for the address, and the trust for it.
async fn by_tls(n: usize, origin: &Origin) -> (TlsRelay, UpstreamTls, SecretDir) {
    let authority = Authority::new("endpoints");
    let secret = SecretDir::of(&authority.issue(&["fanfare.example"]), &authority);
    let address: SocketAddr = loopback(n).parse().expect("an address");
    let config = authority.issue(&[&address.ip().to_string()]).server(&["http/1.1"]);
    let relay = TlsRelay::in_front(&loopback(n), config, origin.address()).await;
    let settings = ClientSettings {
        roots: Roots::File(secret.path("ca.crt")),
        sans: Vec::new(),
        certificate: None,
        protocols: Vec::new(),
    };
    (relay, UpstreamTls { to: TlsTo::default(), settings, server_name: None }, secret)
}

/// A proxy as an endpoint that speaks both versions in clear text, and names the version of the request in `Via`.
fn speaks_both(origin: &Origin) -> Proxy {
    over(&[origin]).listener(|listener| listener.via_name = ViaName::for_deployment("inner")).start()
}

/// The version of the last request at the inner proxy.
fn version(origin: &Origin) -> String {
    let seen = origin.requests().pop().expect("a request");
    let via = seen.headers.all("via").join(", ");
    let (_, last) = via.rsplit_once(", ").expect("both have passed it on");
    last.split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn endpoints_by_tls_and_in_clear_stand_side_by_side_in_one_route() {
    let (a, b) = (origin(0, Reply::ok("clear")), origin(11, Reply::ok("secret")));
    let (relay, upstream, _secret) = by_tls(1, &b).await;
    let proxy = Setup::new(vec![said(&a, HTTP), said(&relay, HTTPS)])
        .policy(|policy| policy.tls = Some(Arc::new(upstream)))
        .start();
    let body = bytes(200_000);
    for n in 1..=2 {
        let answer = proxy.request("PUT", "/x", &[], &body).await.complete();
        assert_eq!((answer.status, answer.text().as_str(), result_of(&answer)), (200, "clear", [2, 2, 0, 0, 2]));
        for origin in [&a, &b] {
            let seen = origin.wait_requests(n).await.remove(n - 1);
            assert!(seen.method == "PUT" && seen.body == body, "{} bytes", seen.body.len());
        }
        proxy.settled().await;
    }
    assert_eq!(relay.handshakes(), 1);
}

#[tokio::test]
async fn a_setting_that_contradicts_the_list_fails_the_leg_with_the_reason() {
    let (a, b) = (origin(0, Reply::ok("clear")), origin(11, Reply::ok("secret")));
    let (relay, upstream, _secret) = by_tls(1, &b).await;
    for (to, n, why) in [(TlsTo::All, 0, "its list says http://"), (TlsTo::None, 1, "its list says https://")] {
        let proxy = Setup::new(vec![said(&a, HTTP), said(&relay, HTTPS)])
            .policy(|policy| policy.tls = Some(Arc::new(UpstreamTls { to, ..upstream.clone() })))
            .start();
        let (status, report) = proxy.report("GET", "/", b"").await;
        assert_eq!(status, 502, "{report}");
        let failed = &report["results"][n];
        assert_eq!((&failed["outcome"], &report["results"][1 - n]["outcome"]), (&"connect".into(), &"ok".into()));
        assert!(failed["error"].as_str().is_some_and(|error| error.contains(why)), "{report}");
    }
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

/// Without a configuration the system's authorities apply, which do not include this one.
#[tokio::test]
async fn an_https_endpoint_gets_nothing_in_clear_and_nothing_unverified() {
    let a = origin(11, Reply::ok("a"));
    let (relay, _, _secret) = by_tls(0, &a).await;
    for spoken in [HTTPS, Spoken::by_app_protocol("https")] {
        let proxy = Setup::new(vec![said(&relay, spoken)]).start();
        let (status, report) = proxy.report("GET", "/", b"").await;
        assert_eq!((status, &report["results"][0]["outcome"]), (502, &"connect".into()), "{report}");
    }
    a.assert_untouched();
}

#[tokio::test]
async fn the_application_protocol_says_what_is_spoken_in_clear() {
    let (a, b) = (origin(0, Reply::ok("a")), Http2Endpoint::start(1, [Does::Answer(b"b".to_vec())]).await);
    let spoken = [Spoken::by_app_protocol("http"), Spoken::by_app_protocol("kubernetes.io/h2c")];
    let proxy = Setup::new(vec![said(&a, spoken[0]), said(&b, spoken[1])]).start();
    let answer = proxy.request("POST", "/x", &[], b"body").await.complete();
    assert_eq!((answer.status, result_of(&answer)), (200, [2, 2, 0, 0, 2]));
    assert_eq!(a.wait_requests(1).await[0].text(), "body");
    let seen = b.wait(1).await.remove(0);
    assert_eq!((seen.head.method().as_str(), seen.head.uri().path(), &*seen.body), ("POST", "/x", &b"body"[..]));
}

#[tokio::test]
async fn a_call_of_grpc_goes_to_endpoints_that_are_said_to_speak_it_and_to_no_others() {
    let message = [0, 0, 0, 0, 1, b'a'];
    let call = || -> Request<()> {
        request("POST", "/shop.Cache/Purge", &[("content-type", "application/grpc"), ("te", "trailers")])
    };
    let a = Http2Endpoint::start(0, [Does::Grpc(message.to_vec(), 0)]).await;
    let grpc = Spoken::by_app_protocol("grpc");
    let proxy = Setup::new(vec![said(&a, grpc)]).start();
    let answer = Client::of(&proxy).await.send(call(), Some(&message)).await.expect("an answer");
    assert_eq!(answer.head.headers()["x-broadcast-result"], "total=1, ok=1, failed=0, pending=0, required=1");
    assert_eq!(answer.body, message);
    assert_eq!(a.wait(1).await.remove(0).body, message);
    // An HTTP/1.1 endpoint cannot take part, so no endpoint gets the request.
    let b = origin(1, Reply::ok("b"));
    proxy.publish_endpoints(vec![said(&a, grpc), said(&b, Spoken::by_app_protocol("http"))]);
    let answer = eventually!(
        "the other endpoint",
        Client::of(&proxy).await.send(call(), Some(&message)).await.expect("an answer"),
        |answer| answer
            .head
            .headers()
            .get("grpc-message")
            .is_some_and(|text| text.as_bytes().starts_with(b"endpoints"))
    );
    assert_ne!(answer.head.headers()["grpc-status"], "0");
    b.assert_untouched();
}

#[tokio::test]
async fn an_application_protocol_that_changes_counts_from_then_on_and_leaves_one_series() {
    let a = origin(9, Reply::ok("a"));
    let inner = speaks_both(&a);
    let proxy = Setup::new(vec![said(&inner.address, Spoken::Unspecified)]).start();
    proxy.get("/").await.complete().expect_status(200);
    assert_eq!(version(&a), "1.1");
    for (spoken, expected) in [("grpc", "2.0"), ("http", "1.1"), ("kubernetes.io/h2c", "2.0"), ("redis", "1.1")] {
        proxy.publish_endpoints(vec![said(&inner.address, Spoken::by_app_protocol(spoken))]);
        eventually!(
            format!("{spoken} to count"),
            {
                proxy.get("/").await.complete().expect_status(200);
                version(&a)
            },
            |version| version == expected
        );
    }
    // Idle connections with the old protocol are closed.
    eventually!("one connection", inner.metric("fanfare_client_connections", &[]), |count| *count == 1.0);
    let endpoint = inner.address.to_string();
    let legs = series(&proxy.handle.metrics(), "fanfare_legs_total", &[("endpoint", &endpoint), ("outcome", "ok")]);
    assert_eq!(legs.len(), 1, "{legs:?}");
}

#[tokio::test]
async fn routes_that_are_told_different_things_about_one_address_each_go_by_their_own() {
    let a = origin(9, Reply::ok("a"));
    let inner = speaks_both(&a);
    let proxy = Setup::new(vec![said(&inner.address, Spoken::by_app_protocol("http"))])
        .listener(|listener| {
            let mut second = route("second", "test/other:h2c");
            second.matches = "/second".parse().expect("a match");
            listener.routes.insert(0, second.into());
        })
        .start();
    let name = ClusterName::new("test/other:h2c").expect("a cluster name");
    let cluster = |spoken| Cluster::new(name.clone(), vec![said(&inner.address, Spoken::by_app_protocol(spoken))]);
    proxy.publisher.apply([Change::Set(Arc::new(cluster("kubernetes.io/h2c")))]);
    eventually!("the other route", proxy.get("/second").await.complete().status, |status| *status == 200);
    for _ in 0..2 {
        proxy.get("/second").await.complete().expect_status(200);
        assert_eq!(version(&a), "2.0");
        proxy.get("/").await.complete().expect_status(200);
        assert_eq!(version(&a), "1.1");
    }
    proxy.settled().await;
    // One endpoint, counted once, whatever its protocols; each route keeps its own connection.
    let endpoint = inner.address.to_string();
    for (metric, value) in [("fanfare_legs_total", 5.0), ("fanfare_idle_connections", 2.0)] {
        let labels = [("endpoint", &*endpoint), ("outcome", "ok")];
        let labels = if metric == "fanfare_legs_total" { &labels[..] } else { &labels[..1] };
        let shown = series(&proxy.handle.metrics(), metric, labels);
        assert!(shown.len() == 1 && shown[0].1 == value, "{shown:?}");
    }
    // Both routes have the same protocol now, and share connections.
    proxy.publisher.apply([Change::Set(Arc::new(cluster("http")))]);
    eventually!(
        "the change",
        {
            proxy.get("/second").await.complete().expect_status(200);
            version(&a)
        },
        |version| version == "1.1"
    );
    eventually!("one connection", inner.metric("fanfare_client_connections", &[]), |count| *count == 1.0);
}
