//! An outage of the API server changes only the age of the data, and missed changes are caught up.

use std::time::{Duration, Instant};

use kubekit::cluster;
use testkit::eventually::scaled;
use tokio::time::interval;

use super::{
    bed::{Addresses, Bed, hosts, metric, readiness, ready, slice, v4},
    load::{Load, assert_all_ok},
};
use crate::process::Fanfare;

const HTTP: &str = "{name: http, port: 8080}";

/// The longest outage that is tested.
const OUTAGE: Duration = Duration::from_secs(30);

/// The longest delay between two attempts to reach the API server (5 s), and a margin for a busy machine.
const BACK: Duration = Duration::from_secs(15);

async fn age(fanfare: &Fanfare) -> f64 {
    metric(fanfare, "fanfare_watch_age_seconds{", &["scope=\"default\""]).await
}

/// Waits until then, and checks regularly that the process stays ready.
async fn stays_ready_until(fanfare: &Fanfare, moment: Instant) {
    let mut ticks = interval(Duration::from_millis(250));
    while Instant::now() < moment {
        ticks.tick().await;
        assert_eq!(readiness(fanfare).await, (200, "OK".into()));
    }
}

#[test]
fn a_restart_and_30_s_without_the_api_server_lose_no_request_while_one_endpoint_is_ready() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=4).map(|n| v4(n, 8080)));
        let put = |numbers: &[u8]| slice("cache-1", "cache", &ready(numbers), HTTP);
        bed.apply(&put(&[1, 2])).await;
        let fanfare = bed.fanfare(&["-s", "default/cache", "--require", "any"]).await;
        fanfare.wait_ready().await;
        let mut load = Load::start(fanfare.address());

        // A restart, as an upgrade does it.
        bed.cluster.stop_apiserver().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1, 2]));
        bed.cluster.start_apiserver().await;
        bed.apply(&put(&[1, 2, 3])).await;
        bed.until_reached(&fanfare, &hosts(&[1, 2, 3])).await;
        assert_eq!(readiness(&fanfare).await, (200, "OK".into()));

        // A crash, and a third of the time later one of the pods crashes as well.
        bed.cluster.kill_apiserver();
        let began = Instant::now();
        stays_ready_until(&fanfare, began + OUTAGE / 3).await;
        let (young, first) = (age(&fanfare).await, bed.pod(v4(1, 8080)));
        assert!(young > (OUTAGE / 3).as_secs_f64() - 3.0, "{young} s");
        first.stop_listening().await;
        first.reset_all().await;
        stays_ready_until(&fanfare, began + OUTAGE).await;
        load.beyond(began + OUTAGE).await;
        let old = age(&fanfare).await;
        assert!(old > OUTAGE.as_secs_f64() - 3.0, "{old} s");
        assert_eq!(bed.reached(&fanfare).await, hosts(&[2, 3]), "what was known stays in use");

        bed.cluster.start_apiserver().await;
        let known = bed.apply(&put(&[2, 4])).await;
        bed.until_reached(&fanfare, &hosts(&[2, 4])).await;
        assert!(known.elapsed() < scaled(BACK), "{:?}", known.elapsed());
        testkit::eventually!("the data to be young again", age(&fanfare).await, |age| *age < 3.0);
        load.beyond(Instant::now()).await;

        let sent = load.stop().await;
        let count = assert_all_ok(&sent);
        let straggling = async || metric(&fanfare, "fanfare_straggling_requests ", &[]).await;
        testkit::eventually!("the last legs", straggling().await, |straggling| *straggling == 0.0);
        // This one has been part of the service all the time.
        let pod = bed.pod(v4(2, 8080)).requests().into_iter();
        let mut got: Vec<_> = pod.map(|request| request.target).filter(|target| target.starts_with("/load/")).collect();
        assert_eq!(got.len(), count);
        got.sort_unstable();
        got.dedup();
        assert_eq!(got.len(), count, "each request once");
    });
}

#[test]
fn an_api_server_that_is_away_at_the_start_is_waited_for_and_one_that_hangs_changes_nothing() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(2, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        bed.cluster.kill_apiserver();
        let fanfare = bed.fanfare(&["-s", "default/cache"]).await;
        let named = |(status, why): &(u16, String)| *status == 503 && why.contains("cannot list endpointslices");
        testkit::eventually!("the failure to be named", readiness(&fanfare).await, named);
        assert_eq!(bed.reached(&fanfare).await, Addresses::new());
        bed.cluster.start_apiserver().await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));

        bed.cluster.pause_apiserver();
        testkit::eventually!("the data to grow old", age(&fanfare).await, |age| *age > 3.0);
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
        assert_eq!(readiness(&fanfare).await, (200, "OK".into()));
        bed.cluster.resume_apiserver();
        bed.apply(&slice("cache-1", "cache", &ready(&[2]), HTTP)).await;
        bed.until_reached(&fanfare, &hosts(&[2])).await;
    });
}
