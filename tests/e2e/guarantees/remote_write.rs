//! Remote writes of a real Prometheus to two real ones, one of which is down for ten seconds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;
use testkit::{
    client,
    consumers::{Consumer, prometheus_with},
    netns,
    origin::{Origin, Reply, Script},
};

use super::bed::{metric, redelivering};
use crate::process::Fanfare;

/// How long one is down.
const DOWN: Duration = Duration::from_secs(10);

/// The samples that a Prometheus has, with their times.
async fn samples(prometheus: &Consumer) -> Vec<Value> {
    let answer = client::get(prometheus.address(), "/api/v1/query?query=steps_total[1h]").await.complete();
    let answer: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_store_that_was_down_for_ten_seconds_has_every_sample_afterwards() {
    netns::inside(testkit::test_name!(), async || {
        let taking = ["--web.enable-remote-write-receiver"];
        let nothing = "scrape_configs: []\n";
        let well = prometheus_with(nothing, &taking).await;
        let mut down = prometheus_with(nothing, &taking).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = redelivering(&folder.path().join("journal"));
        let mut flags: Vec<&str> = journal.iter().map(String::as_str).collect();
        flags.extend(["--require", "any", "--redeliver-methods", "POST"]);
        let fanfare = Fanfare::broadcast(&[well.address(), down.address()], &flags).await;
        fanfare.wait_ready().await;

        let steps = AtomicU64::new(0);
        let measured = Origin::start(Script::on_request(move |_: &_| {
            Reply::ok(format!("steps_total {}\n", steps.fetch_add(1, Ordering::Relaxed)))
        }));
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: [{{job_name: steps, \
             static_configs: [{{targets: ['{}']}}]}}]\nremote_write: [{{url: 'http://{}/api/v1/write', queue_config: \
             {{min_shards: 1, max_shards: 1, batch_send_deadline: 100ms}}}}]\n",
            measured.address(),
            fanfare.address()
        );
        let sender = prometheus_with(&config, &[]).await;
        testkit::eventually!("the first samples", samples(&down).await.len(), |count| *count > 5);
        down.stop().await;
        // What it does is to be away.
        tokio::time::sleep(DOWN).await;
        down.start_again().await;
        let wanted = samples(&sender).await;
        // Some fifty, less those that a busy machine was too slow for.
        assert!(wanted.len() > 20, "{} samples", wanted.len());
        for store in [&well, &down] {
            let stored =
                testkit::eventually!("every sample", samples(store).await, |stored| stored.len() >= wanted.len());
            assert_eq!(stored[..wanted.len()], wanted);
        }
        let delivered = metric(&fanfare, "fanfare_delivery_age_seconds_count").await.unwrap_or_default();
        assert!(delivered > 10.0, "{delivered} writes were sent again");
        let refused =
            crate::kubernetes::bed::metric(&fanfare, "fanfare_deliveries_total", &["result=\"refused\""]).await;
        assert_eq!(refused, 0.0, "they came in order, and none twice");
    });
}
