//! The admin listener: readiness and its reasons, metrics, documents, the log level at run time.

use std::{net::SocketAddr, sync::Arc};

use serde_json::Value;
use testkit::{
    client,
    eventually::within,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::process::Fanfare;

#[tokio::test]
async fn a_route_without_endpoint_is_not_ready_unless_that_is_allowed() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    std::fs::write(file.path(), "[]").expect("it can be written");
    let path = file.path().to_str().expect("a path of ASCII");
    let flags = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1", "--endpoints-file", path];

    let strict = Fanfare::serve(flags).await;
    let told = testkit::eventually!("the reason", client::get(strict.admin(), "/-/ready").await, |r| r
        .text()
        .contains("no endpoint"));
    assert_eq!(told.status, 503);
    assert!(told.text().starts_with("NOT READY: ") && told.text().contains(path), "{}", told.text());
    assert_eq!(client::get(strict.address(), "/").await.complete().status, 503);
    assert_eq!(client::get(strict.admin(), "/-/healthy").await.text(), "OK");

    let lenient = Fanfare::serve(flags.into_iter().chain(["--ready-no-endpoint"])).await;
    lenient.wait_ready().await;
}

#[tokio::test]
async fn one_route_without_endpoint_makes_the_whole_unready_or_only_itself() {
    let origin = Origin::start(Reply::ok("fine"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (full, late) = (origin.address(), folder.path().join("late.yaml"));
    let config = |ready: &str| {
        format!(
            "ready: {ready}\nadmin: {{listen: '127.0.0.1:0'}}\nbroadcast:\n- listen: 127.0.0.1:0\n  routes:\n  \
             - {{name: full, match: {{path: /full}}, to: {{endpoints: ['{full}']}}}}\n  \
             - {{name: late, to: {{file: {}}}}}\n",
            late.display()
        )
    };
    for ready in ["all", "any"] {
        let file = folder.path().join(format!("{ready}.yaml"));
        std::fs::write(&file, config(ready)).expect("it can be written");
        let fanfare = Fanfare::serve(["run", "--config", file.to_str().expect("ASCII")]).await;
        let admin = fanfare.admin();
        let ask = async |query: &str| client::get(admin, &format!("/-/ready{query}")).await.complete();
        testkit::eventually!("the route with an endpoint", ask("?route=full").await.status, |status| *status == 200);
        let told = ask("?route=late").await.expect_status(503).text();
        assert!(told.starts_with("NOT READY: ") && told.contains("late.yaml"), "it has no list: {told}");
        testkit::eventually!("the whole", ask("").await.status, |status| *status
            == if ready == "any" { 200 } else { 503 });
        // A list, but nothing in it.
        std::fs::write(&late, "[]").expect("it can be written");
        let why = format!("no endpoint ({} lists none)", late.display());
        testkit::eventually!("the reason", ask("?route=late").await.text(), |text| *text
            == format!("NOT READY: {why}"));
        testkit::eventually!("the whole", ask("").await.status, |status| *status
            == if ready == "any" { 200 } else { 503 });
        assert!(ready == "any" || ask("").await.text() == format!("NOT READY: routes: {why} for late"));
        std::fs::write(&late, format!("[{{targets: ['{full}']}}]")).expect("it can be written");
        testkit::eventually!("the late route", ask("?route=late").await.status, |status| *status == 200);
        testkit::eventually!("the whole", ask("").await.text(), |text| text == "OK");
        let unknown = ask("?route=nothing").await.expect_status(404).text();
        assert!(unknown.contains("full, late"), "{unknown}");
        std::fs::remove_file(&late).expect("it is there");
    }
}

#[tokio::test]
async fn a_source_without_its_first_list_is_not_ready_whatever_is_allowed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("endpoints.yaml");
    let path = path.to_str().expect("a path of ASCII");
    let flags =
        ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--ready-no-endpoint", "--endpoints-file", path];
    let fanfare = Fanfare::serve(flags).await;
    let told = testkit::eventually!("the reason", client::get(fanfare.admin(), "/-/ready").await, |r| r
        .text()
        .contains("cannot read"));
    assert_eq!(told.status, 503);
    std::fs::write(path, "[]").expect("it can be written");
    fanfare.wait_ready().await;
}

#[tokio::test]
async fn metrics_and_documents_tell_what_happens() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--require", "any"]).await;
    fanfare.wait_ready().await;
    client::get(fanfare.address(), "/").await.complete().expect_status(200);
    let admin = fanfare.admin();

    let metrics =
        testkit::eventually!("the request to be counted", client::get(admin, "/metrics").await.text(), |text| {
            text.contains("request_duration_seconds_count")
        });
    for name in ["service_endpoint_count", "fanfare_build_info", "process_resident_memory_bytes"] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    let endpoints = client::get(admin, "/-/endpoints").await;
    assert!(endpoints.text().contains(&origin.address().to_string()), "{}", endpoints.text());
    let config: Value = serde_json::from_str(&client::get(admin, "/-/config").await.text()).expect("a document");
    assert_eq!(config["broadcast"][0]["routes"][0]["require"], "any");
    assert_eq!(config["drain_timeout"], "10s");
}

