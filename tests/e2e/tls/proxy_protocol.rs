//! PROXY headers: who may send them, and that everything after counts for the client that they name.

use testkit::{
    client::RawClient,
    origin::{Origin, Reply},
    tls_relay::TlsRelay,
};

use super::bed::{Curl, Pair, strs};
use crate::process::Fanfare;

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";

fn version_1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 40000 80\r\n").into_bytes()
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[198, 51, 100, 1, 0x9c, 0x40, 0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

async fn broadcast(origin: &Origin, flags: &[&str]) -> Fanfare {
    let fanfare = Fanfare::broadcast(&[origin.address()], flags).await;
    fanfare.wait_ready().await;
    fanfare
}

/// The status of the answer to a request behind these bytes; none where the connection is closed.
async fn status(fanfare: &Fanfare, front: &[u8]) -> Option<u16> {
    let mut client = RawClient::connect(fanfare.address()).await;
    client.send([front, GET.as_bytes()].concat()).await;
    client.try_read_response("GET").await.ok().map(|answer| answer.status)
}

#[tokio::test]
async fn both_versions_are_taken_from_those_who_are_trusted_and_from_nobody_else() {
    let origin = Origin::start(Reply::ok("fine"));
    for (mode, without) in [("accept", Some(200)), ("require", None)] {
        let mode = format!("--proxy-protocol={mode}");
        let fanfare = broadcast(&origin, &[&mode, "--trust-forwarded=127.0.0.0/8"]).await;
        for (front, named) in [(version_1("192.0.2.7"), "192.0.2.7"), (version_2([192, 0, 2, 8]), "192.0.2.8")] {
            assert_eq!(status(&fanfare, &front).await, Some(200), "{mode}");
            let seen = origin.requests().pop().expect("it came");
            assert_eq!(seen.headers.get("x-forwarded-for"), Some(named), "{mode}");
            fanfare.stdout.wait("the entry", |log| log.contains(&format!(" {named}:40000 "))).await;
        }
        assert_eq!(status(&fanfare, b"").await, without, "{mode}");
        let before = origin.requests().len();
        for wrong in [&b"PROXY TCP4 1.2.3.4\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\xff\x11\0\0", b"PROXY UDP4 a b c d\r\n"] {
            assert_eq!(status(&fanfare, wrong).await, None, "{mode}: {wrong:?}");
        }
        let strange = broadcast(&origin, &[&mode, "--trust-forwarded=192.0.2.0/24"]).await;
        for front in [version_1("192.0.2.7"), version_2([192, 0, 2, 8])] {
            assert_eq!(status(&strange, &front).await, None, "{mode}");
        }
        assert_eq!(origin.requests().len(), before, "{mode}");
        assert_eq!(status(&strange, b"").await, without, "{mode}");
    }
    let off = broadcast(&origin, &["--trust-forwarded=127.0.0.0/8"]).await;
    assert_eq!(status(&off, &version_1("192.0.2.7")).await, Some(400));
}

#[tokio::test]
async fn the_header_stands_in_front_of_tls_and_rules_and_rates_are_for_whom_it_names() {
    let (origin, pair) = (Origin::start(Reply::ok("fine")), Pair::of("authority", &["a.example"]));
    let flags = [
        &pair.listener()[..],
        &[
            "--proxy-protocol=require".to_owned(),
            "--trust-forwarded=127.0.0.0/8".to_owned(),
            "--allow=GET /* by cidr:192.0.2.0/24".to_owned(),
            "--rate-limit=1/h,burst=2".to_owned(),
            "--max-connections-per-client=1".to_owned(),
        ],
    ]
    .concat();
    let fanfare = broadcast(&origin, &strs(&flags)).await;
    // curl names itself: an address that no rule has.
    let got = Curl::https("a.example", fanfare.address()).trusting(&pair).with(&["--haproxy-protocol", "--http2"]);
    got.get().await.expect(403);
    Curl::https("a.example", fanfare.address()).trusting(&pair).get().await.expect(0);
    // What sends the header is in clear in front of the handshake, so a relay cannot be what speaks TLS here.
    origin.assert_untouched();

    let flags = ["--proxy-protocol=require", "--trust-forwarded=127.0.0.0/8", "--allow=GET /* by cidr:192.0.2.0/24"];
    let limits = ["--rate-limit=1/h,burst=2", "--max-connections-per-client=1"];
    let fanfare = broadcast(&origin, &[&flags[..], &limits].concat()).await;
    for client in ["192.0.2.7", "192.0.2.8"] {
        let mut kept = RawClient::connect(fanfare.address()).await;
        kept.send([version_1(client), GET.into()].concat()).await;
        kept.read_response("GET").await.complete().expect_status(200);
        assert_eq!(status(&fanfare, &version_1(client)).await, Some(429), "the second connection of {client}");
        kept.send(GET).await;
        kept.read_response("GET").await.complete().expect_status(200);
        kept.send(GET).await;
        kept.read_response("GET").await.complete().expect_status(429);
    }
    assert_eq!(status(&fanfare, &version_1("203.0.113.9")).await, Some(403));
    assert_eq!(origin.requests().len(), 4);
}

#[tokio::test]
async fn fanfare_behind_a_balancer_that_ends_tls_still_knows_its_client() {
    let (origin, pair) = (Origin::start(Reply::ok("fine")), Pair::of("authority", &["a.example"]));
    let fanfare = broadcast(&origin, &["--proxy-protocol=accept", "--trust-forwarded=127.0.0.0/8"]).await;
    let relay = TlsRelay::in_front("127.0.0.1:0", pair.issued.server(&["http/1.1"]), fanfare.address()).await;
    let got = Curl::https("a.example", relay.address).trusting(&pair).get().await.expect(200);
    assert_eq!(got.body, "fine");
    assert_eq!(origin.requests()[0].headers.get("x-forwarded-for"), Some("127.0.0.1"));
}
