//! Checks samples of output and files, which are recognised by their form, for consistency.

use std::fs;

use serde_json::Value;

use super::root;

/// Checks a JSON document of a known kind.
pub(super) fn json(text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let has = |keys: &[&str]| keys.iter().all(|key| value.get(key).is_some());
    let manifest = has(&["schema", "cluster", "writer", "term", "version", "sha256"]);
    if has(&["nodes", "results", "snapshot"]) {
        let number =
            |key: &str| value[key].as_object().map(serde_json::Map::len).or(value[key].as_array().map(Vec::len));
        let same = number("nodes") == number("results");
        return if same { Ok(()) } else { Err("nodes and results are not as many".to_owned()) };
    }
    if let Some(groups) = value.as_array() {
        return groups.iter().try_for_each(targets);
    }
    if manifest { Ok(()) } else { Err("nobody knows what this document is".to_owned()) }
}

/// A group of a list of endpoints.
fn targets(group: &Value) -> Result<(), String> {
    let targets = group["targets"].as_array().ok_or("a list of endpoints has groups with targets")?;
    targets.iter().try_for_each(|target| {
        let target = target.as_str().unwrap_or_default();
        target.parse::<controlplane::source::fixed::Target>().map(drop).map_err(|error| error.to_string())
    })
}

/// Checks a text of a known kind: the picture of a broadcast, the table of the demo, the access log, the summary of hand-overs,
/// a token file.
pub(super) fn text(text: &str) -> Result<(), String> {
    let first = text.trim_start().lines().next().unwrap_or_default();
    let table = first.starts_with("three is  require   you get");
    let hand_overs = first.contains("hand-overs, ") && first.contains(", seed ");
    let log = first.contains(" route=") && first.contains(" id=");
    let tokens = access::tokens::Tokens::parse(text.as_bytes()).is_ok();
    if text.contains("X-Broadcast-Result: ") {
        result(text)
    } else if tokens || table || hand_overs || log {
        Ok(())
    } else {
        Err("nobody knows what this text is".to_owned())
    }
}

/// Checks that the result in a picture matches its endpoints.
fn result(text: &str) -> Result<(), String> {
    let (_, line) = text.split_once("X-Broadcast-Result: ").ok_or("there is no result")?;
    let line = line.lines().next().unwrap_or_default();
    let count = |name: &str| {
        let pair = line.split(", ").filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name);
        pair.and_then(|(_, value)| value.parse::<usize>().ok()).ok_or_else(|| format!("{line:?} has no {name}"))
    };
    let (total, ok, failed, pending) = (count("total")?, count("ok")?, count("failed")?, count("pending")?);
    let required = count("required")?;
    let shown = text.matches("cache-").count();
    if total != ok + failed + pending || total != shown {
        return Err(format!("{line:?} does not add up to the {shown} endpoints that are shown"));
    }
    // The answer goes out with the last required ok: legs that have not ended by then are pending.
    if ok > required { Err(format!("{line:?}: the answer goes out when {required} are ok")) } else { Ok(()) }
}

/// A server block of a Corefile with a rewrite.
pub(super) fn corefile(text: &str) -> Result<(), String> {
    let block = text.contains(":53 {") && text.contains("rewrite stop {") && text.trim_end().ends_with('}');
    if block { Ok(()) } else { Err("is no server block".to_owned()) }
}

/// The whole configuration of a Varnish, which a test gives to one (`tests/e2e/guides`).
pub(super) fn vcl(text: &str) -> Result<(), String> {
    if text.starts_with("vcl 4.1;\n") { Ok(()) } else { Err("does not begin with vcl 4.1;".to_owned()) }
}

/// A rule of a Role, which one of the Roles in `deploy` has as well.
pub(super) fn rule(rule: &serde_yaml::Value) -> Result<(), String> {
    let rule = serde_json::to_value(rule).map_err(|error| error.to_string())?;
    let roles = fs::read_dir(root().join("deploy")).expect("it can be listed");
    let roles = roles.filter_map(|role| fs::read_to_string(role.expect("an entry").path().join("rbac.yaml")).ok());
    let granted = roles.flat_map(|text| {
        use serde::Deserialize as _;
        let objects =
            serde_yaml::Deserializer::from_str(&text).map(|object| Value::deserialize(object).expect("it is YAML"));
        objects.flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default()).collect::<Vec<_>>()
    });
    let same = |granted: &Value| ["apiGroups", "resources", "verbs"].iter().all(|key| granted[key] == rule[key]);
    if granted.into_iter().any(|granted| same(&granted)) {
        Ok(())
    } else {
        Err(format!("no Role in deploy has the rule {rule}"))
    }
}
