//! The state of the roles other than `broadcast`, from their metrics, for `/-/overview`.

use serde_json::{Map, Value};

use crate::samples::Samples;

/// A metric, and the column with its values.
type Column = (&'static str, &'static str);

/// The parts, and the metrics with their state.
const PARTS: [(&str, &[Column]); 5] = [
    ("watches", &[("fanfare_watch_age_seconds", "age_seconds")]),
    ("lists", &[("fanfare_endpoint_url_age_seconds", "age_seconds"), ("fanfare_endpoints_age_seconds", "age_seconds")]),
    (
        "exports",
        &[
            ("fanfare_export_in_sync", "in_sync"),
            ("fanfare_export_endpoints", "endpoints"),
            ("fanfare_export_held_endpoints", "held"),
        ],
    ),
    ("bridges", &[("fanfare_bridge_in_sync", "in_sync")]),
    (
        "mirrors",
        &[
            ("fanfare_mirror_remote_in_sync", "in_sync"),
            ("fanfare_mirror_remote_staleness_seconds", "staleness_seconds"),
            ("fanfare_mirror_remote_services", "services"),
            ("fanfare_mirror_objects", "objects"),
            ("fanfare_mirror_failing", "failing"),
        ],
    ),
];

/// The maximum number of rows of each part.
const MOST_ROWS: usize = 200;

/// Each part with its rows, and whether the configuration file as it is now is in force.
pub(crate) fn parts(metrics: &str) -> Map<String, Value> {
    let samples = Samples::read(metrics);
    let bounded = |mut rows: Vec<Value>| {
        rows.truncate(MOST_ROWS);
        Value::from(rows)
    };
    let mut parts = Map::new();
    let in_force = samples.first("fanfare_config_in_force").map(|value| value > 0.0);
    parts.insert("config_in_force".to_owned(), in_force.into());
    parts.insert("elections".to_owned(), bounded(samples.elections()));
    for (part, columns) in PARTS {
        parts.insert(part.to_owned(), bounded(samples.rows(columns)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_has_its_rows_and_no_more_than_somebody_reads() {
        let mut text = "# TYPE fanfare_watch_age_seconds gauge\n\
                        fanfare_watch_age_seconds{kind=\"Slice\",scope=\"a \\\"b\\\\\"} 1.5\n\
                        fanfare_mirror_failing 2\nother{a=\"b\"} 3\nfanfare_config_in_force 0\n"
            .to_owned();
        for n in 0..300 {
            text += &format!("fanfare_export_in_sync{{export=\"{n}\",sink=\"s\"}} 1\n");
        }
        let mut parts = parts(&text);
        let exports = parts.remove("exports").expect("it is there");
        assert_eq!(exports.as_array().map(Vec::len), Some(MOST_ROWS));
        assert_eq!(exports[0], json!({"export": "0", "sink": "s", "in_sync": 1}));
        let expected = json!({
            "config_in_force": false, "elections": [], "lists": [], "bridges": [], "mirrors": [{"failing": 2}],
            "watches": [{"kind": "Slice", "scope": "a \"b\\", "age_seconds": 1.5}],
        });
        assert_eq!(Value::Object(parts), expected);
    }
}
