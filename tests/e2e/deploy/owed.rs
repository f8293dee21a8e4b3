//! The alerts on what endpoints are owed: each fires where it should, and is quiet where all is well.

use super::observability::{promtool, told};

/// A series of our process with these labels besides.
fn series(metric: &str, labels: &str) -> String {
    format!("{metric}{{namespace=\"shop\", job=\"fanfare\", {labels}}}")
}

/// The alert that fires about a thing of ours, with these values put into its texts.
fn fires(alert: &str, label: &str, value: &str, put_in: &[(&str, &str)]) -> String {
    let name = format!("{{{{ $labels.{label} }}}}");
    let all: Vec<_> = [(name.as_str(), value)].into_iter().chain(put_in.iter().copied()).collect();
    told(alert, &format!("namespace: shop, job: fanfare, {label}: {value}"), &all)
}

#[test]
fn an_endpoint_that_stays_down_is_told_and_one_that_comes_back_is_not() {
    let owed = series("fanfare_deliveries_owed", "endpoint=\"cache-2\", pod=\"a\"");
    let alert = "FanfareDeliveriesOwed";
    let told = fires(alert, "endpoint", "cache-2", &[("{{ $value }}", "35")]);
    promtool(&[(owed.clone(), "5+1x60")], "30m", alert, &told);
    // Who is owed nothing has no series.
    promtool(&[(owed.clone(), "5x10 stale _x4 5x10 stale _x30")], "30m", alert, "[]");
    promtool(&[(owed, "_x60")], "30m", alert, "[]");
}

#[test]
fn lost_deliveries_are_reported_and_completed_dropped_or_refused_ones_are_not() {
    let cases = [
        ("FanfareDeliveriesLost", "fanfare_deliveries_total", "result", "expired", ["delivered", "dropped"]),
        ("FanfareDeliveriesNotKept", "fanfare_deliveries_refused_total", "reason", "max_jobs", ["answer", "answer"]),
    ];
    for (alert, metric, label, lost, fine) in cases {
        let told = fires(alert, "route", "purge", &[]);
        let one = |value: &str| series(metric, &format!("route=\"purge\", {label}=\"{value}\", pod=\"a\""));
        promtool(&[(one(lost), "0x20 1x60")], "25m", alert, &told);
        for value in fine {
            promtool(&[(one(value), "0x20 1x60")], "25m", alert, "[]");
        }
        promtool(&[(one(lost), "0x20 1x60")], "50m", alert, "[]");
    }
}

#[test]
fn a_journal_that_cannot_be_written_or_was_damaged_is_told_and_a_change_of_processes_is_not() {
    let writable = series("fanfare_journal_writable", "pod=\"fanfare-0\"");
    let alert = "FanfareJournalNotWritable";
    let told = fires(alert, "pod", "fanfare-0", &[]);
    for (values, expected) in [("1x10 0x30", &*told), ("1x10 0x3 1x30", "[]"), ("1x60", "[]")] {
        promtool(&[(writable.clone(), values)], "20m", alert, expected);
    }
    let damaged = series("fanfare_journal_damaged_total", "pod=\"fanfare-0\"");
    let alert = "FanfareJournalDamaged";
    for (values, expected) in [("1x30", &*fires(alert, "pod", "fanfare-0", &[])), ("0x30", "[]")] {
        promtool(&[(damaged.clone(), values)], "5m", alert, expected);
    }
}
