//! The JSON Schema of the configuration file, for editors and other programs: made of the same table as everything else.

use serde_json::{Map, Value, json};

use super::{Entry, Kind, ROLES, is_choice};

/// What a part of the file may be.
#[derive(Default)]
struct Node {
    /// Whether there may be several of it.
    list: bool,
    /// Its keys, in the order of the table.
    keys: Vec<(&'static str, Node)>,
    /// What it is, if it has no keys.
    value: Option<&'static Entry>,
    /// Whether it has to be there.
    required: bool,
}

/// A value with a placeholder: what it is only shows when it is filled in.
const PLACEHOLDER: &str = r"\$\{";

/// Go's durations.
const DURATION: &str =
    r"^\+?(0|([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$";

/// Sizes with or without a unit, and rates.
const SIZE: &str = r"^[0-9]+(\.[0-9]+)? *([KkMmGgTt][Ii]?[Bb]?|[Bb])?(/s)?$";

/// Switches, also as Go writes them.
const SWITCH: &str = "^(true|false|yes|no|on|off|1|0|t|f|T|F|TRUE|FALSE|True|False)$";

/// The schema of the whole file.
pub(crate) fn schema() -> Value {
    let mut root = Node::default();
    for role in ROLES {
        for setting in role.settings().filter(|setting| !setting.key.is_empty()) {
            root.add(&steps(setting), setting);
        }
    }
    // What the table has no line for.
    let mut schema = root.schema();
    let remote = &mut schema["properties"]["mirror"]["properties"]["remotes"]["items"]["properties"];
    remote["hints"] = json!({
        "description": "Local zones that endpoints of a remote zone are for; of * where it has no other line",
        "type": ["object", "null"],
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    });
    remote["zone_map"] = json!({
        "description": "Local names of remote zones",
        "type": ["object", "null"],
        "additionalProperties": {"type": "string"},
    });
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Configuration of fanfare".into();
    let roles: Vec<Value> = ROLES.iter().map(|role| json!({"required": [role.name]})).collect();
    schema["anyOf"] = roles.into();
    schema["type"] = "object".into();
    schema
}

fn steps(setting: &Entry) -> Vec<&'static str> {
    let of = |path: &'static str| path.split('.').filter(|step| !step.is_empty());
    of(setting.section).chain(of(setting.key)).collect()
}

// === impl Node ===

impl Node {
    fn add(&mut self, steps: &[&'static str], setting: &'static Entry) {
        let Some((step, rest)) = steps.split_first() else {
            self.value.get_or_insert(setting);
            return;
        };
        let key = step.trim_end_matches("[]");
        let required = is_required(setting) && steps.len() <= own_steps(setting);
        let node = self.key(key);
        node.list |= step.ends_with("[]");
        node.required |= required;
        node.add(rest, setting);
        if rest.is_empty() && !setting.alias.is_empty() {
            self.key(setting.alias).add(&[], setting);
        }
    }

    fn key(&mut self, key: &'static str) -> &mut Self {
        let at = self.keys.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            self.keys.push((key, Self::default()));
            self.keys.len() - 1
        });
        &mut self.keys[at].1
    }

    fn schema(&self) -> Value {
        if let Some(setting) = self.value {
            return value(setting, self.required);
        }
        let keys: Map<String, Value> = self.keys.iter().map(|(key, node)| ((*key).to_owned(), node.schema())).collect();
        let required: Vec<&str> = self.keys.iter().filter(|(_, node)| node.required).map(|(key, _)| *key).collect();
        let mut section = json!({"type": "object", "properties": keys, "additionalProperties": false});
        if !required.is_empty() {
            section["required"] = required.into();
        }
        if self.list {
            return json!({"type": ["array", "null"], "items": section});
        }
        // A section without a value is one without keys.
        section["type"] = json!(["object", "null"]);
        section
    }
}

/// How many steps of its path lead from the element or section that it is required in.
fn own_steps(setting: &Entry) -> usize {
    setting.key.split('.').count()
}

fn is_required(setting: &Entry) -> bool {
    setting.help.contains("Required") && setting.alias.is_empty()
}

