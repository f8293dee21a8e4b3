//! Rule: PROXY headers are accepted from trusted load balancers; connections of others with one are closed.

use proxy::config::ProxyProtocol;
use testkit::{
    client::RawClient,
    eventually,
    origin::{Origin, Reply},
};

use crate::fixture::{Proxy, Setup, ms, origin, over};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n";

fn start(a: &Origin, mode: ProxyProtocol, trusted: &str) -> Proxy {
    setup(a, mode, trusted).start()
}

fn setup(a: &Origin, mode: ProxyProtocol, trusted: &str) -> Setup {
    over(&[a]).listener(|listener| {
        listener.proxy_protocol = mode;
        listener.trust_forwarded = vec![trusted.parse().expect("a network")];
        listener.timeouts.head = ms(2_000);
    })
}

/// A connection that a load balancer passes on for this client.
async fn of_client(proxy: &Proxy, address: &str) -> RawClient {
    proxy.sent(format!("PROXY TCP4 {address} 198.51.100.1 40000 80\r\n{GET}")).await
}

async fn status(client: &mut RawClient) -> u16 {
    client.read_response("GET").await.complete().status
}

fn v2() -> Vec<u8> {
    let addresses = [192, 0, 2, 8, 198, 51, 100, 1, 0x9c, 0x40, 0, 80];
    // An extension follows, which is skipped.
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses, &[4, 0, 1, 9]].concat()
}

/// The client address in the request with this number at the endpoint.
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
            // The header comes once per connection, not with each request.
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
async fn connections_of_untrusted_addresses_are_closed() {
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

#[tokio::test]
async fn connections_are_counted_as_those_of_the_client_that_is_named() {
    for mode in [ProxyProtocol::Accept, ProxyProtocol::Require] {
        let a = origin(0, Reply::ok("a"));
        let setup = setup(&a, mode, "127.0.0.0/8");
        let proxy = setup.limits(|limits| limits.connections_per_client = Some(2)).start();
        // They have no client address yet, so they count for no client.
        let silent = proxy.sent_times(5, "PROXY TCP4 192.0.2.7").await;
        let mut kept = Vec::new();
        for address in ["192.0.2.7", "192.0.2.8", "192.0.2.7", "192.0.2.8"] {
            let mut client = of_client(&proxy, address).await;
            assert_eq!(status(&mut client).await, 200, "{address}");
            kept.push(client);
        }
        for address in ["192.0.2.7", "192.0.2.8"] {
            let refused = of_client(&proxy, address).await.read_response("GET").await.complete().expect_status(429);
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        let addresses = proxy.handle.clients()["addresses"].clone();
        assert_eq!(addresses, 2, "the load balancer is none of them: {}", proxy.handle.clients());
        drop(kept.swap_remove(0));
        eventually!("room", status(&mut of_client(&proxy, "192.0.2.7").await).await, |status| *status == 200);
        assert_eq!(status(&mut of_client(&proxy, "192.0.2.9").await).await, 200);
        drop((kept, silent));
        eventually!("nobody", proxy.handle.clients()["addresses"].clone(), |addresses| *addresses == 0);
    }
}

#[tokio::test]
async fn a_client_without_a_name_is_counted_by_its_own_address() {
    let a = origin(0, Reply::ok("a"));
    for trusted in ["127.0.0.0/8", "192.0.2.0/24"] {
        let setup = setup(&a, ProxyProtocol::Accept, trusted);
        let proxy = setup.limits(|limits| limits.connections_per_client = Some(1)).start();
        let mut first = proxy.sent(GET).await;
        assert_eq!(status(&mut first).await, 200);
        assert_eq!(status(&mut proxy.sent(GET).await).await, 429, "trusted: {trusted}");
    }
}

#[tokio::test]
async fn connections_that_name_nobody_yet_are_bounded_like_others() {
    let a = origin(0, Reply::ok("a"));
    let setup = setup(&a, ProxyProtocol::Require, "127.0.0.0/8");
    let proxy = setup.limits(|limits| limits.connections = 4).start();
    let mut silent = proxy.sent_times(8, "PROXY TCP4").await;
    assert_eq!(status(&mut of_client(&proxy, "192.0.2.7").await).await, 200);
    for client in &mut silent[..4] {
        client.wait_end().await;
    }
}

#[tokio::test]
async fn rates_are_those_of_the_client_that_is_named() {
    let a = origin(0, Reply::ok("a"));
    let proxy = setup(&a, ProxyProtocol::Require, "127.0.0.0/8")
        .listener(|listener| listener.auth.rate_limit = Some("1/h,burst=2".parse().expect("a rate")))
        .start();
    for address in ["192.0.2.7", "192.0.2.8"] {
        for expected in [200, 200, 429] {
            assert_eq!(status(&mut of_client(&proxy, address).await).await, expected, "{address}");
        }
    }
    assert_eq!(a.requests().len(), 4);
}
