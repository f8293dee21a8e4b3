//! Rule: a route changes path, Host and header fields as configured, and nothing that would make a message ambiguous.

use std::sync::Arc;

use proxy::config::{Changes, FieldEdits, FieldLine, FieldPattern};
use snapshot::{Endpoint, Recheck};
use testkit::origin::{Reply, Request};

use crate::fixture::{Place as _, REPORT, Setup, assert_made_up, origin, origins, over, refusing, route};

fn line(text: &str) -> FieldLine {
    text.parse().expect("a header field")
}

fn changed(setup: Setup, change: impl FnOnce(&mut Changes)) -> Setup {
    setup.route(|route| change(&mut route.changes))
}

/// The head without what differs from run to run.
fn stable(seen: &Request) -> String {
    let head = String::from_utf8_lossy(&seen.head).into_owned();
    let varies = |line: &&str| !line.starts_with("X-Request-Id: ");
    head.split_inclusive("\r\n").filter(varies).collect()
}

#[tokio::test]
async fn request_fields_are_removed_set_and_added() {
    let [a] = origins([Reply::ok("a")]);
    let edits = FieldEdits::new(
        vec![line("X-Tenant: blue"), line("X-Forwarded-Proto: https")],
        vec![line("X-Tag: two")],
        vec!["Cookie".parse().expect("a name")],
    );
    let setup = over(&[&a]).listener(|listener| listener.via_name = "edge".parse().expect("a name"));
    let proxy = changed(setup, |changes| changes.headers.request = edits).start();
    let head = "POST /p HTTP/1.1\r\nHost: shop\r\nx-tenant: red\r\ncookie: c\r\nX-Tag: one\r\nX-TENANT: green\r\n\
                Connection: X-Tenant\r\nContent-Length: 2\r\n\r\nhi";
    proxy.answer_to(head, "POST").await.expect_status(200);
    let want = "POST /p HTTP/1.1\r\nHost: shop\r\nX-Tag: one\r\nContent-Length: 2\r\nVia: 1.1 edge\r\n\
                X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: shop\r\nX-Tenant: blue\r\nX-Forwarded-Proto: https\r\n\
                X-Tag: two\r\n\r\n";
    let seen = a.wait_requests(1).await.remove(0).complete();
    assert_eq!((stable(&seen).as_str(), seen.body.clone()), (want, b"hi".to_vec()));
}

#[tokio::test]
async fn response_fields_are_changed_in_every_answer_of_the_route() {
    let a = origin(0, Reply::ok("a").header("Server", "x").header("Set-Cookie", "c").header("X-Tag", "one"));
    let edits = FieldEdits::new(
        vec![line("Server: edge"), line("Content-Type: text/x")],
        vec![line("X-Tag: two")],
        vec!["Set-Cookie".parse().expect("a name")],
    );
    let proxy = changed(over(&[&a]), |changes| changes.headers.response = edits.clone()).start();
    let answer = proxy.get("/").await.expect_status(200).complete();
    assert_eq!(answer.headers.all("server"), ["edge"]);
    assert_eq!(answer.headers.all("x-tag"), ["one", "two"]);
    assert!(!answer.headers.contains("set-cookie") && answer.header("content-type") == Some("text/x"), "{answer}");
    assert_eq!(&answer.body[..], b"a");
    // Generated answers and reports have bodies of their own.
    let down = refusing(1);
    let proxy = changed(over(&[&down]), |changes| changes.headers.response = edits).start();
    let answer = proxy.get("/").await;
    assert_made_up(&answer, 502, "connection_refused");
    assert_eq!((answer.header("server"), answer.headers.all("x-tag")), (Some("edge"), vec!["two"]));
    let report = proxy.request("GET", "/", &[REPORT], b"").await.complete();
    assert_eq!(report.headers.all("content-type"), ["application/vnd.broadcast+json"]);
    assert_eq!(report.header("server"), Some("edge"));
}

