//! HTTP/2 as clients of `fanfare broadcast` see it.

use testkit::{
    h2spec::{self, Transport},
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
};

use crate::process::Fanfare;

async fn assert_no_fault(transport: Transport, flags: &[&str]) {
    // Long enough for the checks that read it byte by byte, which are skipped otherwise.
    let body = "an answer of more than a few bytes";
    let origins = [Origin::start(Reply::ok(body)), Origin::start(Reply::ok(body))];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), flags).await;
    fanfare.wait_ready().await;
    let outcome = h2spec::run(fanfare.address(), transport).await;
    assert_eq!(outcome.summary, "145 tests, 145 passed, 0 skipped, 0 failed", "{}", outcome.output);
}

#[tokio::test]
async fn h2spec_finds_no_fault() {
    assert_no_fault(Transport::Clear, &[]).await;
}

#[tokio::test]
async fn h2spec_finds_no_fault_by_tls() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["broadcast.example"]), &authority);
    let path = |name| secret.path(name).display().to_string();
    assert_no_fault(Transport::Tls, &["--tls-cert", &path("tls.crt"), "--tls-key", &path("tls.key")]).await;
}
