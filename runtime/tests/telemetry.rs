//! The real stderr of a real process: this test runs itself as a child, once per format.

use std::process::Command;

use runtime::telemetry::{self, Format, Level};

/// Set for the child, to the format it shall use.
const CHILD: &str = "RUNTIME_TEST_LOG_FORMAT";

fn child(format: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", "lines_reach_stderr_in_the_chosen_format", "--nocapture"])
        .env(CHILD, format)
        .output()
        .expect("this test runs itself");
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("is text");
    stderr.lines().map(str::to_owned).collect()
}

#[test]
fn lines_reach_stderr_in_the_chosen_format() {
    if let Ok(format) = std::env::var(CHILD) {
        let telemetry = telemetry::init(Level::Warn, format.parse().expect("a format"));
        tracing::info!("too quiet");
        tracing::warn!(answer = 42, odd = "\u{7f}", "first \"line\"\nbroken");
        telemetry.set_level(Level::Debug).expect("this logger is installed");
        tracing::debug!("second");
        // A later call changes the level and keeps the format.
        telemetry::init(Level::Error, Format::Text);
        tracing::warn!("too quiet again");
        return;
    }

    let lines = child("json");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("each line is JSON");
    assert_eq!(first["level"], "WARN");
    assert_eq!(first["message"], "first \"line\"\nbroken");
    assert_eq!((&first["answer"], &first["odd"]), (&42.into(), &"\u{7f}".into()));
    assert!(!lines[0].contains('\u{7f}'), "it steers no terminal: {}", lines[0]);
    assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "called as in the access log: {first}");
    assert_eq!(first["timestamp"], serde_json::Value::Null);
    let second: serde_json::Value = serde_json::from_str(&lines[1]).expect("each line is JSON");
    assert_eq!(second["message"], "second");

    let lines = child("text");
    assert_eq!(lines.len(), 2, "one event is one line: {lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("WARN") && line.contains(r#"first "line"\nbroken answer=42"#)),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.contains("DEBUG") && line.ends_with("second")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("too quiet") || line.contains('\u{1b}')), "{lines:#?}");
}
