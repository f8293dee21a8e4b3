//! `fanfare check`: every problem of an invalid file, and a summary of a valid one.

use std::io::Write as _;

use crate::process::{Finished, finish_with_input, run};

async fn check(text: &str) -> Finished {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it can be written");
    run(["check".as_ref(), "--config".as_ref(), file.path().as_os_str()]).await
}

const BAD: &str = r#"
admin: {listen: 0.0.0.0:8081}
discoverr: []
threads: 0
drain_delay: soon
broadcast:
  - listen: 127.0.0.1:8080x
    max_head: 1XB
    routes:
      - match: {methods: [PURGE, "B AN"], path: cache}
        to: {service: shop/Cache, port: http, file: /x}
        require: most
        timeout: 10
        timeuot: 3s
      - to: {endpoints: []}
        window: 1KiB
        connect_timeout: 0s
        on_empty: 100
  - listen: 0.0.0.0:8081
    routes: []
  - {}
"#;

#[tokio::test]
async fn every_problem_is_printed_with_its_path() {
    let refused = check(BAD).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""));
    let problems: Vec<&str> = refused.stderr.lines().skip(1).map(str::trim_start).collect();
    let paths = [
        "discoverr: unknown key, did you mean \"discover\"?",
        "threads: must be at least 1",
        "drain_delay: \"soon\"",
        "broadcast[0].listen: \"127.0.0.1:8080x\"",
        "broadcast[0].max_head: \"1XB\"",
        "broadcast[0].routes[0].match.methods[1]: \"B AN\"",
        "broadcast[0].routes[0].match.path: \"cache\"",
        "broadcast[0].routes[0].to: exactly one of",
        "broadcast[0].routes[0].to.service: \"shop/Cache\"",
        "broadcast[0].routes[0].require: \"most\"",
        "broadcast[0].routes[0].timeout: \"10\" is not a duration: the unit is missing, did you mean 10s?",
        "broadcast[0].routes[0].timeuot: unknown key, did you mean \"timeout\"?",
        "broadcast[0].routes[1].to.endpoints: is empty",
        "broadcast[0].routes[1].window: 1024 B",
        "broadcast[0].routes[1].connect_timeout: must be longer",
        "broadcast[0].routes[1].on_empty: 100",
        "broadcast[1].routes: has no route",
        "broadcast[2].listen: is missing",
        "broadcast[2].routes: has no route",
        "admin.listen: 0.0.0.0:8081 is the address of two listeners",
    ];
    for path in paths {
        assert!(problems.iter().any(|problem| problem.starts_with(path)), "{path} is missing in\n{}", refused.stderr);
    }
    assert_eq!(problems.len(), paths.len(), "{}", refused.stderr);
}

