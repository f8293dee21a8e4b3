//! The command line as a whole: every role and command, and that flags, variables and files say the same.

use std::path::Path;

use super::*;
use crate::config::Config;

fn config(flags: &[&str]) -> Config {
    config_of("--endpoints=192.0.2.1:80", flags)
}

fn config_of(source: &str, flags: &[&str]) -> Config {
    let arguments = ["fanfare", "broadcast", source];
    match parse(arguments.iter().chain(flags).copied()) {
        Ok(Task::Serve(flags)) => flags.config().unwrap_or_else(|problems| panic!("{problems}")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn flags_without_a_subcommand_broadcast() {
    let old = ["fanfare", "-s", "cache", "-p", "http", "--all-must-succeed=false"];
    assert!(matches!(parse(old), Ok(Task::Serve(_))));
    for (flag, kind) in
        [("--help", clap::error::ErrorKind::DisplayHelp), ("-V", clap::error::ErrorKind::DisplayVersion)]
    {
        assert_eq!(parse(["fanfare", flag]).map(|_| ()).unwrap_err().kind(), kind, "{flag}");
    }
}

#[test]
fn help_is_a_command_too_and_a_file_needs_no_flag() {
    for arguments in [&["help"][..], &["help", "broadcast"], &["help", "mirror"], &["help", "check"]] {
        let told = parse(["fanfare"].iter().chain(arguments)).map(|_| ()).expect_err("it only tells");
        assert_eq!(told.kind(), clap::error::ErrorKind::DisplayHelp, "{arguments:?}");
    }
    assert!(parse(["fanfare", "help", "mirror"]).map(|_| ()).unwrap_err().to_string().contains("--svc-prefix"));
    for arguments in [&["/x"][..], &["--config", "/x"], &["-c", "/x"], &["--config=/x"]] {
        let Ok(Task::Check(check)) = parse(["fanfare", "check"].iter().chain(arguments)) else {
            panic!("{arguments:?}")
        };
        let Ok(Task::Run(run)) = parse(["fanfare", "run"].iter().chain(arguments)) else { panic!("{arguments:?}") };
        assert_eq!((check.path(), run.file.path()), (Path::new("/x"), Path::new("/x")), "{arguments:?}");
    }
    for arguments in [&[][..], &["/x", "--config=/y"], &["/x", "/y"]] {
        assert!(parse(["fanfare", "check"].iter().chain(arguments)).is_err(), "{arguments:?}");
    }
}

#[test]
fn documented_defaults_are_the_real_ones() {
    let broadcast = Role::named("broadcast").expect("there is such a role");
    let all = broadcast.settings().filter(|setting| !setting.flag.is_empty() && !setting.default.is_empty());
    for setting in all {
        let flag = format!("--{}={}", setting.flag, setting.default);
        // Some have an effect only beside others.
        let source = match setting.flag {
            "endpoints-refresh" => "--endpoints-url=http://a.example/",
            _ => "--endpoints=192.0.2.1:80",
        };
        let base: &[&str] = match setting.section {
            "broadcast[].tls" => &["--tls-cert=/c", "--tls-key=/k", "--tls-client-ca=/ca"],
            "broadcast[].routes[].to.tls" => &["--upstream-tls"],
            "broadcast[].routes[].redeliver" => &["--redeliver=1h"],
            _ => &[],
        };
        assert_eq!(config_of(source, &[base, &[&flag]].concat()), config_of(source, base), "{flag}");
    }
}

#[test]
fn flags_say_the_same_as_a_file() {
    let flags = config(&[
        "-i",
        ":8080",
        "-m",
        "localhost:0",
        "-t",
        "3s",
        "--require",
        "67%",
        "--success",
        "2xx",
        "--success",
        "PURGE=404",
        "--allow",
        "PURGE,BAN /cache/*",
        "--trust-forwarded",
        "10.0.0.0/8,2001:db8::/32",
        "--max-body",
        "1MiB",
        "--lenient-target",
        "--via-name",
        "edge",
        "--strip-prefix",
        "/api",
        "--host={authority}",
        "--set-header",
        "X-A: b",
        "--set-header",
        "X-C: d: e",
        "--add-header=X-F: g",
        "--remove-header",
        "Cookie",
        "--remove-header=X-H,X-I",
        "--set-response-header=Cache-Control: no-store",
        "--add-response-header=X-J: k",
        "--remove-response-header=Server",
        "--first-byte-timeout",
        "1s",
        "--no-report",
        "--keepalive=false",
        "--ready-no-endpoint",
        "--threads",
        "3",
    ]);
    let file = Config::parse(
        b"
admin: {listen: 127.0.0.1:0}
threads: 3
ready_no_endpoint: yes
broadcast:
  - listen: 0.0.0.0:8080
    keepalive: false
    allow: 'PURGE,BAN /cache/*'
    trust_forwarded: [2001:db8::/32, 10.0.0.0/8]
    lenient_target: true
    via_name: edge
    routes:
      - to: {endpoints: 192.0.2.1:80}
        timeout: 3s
        require: 67%
        success: [2xx, PURGE=404]
        max_body: 1048576
        first_byte_timeout: 1000ms
        report: false
        strip_prefix: /api
        host: '{authority}'
        headers:
          request: {set: {X-A: b, X-C: 'd: e'}, add: {X-F: [g]}, remove: [Cookie, X-H, X-I]}
          response: {set: {Cache-Control: no-store}, add: 'X-J: k', remove: Server}
",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let sorted = |mut config: Config| {
        std::sync::Arc::make_mut(&mut config.proxy).listeners[0].trust_forwarded.sort();
        config
    };
    assert_eq!(sorted(flags), sorted(file));
}

fn broadcast(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().copied().collect();
    match parse_with(["fanfare", "broadcast"].iter().chain(arguments).copied(), &environment) {
        Ok(Task::Serve(flags)) => flags.config().map_err(|problems| problems.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_have_the_meaning_of_flags_which_take_precedence() {
    let variables = [
        ("FANFARE_ENDPOINTS", "192.0.2.1:80,192.0.2.2:80\n192.0.2.3:80"),
        ("FANFARE_REQUIRE", "2"),
        ("FANFARE_TIMEOUT", "3s"),
        ("FANFARE_ALLOW", "PURGE /a\nGET /b"),
        ("FANFARE_KEEPALIVE", "0"),
        ("FANFARE_TLS_CERT", "/a.pem\n/b.pem"),
        ("FANFARE_TLS_KEY", "/a.key\n/b.key"),
        ("FANFARE_MAX_BODY", ""),
    ];
    let flags = [
        "--endpoints=192.0.2.1:80,192.0.2.2:80",
        "--endpoints=192.0.2.3:80",
        "--require=2",
        "--timeout=3s",
        "--allow=PURGE /a",
        "--allow=GET /b",
        "--no-keepalive",
        "--tls-cert=/a.pem",
        "--tls-cert=/b.pem",
        "--tls-key=/a.key",
        "--tls-key=/b.key",
    ];
    assert_eq!(broadcast(&[], &variables).expect("it can be used"), broadcast(&flags, &[]).expect("it can be used"));
    let other = ["--require=any", "--keepalive", "--endpoints=192.0.2.9:80"];
    let mixed = broadcast(&other, &variables).expect("it can be used");
    let listener = &mixed.proxy.listeners[0];
    assert_eq!((listener.routes[0].policy.require.to_string().as_str(), listener.keepalive), ("any", true));
    assert_eq!(listener.routes[0].cluster.as_str(), "fixed:192.0.2.9:80");
}

#[test]
fn a_wrong_value_names_its_variable() {
    let source = ("FANFARE_SERVICE", "shop/cache");
    for (name, value, flag) in [
        ("FANFARE_TIMEOUT", "soon", "--timeout"),
        ("FANFARE_KEEPALIVE", "maybe", "--keepalive"),
        ("FANFARE_TRUST_FORWARDED", "10.0.0.0/8,x", "--trust-forwarded"),
        ("FANFARE_METRICS_INTERFACE", "x", "--metrics-interface"),
    ] {
        let problems = broadcast(&[], &[source, (name, value)]).expect_err(name);
        assert!(problems.starts_with(&format!("{name} ({flag}): ")), "{problems}");
    }
    let problems = broadcast(&[], &[source, ("FANFARE_ALL_MUST_SUCCEED", "perhaps")]).expect_err("no boolean");
    assert!(problems.starts_with("FANFARE_ALL_MUST_SUCCEED: is neither"), "{problems}");
    let problems = broadcast(&["--timeout=soon"], &[source, ("FANFARE_TIMEOUT", "3s")]).expect_err("the flag counts");
    assert!(problems.starts_with("--timeout: "), "{problems}");
}

#[test]
fn a_flag_that_tells_where_endpoints_come_from_replaces_a_variable_that_does() {
    let variables = [("FANFARE_SERVICE", "shop/cache"), ("FANFARE_PORT_NAME", "http")];
    let cluster = |arguments: &[&str], variables: &[(&str, &str)]| {
        let config = broadcast(arguments, variables).unwrap_or_else(|problems| panic!("{problems}"));
        config.proxy.listeners[0].routes[0].cluster.to_string()
    };
    assert_eq!(cluster(&[], &variables), "kube:shop/cache:http");
    assert_eq!(cluster(&["--endpoints=192.0.2.1:80"], &variables), "fixed:192.0.2.1:80");
    assert_eq!(cluster(&["--service=shop/other"], &variables), "kube:shop/other:http");
    let problems = broadcast(&[], &[variables[0], ("FANFARE_ENDPOINTS_DNS", "a.example:80")]).expect_err("two");
    assert!(problems.contains("FANFARE_SERVICE") && problems.contains("but 2 are given"), "{problems}");
    let both = [variables[0], ("FANFARE_ALL_MUST_SUCCEED", "false"), ("FANFARE_REQUIRE", "all")];
    assert!(broadcast(&[], &both).expect_err("they contradict each other").contains("FANFARE_ALL_MUST_SUCCEED"));
    for (flag, rule) in [("--require=2", "2"), ("--all-must-succeed", "all")] {
        let other = if rule == "2" { both[1] } else { ("FANFARE_REQUIRE", "any") };
        let config = broadcast(&[flag], &[variables[0], other]).expect("a flag outranks a variable");
        assert_eq!(config.proxy.listeners[0].routes[0].policy.require.to_string(), rule);
    }
}

#[test]
fn every_flag_of_every_role_has_a_variable_that_its_help_names() {
    for role in ROLES {
        let help = subcommand(role).render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        for name in role.settings().filter_map(|setting| setting.variable()) {
            let named = [format!("[env: {name}]"), format!("[env: {name}, ")];
            assert!(named.iter().any(|named| help.contains(named)), "{}: {name}", role.name);
        }
    }
}

#[test]
fn the_old_and_the_new_way_to_say_how_many() {
    let require = |flags: &[&str]| config(flags).proxy.listeners[0].routes[0].policy.require.to_string();
    assert_eq!(require(&[]), "all");
    for any in ["--all-must-succeed=false", "--no-all-must-succeed", "--require=any"] {
        assert_eq!(require(&[any]), "any", "{any}");
    }
    assert_eq!(require(&["--all-must-succeed"]), "all");
    assert_eq!(require(&["--all-must-succeed=false", "--require", "any"]), "any");
}
