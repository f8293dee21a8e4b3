//! Rule: if a path decides, requests are refused that an endpoint may read as having another path.

use std::sync::Arc;

use testkit::origin::Reply;

use crate::fixture::{assert_made_up, origin, origins, over, route};

/// Targets that some servers read as `/admin`, or as `/`.
const OUTSIDE: [&str; 14] = [
    "/cache/../admin",
    "/cache/%2e%2e/admin",
    "/cache/..%2fadmin",
    "/cache/..%5Cadmin",
    "/cache/%252e%252e%252fadmin",
    "/cache/..;/admin",
    "/cache/..;a=b/admin",
    "/cache/.%2e%3b/admin",
    "/cache/a%2Fb/../../admin",
    "/cache//../admin",
    "/cache/..",
    "/cache/../admin?q",
    "/cache/%c0%ae%c0%ae/admin",
    "http://shop/cache/../admin",
];

/// Targets that every server reads as paths below `/cache/`.
const INSIDE: [&str; 8] = [
    "/cache/job/a%2Fb",
    "/cache/a..b",
    "/cache/a/../b",
    "/cache/./a",
    "/cache/...",
    "/cache//a",
    "/cache/%E4%BD%A0",
    "/cache/a?b=/../../c",
];

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")
}

#[tokio::test]
async fn nothing_outside_gets_past_the_allow_list() {
    let [a] = origins([Reply::ok("a")]);
    let allow = |text: &str| text.parse().expect("a match");
    let proxy = over(&[&a]).listener(|listener| listener.allow = vec![allow("GET /cache/*")]).start();
    for target in OUTSIDE {
        let answer = proxy.answer_to(get(target), "GET").await;
        let problem = assert_made_up(&answer, 400, "http_request_error");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains("/cache/*") && detail.contains("dot segments"), "{target}: {detail}");
    }
    a.assert_untouched();
    for (index, target) in INSIDE.iter().enumerate() {
        proxy.answer_to(get(target), "GET").await.expect_status(200);
        assert_eq!(a.wait_requests(index + 1).await[index].target, *target, "as it came");
    }
    assert_made_up(&proxy.answer_to(get("/admin"), "GET").await, 403, "http_request_denied");
}

#[tokio::test]
async fn nothing_outside_takes_a_route_by_its_path() {
    let [cache, rest] = [origin(0, Reply::ok("cache")), origin(1, Reply::ok("rest"))];
    let proxy = over(&[&cache]).listener(|listener| {
        Arc::make_mut(&mut listener.routes[0]).matches = "/cache/*".parse().expect("a match");
        listener.routes.push(route("rest", "test/rest:http").into());
    });
    let proxy = proxy.start();
    proxy.publish_cluster("test/rest:http", &[&rest]);
    testkit::eventually!("the other cluster", proxy.get("/x").await.status, |status| *status == 200);
    let before = rest.requests().len();
    for target in OUTSIDE {
        assert_made_up(&proxy.answer_to(get(target), "GET").await, 400, "http_request_error");
    }
    cache.assert_untouched();
    // Nor does it fall through to a later route, which is for other paths.
    assert_eq!(rest.requests().len(), before);
}

#[tokio::test]
async fn where_every_path_is_taken_it_goes_on_as_it_came() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).listener(|listener| {
        listener.allow = vec!["GET /*".parse().expect("a match")];
        Arc::make_mut(&mut listener.routes[0]).matches = "/*".parse().expect("a match");
    });
    let proxy = proxy.start();
    for (index, target) in OUTSIDE.iter().filter(|target| target.starts_with('/')).enumerate() {
        proxy.answer_to(get(target), "GET").await.expect_status(200);
        assert_eq!(a.wait_requests(index + 1).await[index].target, *target);
    }
}

#[tokio::test]
async fn a_host_that_ends_in_a_dot_is_the_same_host() {
    let [a] = origins([Reply::ok("a")]);
    let host = |text: &str| text.parse().expect("a host");
    let setup = over(&[&a]).route(|route| route.matches.hosts = vec![host("www.example.com"), host("*.shop.example")]);
    let proxy = setup.start();
    for (index, host) in ["www.example.com.", "WWW.example.com.:8080", "a.shop.example."].iter().enumerate() {
        proxy.answer_to(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "GET").await.expect_status(200);
        assert_eq!(a.wait_requests(index + 1).await[index].headers.all("host"), [*host], "as it came");
    }
    let answer = proxy.answer_to("GET / HTTP/1.1\r\nHost: www.example.com..\r\n\r\n", "GET").await;
    assert_made_up(&answer, 404, "destination_not_found");
}

#[tokio::test]
async fn raw_characters_of_ban_expressions_pass_as_they_came_where_that_is_said() {
    let [a] = origins([Reply::ok("a")]);
    let target = "/^/img/(a|b){2}[x-z]\\.\"png\"$?q={|}";
    let ban = format!("BAN {target} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let strict = over(&[&a]).start();
    assert_made_up(&strict.answer_to(&ban, "BAN").await, 400, "http_request_error");
    a.assert_untouched();
    let lenient = over(&[&a]).listener(|listener| listener.lenient_target = true).start();
    lenient.answer_to(&ban, "BAN").await.expect_status(200);
    assert_eq!(a.wait_requests(1).await[0].target, target);
    // In pieces too, where the head is scanned first.
    let mut client = lenient.sent(&ban[..10]).await;
    client.send(&ban[10..]).await;
    client.read_response("BAN").await.expect_status(200);
    assert_eq!(a.wait_requests(2).await[1].target, target);
    for target in ["/a b", "/a<b>", "/a`b", "/a#b", "/a\x7f", "/\u{e9}"] {
        let answer = lenient.answer_to(format!("BAN {target} HTTP/1.1\r\nHost: shop\r\n\r\n"), "BAN").await;
        assert_made_up(&answer, 400, "http_request_error");
    }
}

#[tokio::test]
async fn a_backslash_that_is_let_through_is_still_a_slash_to_some() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).listener(|listener| {
        listener.lenient_target = true;
        listener.allow = vec!["/cache/*".parse().expect("a match")];
    });
    let proxy = proxy.start();
    assert_made_up(&proxy.answer_to(get("/cache/..\\admin"), "GET").await, 400, "http_request_error");
    a.assert_untouched();
    proxy.answer_to(get("/cache/a\\..\\b"), "GET").await.expect_status(200);
    assert_eq!(a.wait_requests(1).await[0].target, "/cache/a\\..\\b");
}
