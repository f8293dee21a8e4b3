//! The checked reader against real YAML text.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{duration, size};

/// Reads a configuration shaped like a broadcaster's and returns what is wrong with it, line by line.
fn check(text: &str) -> Vec<String> {
    let raw = match parse(text) {
        Ok(raw) => raw,
        Err(problem) => return vec![problem.to_string()],
    };
    let problems = Collector::new();
    let root = problems.root(&raw);
    if let Some(admin) = root.optional_section("admin") {
        let _ = admin.required::<SocketAddr>("listen");
        admin.finish();
    }
    for listener in root.list("broadcast") {
        let listener = listener.section();
        let _ = listener.required::<SocketAddr>("listen");
        for route in listener.list("routes") {
            let route = route.section();
            let matches = route.section("match");
            let _ = matches.optional::<Vec<String>>("methods");
            matches.finish();
            let _ = route.or_default_with("timeout", Duration::from_secs(10), duration::parse);
            let _ = route.or_default_with("window", 262_144, size::parse);
            let _ = route.or_default::<u32>("retries", 0);
            route.finish();
        }
        listener.finish();
    }
    root.finish();
    let problems = problems.into_problems();
    problems.to_string().lines().map(str::to_owned).collect()
}

const GOOD: &str = "
admin: {listen: '[::1]:8081'}
broadcast:
  - listen: 0.0.0.0:8080
    routes:
      - match: {methods: [PURGE, BAN]}
        timeout: 1m30s
        window: 256KiB
        retries: 2
      - {window: 65536, timeout: 0}
";

#[test]
fn a_good_file_has_no_problem() {
    assert_eq!(check(GOOD), Vec::<String>::new());
}

#[test]
fn every_problem_is_found_with_its_path() {
    let found = check(
        "
admin: {listen: nowhere}
broadcast:
  - routes:
      - timeout: 10
        match: {methods: [PURGE, [BAN]], path: /}
      - timeout: -3s
        window: 12Q
        retrys: 2
      - nothing
    lisen: 0.0.0.0:80
    colour: red
extra:
",
    );
    let expected = [
        "admin.listen: invalid socket address syntax",
        "broadcast[0].listen: is missing",
        "broadcast[0].routes[0].match.methods[1]: invalid type: sequence, expected a string",
        "broadcast[0].routes[0].match.path: unknown key; the known ones are: methods",
        "broadcast[0].routes[0].timeout: \"10\" is not a duration: the unit is missing, did you mean 10s?",
        "broadcast[0].routes[1].timeout: \"-3s\" is negative",
        "broadcast[0].routes[1].window: \"12Q\" is not a size: unknown unit \"Q\"",
        "broadcast[0].routes[1].retrys: unknown key, did you mean \"retries\"?",
        "broadcast[0].routes[2]: expected a mapping, found text",
        "broadcast[0].lisen: unknown key, did you mean \"listen\"?",
        "broadcast[0].colour: unknown key; the known ones are: listen, routes",
        "extra: unknown key; the known ones are: admin, broadcast",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found {found}\nexpected {expected}");
    }
}

#[test]
fn what_is_not_yaml_is_reported_with_line_and_column() {
    let table = [
        ("a: 1\nb: [1, 2\nc: 3\n", "line 3, column 2: "),
        ("a: 1\n\tb: 2\n", "line 2, column 1: "),
        ("@", "line 1, column 1: "),
        ("a: *nowhere\n", "line 1, column 4: unknown anchor"),
    ];
    for (text, start) in table {
        let found = check(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text:?}: {found:#?}");
    }
}

#[test]
fn duplicate_keys_odd_keys_and_tags_are_reported_where_they_stand() {
    let table = [
        ("admin:\n  listen: a\n  listen: b\n", "line 3, column 3: ", "duplicate key \"listen\""),
        ("a: 1\nb:\n  - {x: 1, y: 2, x: 3}\n", "line 3, column 18: ", "duplicate key \"x\""),
        ("a: 1\n8080: x\n", "line 2, column 1: ", "a text as key"),
        ("a: 1\nb: !secret x\n", "line 2, column 4: ", "a tag"),
    ];
    for (text, start, part) in table {
        let found = check(text);
        assert!(found.len() == 1 && found[0].starts_with(start) && found[0].contains(part), "{text:?}: {found:#?}");
    }
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let raw = parse("base: &base {timeout: 3s, retries: 1}\nroute: {<<: *base, retries: 2}\n").expect("is YAML");
    let problems = Collector::new();
    let route = problems.root(&raw).section("route");
    assert_eq!(route.parse_with("timeout", duration::parse), Some(Duration::from_secs(3)));
    assert_eq!(route.required::<u32>("retries"), Some(2));
    route.finish();
    assert!(problems.is_empty());
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{references}]\n"));
    }
    for (text, told) in [
        (text.as_str(), "aliases (*name) repeat too much of the file"),
        ("a: &a\n  b: *a\n", "stand too deep within each other, or an alias"),
        ("a: 1\n---\na: 2\n", "more than one document (---)"),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.message.contains(told), "{problem}");
    }
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&"x".repeat(MAX_TEXT + 1)).is_err());
    // It would keep the parser busy for hours.
    for open in ["[", "{a: "] {
        let deep = format!("a: 1\nb: {}", open.repeat(MAX_TEXT / 8));
        assert_eq!(parse(&deep).unwrap_err().path, "line 2", "{open}");
    }
    let wide = format!("[{}]", "[1], {a: 1}, ".repeat(10_000));
    assert!(parse(&wide).is_ok());
}

#[test]
fn empty_text_and_null_count_as_absent() {
    for text in ["", " \n", "# nothing\n", "---\n", "{}", "null"] {
        let raw = parse(text).expect("is YAML");
        let problems = Collector::new();
        let root = problems.root(&raw);
        assert_eq!(root.required::<u8>("port"), None);
        assert!(root.optional_section("admin").is_none());
        root.finish();
        assert_eq!(problems.into_problems().to_string(), "port: is missing", "{text:?}");
    }
    assert_eq!(check("admin:\n"), ["admin.listen: is missing"]);
}

#[test]
fn the_result_is_an_error_as_soon_as_one_problem_was_noted() {
    let problems = Collector::new();
    assert_eq!(problems.into_result(Some(1)), Ok(1));
    let problems = Collector::new();
    problems.add("a", "is bad");
    assert_eq!(problems.into_result(Some(1)).expect_err("a problem").len(), 1);
    assert!(Collector::new().into_result(None::<u8>).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([a-z&*!<>|?%@'\"#,:\\[\\]{}~ \t\n-]|admin|broadcast|listen|routes|timeout|match|methods|10s|: |\n  ){0,80}") {
        check(&text);
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0..GOOD.len(), length in 0_usize..12, insert in "[\\PC\n]{0,6}") {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + length).min(GOOD.len()), &insert);
        check(&text);
    }
}
