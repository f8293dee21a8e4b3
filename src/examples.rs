//! Tests that every example of the documentation works: files pass `check`, and command lines are parsed as the binary does.
//! `tests/e2e/examples.rs` compares the output of commands.

mod command;
mod sample;

use std::path::Path;

use serde_yaml::Value;
use testkit::docs::{Block, blocks};

use crate::{config::Config, settings};
use command::Reader;

/// The keys of files of other programs: helm, Traefik, Prometheus, Kubernetes and kustomize.
const FOREIGN: [&[&str]; 11] = [
    &["role", "args", "podMonitor", "prometheusRule"],
    &["role", "runRoles", "config"],
    &["alerting"],
    &["remote_write"],
    &["scrape_configs"],
    &["http"],
    &["providers", "scrape_configs"],
    &["rules"],
    &["apiVersion", "kind", "resources", "nameSuffix", "labels"],
    &["apiVersion", "kind", "resources", "components"],
    &["apiVersion", "kind", "metadata", "spec"],
];

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Checks a block. `...` in a command stands for the arguments of an earlier one on the same page.
fn check(block: &Block, reader: &mut Reader) -> Result<(), String> {
    match block.language.as_str() {
        "sh" | "console" => block.commands().iter().try_for_each(|shown| {
            reader.check(&shown.command).map_err(|problem| format!("{}: {problem}", shown.command))
        }),
        "yaml" => yaml(&block.text),
        "json" => sample::json(&block.text),
        "text" => sample::text(&block.text),
        "corefile" => sample::corefile(&block.text),
        "vcl" => sample::vcl(&block.text),
        other => Err(format!(
            "{other:?} says nothing about what kind of example this is: use sh, console, yaml, json, text, corefile or vcl"
        )),
    }
}

/// A file of ours must pass `check`; files of others are only recognised.
fn yaml(text: &str) -> Result<(), String> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let Value::Mapping(mapping) = &value else { return Err("is no mapping".to_owned()) };
    let keys: Vec<&str> = mapping.keys().filter_map(Value::as_str).collect();
    let settings = settings::ROLES.iter().flat_map(settings::Role::settings);
    let known: Vec<String> =
        settings.filter_map(|setting| setting.path().split(['.', '[']).next().map(str::to_owned)).collect();
    if keys.iter().any(|key| known.iter().any(|known| known == key)) {
        return Config::parse(text.as_bytes()).map(drop).map_err(|problems| problems.to_string());
    }
    if !FOREIGN.contains(&keys.as_slice()) {
        return Err(format!("nobody knows what reads a file with the keys {keys:?}"));
    }
    let names = ["resources", "components"].into_iter().filter_map(|key| value.get(key)?.as_sequence());
    for base in names.flatten().filter_map(Value::as_str).filter_map(|base| base.strip_prefix("../")) {
        if !root().join("deploy").join(base).join("kustomization.yaml").exists() {
            return Err(format!("kustomize finds nothing in deploy/{base}"));
        }
    }
    let rules = value.get("rules").and_then(Value::as_sequence);
    rules.into_iter().flatten().try_for_each(sample::rule)
}

/// The problems of these blocks, with their places.
fn problems(blocks: &[Block]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut reader = Reader::default();
    for (number, block) in blocks.iter().enumerate() {
        if number == 0 || blocks[number - 1].page != block.page {
            reader = Reader::default();
        }
        problems.extend(check(block, &mut reader).err().map(|problem| format!("{block}: {problem}")));
    }
    problems
}

#[test]
fn every_example_of_the_documentation_is_one_that_works() {
    let blocks = blocks(root());
    assert!(blocks.len() > 30, "only {} blocks were found", blocks.len());
    let problems = problems(&blocks);
    assert!(problems.is_empty(), "{} examples do not work:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn an_example_that_does_not_work_or_that_nobody_knows_is_told() {
    let told = |language: &str, text: &str| {
        let block = Block { page: "page.md".into(), line: 1, language: language.into(), text: text.into() };
        problems(&[block]).join("\n")
    };
    for (language, text, problem) in [
        ("", "anything", "what kind of example"),
        ("yaml", "admin: {lissten: 0.0.0.0:1}", "lissten"),
        ("yaml", "discover: [{select: {labels: a=b}, format: envoy, to: /var/lib/envoy/}]", "discover[0].format"),
        ("yaml", "whatever: 1", "nobody knows"),
        ("yaml", "rules: [{apiGroups: [''], resources: [secrets], verbs: [get]}]", "deploy"),
        ("yaml", "{apiVersion: a, kind: b, resources: [../bogus], nameSuffix: c, labels: []}", "deploy/bogus"),
        ("yaml", "{apiVersion: a, kind: b, resources: [../broadcast], components: [../bogus]}", "deploy/bogus"),
        ("json", "{", "EOF"),
        ("json", "{\"what\": 1}", "nobody knows"),
        ("text", "anything", "nobody knows"),
        ("corefile", "no stanza", "server block"),
        ("vcl", "sub vcl_recv {}", "vcl 4.1"),
        ("sh", "fanfare broadcast --endpoints 192.0.2.1:80 --bogus", "--bogus"),
        ("sh", "fanfare broadcast --endpoints 192.0.2.1", "--endpoints"),
        ("sh", "fanfare mirror -dry-run ...", "no command"),
        ("sh", "fanfare run --config other.yaml", "other.yaml"),
        ("sh", "FANFARE_BOGUS=1 cargo test", "FANFARE_BOGUS"),
        ("sh", "cargo test -p nothing", "nothing"),
        ("sh", "cargo test -p fanfare --test e2e elect::bogus", "elect::bogus"),
        ("sh", "curl --nonsense http://127.0.0.1/", "--nonsense"),
        ("sh", "curl -s", "no URL"),
        ("sh", "kubectl apply -k deploy/nothing", "deploy/nothing"),
        ("sh", "kubectl rollout status deployment/bogus", "bogus"),
        ("sh", "kubectl exec deployment/fanfare-mirror -- /fanfare mirror -bogus", "-bogus"),
        ("console", "$ rm -rf /", "rm"),
    ] {
        let told = told(language, text);
        assert!(told.contains(problem), "{language:?} {text:?}: {told:?}");
    }
}
