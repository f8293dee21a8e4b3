//! gRPC's own interoperability tests: their client, the proxy, and several of their servers, each of which receives every call.

use testkit::grpc_interop::{GrpcServer, ServerFiles, Trusted, run_case};

use super::{Certificates, PROXY};
use crate::fixture::{Place, Proxy, Setup, over};
use crate::http2_endpoints::over_h2;

/// The number of endpoints.
const ENDPOINTS: usize = 3;

/// A test case of the client, with the expected legs of each outcome at each endpoint.
type Case = (&'static str, u64, &'static str);

/// Calls with one request, or several of them before there is an answer, each of which all endpoints have to take.
const CASES: [Case; 12] = [
    ("empty_unary", 1, "ok"),
    ("large_unary", 1, "ok"),
    ("client_streaming", 1, "ok"),
    ("server_streaming", 1, "ok"),
    ("empty_stream", 1, "ok"),
    // One call with one request, and one with several, of which there is but one.
    ("status_code_and_message", 2, "server_error"),
    ("special_status_message", 1, "server_error"),
    ("unimplemented_method", 1, "client_error"),
    ("unimplemented_service", 1, "client_error"),
    // The load that a server reports comes with its trailers.
    ("orca_per_rpc", 1, "ok"),
    ("rpc_soak", 10, "ok"),
    ("channel_soak", 10, "ok"),
];

impl Place for GrpcServer {
    fn place(&self) -> std::net::SocketAddr {
        self.address()
    }
}

/// Servers, in clear or by TLS.
async fn servers(certificates: Option<&Certificates>) -> Vec<GrpcServer> {
    let files = certificates.map(|it| (it.endpoint.path("tls.crt"), it.endpoint.path("tls.key")));
    let files = files.as_ref().map(|(cert, key)| ServerFiles { cert, key });
    let mut servers = Vec::new();
    for _ in 0..ENDPOINTS {
        servers.push(GrpcServer::start(files).await);
    }
    servers
}

fn places(servers: &[GrpcServer]) -> Vec<&dyn Place> {
    servers.iter().map(|server| server as &dyn Place).collect()
}

async fn assert_cases_pass(proxy: &Proxy, servers: &[GrpcServer], tls: Option<Trusted<'_>>) {
    for (case, calls, outcome) in CASES {
        let legs = || servers.iter().map(|server| proxy.legs(server, outcome)).collect::<Vec<_>>();
        let before = legs();
        run_case(case, proxy.address, tls).await.unwrap_or_else(|e| panic!("{e}"));
        proxy.settled().await;
        let each = legs().iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>();
        assert_eq!(each, [calls; ENDPOINTS], "calls that ended as {outcome} at each endpoint in {case}");
    }
}

/// The common settings: more than one thread, as in production.
fn busy(setup: Setup) -> Setup {
    setup.config(|config| config.threads = 2)
}

#[tokio::test]
async fn every_server_gets_every_call_in_clear() {
    let servers = servers(None).await;
    let proxy = busy(over_h2(&places(&servers))).start();
    assert_cases_pass(&proxy, &servers, None).await;
}

#[tokio::test]
async fn every_server_gets_every_call_by_tls() {
    let certificates = Certificates::new();
    let servers = servers(Some(&certificates)).await;
    // HTTP/2 with endpoints is negotiated by ALPN.
    let setup = over(&places(&servers)).clients_by_tls(&certificates).endpoints_by_tls(&certificates);
    let proxy = busy(setup).start();
    let ca = certificates.proxy.path("ca.crt");
    assert_cases_pass(&proxy, &servers, Some(Trusted { ca: &ca, name: PROXY })).await;
}

#[tokio::test]
async fn with_any_calls_with_streams_both_ways_pass() {
    let servers = servers(None).await;
    let proxy = busy(over_h2(&places(&servers)).require("any")).start();
    let both_ways = ["ping_pong", "custom_metadata", "cancel_after_first_response"];
    for case in both_ways.into_iter().chain(CASES.map(|(case, ..)| case)) {
        run_case(case, proxy.address, None).await.unwrap_or_else(|e| panic!("{e}"));
        proxy.settled().await;
    }
}

#[tokio::test]
async fn where_all_must_agree_calls_with_streams_both_ways_are_unimplemented() {
    let servers = servers(None).await;
    let proxy = busy(over_h2(&places(&servers))).start();
    for case in ["ping_pong", "custom_metadata", "cancel_after_first_response"] {
        let told = run_case(case, proxy.address, None).await.expect_err("each side waits for the other");
        assert!(told.contains("code = Unimplemented"), "{case}: {told}");
        proxy.settled().await;
    }
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_ends_everywhere() {
    let servers = servers(None).await;
    let proxy = busy(over_h2(&places(&servers))).start();
    for case in ["cancel_after_begin", "timeout_on_sleeping_server"] {
        run_case(case, proxy.address, None).await.unwrap_or_else(|e| panic!("{e}"));
        proxy.settled().await;
    }
    run_case("large_unary", proxy.address, None).await.unwrap_or_else(|e| panic!("{e}"));
}
