//! `--endpoints-url`: a list over HTTP and HTTPS is followed, what is wrong with it changes nothing, and no credentials are shown.

use rustix::process::Signal;
use testkit::{
    client,
    origin::{Origin, Reply},
    pki::Authority,
    tls_relay::TlsRelay,
};
use tokio::process::Command;

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
    fanfare.stderr.wait("the broken list", |log| log.contains("is not a list of endpoints")).await;
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

/// TLS in front of a server. Who trusts the authority trusts it.
async fn tls_front(authority: &Authority, server: &Origin) -> TlsRelay {
    TlsRelay::in_front("127.0.0.1:0", authority.issue(&["127.0.0.1"]).server(&[]), server.address()).await
}

#[tokio::test]
async fn a_server_with_tls_is_verified_by_the_certificates_of_the_system() {
    let one = Origin::start(Reply::ok("one"));
    let (authority, registry) = (Authority::new("root"), Origin::start(Reply::ok(list(&one))));
    let front = tls_front(&authority, &registry).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, authority.pem()).expect("it can be written");
    let url = format!("https://{}/targets", front.address);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(flags(&url, "1s")).env("SSL_CERT_FILE", &trusted);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    assert_eq!(client::get(fanfare.address(), "/").await.complete().text(), "one");

    // Without it nobody does.
    let other = Fanfare::serve(flags(&url, "1s")).await;
    let told = other.stderr.wait("the reason", |log| log.contains("the list of endpoints cannot be fetched")).await;
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(client::get(other.admin(), "/-/ready").await.complete().status, 503);
}

#[tokio::test]
async fn from_a_verified_server_no_redirection_leads_to_one_without_tls() {
    let one = Origin::start(Reply::ok("one"));
    let registry = Origin::start(Reply::ok(list(&one)));
    let location = format!("http://{}/", registry.address());
    let redirecting = Origin::start(Reply::new(302).header("Location", &location));
    let authority = Authority::new("root");
    let front = tls_front(&authority, &redirecting).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, authority.pem()).expect("it can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(flags(&format!("https://{}/", front.address), "1s")).env("SSL_CERT_FILE", &trusted);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.stderr.wait("the reason", |log| log.contains("redirects from https to a URL without TLS")).await;
    registry.assert_untouched();
}
