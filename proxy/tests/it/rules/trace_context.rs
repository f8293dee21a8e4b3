//! Rule: with tracing, each endpoint gets the trace of the request and a parent of its own, over either version of HTTP.

use std::collections::HashSet;

use proxy::config::{Changes, UpstreamProtocol};
use spans::Settings;
use testkit::origin::Reply;

use crate::{
    fixture::{Setup, bytes, origins, over},
    http2_endpoints::{Does, Endpoint},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const NOT_SAMPLED: (&str, &str) = ("TraceParent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");

fn traced(setup: Setup) -> Setup {
    let (endpoint, sample) = ("http://127.0.0.1:4317".parse().expect("a URL"), "0".parse().expect("a ratio"));
    setup.config(|config| config.tracing = Some(Settings { endpoint, sample }))
}

/// The parents in these fields, which must be different, and in this trace.
fn parents<'a>(fields: impl IntoIterator<Item = &'a str>) -> HashSet<String> {
    let mut parents = HashSet::new();
    for field in fields {
        let parts: Vec<&str> = field.split('-').collect();
        let ["00", TRACE, parent, "00"] = parts[..] else { panic!("{field}") };
        assert!(parent.len() == 16 && parents.insert(parent.to_owned()), "{field} names another leg: {parents:?}");
    }
    assert!(!parents.contains("b7ad6b7169203331"), "the sender is not the parent of a leg");
    parents
}

#[tokio::test]
async fn over_http1_each_endpoint_gets_its_own_parent_and_otherwise_the_same_bytes() {
    for body in [bytes(0), bytes(3), bytes(200_000)] {
        let endpoints = origins([Reply::ok("a"), Reply::ok("b"), Reply::ok("c")]);
        let [a, b, c] = &endpoints;
        let proxy = traced(over(&[a, b, c])).start();
        proxy.request("PUT", "/a?b", &[NOT_SAMPLED, ("X-A", "b")], &body).await.expect_status(200);
        let mut heads = HashSet::new();
        let mut fields = Vec::new();
        for endpoint in &endpoints {
            let seen = endpoint.wait_requests(1).await.remove(0).complete();
            assert!(seen.body == body, "{} bytes", seen.body.len());
            let [field] = seen.headers.all("traceparent")[..] else { panic!("{seen}") };
            heads.insert(String::from_utf8_lossy(&seen.head).replace(field, ""));
            fields.push(field.to_owned());
        }
        assert_eq!(parents(fields.iter().map(String::as_str)).len(), 3);
        assert_eq!(heads.len(), 1, "{heads:#?}");
    }
}

#[tokio::test]
async fn over_http2_each_endpoint_gets_its_own_parent_and_otherwise_the_same_fields() {
    let mut endpoints = Vec::new();
    for n in 0..3 {
        endpoints.push(Endpoint::start(n, [Does::Answer(b"fine".to_vec())]).await);
    }
    let [a, b, c] = &endpoints[..] else { unreachable!("there are three") };
    let proxy = traced(over(&[a, b, c])).policy(|policy| policy.protocol = UpstreamProtocol::H2).start();
    for (number, body) in [bytes(0), bytes(200_000)].into_iter().enumerate() {
        proxy.request("PUT", "/a?b", &[NOT_SAMPLED, ("X-A", "b")], &body).await.expect_status(200);
        let (mut fields, mut others) = (Vec::new(), Vec::new());
        for endpoint in &endpoints {
            let mut seen = endpoint.wait(number + 1).await.remove(number);
            assert!(seen.is_whole() && seen.body == body);
            let field = seen.head.headers_mut().remove("traceparent").expect("it has one");
            fields.push(field.to_str().expect("text").to_owned());
            others.push((seen.head.method().clone(), seen.head.uri().path().to_owned(), seen.head.headers().clone()));
        }
        assert_eq!(parents(fields.iter().map(String::as_str)).len(), 3);
        assert!(others.iter().all(|other| *other == others[0]), "{others:#?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_gets_its_own_host_gets_its_own_parent_too() {
    let endpoints = origins([Reply::ok("a"), Reply::ok("b")]);
    let [a, b] = &endpoints;
    let host = "{authority}".parse().expect("a host");
    let proxy =
        traced(over(&[a, b])).route(|route| route.changes = Changes { host: Some(host), ..Changes::default() }).start();
    proxy.request("GET", "/", &[NOT_SAMPLED], b"").await.expect_status(200);
    let mut fields = Vec::new();
    for endpoint in &endpoints {
        let seen = endpoint.wait_requests(1).await.remove(0);
        assert_eq!(seen.headers.get("host"), Some(endpoint.address().to_string().as_str()));
        fields.push(seen.headers.all("traceparent").join(","));
    }
    assert_eq!(parents(fields.iter().map(String::as_str)).len(), 2);
}