#[tokio::test]
async fn invalid_yaml_is_reported_with_line_and_column() {
    for (text, told) in [
        ("broadcast: [\n", "line "),
        ("a: 1\na: 2\n", "line 2"),
        ("- 1\n", "expected a mapping"),
        ("", "there is nothing to do"),
    ] {
        let refused = check(text).await;
        assert_eq!(refused.code, Some(64), "{text:?}");
        assert!(refused.stderr.contains(told), "{text:?}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn files_of_editors_for_windows_are_read_or_it_says_how_to_save_them() {
    let text = "broadcast:\n- listen: 127.0.0.1:0\n  routes: [{to: {endpoints: 192.0.2.1:80}}]\n";
    for text in [text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let done = check(&text).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let wrong = check("\u{feff}brodcast: []\n").await;
    assert_eq!(wrong.code, Some(64));
    assert!(wrong.stderr.contains("brodcast (line 1)") || wrong.stderr.contains("line 1"), "{}", wrong.stderr);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("utf16.yaml");
    let bytes: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    std::fs::write(&path, bytes).expect("it can be written");
    let wrong = run(["check".as_ref(), path.as_os_str()]).await;
    assert!(wrong.code == Some(64) && wrong.stderr.contains("save it as UTF-8"), "{}", wrong.stderr);
}

#[tokio::test]
async fn a_good_file_is_ok_without_anything_it_names_being_there() {
    let good = check(
        "
admin: {listen: 127.0.0.1:0}
kubernetes: {kubeconfig: /nowhere}
broadcast:
  - listen: 127.0.0.1:0
    routes:
      - {match: {methods: [PURGE, BAN], path: /cache/*}, to: {service: shop/cache, port: http}, require: majority, timeout: 10s}
      - {match: {host: '*.example.org'}, to: {file: /nowhere/endpoints.json}}
      - {to: {service: [shop/cache], port: http}, success: [2xx, 'PURGE=200,404']}
  - listen: '[::1]:0'
    routes: [{to: {dns: 'cache.example.org:80'}}]
",
    )
    .await;
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
    assert!(
        good.stdout.starts_with("ok\n")
            && good.stdout.trim_end().ends_with(": broadcast: 2 listeners, 4 routes, 3 sources of endpoints"),
        "{}",
        good.stdout
    );
}

#[tokio::test]
async fn settings_are_counted_by_role() {
    let good = check(
        "
elect: [{name: a}, {name: b}]
discover: [{select: {labels: a=b}, to: /x.yml}]
bridge: [{from: 's3://a/b', to: /x}, {from: 's3://a/c', to: /y}]
endpoints: {services: [a, b, c], listen: 127.0.0.1:0}
mirror: {remotes: [{kubeconfig: /k, prefix: west, select: {labels: a=b}}]}
",
    )
    .await;
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
    let counts = "elect: 2 elections; discover: 1 export; bridge: 2 bridges; endpoints: 3 services; mirror: 1 remote";
    assert!(good.stdout.trim_end().ends_with(&format!(": {counts}")), "{}", good.stdout);
}

#[tokio::test]
async fn a_file_needs_no_flag() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"elect: [{name: a}]").expect("it can be written");
    let good = run(["check".as_ref(), file.path().as_os_str()]).await;
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn run_refuses_what_check_refuses() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(BAD.as_bytes()).expect("it can be written");
    let refused = run(["run".as_ref(), "--config".as_ref(), file.path().as_os_str()]).await;
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("20 problems"), "{}", refused.stderr);
}

#[tokio::test]
async fn an_ineffective_setting_is_a_warning_and_the_file_is_still_ok() {
    let warned = check(
        "
broadcast:
  - listen: 127.0.0.1:0
    routes:
      - {to: {endpoints: ['192.0.2.1:80', '192.0.2.2:80']}, require: 3, timeout: 1s, connect_timeout: 2s}
      - {match: {methods: [purge]}, to: {file: /nowhere}}
",
    )
    .await;
    assert_eq!(warned.code, Some(0), "{}", warned.stderr);
    assert!(warned.stdout.starts_with("ok\n"), "{}", warned.stdout);
    let warnings: Vec<&str> = warned.stderr.lines().collect();
    let begin = [
        "warning: broadcast[0].routes[0].connect_timeout: is more than the 1s",
        "warning: broadcast[0].routes[0].require: every request fails: 2 endpoints are named, 3 must be ok",
        "warning: broadcast[0].routes[1].match.methods: \"purge\" is not the method PURGE",
        "warning: broadcast[0].routes[1]: no request reaches this route",
    ];
    assert_eq!(warnings.len(), begin.len(), "{}", warned.stderr);
    for (warning, begin) in warnings.iter().zip(begin) {
        assert!(warning.starts_with(begin), "{warning}");
    }
}

#[tokio::test]
async fn a_file_beyond_the_limits_of_the_parser_is_refused() {
    let refused = check(
        "
broadcast:
  - listen: 127.0.0.1:0
    max_head: 4GiB
    max_target: 5GiB
    max_fields: 1025
    routes: [{to: {endpoints: '192.0.2.1:80'}}]
",
    )
    .await;
    assert_eq!(refused.code, Some(64));
    for path in
        ["broadcast[0].max_head: must be", "broadcast[0].max_target: must be", "broadcast[0].max_fields: 1025 is"]
    {
        assert!(refused.stderr.contains(path), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn every_fault_is_told_to_programs_with_its_file_line_and_key() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(BAD.as_bytes()).expect("it can be written");
    let path = file.path().to_str().expect("it is text");
    let refused = run(["check", path, "-o", "json"]).await;
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(64), ""));
    let report: serde_json::Value = serde_json::from_str(&refused.stdout).expect("it is JSON");
    assert_eq!((&report["ok"], &report["file"]), (&false.into(), &path.into()));
    let faults = report["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), 20, "{faults:#?}");
    for (key, line) in [
        ("threads", 4),
        ("broadcast[0].routes[0].match.methods[1]", 10),
        ("broadcast[0].routes[0].timeuot", 14),
        ("broadcast[2].listen", 21),
        ("admin.listen", 2),
    ] {
        let fault = faults.iter().find(|fault| fault["key"] == key).unwrap_or_else(|| panic!("{key}: {faults:#?}"));
        assert_eq!((&fault["line"], &fault["file"]), (&line.into(), &path.into()), "{key}");
        assert!(fault["message"].as_str().is_some_and(|message| !message.is_empty()), "{key}");
    }
}

async fn check_input(text: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["check", "-"]).args(arguments).envs(variables.iter().copied());
    finish_with_input(command, text).await
}

#[tokio::test]
async fn a_dash_is_standard_input_and_its_faults_and_warnings_are_told_to_programs() {
    let good = check_input("elect: [{name: a}]", &[], &[]).await;
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), "ok\nstandard input: elect: 1 election\n"));
    let text = "broadcast:\n- listen: 127.0.0.1:0\n  routes:\n  - to: {endpoints: '192.0.2.1:80'}\n    require: 2\n";
    let warned = check_input(text, &[], &["--output=json"]).await;
    let report: serde_json::Value = serde_json::from_str(&warned.stdout).expect("it is JSON");
    assert_eq!((warned.code, &report["ok"], &report["faults"]), (Some(0), &true.into(), &serde_json::json!([])));
    let warning = &report["warnings"][0];
    assert_eq!((&warning["line"], &warning["key"]), (&5.into(), &"broadcast[0].routes[0].require".into()));
    let missing = run(["check", "/nowhere/fanfare.yaml", "-o", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&missing.stdout).expect("it is JSON");
    assert_eq!((missing.code, &report["ok"]), (Some(64), &false.into()));
    assert!(report["faults"][0]["message"].as_str().is_some_and(|told| told.contains("/nowhere/fanfare.yaml")));
}

#[tokio::test]
async fn placeholders_are_filled_in_from_the_environment_and_flags_of_it_outrank_the_file() {
    let text =
        "log_level: info\nbroadcast:\n- listen: '${CHECKED_LISTEN}'\n  routes:\n  - to: {endpoints: '192.0.2.1:80'}\n";
    let good = check_input(text, &[("CHECKED_LISTEN", "127.0.0.1:0")], &[]).await;
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    let unset = check_input(text, &[], &[]).await;
    assert_eq!(unset.code, Some(64));
    for part in
        ["standard input", "broadcast[0].listen: the environment variable CHECKED_LISTEN is not set", "(line 3)"]
    {
        assert!(unset.stderr.contains(part), "{part}: {}", unset.stderr);
    }
    let variables =
        [("CHECKED_LISTEN", "hunter2"), ("FANFARE_LOG_LEVEL", "loud"), ("FANFARE_PORT", "tcp://10.0.0.1:80")];
    let wrong = check_input(text, &variables, &[]).await;
    assert!(wrong.stderr.contains("FANFARE_LOG_LEVEL (log_level): "), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("hunter2") && !wrong.stderr.contains("FANFARE_PORT"), "{}", wrong.stderr);
}
