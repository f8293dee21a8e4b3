//! The alert rules and the dashboard use only metrics, labels and label values that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use kubekit::cluster;
use serde_json::Value;
use testkit::{client, consumers};

use super::{
    every_role,
    metrics::{Family, documented},
    path, read,
};

const DASHBOARDS: [&str; 2] = ["dashboard.json", "dashboard-control.json"];

/// Labels that the scrape adds, and the one of histograms.
const SCRAPED: [&str; 5] = ["job", "instance", "namespace", "pod", "le"];

const AGGREGATIONS: [&str; 9] = ["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// The names in a PromQL expression.
#[derive(Debug, Default, PartialEq, Eq)]
struct ExpressionNames {
    /// The names of metrics.
    metrics: Vec<String>,
    /// Labels with the values of their matchers.
    matchers: Vec<(String, String)>,
    /// Labels for grouping.
    grouped: Vec<String>,
}

/// Parses enough of PromQL to distinguish the kinds of names.
fn names_in(expression: &str) -> ExpressionNames {
    let mut names = ExpressionNames::default();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = |part: &str| part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        if first == '[' {
            // A duration, or a variable for one.
            rest = &rest[rest.find(']').expect("a range ends") + 1..];
        } else if first.is_ascii_digit() {
            rest = &rest[end(rest)..];
        } else if first.is_ascii_alphabetic() {
            let (word, after) = rest.split_at(end(rest));
            rest = after.trim_start();
            if GROUPINGS.contains(&word) {
                let (list, after) = rest.strip_prefix('(').and_then(|list| list.split_once(')')).expect("a list");
                names.grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if !rest.starts_with('(') && !AGGREGATIONS.contains(&word) && !OPERATORS.contains(&word) {
                names.metrics.push(word.to_owned());
                if let Some(matchers) = rest.strip_prefix('{') {
                    rest = matchers;
                    while !rest.starts_with('}') {
                        let (label, after) = rest.split_once(['=', '!']).expect("a matcher");
                        let (_operator, after) = after.split_once('"').expect("a value");
                        let (value, after) = after.split_once('"').expect("a value ends");
                        names.matchers.push((label.trim_matches([',', ' ']).to_owned(), value.to_owned()));
                        rest = after.trim_start();
                    }
                    rest = &rest[1..];
                }
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
        rest = rest.trim_start();
    }
    names
}

/// The documented metric of a name, or of one of its series.
fn family<'a>(families: &'a BTreeMap<String, Family>, name: &str) -> Option<&'a Family> {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let histogram = base.and_then(|base| families.get(base)).filter(|family| family.kind == "histogram");
    histogram.or_else(|| families.get(name).filter(|family| family.kind != "histogram"))
}

/// Every problem of an expression.
fn faults(expression: &str, families: &BTreeMap<String, Family>, reference: &str) -> Vec<String> {
    let names = names_in(expression);
    let mut faults = Vec::new();
    let mut labels: BTreeSet<&str> = SCRAPED.into();
    if names.metrics.is_empty() {
        faults.push("asks for nothing".to_owned());
    }
    for metric in &names.metrics {
        match family(families, metric) {
            Some(family) => labels.extend(family.labels.iter().map(String::as_str)),
            None => faults.push(format!("there is no metric {metric}")),
        }
    }
    let used = names.grouped.iter().chain(names.matchers.iter().map(|(label, _)| label));
    faults.extend(
        used.filter(|label| !labels.contains(label.as_str())).map(|label| format!("there is no label {label}")),
    );
    for (label, values) in names.matchers.iter().filter(|(label, _)| !SCRAPED.contains(&label.as_str())) {
        let known = |value: &&str| !reference.contains(&format!("`{value}`"));
        faults.extend(values.split('|').filter(known).map(|value| format!("{label} is never {value}")));
    }
    faults
}

/// Every text under this key, however deep.
fn under<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == key {
                    found.extend(field.as_str());
                }
                under(key, field, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| under(key, element, found)),
        _ => {}
    }
}

