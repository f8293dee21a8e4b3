//! TLS with endpoints: verification, client certificates, and errors.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    client, eventually,
    origin::{Origin, Reply},
    pki::Issued,
    tls_relay::TlsRelay,
};

use super::bed::{File, Pair, strs};
use crate::process::Fanfare;

/// TLS in front of an origin, with a certificate of this authority.
async fn front(origin: &Origin, issued: &Issued) -> TlsRelay {
    TlsRelay::in_front("127.0.0.1:0", issued.server(&["http/1.1"]), origin.address()).await
}

async fn broadcast(endpoints: &str, flags: &[String]) -> Fanfare {
    let mut all =
        vec!["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1", "--endpoints", endpoints];
    all.extend(strs(flags));
    let fanfare = Fanfare::serve(all).await;
    fanfare.wait_ready().await;
    fanfare
}

/// The status, and the outcome and error of the leg to the only endpoint.
async fn told(address: SocketAddr) -> (u16, String, String) {
    let fields = [("Accept", "application/vnd.broadcast+json")];
    let answer = client::request(address, "PURGE", "/x", &fields, b"").await.complete();
    let report: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
    let text = |key: &str| report["results"][0][key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("outcome"), text("error"))
}

fn ca(pair: &Pair) -> String {
    format!("--upstream-ca={}", pair.path("ca.crt"))
}

#[tokio::test]
async fn an_endpoint_of_a_list_is_known_by_its_address_or_by_its_host_name() {
    let origin = Origin::start(Reply::ok("fine"));
    let pair = Pair::of("authority", &["fanfare.example"]);
    for (names, host, wrong) in [(["127.0.0.1"], "127.0.0.1", "localhost"), (["localhost"], "localhost", "127.0.0.1")] {
        let relay = front(&origin, &pair.authority.issue(&names)).await;
        let before = origin.requests().len();
        let port = relay.address.port();
        let right = broadcast(&format!("{host}:{port}"), &[ca(&pair)]).await;
        client::get(right.address(), "/x").await.complete().expect_status(200);
        assert_eq!(origin.requests().len(), before + 1);
        let other = broadcast(&format!("{wrong}:{port}"), &[ca(&pair)]).await;
        let (status, outcome, why) = told(other.address()).await;
        assert_eq!((status, outcome.as_str()), (502, "connect"), "{why}");
        assert!(why.contains(&format!("is for {}, not for {wrong}", names[0])), "{why}");
        assert_eq!(origin.requests().len(), before + 1);
    }
}

