//! HTTP/2 as clients of `fanfare broadcast` see it.

use testkit::{
    h2spec,
    origin::{Origin, Reply},
};

use crate::process::Fanfare;

#[tokio::test]
async fn h2spec_finds_no_fault() {
    // Long enough for the checks that take it byte by byte, which are left out otherwise.
    let body = "an answer of more than a few bytes";
    let origins = [Origin::start(Reply::ok(body)), Origin::start(Reply::ok(body))];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &[]).await;
    fanfare.wait_ready().await;
    let outcome = h2spec::run(fanfare.address(), h2spec::Transport::Clear).await;
    assert_eq!(outcome.summary, "145 tests, 145 passed, 0 skipped, 0 failed", "{}", outcome.output);
}