fn assert_all_exist(file: &str, document: &Value) {
    let (families, reference) = (documented(), read("docs/metrics.md"));
    let mut expressions = Vec::new();
    under("expr", document, &mut expressions);
    assert!(expressions.len() >= 5, "{file} is read: {expressions:?}");
    for expression in expressions {
        let faults = faults(expression, &families, &reference);
        assert!(faults.is_empty(), "{file}: {expression}: {faults:?}");
    }
}

#[test]
fn alerts_ask_only_for_what_exists() {
    let alerts: Value = serde_yaml::from_str(&read("deploy/observability/alerts.yaml")).expect("it is YAML");
    assert_all_exist("alerts.yaml", &alerts);
    let rules = alerts["groups"].as_array().expect("a list").iter().flat_map(|group| group["rules"].as_array());
    for rule in rules.flatten() {
        for text in [&rule["alert"], &rule["for"], &rule["labels"]["severity"], &rule["annotations"]["summary"]] {
            assert!(text.is_string(), "{rule}");
        }
        // A label in a text must be in the result of the expression.
        let grouped = names_in(rule["expr"].as_str().expect("an expression")).grouped;
        let summary = rule["annotations"]["summary"].as_str().expect("a text");
        for label in summary.split("$labels.").skip(1).filter_map(|rest| rest.split([' ', '}']).next()) {
            assert!(grouped.is_empty() || grouped.iter().any(|other| other == label), "{label} is not in {grouped:?}");
        }
    }
}

/// Runs the shipped rules on a route's requests, with one of `values` a minute, and checks the alerts at one time.
fn firing(result: &str, values: &str, at: &str, alert: &str, expected: bool) {
    let labels = "route: shop/cache, namespace: shop, job: fanfare";
    let fires = told(alert, labels, &[("{{ $labels.route }}", "shop/cache")]);
    let alerts = if expected { &*fires } else { "[]" };
    let series = |result: &str| {
        format!(
            "fanfare_requests_completed_total{{route=\"shop/cache\", namespace=\"shop\", job=\"fanfare\", result=\"{result}\"}}"
        )
    };
    promtool(&[(series(result), values), (series("ok"), "0+60x120")], at, alert, alerts);
}

/// A promtool test with these series, and the expected alert.
pub(super) fn promtool(series: &[(String, &str)], at: &str, alert: &str, alerts: &str) {
    let series = series.iter().map(|(series, values)| format!("  - {{series: '{series}', values: '{values}'}}\n"));
    let test = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n{}  alert_rule_test:\n  \
         - {{eval_time: {at}, alertname: {alert}, exp_alerts: {alerts}}}\n",
        path("deploy/observability/alerts.yaml").display(),
        series.collect::<String>(),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, &test).expect("it can be written");
    let file = file.to_str().expect("text");
    testkit::consumers::promtool(&["test", "rules", file]).unwrap_or_else(|said| panic!("{said}\n{test}"));
}

/// The expected labels and texts of a firing alert, for promtool.
pub(super) fn told(alert: &str, labels: &str, put_in: &[(&str, &str)]) -> String {
    let alerts: Value = serde_yaml::from_str(&read("deploy/observability/alerts.yaml")).expect("it is YAML");
    let rules = alerts["groups"][0]["rules"].as_array().expect("a list");
    let rule = rules.iter().find(|rule| rule["alert"] == alert).expect("the rule is there");
    let text = |name: &str| {
        let text = rule["annotations"][name].as_str().expect("a text").to_owned();
        put_in.iter().fold(text, |text, (what, value)| text.replace(what, value))
    };
    let told = serde_json::json!({"summary": text("summary"), "description": text("description")});
    let severity = &rule["labels"]["severity"];
    format!("[{{exp_labels: {{{labels}, severity: {severity}}}, exp_annotations: {told}}}]")
}

