//! `fanfare check`: everything that is wrong with a file, and a summary of one that is right.

use std::io::Write as _;

use crate::process::{Finished, run};

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
        "admin.listen: 0.0.0.0:8081 is listened on twice",
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
async fn what_is_asked_for_is_counted_role_by_role() {
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
async fn what_cannot_work_is_a_warning_and_the_file_is_still_ok() {
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
        "warning: broadcast[0].routes[1]: no request comes here",
    ];
    assert_eq!(warnings.len(), begin.len(), "{}", warned.stderr);
    for (warning, begin) in warnings.iter().zip(begin) {
        assert!(warning.starts_with(begin), "{warning}");
    }
}

#[tokio::test]
async fn what_the_parser_cannot_hold_is_refused() {
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
