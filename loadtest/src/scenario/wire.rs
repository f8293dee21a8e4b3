//! TLS with clients, HTTP/2 on both sides, and gRPC. The bare loop always uses HTTP/1.1 in clear text.

use super::{Case, Cases, LONG, MANY, Scenario, Work, saturate, scenario};
use crate::{
    bar::{Bar, Bound},
    cores::Placement,
    protocols::{Http, Protocols},
    subject::Subject,
};

const TLS: Protocols = Protocols { tls: true, client: Http::One, endpoint: Http::One, grpc: false };
const HTTP2: Protocols = Protocols { tls: false, client: Http::Two, endpoint: Http::Two, grpc: false };
const HTTP2_IN: Protocols = Protocols { endpoint: Http::One, ..HTTP2 };
const HTTP2_TLS: Protocols = Protocols { tls: true, ..HTTP2_IN };
const GRPC: Protocols = Protocols { grpc: true, ..HTTP2 };

/// The name of rows without HTTP/2 to endpoints.
const ONE_OUT: &str = "HTTP/1.1 to endpoints";

const HANDSHAKES: &[&str] =
    &["handshakes_per_cpu_second", "cpu_us_per_request", "requests_per_second", "peak_bytes", "errors", "lost_copies"];
const BODY: &[&str] = super::BODY;
const STREAMS: &[&str] = &[
    "cpu_us_per_request",
    "requests_per_second",
    "peak_bytes",
    "voluntary_switches_per_request",
    "errors",
    "lost_copies",
    "extra_copies",
];
const IDLE: &[&str] = super::IDLE;

/// Idle connections of HTTP/2.
const IDLE_CONNECTIONS: usize = 2_000;
/// The most memory of one of them, in bytes.
const IDLE_BYTES: f64 = 40.0 * 1024.0;
/// The most CPU per request with HTTP/2 on both sides and 10 endpoints, as a share of the bare loop's and of Envoy's: with one
/// stream at a time, and with 32.
const ONE_STREAM: (f64, f64) = (1.5, 0.25);
const MANY_STREAMS: (f64, f64) = (0.6, 0.1);
/// The least bytes per second by TLS, as a share of nginx's.
const NGINX_BYTES: f64 = 0.8;

/// All of them.
pub(super) fn all(cases: &Cases<'_>) -> Vec<Scenario> {
    [tls(cases), http2(cases), grpc(cases)].concat()
}

fn tls(cases: &Cases<'_>) -> Vec<Scenario> {
    let everybody = |flags| with(cases.everybody(flags), TLS);
    let bar = |metric, bound, of| vec![Bar { variant: "", metric, bound, of: Some(of), above: None }];
    let body = |name, about, endpoints, body, connections| {
        scenario(name, about, endpoints, saturate(body, connections, None), everybody(LONG), BODY)
    };
    let enough = || bar("bytes_per_second", Bound::AtLeast(NGINX_BYTES), "nginx");
    vec![
        Scenario {
            placement: Placement::Together,
            ..scenario(
                "tls-handshakes",
                "a connection by TLS, without a ticket, for each request without a body, to 1 endpoint; the bare loop's in clear",
                1,
                Work::Reconnect { connections: 8 },
                everybody(&[]),
                HANDSHAKES,
            )
        },
        body("tls-64k-n1", "64 KiB by TLS to 1 endpoint", 1, 64 << 10, 16),
        body("tls-64k-n10", "64 KiB by TLS to 10 endpoints", 10, 64 << 10, 16),
        Scenario { bars: enough(), ..body("tls-10m-n1", "10 MiB by TLS to 1 endpoint", 1, 10 << 20, 4) },
        Scenario { bars: enough(), ..body("tls-10m-n10", "10 MiB by TLS to 10 endpoints", 10, 10 << 20, 4) },
    ]
}

fn http2(cases: &Cases<'_>) -> Vec<Scenario> {
    // nginx speaks HTTP/2 with endpoints only for gRPC.
    let rows = || {
        let mut rows = with(cases.everybody(&[]), HTTP2);
        let mut further = Vec::new();
        for row in &mut rows {
            match row.subject {
                Subject::Nginx => *row = Case { protocols: HTTP2_IN, variant: ONE_OUT, ..Case::new(Subject::Nginx) },
                Subject::Fanfare(_) => further.push(Case { protocols: HTTP2_IN, variant: ONE_OUT, ..row.clone() }),
                _ => {}
            }
        }
        rows.extend(further);
        rows
    };
    let bars = |(bare, envoy)| {
        [("bare loop", bare), ("Envoy", envoy)].map(|(of, most)| {
            let bound = Bound::AtMost(most);
            Bar { variant: "", metric: "cpu_us_per_request", bound, of: Some(of), above: None }
        })
    };
    let streams = |name, about, endpoints, streams| Scenario {
        placement: Placement::Together,
        bars: match (endpoints, streams) {
            (10, 1) => bars(ONE_STREAM).to_vec(),
            (10, _) => bars(MANY_STREAMS).to_vec(),
            _ => Vec::new(),
        },
        ..scenario(name, about, endpoints, Work::Streams { streams }, rows(), STREAMS)
    };
    let idle = |name, about, protocols| {
        let work = Work::Idle { connections: IDLE_CONNECTIONS, request: true };
        let bound = Bound::AtMost(IDLE_BYTES);
        Scenario {
            bars: vec![Bar { variant: "", metric: "bytes_per_connection", bound, of: None, above: None }],
            ..scenario(name, about, 1, work, with(cases.everybody(MANY), protocols), IDLE)
        }
    };
    vec![
        streams("h2-n1-s1", "HTTP/2 on both sides, to 1 endpoint, 1 stream at a time of one connection", 1, 1),
        streams("h2-n1-s32", "HTTP/2 on both sides, to 1 endpoint, 32 streams of one connection", 1, 32),
        streams("h2-n10-s1", "HTTP/2 on both sides, to 10 endpoints, 1 stream at a time of one connection", 10, 1),
        streams("h2-n10-s32", "HTTP/2 on both sides, to 10 endpoints, 32 streams of one connection", 10, 32),
        idle("h2-idle", "2,000 client connections of HTTP/2 in clear after one request each", HTTP2_IN),
        idle("h2-idle-tls", "2,000 client connections of HTTP/2 by TLS after one request each", HTTP2_TLS),
    ]
}

fn grpc(cases: &Cases<'_>) -> Vec<Scenario> {
    let unary = |name, about, endpoints, streams| Scenario {
        placement: Placement::Together,
        ..scenario(name, about, endpoints, Work::Streams { streams }, with(cases.everybody(&[]), GRPC), STREAMS)
    };
    vec![
        unary("grpc-n1", "unary calls of gRPC with 100 bytes to 1 endpoint, 32 streams of one connection", 1, 32),
        unary("grpc-n10", "unary calls of gRPC with 100 bytes to 10 endpoints, 32 streams of one connection", 10, 32),
    ]
}

/// These rows with these protocols; the bare loop keeps its own.
fn with(cases: Vec<Case>, protocols: Protocols) -> Vec<Case> {
    // The broadcaster on pingora has neither TLS nor trailers.
    let takes_part = |case: &Case| case.subject != Subject::Pingora || !(protocols.tls || protocols.grpc);
    let own = |case: Case| if case.subject == Subject::Bare { case } else { Case { protocols, ..case } };
    cases.into_iter().filter(takes_part).map(own).collect()
}
