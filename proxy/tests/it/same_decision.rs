//! The decision does not depend on the versions of HTTP: for the same outcomes in the same order, a client gets the same answer.

use proptest::{
    prelude::*,
    test_runner::{Config as Cases, RngSeed, TestRunner},
};
use proxy::config::{Policy, UpstreamProtocol};
use testkit::{
    eventually,
    origin::{At, Gate, Origin, Reply},
};

use crate::{
    fixture::{NEVER, Place, Proxy, origin, over, refusing},
    http2::{Client, request},
    http2_endpoints::{Does, Endpoint},
};

/// How an endpoint ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Answers(u16),
    /// Closes before an answer.
    Resets,
    /// Refuses connections.
    Refuses,
}

#[derive(Clone, Debug)]
struct Case {
    endpoints: Vec<Ends>,
    /// The order in which they end.
    order: Vec<usize>,
    require: &'static str,
    method: &'static str,
    /// Bytes of the request's body.
    body: usize,
}

/// The answer to the client, without the parts that depend on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    status: u16,
    result: Option<String>,
    /// The endpoint of the answer.
    endpoint: Option<usize>,
    /// The body of an endpoint's answer, or the title of a generated one.
    body: String,
}

/// An endpoint of either version.
enum Any {
    Http1(Origin),
    Http2(Endpoint),
    Dead(testkit::origin::Refusing),
}

impl Place for Any {
    fn place(&self) -> std::net::SocketAddr {
        match self {
            Self::Http1(origin) => origin.place(),
            Self::Http2(endpoint) => endpoint.place(),
            Self::Dead(refusing) => refusing.place(),
        }
    }
}

impl Any {
    async fn start(n: usize, ends: Ends, http2: bool, gate: &Gate) -> Self {
        let text = format!("endpoint {n}");
        match (ends, http2) {
            (Ends::Refuses, _) => Self::Dead(refusing(n)),
            (Ends::Answers(status), false) => {
                let reply = Reply::new(status).header("X-From", &text).body(&text).hold_at(At::Start, gate);
                Self::Http1(origin(n, reply))
            }
            (Ends::Resets, false) => Self::Http1(origin(n, Reply::ok("").hold_at(At::Start, gate).reset_at(At::Start))),
            (Ends::Answers(status), true) => {
                let does = Does::Status(status, text.into_bytes()).after(gate);
                Self::Http2(Endpoint::start(n, [does]).await)
            }
            (Ends::Resets, true) => {
                let does = Does::Reset(h2::Reason::INTERNAL_ERROR).after(gate);
                Self::Http2(Endpoint::start(n, [does]).await)
            }
        }
    }
}

/// Runs the request, with the endpoints ending one after the other.
async fn decision(case: &Case, http2_client: bool, http2_endpoints: bool) -> Decision {
    let gates: Vec<Gate> = case.endpoints.iter().map(|_| Gate::new()).collect();
    let mut endpoints = Vec::new();
    for (n, (ends, gate)) in case.endpoints.iter().zip(&gates).enumerate() {
        endpoints.push(Any::start(n, *ends, http2_endpoints, gate).await);
    }
    let places: Vec<&dyn Place> = endpoints.iter().map(|endpoint| endpoint as _).collect();
    let protocol = if http2_endpoints { UpstreamProtocol::H2 } else { UpstreamProtocol::Http1 };
    let setup = over(&places).policy(|policy: &mut Policy| policy.protocol = protocol);
    let proxy = setup.require(case.require).total(NEVER).start();
    let answer = answer(case, &proxy, http2_client, &places);
    let order = async {
        // Unreachable ones end by themselves.
        let dead = |n: &usize| case.endpoints[*n] == Ends::Refuses;
        let (first, then): (Vec<_>, Vec<_>) = case.order.iter().copied().partition(dead);
        for n in first.into_iter().chain(then) {
            gates[n].release();
            let place = places[n].place().to_string();
            let has_ended = || proxy.metric("fanfare_legs_total", &[("endpoint", &place)]) > 0.0;
            eventually!("the leg to have ended, or nothing to be under way", has_ended() || is_over(&proxy), |is| *is);
        }
    };
    let (answer, ()) = tokio::join!(answer, order);
    answer
}

