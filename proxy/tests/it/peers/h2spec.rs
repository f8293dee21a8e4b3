//! h2spec finds no fault by TLS; in clear the binary is tried (`tests/e2e/http2.rs`).

use testkit::h2spec::{Transport, run};
use testkit::origin::Reply;

use super::Certificates;
use crate::fixture::{origins, over};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2spec_finds_no_fault_by_tls() {
    // Long enough for the checks that take it byte by byte, which are left out otherwise.
    let [a, b] = origins([Reply::ok("an answer of more than a few bytes"), Reply::ok("another answer")]);
    let proxy = over(&[&a, &b]).clients_by_tls(&Certificates::new()).start();
    let outcome = run(proxy.address, Transport::Tls).await;
    assert_eq!(outcome.summary, "145 tests, 145 passed, 0 skipped, 0 failed", "{}", outcome.output);
}