fn value(setting: &Entry, required: bool) -> Value {
    let mut choices = Vec::new();
    match setting.kind {
        Kind::One(name) | Kind::Each(name) => {
            scalar(name, &mut choices);
            if name == "COMMAND" {
                choices.push(json!({"type": "array", "items": {"type": ["string", "number", "boolean"]}}));
            }
        }
        Kind::Many(name) | Kind::Commas(name) => {
            let one = json!({"type": ["string", "number", "boolean"]});
            choices.push(one.clone());
            choices.push(json!({"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}}));
            if name == "NAME: VALUE" && setting.section.starts_with("broadcast") {
                let several = json!({"anyOf": [one, {"type": "array", "items": one}]});
                choices.push(json!({"type": "object", "additionalProperties": several}));
            }
        }
        Kind::Switch => {
            choices.push(json!({"type": "boolean"}));
            choices.push(json!({"enum": [0, 1]}));
            choices.push(json!({"type": "string", "pattern": SWITCH}));
        }
        Kind::Ignored { .. } => {}
    }
    choices.push(json!({"type": "string", "pattern": PLACEHOLDER}));
    if setting.has_default_in_words() {
        choices.push(json!({"const": setting.default}));
    }
    if !required {
        choices.push(json!({"type": "null"}));
    }
    let mut schema = json!({"description": setting.help, "anyOf": choices});
    if !setting.default.is_empty() && !setting.has_default_in_words() {
        schema["default"] = setting.default.into();
    }
    schema
}

/// One value, by the name that stands for it in the help.
fn scalar(name: &str, choices: &mut Vec<Value>) {
    match name {
        "DURATION" => {
            choices.push(json!({"const": 0}));
            choices.push(json!({"type": "string", "pattern": DURATION}));
        }
        "SIZE" => {
            choices.push(json!({"type": "integer", "minimum": 0}));
            choices.push(json!({"type": "string", "pattern": SIZE}));
        }
        "N" | "STATUS" => {
            choices.push(json!({"type": "integer", "minimum": 0}));
            choices.push(json!({"type": "string", "pattern": r"^\+?[0-9]+$"}));
        }
        name if is_choice(name) => {
            let mut values: Vec<Value> = Vec::new();
            for text in name.split('|') {
                values.push(text.into());
                values.extend(text.parse::<f64>().ok().map(Value::from));
                // YAML of old reads `off` as this.
                values.extend((text == "off").then_some(Value::Bool(false)));
                values.extend((text == "off").then(|| "false".into()));
            }
            choices.push(json!({"enum": values}));
        }
        _ => choices.push(json!({"type": ["string", "number", "boolean"]})),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::{config::Config, settings::Role};

    #[test]
    fn the_schema_of_the_documentation_is_that_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fanfare.schema.json");
        let wanted = format!("{:#}\n", schema());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &wanted).expect("it can be written");
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text == wanted, "docs/fanfare.schema.json is out of date: run UPDATE_DOCS=1 cargo test -p fanfare");
    }

    /// `schema-check` holds the schema against the same files.
    #[test]
    fn check_judges_as_the_schema_does() {
        let cases: Value = serde_yaml::from_str(include_str!("../../schema-check/cases.yaml")).expect("it is YAML");
        for (kind, good) in [("good", true), ("wrong", false)] {
            for case in cases[kind].as_array().expect("a list") {
                let text = case.as_str().expect("a text");
                let checked = Config::parse(text.as_bytes()).map(drop);
                assert_eq!(checked.is_ok(), good, "{text}: {checked:?}");
            }
        }
    }

    #[test]
    fn every_key_of_the_table_is_a_property_with_its_meaning() {
        let schema = schema();
        for setting in ROLES.iter().flat_map(Role::settings).filter(|setting| !setting.key.is_empty()) {
            let at = setting.path().split('.').fold(String::new(), |at, step| {
                let items = if step.ends_with("[]") { "/items" } else { "" };
                format!("{at}/properties/{}{items}", step.trim_end_matches("[]"))
            });
            let property = schema.pointer(&at).unwrap_or_else(|| panic!("{at}"));
            assert!(property["description"].is_string(), "{at}");
        }
    }
}