#[test]
fn a_certificate_is_told_three_days_before_it_expires_and_no_earlier() {
    let labels = "namespace: shop, job: fanfare, file: /etc/fanfare/tls/tls.crt";
    let series = |expiry: &str| {
        let series = "fanfare_tls_certificate_expiry_timestamp_seconds{namespace=\"shop\", job=\"fanfare\", \
                      pod=\"a\", file=\"/etc/fanfare/tls/tls.crt\"}";
        (series.to_owned(), format!("{expiry}x60"))
    };
    let fires = told("FanfareCertificateExpires", labels, &[("{{ $labels.file }}", "/etc/fanfare/tls/tls.crt")]);
    // Times of a test begin at 0. Three days are 259200 seconds.
    for (expiry, expected) in [("260000", "[]"), ("261000", "[]"), ("259100", &*fires), ("600", &fires)] {
        let (series, values) = series(expiry);
        let at = if expected == "[]" { "12m" } else { "20m" };
        promtool(&[(series, &values)], at, "FanfareCertificateExpires", expected);
    }
}

#[test]
fn calls_of_grpc_that_a_server_fails_are_told_and_what_an_application_says_is_not() {
    let labels = "namespace: shop, job: fanfare, route: shop/cache";
    let put_in = [("{{ $labels.route }}", "shop/cache"), ("{{ $value | humanizePercentage }}", "10%")];
    let fires = told("FanfareGrpcFails", labels, &put_in);
    let series = |status: &str| {
        format!(
            "fanfare_grpc_requests_total{{namespace=\"shop\", job=\"fanfare\", route=\"shop/cache\", \
             source=\"endpoint\", grpc_status=\"{status}\"}}"
        )
    };
    for (status, expected) in [("UNAVAILABLE", &*fires), ("INTERNAL", &fires), ("NOT_FOUND", "[]"), ("OK", "[]")] {
        let other = if status == "OK" { "ABORTED" } else { "OK" };
        let all = [(series(status), "0+60x60"), (series(other), "0+540x60")];
        promtool(&all, "30m", "FanfareGrpcFails", expected);
    }
}

#[test]
fn one_failing_request_every_ten_minutes_among_thousands_keeps_an_alert_firing() {
    // One sample a minute, with a failure every tenth time.
    let rare = "0x9 1x9 2x9 3x9 4x9 5x9 6x9 7x9 8x9 9x9";
    for result in ["failed", "empty", "rejected"] {
        for at in ["13m", "19m", "29m", "40m", "71m"] {
            firing(result, rare, at, "FanfareRequestFailed", true);
        }
    }
    firing("partial", rare, "40m", "FanfareEndpointsMissed", true);
    firing("failed", "0x120", "40m", "FanfareRequestFailed", false);
    firing("client", rare, "40m", "FanfareRequestFailed", false);
    firing("failed", "0x9 1x110", "60m", "FanfareRequestFailed", false);
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let file = path("deploy/observability/alerts_test.yaml");
    let said = testkit::consumers::promtool(&["test", "rules", file.to_str().expect("text")]);
    said.unwrap_or_else(|said| panic!("{said}"));
    let tests: Value = serde_yaml::from_str(&read("deploy/observability/alerts_test.yaml")).expect("it is YAML");
    let expected = tests["tests"].as_array().expect("a list").iter().map(|test| &test["promql_expr_test"]);
    let mut tested: BTreeSet<(String, bool)> = BTreeSet::new();
    for case in expected.flat_map(|cases| cases.as_array().expect("a list")) {
        let samples = case["exp_samples"].as_array().expect("a list");
        let alert = case["expr"].as_str().and_then(|text| text.split('"').nth(1)).expect("ALERTS{alertname=\"...\"");
        tested.insert((alert.to_owned(), !samples.is_empty()));
    }
    let alerts: Value = serde_yaml::from_str(&read("deploy/observability/alerts.yaml")).expect("it is YAML");
    let mut names = Vec::new();
    under("alert", &alerts, &mut names);
    let needed = names.iter().flat_map(|name| [((*name).to_owned(), true), ((*name).to_owned(), false)]);
    assert_eq!(tested, needed.collect());
}

