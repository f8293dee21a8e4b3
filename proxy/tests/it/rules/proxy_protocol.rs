//! Rule: a load balancer that is trusted says whom a connection is for; anyone else who says so is closed.

use proxy::config::ProxyProtocol;
use testkit::origin::{Origin, Reply};

use crate::fixture::{Proxy, ms, origin, over};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n";

fn start(a: &Origin, mode: ProxyProtocol, trusted: &str) -> Proxy {
    over(&[a])
        .listener(|listener| {
            listener.proxy_protocol = mode;
            listener.trust_forwarded = vec![trusted.parse().expect("a network")];
            listener.timeouts.head = ms(2_000);
        })
        .start()
}

fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 8, 198, 51, 100, 1, 0x9c, 0x40, 0, 80];
    // An extension follows, which is passed over.
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses, &[4, 0, 1, 9]].concat()
}

/// Who the endpoint is told the client is, of the request with this number.
async fn client_of(a: &Origin, number: usize) -> String {
    let seen = a.wait_requests(number).await.remove(number - 1);
    seen.headers.get("x-forwarded-for").expect("somebody").to_owned()
}

#[tokio::test]
async fn the_client_is_whom_the_load_balancer_names() {
    for mode in [ProxyProtocol::Accept, ProxyProtocol::Require] {
        let a = origin(0, Reply::ok("a"));
        let proxy = start(&a, mode, "127.0.0.0/8");
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
        let headers = [(V1.as_bytes().to_vec(), "192.0.2.7"), (v2(), "192.0.2.8"), (local, "127.0.0.1")];
        for (n, (header, named)) in headers.into_iter().enumerate() {
            let mut client = proxy.sent([&header[..], GET.as_bytes()].concat()).await;
            // The header is said once for the connection, not for each request.
            for request in [3 * n + 1, 3 * n + 2] {
                client.read_response("GET").await.complete().expect_status(200);
                assert_eq!(client_of(&a, request).await, named, "{mode:?}");
                client.send(GET).await;
            }
            client.read_response("GET").await.complete().expect_status(200);
            a.wait_requests(3 * n + 3).await;
        }
        let mut drip = proxy.client().await;
        for byte in V1.as_bytes() {
            drip.send([*byte]).await;
        }
        drip.send(GET).await;
        drip.read_response("GET").await.complete().expect_status(200);
        assert_eq!(client_of(&a, 10).await, "192.0.2.7");
    }
}

#[tokio::test]
async fn whoever_is_not_trusted_is_closed() {
    let a = origin(0, Reply::ok("a"));
    for mode in [ProxyProtocol::Accept, ProxyProtocol::Require] {
        let proxy = start(&a, mode, "192.0.2.0/24");
        let mut client = proxy.sent(format!("{V1}{GET}")).await;
        client.wait_end().await;
        assert_eq!(client.received(), 0);
    }
    a.assert_untouched();
}

#[tokio::test]
async fn a_header_may_be_missing_only_where_none_is_required() {
    let a = origin(0, Reply::ok("a"));
    let proxy = start(&a, ProxyProtocol::Require, "127.0.0.0/8");
    for sent in [GET, "PROXY TCP4 1.2.3.4\r\n", "PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", "PROXY"] {
        let mut client = proxy.sent(sent).await;
        client.wait_end().await;
        assert_eq!(client.received(), 0, "{sent}");
    }
    a.assert_untouched();
    for trusted in ["127.0.0.0/8", "192.0.2.0/24"] {
        let proxy = start(&a, ProxyProtocol::Accept, trusted);
        for method in ["GET", "PUT", "PURGE"] {
            proxy.request(method, "/", &[], b"").await.complete().expect_status(200);
        }
    }
    assert_eq!(client_of(&a, 1).await, "127.0.0.1");
}

#[tokio::test]
async fn without_the_protocol_its_header_is_a_malformed_request() {
    let a = origin(0, Reply::ok("a"));
    let proxy = start(&a, ProxyProtocol::Off, "127.0.0.0/8");
    let mut client = proxy.sent(format!("{V1}{GET}")).await;
    client.read_response("GET").await.complete().expect_status(400);
    a.assert_untouched();
}