#[tokio::test]
async fn names_that_are_configured_count_instead() {
    let origin = Origin::start(Reply::ok("fine"));
    let pair = Pair::of("authority", &["fanfare.example"]);
    let issued = pair.authority.issue(&["cache.shop.svc", "spiffe://cluster.local/ns/shop/sa/cache"]);
    let relay = front(&origin, &issued).await;
    let endpoint = relay.address.to_string();
    for (flag, why) in [
        ("--upstream-server-name=cache.shop.svc", ""),
        ("--upstream-server-name=other.shop.svc", "not for other.shop.svc"),
        ("--upstream-san=spiffe://cluster.local/ns/shop/sa/cache", ""),
        ("--upstream-san=spiffe://cluster.local/ns/shop/sa/other", "sa/other"),
        ("--upstream-san=cache.shop.svc", ""),
        ("--upstream-server-name={pod}.cache.shop.svc", "has no pod"),
    ] {
        let fanfare = broadcast(&endpoint, &[ca(&pair), flag.to_owned()]).await;
        let (status, outcome, error) = told(fanfare.address()).await;
        match why {
            "" => assert_eq!((status, outcome.as_str()), (200, "ok"), "{flag}: {error}"),
            why => assert!((status, outcome.as_str()) == (502, "connect") && error.contains(why), "{flag}: {error}"),
        }
    }
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn an_untrusted_endpoint_gets_nothing_unless_verification_is_off_with_a_warning() {
    let origin = Origin::start(Reply::ok("fine"));
    let (known, stranger) = (Pair::of("known", &["x"]), Pair::of("a stranger", &["127.0.0.1"]));
    let relay = front(&origin, &stranger.issued).await;
    let endpoint = relay.address.to_string();
    // The system trusts neither.
    for (flag, why) in [(ca(&known), "is signed by CN=a stranger"), ("--upstream-tls".to_owned(), "CN=a stranger")] {
        let fanfare = broadcast(&endpoint, &[flag]).await;
        let (status, outcome, error) = told(fanfare.address()).await;
        assert_eq!((status, outcome.as_str()), (502, "connect"), "{error}");
        assert!(error.contains("the certificate of the endpoint") && error.contains(why), "{error}");
        let answer = client::get(fanfare.address(), "/x").await.complete().expect_status(502);
        let status = answer.header("proxy-status").expect("it is told");
        assert!(status.contains("error=tls_certificate_error"), "{status}");
        let log = fanfare.stdout.wait("the entry", |log| log.contains("connect")).await;
        assert!(log.contains("=connect"), "{log}");
    }
    origin.assert_untouched();
    let fanfare = broadcast(&endpoint, &["--upstream-insecure".to_owned()]).await;
    client::get(fanfare.address(), "/x").await.complete().expect_status(200);
    let log = fanfare.stderr.text();
    assert!(
        log.contains("WARN") && log.contains("--upstream-insecure: no certificate of an endpoint is verified"),
        "{log}"
    );
    // Clear text fails.
    let clear = broadcast(&origin.address().to_string(), &["--upstream-insecure".to_owned()]).await;
    let (status, outcome, error) = told(clear.address()).await;
    assert_eq!((status, outcome.as_str()), (502, "connect"), "{error}");
    assert!(error.contains("TLS"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_demands_a_certificate_gets_the_one_that_is_configured() {
    let origin = Origin::start(Reply::ok("fine"));
    let (server, own) = (Pair::of("servers", &["127.0.0.1"]), Pair::of("clients", &["fanfare.example"]));
    let config = own.authority.demanding(&server.issued, &["http/1.1"]);
    let relay = TlsRelay::in_front("127.0.0.1:0", config, origin.address()).await;
    let endpoint = relay.address.to_string();
    let without = broadcast(&endpoint, &[ca(&server)]).await;
    let (status, outcome, error) = told(without.address()).await;
    // With TLS 1.3 the refusal comes after the handshake is complete on this side, so it is not a connect failure.
    assert!(status == 502 && ["connect", "reset"].contains(&outcome.as_str()), "{outcome}: {error}");
    assert!(error.contains("requires a client certificate"), "{error}");
    origin.assert_untouched();
    let pair = [
        ca(&server),
        format!("--upstream-cert={}", own.path("tls.crt")),
        format!("--upstream-key={}", own.path("tls.key")),
    ];
    let with = broadcast(&endpoint, &pair).await;
    client::get(with.address(), "/x").await.complete().expect_status(200);
}

#[tokio::test]
async fn a_file_says_the_same_and_a_reload_changes_it() {
    let origin = Origin::start(Reply::ok("fine"));
    let (one, two) = (Pair::of("one", &["127.0.0.1"]), Pair::of("two", &["x"]));
    let relay = front(&origin, &one.issued).await;
    let text = |tls: &str| {
        format!(
            "admin: {{listen: 127.0.0.1:0}}\nthreads: 1\nbroadcast:\n  - listen: 127.0.0.1:0\n    routes:\n      - to:\n          \
             endpoints: '{}'\n          tls: {tls}\n",
            relay.address
        )
    };
    let file = File::new(&text(&format!("{{ca: {}}}", two.path("ca.crt"))));
    let fanfare = Fanfare::serve(["run".as_ref(), file.path.as_os_str()]).await;
    fanfare.wait_ready().await;
    let (status, outcome, why) = told(fanfare.address()).await;
    assert!((status, outcome.as_str()) == (502, "connect") && why.contains("is signed by CN=one"), "{why}");
    for (tls, key) in [
        ("{ca: /nowhere}".to_owned(), "broadcast[0].routes[0].to.tls.ca: /nowhere: it cannot be read"),
        (
            format!("{{cert: {}, key: {}}}", one.path("tls.crt"), two.path("tls.key")),
            "broadcast[0].routes[0].to.tls.key: ",
        ),
    ] {
        file.write(&text(&tls));
        fanfare.signal(Signal::HUP);
        let refused = |log: &str| log.lines().any(|line| line.contains("refused") && line.contains(key));
        fanfare.stderr.wait(key, refused).await;
    }
    file.write(&text(&format!("{{ca: {}}}", one.path("ca.crt"))));
    fanfare.signal(Signal::HUP);
    let status = async || client::get(fanfare.address(), "/x").await.complete().status;
    eventually!("the right authority", status().await, |status| *status == 200);
    for (pair, shown) in [(&one, true), (&two, false)] {
        let line = format!("fanfare_tls_certificate_expiry_timestamp_seconds{{file=\"{}\"}}", pair.path("ca.crt"));
        let metrics = async || client::get(fanfare.admin(), "/metrics").await.complete().text();
        eventually!(format!("{line}: {shown}"), metrics().await, |metrics| metrics.contains(&line) == shown);
    }
}
