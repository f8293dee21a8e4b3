//! A service that does not exist is logged, together with those that do.

use super::bed::{Bed, told};

#[tokio::test]
async fn a_service_that_does_not_exist_is_logged_with_those_that_do() {
    let bed = Bed::new("hints").await;
    bed.slice("cache-1", "cache", [1]).await;
    bed.slice("web-1", "web", [2]).await;
    let (fanfare, address) = bed.start("cach", &[]).await;
    let expected = format!(
        "there is no Service {0}/cach, or it has no EndpointSlice; in namespace {0} there are cache, web",
        bed.namespace
    );
    let warned = |line: &str| line.contains(" WARN ") && line.contains(&expected);
    fanfare.stderr.wait("what there is", |log| log.lines().any(warned)).await;
    bed.slice("cach-1", "cach", [3]).await;
    testkit::eventually!("the endpoints", told(address, "/endpoints").await, |told| told == &["h-3"]);
}
