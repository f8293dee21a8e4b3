//! Calls of gRPC to two real servers, by a real client.

use testkit::{
    client,
    grpc_interop::{GrpcServer, run_case},
};

use super::Guide;

#[tokio::test]
async fn a_call_of_grpc_reaches_every_server() {
    let guide = Guide::named("grpc");
    let servers = [GrpcServer::start(None).await, GrpcServer::start(None).await];
    let addresses = servers.each_ref().map(GrpcServer::address);
    let target = "{service: shop/cache, port: grpc, protocol: h2}";
    let fanfare = guide.fanfare("0.0.0.0:8080", target, &addresses).await;
    run_case("empty_unary", fanfare.address(), None).await.unwrap_or_else(|said| panic!("{said}"));
    let log = fanfare.stdout.wait("the access log", |log| log.contains("grpc=0")).await;
    for address in addresses {
        assert!(log.contains(&format!("{address}=ok:200:grpc=0")), "{address}: {log}");
    }
    let line = "fanfare_grpc_requests_total{route=\"cache\",source=\"endpoint\",grpc_status=\"OK\"} 1";
    testkit::eventually!(
        "the call to be counted",
        client::get(fanfare.admin(), "/metrics").await.complete().text(),
        |text| text.contains(line)
    );
}
