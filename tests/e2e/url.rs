//! `--endpoints-url`: a list over HTTP and HTTPS is followed, what is wrong with it changes nothing, and no credentials are shown.

use std::{net::SocketAddr, sync::Arc};

use rustix::process::Signal;
use testkit::{
    client,
    origin::{Origin, Reply},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::PrivateKeyDer},
};

use crate::process::Fanfare;

fn list(endpoint: &Origin) -> String {
    format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"zone\": \"west\"}}}}]", endpoint.address())
}

fn flags(url: &str, refresh: &str) -> Vec<String> {
    let flags = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1"];
    let ours = ["--endpoints-url", url, "--endpoints-refresh", refresh];
    flags.into_iter().chain(ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_list_over_http_is_followed_and_nothing_shows_its_credentials() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let registry = Origin::start(Reply::new(503));
    let url = format!("http://user:hunter2@{}/targets", registry.address());
    let fanfare = Fanfare::serve(flags(&url, "1s")).await;
    let ready = async || client::get(fanfare.admin(), "/-/ready").await.complete();
    testkit::eventually!("the reason", ready().await, |answer| answer.status == 503
        && answer.text().contains("/targets: the server answers 503"));
    assert_eq!(client::get(fanfare.address(), "/").await.complete().status, 503);

    registry.set(Reply::ok(list(&one)).header("ETag", "\"1\""));
    fanfare.wait_ready().await;
    let answer = async || client::get(fanfare.address(), "/").await.complete();
    assert_eq!(answer().await.text(), "one");
    assert!(client::get(fanfare.admin(), "/-/endpoints").await.text().contains("west"));

    registry.set(Reply::ok("<html>log in</html>"));
    fanfare.stderr.wait("the broken list", |log| log.contains("is no list of endpoints")).await;
    assert_eq!(answer().await.text(), "one");
    registry.set(Reply::ok(list(&two)));
    testkit::eventually!("the other endpoint", answer().await, |answer| answer.text() == "two");

    for path in ["/-/config", "/-/endpoints", "/metrics", "/-/ready"] {
        let shown = client::get(fanfare.admin(), path).await.complete().text();
        assert!(!shown.contains("hunter2"), "{path}: {shown}");
    }
    assert!(!fanfare.stderr.text().contains("hunter2"), "{}", fanfare.stderr.text());
    let asked = registry.requests();
    assert!(asked.iter().all(|request| request.headers.get("authorization") == Some("Basic dXNlcjpodW50ZXIy")));
}

#[tokio::test]
async fn sighup_asks_at_once() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let registry = Origin::start(Reply::ok(list(&one)));
    let fanfare = Fanfare::serve(flags(&format!("http://{}/", registry.address()), "1h")).await;
    fanfare.wait_ready().await;
    registry.set(Reply::ok(list(&two)));
    fanfare.signal(Signal::HUP);
    let answer = async || client::get(fanfare.address(), "/").await.complete();
    testkit::eventually!("the other endpoint", answer().await, |answer| answer.text() == "two");
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn another_refresh_takes_effect_with_a_reload() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let registry = Origin::start(Reply::ok(list(&one)));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fanfare.yaml");
    let write = |refresh: &str, more: &str| {
        let to = format!("{{url: 'http://{}/', refresh: {refresh}}}", registry.address());
        let text = format!(
            "admin: {{listen: 127.0.0.1:0}}\nthreads: 1\nbroadcast:\n  - {{listen: 127.0.0.1:0, routes: [{{to: {to}{more}}}]}}\n"
        );
        std::fs::write(&file, text).expect("it can be written");
    };
    write("1h", "");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
    fanfare.wait_ready().await;
    registry.wait_requests(1).await;
    write("1s", ", require: any");
    registry.wait_requests(3).await;
    registry.set(Reply::ok(list(&two)));
    let answer = async || client::get(fanfare.address(), "/").await.complete();
    testkit::eventually!("the other endpoint", answer().await, |answer| answer.text() == "two");
    fanfare.wait_ready().await;
}

/// A server with TLS that answers every request like this, with its certificate (PEM).
async fn tls_server(answer: String) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let certificate = made.cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust the certificate ends the handshake.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a whole head"));
                }
                stream.write_all(answer.as_bytes()).await.expect("it is read");
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, made.cert.pem())
}

fn ok(list: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{list}", list.len())
}

#[tokio::test]
async fn the_certificates_of_the_system_vouch_for_a_server_with_tls() {
    let one = Origin::start(Reply::ok("one"));
    let (address, certificate) = tls_server(ok(&list(&one))).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).expect("it can be written");
    let url = format!("https://{address}/targets");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(flags(&url, "1s")).env("SSL_CERT_FILE", &trusted);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    assert_eq!(client::get(fanfare.address(), "/").await.complete().text(), "one");

    // Without it nobody does.
    let other = Fanfare::serve(flags(&url, "1s")).await;
    let told = other.stderr.wait("the reason", |log| log.contains("list of endpoints not fetched")).await;
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(client::get(other.admin(), "/-/ready").await.complete().status, 503);
}

#[tokio::test]
async fn from_a_verified_server_no_redirection_leads_to_one_without_tls() {
    let one = Origin::start(Reply::ok("one"));
    let registry = Origin::start(Reply::ok(list(&one)));
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", registry.address());
    let (address, certificate) = tls_server(redirect).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).expect("it can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(flags(&format!("https://{address}/"), "1s")).env("SSL_CERT_FILE", &trusted);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.stderr.wait("the reason", |log| log.contains("redirects from https to a URL without TLS")).await;
    registry.assert_untouched();
}