/// Whether the request has had its answer, and no leg is left.
fn is_over(proxy: &Proxy) -> bool {
    proxy.metric("fanfare_requests_total", &[]) > 0.0 && proxy.metric("fanfare_legs_in_flight", &[]) == 0.0
}

/// The status of an answer, a field of it by name, and its body.
type Seen = (u16, Box<dyn Fn(&str) -> Option<String>>, Vec<u8>);

async fn answer(case: &Case, proxy: &Proxy, http2: bool, places: &[&dyn Place]) -> Decision {
    let body = crate::fixture::bytes(case.body);
    let (status, field, body): Seen = if http2 {
        let length = body.len().to_string();
        let fields = [("content-length", length.as_str())];
        let sent = (!body.is_empty()).then_some(&body[..]);
        let fields = if sent.is_some() { &fields[..] } else { &[] };
        let answer = Client::of(proxy).await.send(request(case.method, "/x", fields), sent).await.expect("an answer");
        let headers = answer.head.headers().clone();
        let field = move |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        (answer.head.status().as_u16(), Box::new(field), answer.body)
    } else {
        let answer = proxy.request(case.method, "/x", &[], &body).await.complete();
        let body = answer.body.clone();
        (answer.status, Box::new(move |name: &str| answer.header(name).map(str::to_owned)), body)
    };
    let endpoint = field("x-broadcast-endpoint").map(|from| {
        places.iter().position(|place| place.place().to_string() == from).expect("the name of an endpoint")
    });
    let text = String::from_utf8(body).expect("text");
    let body = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(problem) => problem["title"].as_str().expect("a title").to_owned(),
        Err(_) => text,
    };
    Decision { status, result: field("x-broadcast-result"), endpoint, body }
}

fn case() -> impl Strategy<Value = Case> {
    let ends = || {
        prop_oneof![
            5 => prop::sample::select(vec![200, 201, 302]).prop_map(Ends::Answers),
            3 => prop::sample::select(vec![400, 404, 500, 503]).prop_map(Ends::Answers),
            1 => Just(Ends::Resets),
            1 => Just(Ends::Refuses),
        ]
    };
    let endpoints = prop::collection::vec(ends(), 1..=4);
    let ordered = endpoints.prop_flat_map(|endpoints| {
        let order: Vec<usize> = (0..endpoints.len()).collect();
        (Just(endpoints), Just(order).prop_shuffle())
    });
    let require = prop::sample::select(vec!["all", "any", "majority", "2", "3", "50%"]);
    let method = prop::sample::select(vec!["POST", "PURGE", "GET"]);
    (ordered, require, method, prop_oneof![Just(0_usize), 1..2_000_usize, 60_000..200_000_usize]).prop_map(
        |((endpoints, order), require, method, body)| {
            let body = if method == "POST" { body } else { 0 };
            // A leg that is refused ends when the legs begin. Of a longer body only a part has come then, from a client that waits for
            // credit, and the legs that wait for the rest end with a decision against it.
            let refused = endpoints.contains(&Ends::Refuses);
            let body = if refused { body.min(Policy::default().start_after as usize - 1) } else { body };
            Case { endpoints, order, require, method, body }
        },
    )
}

async fn check(case: Case) -> Result<(), TestCaseError> {
    let want = decision(&case, false, false).await;
    for (client, endpoints) in [(true, false), (false, true), (true, true)] {
        let version = |http2| if http2 { "HTTP/2" } else { "HTTP/1.1" };
        let got = decision(&case, client, endpoints).await;
        prop_assert_eq!(&got, &want, "client {}, endpoints {}", version(client), version(endpoints));
    }
    Ok(())
}

#[test]
fn a_client_gets_the_same_decision_whatever_version_is_spoken_on_either_side() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rng_seed = RngSeed::Fixed(testkit::seed::random());
    let cases = Cases { cases: 60, max_shrink_iters: 40, failure_persistence: None, rng_seed, ..Cases::default() };
    let run = |case| runtime.block_on(check(case));
    TestRunner::new(cases).run(&case(), run).unwrap_or_else(|e| panic!("{e}"));
}
