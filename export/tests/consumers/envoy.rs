//! Envoy, with the set of files and with the one file.

use export::render::FormatOptions;
use testkit::{
    client::RawClient,
    consumers::{
        envoy,
        traffic::{follows, get, status, who},
    },
    eventually,
    origin::Origin,
};

use crate::{
    fixture::service,
    shop::{Folder, origin, rendered, with},
};

fn request(cluster: &str) -> String {
    get("shop.example", "/", &format!("x-cluster: {cluster}\r\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_its_files_without_a_failed_request() {
    let folder = Folder::new();
    let origins = ["first", "second", "third"].map(origin);
    let directory = Some(folder.path().display().to_string());
    let options = FormatOptions { directory, ..FormatOptions::default() };
    let write = async |origins: &[&Origin]| {
        folder.write("", &rendered("envoy", &options, [with(service("shop/web"), origins)]));
    };
    write(&[&origins[0]]).await;
    let envoy = envoy(&folder.file("cds.json")).await;
    follows(envoy.address(), &request("web-http"), origins, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_come_and_go() {
    let folder = Folder::new();
    let (web, api) = (origin("web"), origin("api"));
    let directory = Some(folder.path().display().to_string());
    let options = FormatOptions { directory, ..FormatOptions::default() };
    let write = |services| folder.write("", &rendered("envoy", &options, services));
    write(Vec::new());
    let envoy = envoy(&folder.file("cds.json")).await;
    let to = envoy.address();
    assert_eq!(status(to, &request("web-http")).await, Some(503), "no such cluster");
    let shop = || with(service("shop/web"), &[&web]);
    write(vec![shop(), with(service("shop/api"), &[&api])]);
    eventually!("one", who(to, &request("web-http")).await, |name| name == "web");
    eventually!("the other", who(to, &request("api-http")).await, |name| name == "api");
    write(vec![shop()]);
    eventually!("it to go", status(to, &request("api-http")).await, |status| *status == Some(503));
    assert_eq!(who(to, &request("web-http")).await, "web");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_follows_its_one_file_and_takes_every_protocol() {
    use controlplane::index::Protocol::{Tcp, Udp};
    let folder = Folder::new();
    let origins = ["first", "second", "third"].map(origin);
    let api = || {
        service("shop/api")
            .port("grpc", 1, Tcp, "", &["192.0.2.1:9000 zone=a", "[2001:db8::1]:9000 zone=b", "192.0.2.3:9000"])
            .port("https", 2, Tcp, "", &["192.0.2.1:8443"])
            .port("redis", 3, Tcp, "", &["192.0.2.1:6379"])
            .port("dns", 4, Udp, "", &["192.0.2.1:53"])
            .port("idle", 5, Tcp, "", &["192.0.2.1:80 down"])
    };
    let write = async |origins: &[&Origin]| {
        folder.write(
            "cds.json",
            &rendered("envoy-cds", &FormatOptions::default(), [with(service("shop/web"), origins), api()]),
        );
    };
    write(&[&origins[0]]).await;
    let envoy = envoy(&folder.file("cds.json")).await;
    follows(envoy.address(), &request("web-http"), origins, write).await;
    let mut client = RawClient::connect(envoy.address()).await;
    client.send(request("api-idle")).await;
    let answer = client.read_response("GET").await.text();
    assert_eq!(answer, "no healthy upstream", "the cluster is there, and nobody in it");
    assert!(!envoy.log().contains("rejected"), "{}", envoy.log());
}
