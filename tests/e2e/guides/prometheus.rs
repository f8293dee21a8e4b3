//! Alerts, pushes, samples and reloads with real Prometheuses, Alertmanagers and Pushgateways.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::{
    client,
    consumers::{alertmanager, prometheus, prometheus_with, pushgateway},
};

use super::Guide;

/// A receiver without notifications.
const NOBODY: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// The beginning of a configuration; a test adds the targets.
const SCRAPES_NOTHING: &str = "global: {scrape_interval: 1s}\n";

async fn json(address: SocketAddr, path: &str) -> Value {
    let text = client::get(address, path).await.complete().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The names of the alerts that an Alertmanager knows.
async fn alerts(address: SocketAddr) -> Vec<String> {
    let alerts = json(address, "/api/v2/alerts").await;
    let alerts = alerts.as_array().expect("a list").iter();
    let mut names: Vec<String> =
        alerts.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn alerts_of_a_prometheus_and_of_curl_reach_every_alertmanager() {
    let guide = Guide::named("alertmanager");
    let managers = [alertmanager(NOBODY).await, alertmanager(NOBODY).await];
    let addresses = managers.each_ref().map(|manager| manager.address());
    let fanfare = guide.fanfare("0.0.0.0:9093", "{service: monitoring/alertmanager, port: web}", &addresses).await;
    let printed = guide.curl("fanfare.monitoring:9093", fanfare.address()).await;
    assert!(printed[0].starts_with("HTTP/1.1 200"), "{}", printed[0]);
    for address in addresses {
        testkit::eventually!("the alert of curl", alerts(address).await, |names| names == &["Try"]);
    }
    let rules = tempfile::NamedTempFile::with_suffix(".yaml").expect("a temporary file");
    let rule = "groups: [{name: a, interval: 1s, rules: [{alert: Always, expr: vector(1)}]}]\n";
    std::fs::write(rules.path(), rule).expect("it can be written");
    let alerting = guide.file("alerting:", &[("fanfare.monitoring:9093", &fanfare.address().to_string())]);
    let config = format!("{SCRAPES_NOTHING}rule_files: ['{}']\n{alerting}", rules.path().display());
    // Alerts are sent again after a minute otherwise, and the first time Prometheus may not know its Alertmanagers yet.
    let _prometheus = prometheus_with(&config, &["--rules.alert.resend-delay=1s"]).await;
    for address in addresses {
        testkit::eventually!("the alert of Prometheus", alerts(address).await, |names| names == &["Always", "Try"]);
    }
}

#[tokio::test]
async fn an_alert_is_delivered_while_one_alertmanager_is_away() {
    let guide = Guide::named("alertmanager");
    let (there, mut away) = (alertmanager(NOBODY).await, alertmanager(NOBODY).await);
    let addresses = [away.address(), there.address()];
    let fanfare = guide.fanfare("0.0.0.0:9093", "{service: monitoring/alertmanager, port: web}", &addresses).await;
    away.stop().await;
    let printed = guide.curl("fanfare.monitoring:9093", fanfare.address()).await;
    assert!(printed[0].starts_with("HTTP/1.1 200"), "{}", printed[0]);
    testkit::eventually!("the alert", alerts(there.address()).await, |names| names == &["Try"]);
}

#[tokio::test]
async fn a_push_reaches_both_pushgateways_and_prometheus_has_one_series_of_it() {
    let guide = Guide::named("pushgateway");
    let gateways = [pushgateway().await, pushgateway().await];
    let addresses = gateways.each_ref().map(|gateway| gateway.address());
    let fanfare = guide.fanfare("0.0.0.0:9091", "{service: monitoring/pushgateway, port: http}", &addresses).await;
    let printed = guide.curl("fanfare.monitoring:9091", fanfare.address()).await;
    assert!(printed[0].starts_with("HTTP/1.1 200"), "{}", printed[0]);
    for address in addresses {
        testkit::eventually!("the metric", client::get(address, "/metrics").await.complete().text(), |text| text
            .contains("backup_bytes{instance=\"\",job=\"backup\"} 7\n"));
    }
    let scrapes = guide.file(
        "scrape_configs:",
        &[
            ("pushgateway-0.pushgateway.monitoring:9091", &addresses[0].to_string()),
            ("pushgateway-1.pushgateway.monitoring:9091", &addresses[1].to_string()),
        ],
    );
    let prometheus = prometheus(&format!("{SCRAPES_NOTHING}{scrapes}")).await;
    let values = async || {
        let answer = json(prometheus.address(), "/api/v1/query?query=backup_bytes").await;
        let series = answer["data"]["result"].as_array().expect("series").clone();
        series.iter().map(|series| series["value"][1].as_str().expect("a value").to_owned()).collect::<Vec<_>>()
    };
    testkit::eventually!("one series", values().await, |values| values == &["7"]);
    client::request(fanfare.address(), "DELETE", "/metrics/job/backup", &[], b"").await.complete().expect_status(202);
    for address in addresses {
        testkit::eventually!("it to go", client::get(address, "/metrics").await.complete().text(), |text| !text
            .contains("backup_bytes"));
    }
}

#[tokio::test]
async fn samples_that_are_written_once_are_in_both_stores() {
    let guide = Guide::named("remote-write");
    let receives = ["--web.enable-remote-write-receiver"];
    let stores = [prometheus_with(SCRAPES_NOTHING, &receives).await, prometheus_with(SCRAPES_NOTHING, &receives).await];
    let addresses = stores.each_ref().map(|store| store.address());
    let target = "{endpoints: ['store-a.monitoring:9090', 'store-b.monitoring:9090']}";
    let fanfare = guide.fanfare("0.0.0.0:8080", target, &addresses).await;
    let writes = guide.file("remote_write:", &[("fanfare.monitoring:8080", &fanfare.address().to_string())]);
    let scraped =
        format!("scrape_configs: [{{job_name: fanfare, static_configs: [{{targets: ['{}']}}]}}]\n", fanfare.admin());
    let _writer = prometheus(&format!("{SCRAPES_NOTHING}{scraped}{writes}")).await;
    for address in addresses {
        testkit::eventually!("samples", json(address, "/api/v1/query?query=up").await, |answer| {
            answer["data"]["result"][0]["metric"]["job"] == "fanfare" && answer["data"]["result"][0]["value"][1] == "1"
        });
    }
    let metrics = async || client::get(fanfare.admin(), "/metrics").await.complete().text();
    let ok = |text: &str, line: &str| {
        let value = text.lines().find_map(|shown| shown.strip_prefix(line));
        value.and_then(|value| value.trim().parse::<u64>().ok()).is_some_and(|value| value > 0)
    };
    let line = "fanfare_requests_completed_total{route=\"write\",result=\"ok\"}";
    testkit::eventually!("writes to be counted", metrics().await, |text| ok(text, line));
}

/// When a Prometheus has read its configuration last.
async fn read_at(address: SocketAddr) -> String {
    let metrics = client::get(address, "/metrics").await.complete().text();
    let name = "prometheus_config_last_reload_success_timestamp_seconds ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).expect("it tells").to_owned()
}

#[tokio::test]
async fn a_reload_goes_from_one_to_the_next_and_stops_at_the_first_that_fails() {
    let guide = Guide::named("reload");
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(prometheus_with(SCRAPES_NOTHING, &["--web.enable-lifecycle"]).await);
    }
    // Waves go in the order of addresses.
    stores.sort_by_key(|store| store.address());
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address()).collect();
    let target = "{service: monitoring/prometheus, port: web}";
    let fanfare = guide.fanfare("0.0.0.0:8080", target, &addresses).await;
    let before = [read_at(addresses[0]).await, read_at(addresses[1]).await];
    let printed = guide.curl("fanfare.monitoring:8080", fanfare.address()).await;
    assert!(printed[0].starts_with("HTTP/1.1 200"), "{}", printed[0]);
    for (address, before) in addresses.iter().zip(&before) {
        assert_ne!(&read_at(*address).await, before, "{address} has reloaded");
    }
    let before = read_at(addresses[1]).await;
    std::fs::write(stores[0].folder().join("prometheus.yml"), "nonsense: true\n").expect("it can be written");
    let printed = guide.curl("fanfare.monitoring:8080", fanfare.address()).await;
    assert!(printed[0].starts_with("HTTP/1.1 500") && printed[0].contains("nonsense"), "{}", printed[0]);
    assert_eq!(read_at(addresses[1]).await, before, "the second runs on with what it had");
    fanfare.stdout.wait("the access log", |log| log.contains(&format!("{}=skipped", addresses[1]))).await;
}
