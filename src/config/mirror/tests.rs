//! Tests of valid and invalid `mirror:` sections.

use crate::config::Config;

fn parse(text: &str) -> super::MirrorConfig {
    let config = Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
    config.mirror.expect("it is there")
}

fn problems(text: &str) -> String {
    Config::parse(text.as_bytes()).err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn the_shortest_mirror_has_the_defaults() {
    let config = parse("mirror: {remotes: [{kubeconfig: /west, prefix: west, select: {labels: a=b}}]}");
    let remote = &config.remotes[0];
    let expected =
        mirror::config::Remote { namespace: String::new(), ..mirror::config::Remote::new("west", "west", "a=b", "") };
    assert_eq!(remote.mirror, expected);
    assert_eq!((remote.domain.as_str(), config.cluster_domain.as_str()), ("cluster.west", "cluster.local"));
    assert_eq!((config.listen, config.dry_run, &config.global), (None, false, &None));
    assert_eq!(config.in_namespace(Some("here")).remotes[0].namespace, "here");
    assert_eq!(config.in_namespace(Some("here")).resync.as_secs(), 3600);
}

#[test]
fn everything_can_be_said() {
    let config = parse(
        "
mirror:
  listen: :8080
  resync: 10m
  workers: 4
  cluster_domain: k8s.example.
  global: {label: global=yes, namespace: everywhere, prefix: all, names: v0.2, domain: all.example}
  remotes:
    - kubeconfig: /remotes
      context: west
      name: us-west
      prefix: west
      select: {labels: 'mirror=true,tier!=test'}
      namespace: mirrors
      names: '{prefix}-{namespace}--{service}'
      namespaces: [shop, web]
      sync: false
      stale: ttl=10m
      lost_after: 1m
      max_delete: 5/50%
      confirm_after: never
      external_names: copy
      labels: {include: ['app*'], exclude: app.secret}
      annotations: {include: note}
      zone_map: {r1: l1}
      hints: {r1: [l1, l2]}
      traffic_distribution: false
      former: [uid-1]
      domain: west.example.
    - url: https://10.0.0.1:6443
      ca_url: https://ca.example/east.pem
      ca_url_trust: /root.pem
      token_file: /token
      prefix: east
      select: {labels: mirror=true}
      zones: drop
",
    );
    let shown = serde_json::to_value(&config).expect("it can be shown");
    let west = &shown["remotes"][0];
    for (path, value) in [
        ("/access/kubeconfig/context", "west"),
        ("/mirror/name", "us-west"),
        ("/mirror/scheme", "{prefix}-{namespace}--{service}"),
        ("/mirror/stale", "ttl=10m0s"),
        ("/mirror/max_delete", "5/50%"),
        ("/mirror/external_names", "copy"),
        ("/mirror/labels/include/0", "app*"),
        ("/mirror/labels/exclude/0", "app.secret"),
        ("/mirror/annotations/include/0", "note"),
        ("/mirror/zones/map/r1", "l1"),
        ("/mirror/hints/r1/1", "l2"),
        ("/mirror/former/0", "uid-1"),
        ("/namespace", "mirrors"),
        ("/domain", "west.example"),
    ] {
        assert_eq!(west.pointer(path).and_then(|value| value.as_str()), Some(value), "{path} in {west:#}");
    }
    assert_eq!(west.pointer("/mirror/confirm_after"), Some(&serde_json::Value::Null));
    let east = &shown["remotes"][1]["access"]["server"];
    assert_eq!(east["trust"]["url"]["vouched_by"], "/root.pem");
    assert_eq!(east["token"]["file"], "/token");
    assert_eq!(config.in_namespace(Some("here")).global.expect("it is there").namespace, "everywhere");
}

#[test]
fn invalid_settings_are_reported_with_their_place() {
    let remote = "kubeconfig: /w, select: {labels: a}";
    for (text, problem) in [
        ("mirror: {}", "mirror.remotes: there is none"),
        ("mirror: {remotes: [{}]}", "mirror.remotes[0].prefix: is missing"),
        ("mirror: {remotes: [{}]}", "mirror.remotes[0].select.labels: is missing"),
        ("mirror: {remotes: [{prefix: w}]}", "mirror.remotes[0].kubeconfig: is missing"),
        (&format!("mirror: {{remotes: [{{{remote}, prefix: W}}]}}"), "mirror.remotes[0].prefix: a prefix is"),
        (
            &format!("mirror: {{remotes: [{{{remote}, prefix: w}}, {{{remote}, prefix: w, name: x}}]}}"),
            "mirror.remotes[1].prefix: another remote",
        ),
        ("mirror: {remotes: [{kubeconfig: /w, prefix: w, select: {labels: ' '}}]}", "[0].select.labels: it is empty"),
        (&format!("mirror: {{workers: 0, remotes: [{{{remote}, prefix: w}}]}}"), "mirror.workers: 0 is not between"),
        (&format!("mirror: {{global: {{}}, remotes: [{{{remote}, prefix: w}}]}}"), "mirror.global.label: is missing"),
        (
            &format!("mirror: {{global: {{label: x, prefix: G}}, remotes: [{{{remote}, prefix: w}}]}}"),
            "mirror.global.prefix: a prefix",
        ),
        ("mirror: {remotes: [{url: 'ftp://x', prefix: w, select: {labels: a}}]}", "[0].url: "),
        ("mirror: {remotes: [{url: 'https://x', ca_url: 'http://y', prefix: w, select: {labels: a}}]}", "[0].ca_url: "),
        (
            "mirror: {remotes: [{url: 'https://x', ca_url: 'https://y', ca_file: /z, prefix: w, select: {labels: a}}]}",
            "[0].ca_file: there is a ca_url",
        ),
        (
            &format!("mirror: {{remotes: [{{{remote}, prefix: w, zones: drop, zone_map: {{a: b}}}}]}}"),
            "[0].zones: there is",
        ),
        (&format!("mirror: {{remotes: [{{{remote}, prefix: w, hints: {{a: []}}}}]}}"), "[0].hints: "),
        (&format!("mirror: {{remotes: [{{{remote}, prefix: w, names: v1}}]}}"), "[0].names: "),
        (&format!("mirror: {{remotes: [{{{remote}, prefix: w, stalle: keep}}]}}"), "did you mean \"stale\""),
        (&format!("mirror: {{remotes: [{{{remote}, prefix: w, token: t}}]}}"), "unknown key"),
    ] {
        assert!(problems(text).contains(problem), "{text}: {}", problems(text));
    }
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let (_, rest) = reference.split_once("### `fanfare mirror`").expect("the role has a section");
    let (_, rest) = rest.split_once("```yaml\n").expect("there is an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    let config = parse(example);
    assert_eq!((config.remotes.len(), config.remotes[1].mirror.hints["*"].len()), (2, 2));
}

#[test]
fn the_variable_with_the_token_is_read_when_it_is_needed() {
    let with = |variable: &str| {
        let remote = "url: 'https://x', prefix: w, select: {labels: a}";
        parse(&format!("mirror: {{remotes: [{{{remote}, token_env: {variable}}}]}}")).remotes.remove(0).access
    };
    let missing = with("NO_SUCH_VARIABLE").resolve().expect_err("nobody sets it").to_string();
    assert!(missing.contains("$NO_SUCH_VARIABLE") && missing.contains("https://x"), "{missing}");
    // A variable that every test has.
    let found = with("CARGO_PKG_NAME").resolve().expect("cargo sets it");
    assert!(format!("{found:?}").contains("Given(***)"), "{found:?}");
}
