//! The schema of the configuration file, held against files by a validator: those of the documentation, and those that it has to refuse.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::Value;

/// The sections of roles: a file of ours has one of them.
const ROLES: [&str; 6] = ["broadcast", "elect", "discover", "bridge", "endpoints", "mirror"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Value {
    let text = fs::read_to_string(root().join("docs/fanfare.schema.json")).expect("the schema is there");
    serde_json::from_str(&text).expect("it is JSON")
}

fn validator() -> Validator {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema), "it is a schema itself");
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(validator: &Validator, file: &Value) -> String {
    let faults = validator.iter_errors(file).map(|error| format!("{}: {error}", error.instance_path()));
    faults.collect::<Vec<_>>().join("\n")
}

/// The Markdown below a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => pages(&path),
            false => Vec::from_iter(path.extension().is_some_and(|extension| extension == "md").then_some(path)),
        })
        .collect()
}

/// The YAML blocks of a page.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        open = match (open, line.trim()) {
            (None, "```yaml") => Some(String::new()),
            (Some(block), "```") => {
                blocks.push(block);
                None
            }
            (Some(block), _) => Some(block + line + "\n"),
            (None, _) => None,
        };
    }
    blocks
}

#[test]
fn every_file_of_the_documentation_and_of_deploy_is_valid() {
    let validator = validator();
    let folders = ["docs", "deploy"].iter().flat_map(|folder| pages(&root().join(folder)));
    let mut checked = 0;
    for page in folders.chain([root().join("README.md")]) {
        for block in blocks(&fs::read_to_string(&page).expect("a page can be read")) {
            let Ok(file) = serde_yaml::from_str::<serde_yaml::Value>(&block) else { continue };
            if !ROLES.iter().any(|role| file.get(role).is_some()) {
                continue;
            }
            let mut file = file;
            file.apply_merge().expect("merge keys lead to mappings");
            let file = serde_json::to_value(file).expect("YAML with texts as keys is JSON");
            let faults = faults(&validator, &file);
            assert!(faults.is_empty(), "{}:\n{block}\n{faults}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} files were found");
}

#[test]
fn good_files_are_taken_and_wrong_ones_refused() {
    let validator = validator();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("cases.yaml")).expect("they are there");
    let cases: Value = serde_yaml::from_str(&text).expect("it is YAML");
    for (kind, valid) in [("good", true), ("wrong", false)] {
        let cases = cases[kind].as_array().expect("a list");
        assert!(!cases.is_empty());
        for case in cases {
            let file: Value = serde_yaml::from_str(case.as_str().expect("a text")).expect("it is YAML");
            let faults = faults(&validator, &file);
            assert_eq!(faults.is_empty(), valid, "{case}\n{faults}");
        }
    }
}

/// Checks the defaults of a part of the schema, and returns how many there are.
fn defaults(schema: &Value) -> usize {
    let own = schema.get("default").map(|default| {
        let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{error}"));
        assert!(validator.is_valid(default), "{schema:#}");
    });
    let below = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|keys| keys.values());
    usize::from(own.is_some()) + below.chain(schema.get("items")).map(defaults).sum::<usize>()
}

#[test]
fn every_default_is_valid() {
    assert!(defaults(&schema()) > 50);
}