#[test]
fn the_dashboards_ask_only_for_what_exists() {
    for file in DASHBOARDS {
        let dashboard: Value =
            serde_json::from_str(&read(&format!("deploy/observability/{file}"))).expect("it is JSON");
        assert_all_exist(file, &dashboard);
        let mut queries = Vec::new();
        under("query", &dashboard, &mut queries);
        for query in queries.iter().filter_map(|query| query.strip_prefix("label_values(")) {
            let metric = query.split(',').next().expect("a metric");
            assert!(documented().contains_key(metric), "there is no metric {metric}");
        }
    }
}

/// Whether Prometheus has anything for an expression. A quantile of nothing is not a number.
async fn has_data(prometheus: SocketAddr, expression: &str) -> bool {
    let query: String = percent_encoded(expression);
    let answer = client::get(prometheus, &format!("/api/v1/query?query={query}")).await.complete().text();
    let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    let series = answer["data"]["result"].as_array().expect("series");
    series.iter().any(|series| series["value"][1] != "NaN")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn every_panel_shows_something_of_a_process_with_every_role() {
    let cluster = cluster::shared().await;
    let roles = every_role::start(&cluster).await;
    let fanfare = &roles.fanfare;
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: fanfare\n  static_configs: [{{targets: ['{}']}}]\n",
        fanfare.admin()
    );
    let prometheus = consumers::prometheus(&config).await;
    let mut expressions = Vec::new();
    for file in DASHBOARDS {
        let dashboard: Value =
            serde_json::from_str(&read(&format!("deploy/observability/{file}"))).expect("it is JSON");
        let mut found = Vec::new();
        under("expr", &dashboard, &mut found);
        expressions.extend(found.iter().map(|text| text.replace("$job", ".+").replace("$__rate_interval", "1m")));
    }
    assert!(expressions.len() > 40, "{expressions:?}");
    // Rates need two scrapes with requests and changes between them.
    let mut number = 0;
    let mut missing = async || {
        number = number % 200 + 1;
        roles.change(&cluster, number).await;
        every_role::send_one_of_each(fanfare).await;
        let mut missing = Vec::new();
        for expression in &expressions {
            if !has_data(prometheus.address(), expression).await {
                missing.push(expression);
            }
        }
        missing
    };
    let limit = Duration::from_secs(120);
    testkit::eventually!("every panel to show something", within limit, missing().await, |missing| missing.is_empty());
}

#[test]
fn missing_metrics_are_detected() {
    let (families, reference) = (documented(), read("docs/metrics.md"));
    let faults = |expression: &str| faults(expression, &families, &reference);
    let good = r#"sum by (route) (rate(fanfare_requests_total{result=~"failed|empty", job="a"}[5m])) / 2e3 > 0.5"#;
    assert_eq!(faults(good), Vec::<String>::new());
    for (bad, what) in [
        ("rate(fanfare_request_total[5m])", "there is no metric fanfare_request_total"),
        ("fanfare_legs_total_bucket", "there is no metric fanfare_legs_total_bucket"),
        ("request_duration_seconds", "there is no metric request_duration_seconds"),
        ("sum by (path) (fanfare_endpoints)", "there is no label path"),
        (r#"fanfare_endpoints{state="ready"}"#, "there is no label state"),
        (r#"fanfare_endpoints{condition="up"}"#, "condition is never up"),
        ("rate(5m)", "asks for nothing"),
    ] {
        let faults = faults(bad);
        assert!(faults.iter().any(|fault| fault == what), "{bad}: {faults:?}");
    }
    let expected = ExpressionNames {
        metrics: vec!["a_b".to_owned(), "c".to_owned()],
        matchers: vec![("x".to_owned(), "1".to_owned()), ("y".to_owned(), "2|3".to_owned())],
        grouped: vec!["z".to_owned()],
    };
    assert_eq!(names_in(r#"topk(3, max by (z) (a_b{x!="1", y=~"2|3"})) unless c offset 5m"#), expected);
}
