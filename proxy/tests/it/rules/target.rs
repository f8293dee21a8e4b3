//! Rule: target and Host reach every endpoint as the client meant them.

use testkit::origin::{Origin, Reply};

use crate::fixture::{Proxy, assert_head, assert_made_up, origin, origins, over};

/// Sends a head, and gives back the request line and the Hosts that arrived.
async fn arrives(proxy: &Proxy, origin: &Origin, head: &str) -> (String, Vec<String>) {
    let before = origin.requests().len();
    let method = head.split(' ').next().unwrap_or_default();
    proxy.answer_to(head, method).await.expect_status(200);
    let seen = origin.wait_requests(before + 1).await.pop().expect("one more").complete();
    let line = format!("{} {} {}", seen.method, seen.target, seen.version);
    (line, seen.headers.all("host").into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn host_and_target_are_unchanged() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for host in ["shop.example:8080", "SHOP", "[2001:db8::1]:80", ""] {
        let head = format!("GET /A/../b//c?q=%20%2f&r=a+b&&s HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (line, hosts) = arrives(&proxy, &a, &head).await;
        assert_eq!((line.as_str(), hosts), ("GET /A/../b//c?q=%20%2f&r=a+b&&s HTTP/1.1", vec![host.to_owned()]));
    }
}

#[tokio::test]
async fn an_absolute_form_becomes_an_origin_form() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for (target, arrived) in [
        ("http://shop/a?b", "/a?b"),
        ("http://shop", "/"),
        ("http://shop?b=c", "/?b=c"),
        ("HTTP://SHOP/x", "/x"),
        ("https://shop/s", "/s"),
    ] {
        let (line, hosts) = arrives(&proxy, &a, &format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
        assert_eq!((line, hosts), (format!("GET {arrived} HTTP/1.1"), vec!["shop".to_owned()]), "{target}");
    }
    let (line, _) = arrives(&proxy, &a, "OPTIONS http://shop HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    assert_eq!(line, "OPTIONS * HTTP/1.1");
    // In HTTP/1.0 the absolute form is the only place for a host.
    let (line, hosts) = arrives(&proxy, &a, "GET http://other:81/a HTTP/1.0\r\n\r\n").await;
    assert_eq!((line.as_str(), hosts), ("GET /a HTTP/1.1", vec!["other:81".to_owned()]));
}

#[tokio::test]
async fn an_absolute_form_that_names_another_host_is_400() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for target in
        ["http://other/", "http://shop:81/", "http://user@shop/", "http:///", "ftp://shop/", "shop:80", "http://"]
    {
        let answer = proxy.answer_to(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n"), "GET").await;
        assert_made_up(&answer, 400, "http_request_error");
    }
    a.assert_untouched();
}

#[tokio::test]
async fn the_asterisk_form_is_for_options() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let (line, _) = arrives(&proxy, &a, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(line, "OPTIONS * HTTP/1.1");
    assert_eq!(proxy.answer_to("GET * HTTP/1.1\r\nHost: x\r\n\r\n", "GET").await.status, 400);
}

#[tokio::test]
async fn http_1_0_without_host_gets_the_authority_of_each_endpoint() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    proxy.answer_to("GET /p HTTP/1.0\r\nX-A: 1\r\n\r\n", "GET").await.expect_status(200);
    for origin in [&a, &b] {
        let seen = origin.wait_requests(1).await.remove(0).complete();
        assert_eq!(seen.headers.all("host"), [origin.address().to_string()]);
        assert_eq!(seen.version, "HTTP/1.1");
        assert!(seen.headers.get("via").is_some_and(|via| via.starts_with("1.0 ")), "{seen}");
    }
}

#[tokio::test]
async fn http_1_0_with_host_keeps_it() {
    let a = origin(0, Reply::ok("a"));
    let proxy = over(&[&a]).start();
    let (line, hosts) = arrives(&proxy, &a, "GET /p HTTP/1.0\r\nHost: old\r\n\r\n").await;
    assert_eq!((line.as_str(), hosts), ("GET /p HTTP/1.1", vec!["old".to_owned()]));
}

#[tokio::test]
async fn http_1_1_without_host_or_with_two_is_400() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    for fields in
        ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: u@a\r\n"]
    {
        let answer = proxy.answer_to(format!("GET / HTTP/1.1\r\n{fields}\r\n"), "GET").await;
        assert_made_up(&answer, 400, "http_request_error");
    }
    a.assert_untouched();
}

#[tokio::test]
async fn an_offered_upgrade_is_stripped_and_ignored() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let head = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = proxy.answer_to(head, "GET").await.expect_status(200);
    assert!(answer.keeps_alive);
    assert_head(&a.wait_requests(1).await[0], "GET / HTTP/1.1\r\nHost: shop\r\n", "shop");
}

#[tokio::test]
async fn methods_that_cannot_be_broadcast_are_refused() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).start();
    let websocket =
        "GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    assert_made_up(&proxy.answer_to(websocket, "GET").await, 501, "http_request_error");
    let connect = "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n";
    // A failed CONNECT has a body like any other answer.
    assert_made_up(&proxy.answer_to(connect, "GET").await, 501, "http_request_error");
    let answer = proxy.answer_to("TRACE / HTTP/1.1\r\nHost: shop\r\n\r\n", "TRACE").await;
    assert_made_up(&answer, 405, "http_request_error");
    assert!(answer.header("allow").is_some(), "{answer}");
    a.assert_untouched();
}
