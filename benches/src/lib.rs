//! The data of the micro-benchmarks: realistic endpoints, clusters, slices and heads.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use proxy::bench::http::{Fields, request::RequestHead};
use serde_json::{Value, json};
use snapshot::{Cluster, ClusterName, Conditions, Endpoint, PodRef};

/// A request of about 200 bytes, as a script sends it.
pub const SHORT_REQUEST: &str = "PURGE /cache/images/logo.png HTTP/1.1\r\nHost: shop.example.org\r\n\
    User-Agent: curl/8.16.0\r\nAccept: */*\r\nX-Request-Id: 0af7651916cd43dd8448eb211c80319c\r\n\r\n";

/// A request of about 900 bytes, as a browser behind a load balancer sends it.
pub const LONG_REQUEST: &str = "GET /cache/images/logo.png?size=large&theme=dark HTTP/1.1\r\nHost: shop.example.org\r\n\
    Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
    image/webp,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cache-Control: max-age=0\r\nCookie: session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9; theme=dark; seen=1730000000\r\n\
    Referer: https://shop.example.org/\r\nX-Forwarded-For: 198.51.100.7, 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: shop.example.org\r\nX-Request-Id: 0af7651916cd43dd8448eb211c80319c\r\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";

/// A response head of three fields.
pub const SHORT_RESPONSE: &str =
    "HTTP/1.1 200 OK\r\nServer: cache\r\nDate: Fri, 20 Nov 2026 08:00:00 GMT\r\nContent-Length: 3\r\n\r\n";

/// A response head of eleven fields.
pub const LONG_RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: cache\r\nDate: Fri, 20 Nov 2026 08:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Length: 31415\r\nConnection: keep-alive\r\n\
    Cache-Control: public, max-age=600\r\nETag: \"5d8c72a5edda8d6a\"\r\nLast-Modified: Thu, 19 Nov 2026 08:00:00 GMT\r\n\
    Vary: Accept-Encoding\r\nStrict-Transport-Security: max-age=63072000; includeSubDomains\r\nAge: 12\r\n\r\n";

/// `count` ready endpoints with all attributes that Kubernetes gives them, numbered from `first` on.
///
/// # Panics
/// Never: 100,000 times 160 addresses fit into 10.0.0.0/8.
#[must_use]
pub fn endpoints(first: u32, count: u32) -> Vec<Endpoint> {
    (first..first + count).map(|number| endpoint(number, Conditions::READY)).collect()
}

/// One endpoint.
#[must_use]
pub fn endpoint(number: u32, conditions: Conditions) -> Endpoint {
    let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
    let pod = PodRef {
        namespace: "shop".into(),
        name: format!("cache-{number}").into(),
        uid: format!("4f9d3c8e-0000-4000-8000-{number:012x}").into(),
    };
    Endpoint {
        conditions,
        pod: Some(pod),
        node: Some(format!("node-{}", number % 100).into()),
        zone: Some(["west-a", "west-b", "west-c"][number as usize % 3].into()),
        ..Endpoint::ready((ip, 8080).into())
    }
}

/// The cluster with this number and these endpoints.
///
/// # Panics
/// Never: the name is a valid one.
#[must_use]
pub fn cluster(number: u32, endpoints: Vec<Endpoint>) -> Arc<Cluster> {
    let name = ClusterName::new(format!("kube:shop/cache-{number}:http")).expect("printable ASCII, and short");
    Arc::new(Cluster::new(name, endpoints))
}

/// The EndpointSlice with this number, of a Service that has two, with ten endpoints. `ready` is the condition of its first
/// endpoint.
#[must_use]
pub fn slice(number: u32, ready: bool) -> Value {
    let endpoints: Vec<Value> = (0..10)
        .map(|index| {
            let id = number * 10 + index;
            let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + id);
            let ready = ready || index > 0;
            json!({
                "addresses": [ip.to_string()],
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "nodeName": format!("node-{}", id % 100),
                "zone": "west-a",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("cache-{id}"), "uid": format!("uid-{id}")},
            })
        })
        .collect();
    json!({
        "metadata": {
            "name": format!("cache-{number}"),
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": format!("cache-{}", number / 2)},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

/// A checked head.
///
/// # Panics
/// `text` is not a valid request head.
#[must_use]
pub fn request(text: &'static str) -> RequestHead {
    RequestHead::parse(Bytes::from_static(text.as_bytes()), 16 * 1024, Fields::default())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}