#[tokio::test]
async fn host_is_fixed_or_each_endpoints_own() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let host = |text: &str| Some(text.parse().expect("a host"));
    let fixed = changed(over(&[&a, &b]), |changes| changes.host = host("store.example")).start();
    fixed.request("GET", "/", &[("Host", "shop")], b"").await.expect_status(200);
    fixed.answer_to("GET / HTTP/1.0\r\n\r\n", "GET").await.expect_status(200);
    for origin in [&a, &b] {
        let seen = origin.wait_requests(2).await;
        assert_eq!(seen[0].headers.all("host"), ["store.example"]);
        assert_eq!(seen[0].headers.all("x-forwarded-host"), ["shop"], "what the client asked for");
        assert_eq!(seen[1].headers.all("host"), ["store.example"]);
    }
    let name = snapshot::Place::resolved("store-b".into(), b.address().port(), vec![b.address()], Recheck::default());
    let endpoints = vec![Endpoint::ready(a.place()).into(), Endpoint::at(name)];
    let own = changed(Setup::new(endpoints), |changes| changes.host = host("{authority}"));
    let own = own.start();
    own.request("GET", "/", &[("Host", "shop")], b"").await.expect_status(200);
    assert_eq!(a.wait_requests(3).await[2].headers.all("host"), [a.address().to_string()]);
    assert_eq!(b.wait_requests(3).await[2].headers.all("host"), [format!("store-b:{}", b.address().port())]);
}

#[tokio::test]
async fn a_prefix_is_stripped_and_a_path_rewritten_while_the_query_stays() {
    let [a] = origins([Reply::ok("a")]);
    let strip = changed(over(&[&a]), |changes| changes.strip_prefix = Some("/api".parse().expect("a prefix"))).start();
    let (mut count, mut arrived) = (0, Vec::new());
    for target in ["/api/v1?q=/api", "/api", "/apiary", "/api//x", "http://shop/api?y"] {
        strip.answer_to(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n"), "GET").await.expect_status(200);
        count += 1;
        arrived.push(a.wait_requests(count).await[count - 1].target.clone());
    }
    assert_eq!(arrived, ["/v1?q=/api", "/", "/apiary", "/x", "/?y"]);
    let rewrite = over(&[&a]).route(|route| route.matches = "/old/*".parse().expect("a match"));
    let rewrite = changed(rewrite, |changes| changes.rewrite = Some("/new/*".parse().expect("a path"))).start();
    rewrite.get("/old/a/b%2Fc?d").await.expect_status(200);
    assert_eq!(a.wait_requests(count + 1).await[count].target, "/new/a/b%2Fc?d");
}

#[tokio::test]
async fn a_path_that_is_changed_stays_where_it_was_put() {
    let [a] = origins([Reply::ok("a")]);
    let strip = changed(over(&[&a]), |changes| changes.strip_prefix = Some("/api".parse().expect("a prefix"))).start();
    for target in ["/api/../admin", "/api/..%2fadmin"] {
        assert_made_up(&strip.get(target).await, 400, "http_request_error");
    }
    let rewrite = changed(over(&[&a]), |changes| changes.rewrite = Some("/new/*".parse().expect("a path")));
    let rewrite = rewrite.listener(|listener| listener.head.target = 32).start();
    assert_made_up(&rewrite.get("/../admin").await, 400, "http_request_error");
    assert_made_up(&rewrite.get(&format!("/{}", "a".repeat(30))).await, 414, "http_request_error");
    a.assert_untouched();
}

#[tokio::test]
async fn a_route_is_chosen_by_a_header_field() {
    let [blue, rest] = [origin(0, Reply::ok("blue")), origin(1, Reply::ok("rest"))];
    let setup = over(&[&blue]).listener(|listener| {
        let pattern = |text: &str| FieldPattern::parse(text).expect("a pattern");
        Arc::make_mut(&mut listener.routes[0]).matches.headers =
            vec![pattern("X-Tenant: blue"), pattern("X-Version: v1*"), pattern("X-Any: *")];
        listener.routes.push(route("rest", "test/rest:http").into());
    });
    let proxy = setup.start();
    proxy.publish_cluster("test/rest:http", &[&rest]);
    testkit::eventually!("the other cluster", proxy.get("/").await.status, |status| *status == 200);
    let all = [("x-tenant", "blue"), ("X-Version", "v1.2"), ("X-Any", "")];
    let body = async |fields: &[(&str, &str)]| proxy.request("GET", "/", fields, b"").await.expect_status(200).body;
    assert_eq!(&body(&all).await[..], b"blue");
    for missing in 0..all.len() {
        let mut fields = all.to_vec();
        fields.remove(missing);
        assert_eq!(&body(&fields).await[..], b"rest", "{fields:?}");
    }
    assert_eq!(&body(&[("X-Tenant", "Blue"), all[1], all[2]]).await[..], b"rest");
}
