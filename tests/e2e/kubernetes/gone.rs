//! 410 Gone: events that the API server no longer has still take effect, through a new list.

use kubekit::{cluster, relay::Relay};
use testkit::origin::{Origin, Reply};

use super::{
    bed::{Bed, broadcast, hosts, metric, readiness, ready, slice, v4},
    load::{Load, Timeline, assert_all_ok},
};

const HTTP: &str = "{name: http, port: 8080}";

#[test]
fn after_410_gone_the_new_set_is_right_and_nothing_was_lost_before() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=5).map(|n| v4(n, 8080)));
        let put = |name: &str, numbers: &[u8]| slice(name, "cache", &ready(numbers), HTTP);
        bed.apply(&put("cache-1", &[1, 2])).await;
        bed.apply(&put("cache-2", &[3])).await;
        let mut relay = Relay::start(bed.cluster.api_port()).await;
        let kubeconfig = relay.kubeconfig(bed.account.kubeconfig_path());
        let fanfare = broadcast(kubeconfig.path(), &["-s", "default/cache"]).await;
        fanfare.wait_ready().await;
        let (gone, relists) = ("fanfare_watch_errors_total", "fanfare_watch_relists_total");
        assert_eq!(metric(&fanfare, gone, &["reason=\"gone\""]).await, 0.0);
        assert_eq!(metric(&fanfare, relists, &[]).await, 1.0);

        let mut timeline = Timeline::new(hosts(&[1, 2, 3]));
        let mut load = Load::start(fanfare.address());
        relay.cut().await;
        // Each kind of change: a slice made, one changed, one deleted.
        bed.apply(&put("cache-3", &[4])).await;
        bed.apply(&put("cache-1", &[2, 5])).await;
        bed.delete(&put("cache-2", &[])).await;
        bed.cluster.compact().await;
        // A restart, because the API server keeps recent events in memory.
        bed.cluster.kill_apiserver();
        bed.cluster.start_apiserver().await;
        load.beyond(std::time::Instant::now()).await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1, 2, 3]), "what was known stays in use");
        assert_eq!(readiness(&fanfare).await, (200, "OK".into()));

        let caught_up = async {
            relay.restore().await;
            bed.until_reached(&fanfare, &hosts(&[2, 4, 5])).await;
            std::time::Instant::now()
        };
        timeline.step(&mut load, hosts(&[2, 4, 5]), caught_up).await;
        assert!(metric(&fanfare, gone, &["reason=\"gone\""]).await >= 1.0, "the API server answered 410");
        assert_eq!(metric(&fanfare, relists, &[]).await, 2.0);
        // The new watch works.
        timeline.step(&mut load, hosts(&[2, 3, 5]), bed.apply(&put("cache-3", &[3]))).await;
        let sent = load.stop().await;
        assert_all_ok(&sent);
        timeline.check(&sent, bed.pods());
    });
}

/// A relist that fails half-way must not count as a list in which the rest is missing.
#[test]
fn an_api_server_that_answers_nonsense_changes_nothing() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        let mut relay = Relay::start(bed.cluster.api_port()).await;
        let kubeconfig = relay.kubeconfig(bed.account.kubeconfig_path());
        let fanfare = broadcast(kubeconfig.path(), &["-s", "default/cache"]).await;
        fanfare.wait_ready().await;
        relay.cut().await;
        let errors = async || metric(&fanfare, "fanfare_watch_errors_total", &[]).await;
        let before = errors().await;
        let address = format!("127.0.0.1:{}", relay.port());
        let nonsense = Origin::builder().address(&address).start(Reply::ok("no TLS"));
        testkit::eventually!("three failures", errors().await, |now| *now >= before + 3.0);
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
        assert_eq!(readiness(&fanfare).await, (200, "OK".into()));
        nonsense.stop_listening().await;
        drop(nonsense);
        relay.restore().await;
        bed.listen([v4(2, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[2]), HTTP)).await;
        bed.until_reached(&fanfare, &hosts(&[2])).await;
    });
}