#[tokio::test]
async fn the_log_level_changes_at_run_time() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &["-l", "info"]).await;
    let level = |level: &'static str| client::request(fanfare.admin(), "PUT", "/-/log-level", &[], level.as_bytes());
    assert_eq!(client::get(fanfare.admin(), "/-/log-level").await.text(), "info");
    assert_eq!(level("debug").await.complete().status, 200);
    assert_eq!(client::get(fanfare.admin(), "/-/log-level").await.text(), "debug");
    assert_eq!(level("loud").await.complete().status, 400);
}

#[tokio::test]
async fn a_probe_is_answered_whatever_else_is_connected() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let mut held = Vec::new();
    for n in 0..300 {
        let mut client = client::RawClient::connect(fanfare.admin()).await;
        if n % 2 == 0 {
            client.send("GET /-/healthy HTTP/1.1\r\nHost: ").await;
        }
        held.push(client);
    }
    assert_eq!(client::get(fanfare.admin(), "/-/healthy").await.complete().text(), "OK");
    assert!(held.last().is_some_and(client::RawClient::is_quiet), "the last one has not made room");
}

/// What the admin listener answers by TLS to a client that trusts only this authority; nothing where there is no handshake.
async fn healthy_by_tls(admin: SocketAddr, authority: &Authority) -> Option<String> {
    let connector = TlsConnector::from(Arc::new(authority.client(None, &["http/1.1"])));
    let stream = TcpStream::connect(admin).await.expect("it listens");
    let mut stream = connector.connect(ServerName::try_from("admin.example").expect("a name"), stream).await.ok()?;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test]
async fn the_admin_listener_speaks_tls_and_takes_up_a_renewed_certificate() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let secret = SecretDir::of(&old.issue(&["admin.example"]), &old);
    let (cert, key) = (secret.path("tls.crt"), secret.path("tls.key"));
    let (cert, key) = (cert.to_str().expect("ASCII"), key.to_str().expect("ASCII"));
    let flags = ["--metrics-tls-cert", cert, "--metrics-tls-key", key];
    let fanfare = Fanfare::broadcast(&[([192, 0, 2, 1], 80).into()], &flags).await;
    let log = fanfare.stderr.text();
    assert!(log.contains(&format!("listening on https://{} for the admin API", fanfare.admin())), "{log}");

    let answer = within("an answer", healthy_by_tls(fanfare.admin(), &old)).await.expect("a handshake");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("OK"), "{answer}");
    assert_eq!(client::get(fanfare.admin(), "/-/healthy").await.status, 400, "in clear it says what is wrong");
    assert!(within("a refusal", healthy_by_tls(fanfare.admin(), &new)).await.is_none(), "nobody trusts it");

    secret.renew(&new.issue(&["admin.example"]), &new);
    testkit::eventually!("the new certificate", healthy_by_tls(fanfare.admin(), &new).await, Option::is_some);
}

#[tokio::test]
async fn an_admin_certificate_that_cannot_be_read_ends_the_start_with_its_path() {
    let flags = ["broadcast", "-i=127.0.0.1:0", "-m=127.0.0.1:0", "--endpoints=192.0.2.1:80"];
    let tls = ["--metrics-tls-cert=/nowhere/tls.crt", "--metrics-tls-key=/nowhere/tls.key"];
    let finished = crate::process::run(flags.into_iter().chain(tls)).await;
    assert_eq!(finished.code, Some(64), "{}", finished.stderr);
    assert!(finished.stderr.contains("--metrics-tls-cert: /nowhere/tls.crt: it cannot be read"), "{}", finished.stderr);
}
