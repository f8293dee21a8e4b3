//! An alert of a real Prometheus for three real Alertmanagers, one of which is down when it fires.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::{
    client,
    consumers::{Consumer, alertmanager, prometheus_with},
    netns,
    origin::{Origin, Reply},
};

use super::bed::{metric, redelivering, until_all_have_everything};
use crate::process::Fanfare;

const NOBODY: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
const RULES: &str = "groups: [{name: all, rules: [{alert: Down, expr: up_or_not == 0, labels: {severity: page}}]}]\n";

/// What an Alertmanager knows of its one alert: what it is and since when.
async fn alert(alertmanager: &Consumer) -> Option<(Value, Value)> {
    let answer = client::get(alertmanager.address(), "/api/v2/alerts").await.complete();
    let alerts: Value = serde_json::from_str(&answer.text()).ok()?;
    let alert = alerts.get(0)?;
    Some((alert["labels"].clone(), alert["startsAt"].clone()))
}

#[test]
fn an_alertmanager_that_was_down_gets_the_alert_that_was_sent_once() {
    netns::inside(testkit::test_name!(), async || {
        let [one, two, mut down] = [alertmanager(NOBODY).await, alertmanager(NOBODY).await, alertmanager(NOBODY).await];
        let endpoints = [&one, &two, &down].map(Consumer::address);
        down.stop().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = redelivering(&folder.path().join("journal"));
        let mut flags: Vec<&str> = journal.iter().map(String::as_str).collect();
        flags.extend(["--redeliver-methods", "POST", "--on-deferred", "202"]);
        let fanfare = Fanfare::broadcast(&endpoints, &flags).await;
        fanfare.wait_ready().await;

        let rules = folder.path().join("rules.yml");
        std::fs::write(&rules, RULES).expect("it can be written");
        let watched = Origin::start(Reply::ok("up_or_not 1\n"));
        let to = |address: SocketAddr| format!("static_configs: [{{targets: ['{address}']}}]");
        let config = format!(
            "global: {{evaluation_interval: 1s, scrape_interval: 1s}}\nrule_files: ['{}']\nscrape_configs: [{{job_name: watched, {}}}]\n\
             alerting: {{alertmanagers: [{{api_version: v2, {}}}]}}\n",
            rules.display(),
            to(watched.address()),
            to(fanfare.address()),
        );
        // It sends a firing alert again only after an hour: who missed the first one gets it from nobody but Fanfare.
        let prometheus = prometheus_with(&config, &["--rules.alert.resend-delay=1h"]).await;
        let known = async || client::get(prometheus.address(), "/api/v1/alertmanagers").await.complete().text();
        let address = fanfare.address().to_string();
        testkit::eventually!("Prometheus to know where alerts go", known().await, |known| known.contains(&address));
        watched.set(Reply::ok("up_or_not 0\n"));
        for alertmanager in [&one, &two] {
            testkit::eventually!("the alert", alert(alertmanager).await, |alert| alert.is_some());
        }
        down.start_again().await;
        testkit::eventually!("the alert, later", alert(&down).await, |alert| alert.is_some());
        let expected = alert(&one).await;
        assert_eq!((alert(&two).await, alert(&down).await), (expected.clone(), expected.clone()));
        assert_eq!(expected.expect("it is there").0["alertname"], "Down");
        until_all_have_everything(&fanfare).await;
        assert_eq!(metric(&fanfare, "fanfare_requests_total").await, Some(1.0), "it was sent once");
    });
}
