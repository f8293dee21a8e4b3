//! Renders the current configuration in the form of the file: the written settings and the defaults, without secrets.

use std::sync::{Arc, OnceLock};

use runtime::{config::Problems, redact};
use serde_yaml::{Mapping, Value};

use super::{Config, variables::FileEnvironment};
use crate::settings::{Entry, ROLES, Role};

/// The raw configuration. All values are equal, because only the meaning of configurations is compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// As JSON, which takes a tenth of the memory of the value, and is hardly ever read.
    raw: Box<str>,
    /// What its placeholders are filled in with.
    environment: FileEnvironment,
    /// What is probably a mistake in it, where it is a file.
    pub(super) warnings: Option<Problems>,
    shown: Arc<OnceLock<serde_json::Value>>,
}

/// The placeholder of a secret. It is valid in its place, so that the output can be checked.
const HIDDEN: &str = redact::HIDDEN;

/// The section whose presence enables something: its defaults are filled in only if it exists.
const SWITCH: &str = "redeliver";

/// The key of header fields, whose values may be secrets, whatever their names.
const HEADERS: &str = "headers";

// === impl Written ===

impl Written {
    pub(super) fn new(raw: &Value, environment: &FileEnvironment) -> Self {
        // Only what cannot be a configuration is no JSON: a list as a key.
        let raw = serde_json::to_string(raw).unwrap_or_default().into();
        Self { raw, environment: environment.clone(), warnings: None, shown: Arc::default() }
    }

    fn raw(&self) -> Value {
        serde_json::from_str(&self.raw).unwrap_or_default()
    }

    /// Whether this key of the outermost section is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.raw().get(key).is_some()
    }
}

impl PartialEq for Written {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

// === impl Config ===

impl Config {
    /// In the form of a file with the same meaning, except for secrets.
    pub(crate) fn shown(&self) -> serde_json::Value {
        self.written.shown.get_or_init(|| self.show()).clone()
    }

    fn show(&self) -> serde_json::Value {
        let mut shown = self.written.raw();
        for (path, default) in defaults(&shown) {
            // A default that would enable something changes the meaning, and is left out.
            let mut more = shown.clone();
            fill(&mut more, &path, &default);
            if more != shown && Self::check_in(&more, &self.written.environment).0.is_ok_and(|config| config == *self) {
                shown = more;
            }
        }
        hide(&mut shown, "");
        serde_json::to_value(&shown).unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
    }
}

/// The defaults of the given sections, each once, without those in words.
fn defaults(raw: &Value) -> Vec<(String, Value)> {
    let asked = |role: &&Role| raw.get(role.name).is_some();
    let settings = ROLES.iter().filter(asked).flat_map(Role::settings);
    let mut defaults: Vec<(String, Value)> = Vec::new();
    let has_default = |setting: &&Entry| !setting.key.is_empty() && !setting.default.is_empty();
    // Of the defaults in words only "all" is a value.
    let says_nothing = |setting: &&Entry| setting.has_default_in_words() && setting.default != "all";
    for setting in settings.filter(has_default).filter(|setting| !says_nothing(setting)) {
        let path = setting.path();
        if defaults.iter().all(|(before, _)| *before != path) {
            // Numbers and booleans are shown as such.
            let scalar =
                serde_yaml::from_str(setting.default).ok().filter(|value: &Value| value.is_bool() || value.is_u64());
            defaults.push((path, scalar.unwrap_or_else(|| setting.default.into())));
        }
    }
    defaults
}

/// Sets a value at a path like `a.b[].c`, unless it is set, in every element of existing lists.
fn fill(into: &mut Value, path: &str, value: &Value) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let Value::Mapping(mapping) = into else { return };
    match (step.strip_suffix("[]"), rest) {
        (Some(list), Some(rest)) => {
            let elements = mapping.get_mut(list).and_then(Value::as_sequence_mut);
            elements.into_iter().flatten().for_each(|element| fill(element, rest, value));
        }
        (None, Some(_)) if step == SWITCH && !mapping.contains_key(step) => {}
        (None, Some(rest)) => {
            let there = mapping.entry(step.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
            fill(there, rest, value);
        }
        (_, None) => {
            let there = mapping.entry(step.trim_end_matches("[]").into()).or_insert(Value::Null);
            if there.is_null() {
                *there = value.clone();
            }
        }
    }
}

/// Hides the values of keys with the name of a secret, those of header fields, and passwords in URLs.
fn hide(value: &mut Value, key: &str) {
    match value {
        Value::Mapping(mapping) => {
            for (name, value) in mapping {
                let name = name.as_str().unwrap_or_default();
                match (key, name) {
                    // Names are not secret, nor is what all clients get.
                    (HEADERS, "remove" | "response") => {}
                    (HEADERS, _) => hide(value, HEADERS),
                    _ => hide(value, name),
                }
            }
        }
        Value::Sequence(list) => list.iter_mut().for_each(|element| hide(element, key)),
        Value::String(text) => *text = without_secret(key, text),
        Value::Number(_) | Value::Bool(_) if is_secret(key) || key == HEADERS => *value = HIDDEN.into(),
        _ => {}
    }
}

fn without_secret(key: &str, text: &str) -> String {
    match text.split_once(':') {
        Some((name, _)) if key == HEADERS => format!("{name}: {HIDDEN}"),
        _ if is_secret(key) || key == HEADERS => HIDDEN.to_owned(),
        _ => redact::urls(text),
    }
}

/// The place of a secret (a file, a variable) is not secret.
fn is_secret(key: &str) -> bool {
    let names = ["secret", "password", "token", "access_key"];
    names.iter().any(|name| key.contains(name)) && !key.ends_with("_file") && !key.ends_with("_env")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something of every role, with secrets wherever there can be some.
    const ALL: &str = "
admin: {listen: 127.0.0.1:0}
kubernetes: {namespace: shop, kubeconfig: /k}
threads: 2
leader_elect: {name: edge}
broadcast:
  - listen: ':8080'
    allow: 'PURGE,BAN /cache/*'
    routes:
      - {match: {method: PURGE, path: [/a, /b/*]}, to: {service: 'cache, shop/c*', port: http}, success: [2xx, 'PURGE=200,404']}
      - {to: {endpoints: ['192.0.2.1:80', '[::1]:80']}, timeout: 3s, require: 67%, max_body: 1MiB, redeliver: {for: 1h}}
      - to: {endpoints: '192.0.2.3:80'}
        match: {headers: {X-Key: hunter2, X-Pin: [1, 'hunter2*']}}
        headers:
          request: {set: {Authorization: hunter2}, add: ['X-Key: hunter2'], remove: [Cookie]}
          response: {set: {Cache-Control: no-store}, remove: [Server]}
  - {listen: 127.0.0.1:0, routes: [{to: {dns: 'a.example:80'}}, {match: {host: x}, to: {file: /x}}]}
elect:
  - {name: one, ttl: 30s, on_start: [sh, -c, 'a b'], step_down_token_file: /token}
  - {name: two}
discover:
  - {name: a, select: {labels: 'a=b', namespaces: [x, y]}, format: [json, traefik], to: '/x/{format}'}
  - name: b
    select: {labels: ''}
    to: [https://user:hunter2@host.example/x, 'serve:/x']
    listen: ':8082'
    headers: ['Authorization: Bearer hunter2']
bridge:
  - {from: s3://a/b, to: /c, s3: {access_key: hunter2, secret_key: hunter2, endpoint: 'http://minio:9000'}}
endpoints: {services: [a, shop/b], listen: ':8083', exec: 'a b'}
mirror:
  global: {label: g=h}
  remotes:
    - {kubeconfig: /west, prefix: west, select: {labels: a=b}, namespace: m, zone_map: {'1': a}}
    - {url: 'https://east.example', token_file: /t, ca_file: /c, prefix: east, select: {labels: a=b}, namespace: m}
";

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The configuration parsed from its own output.
    fn again(config: &Config) -> Config {
        parse(&serde_json::to_string_pretty(&config.shown()).expect("it is JSON"))
    }

    #[test]
    fn the_shown_configuration_of_every_role_reads_back() {
        let config = parse(ALL);
        let pasted = again(&config);
        // Secrets are not the same, but nothing else.
        let without = |mut config: Config| {
            config.bridge[0].access = Default::default();
            for route in &mut Arc::make_mut(&mut config.proxy).listeners[0].routes {
                let route = Arc::make_mut(route);
                route.changes = Default::default();
                route.matches.headers.clear();
            }
            config.discover[1].access = Default::default();
            for output in &mut config.discover[1].outputs {
                output.to.remove(0);
            }
            config
        };
        assert_eq!(without(pasted.clone()), without(config));
        assert_eq!(pasted.shown(), again(&pasted).shown());
        for role in ROLES {
            let one = Value::Mapping(Mapping::from_iter(
                serde_yaml::from_str::<Mapping>(ALL)
                    .expect("it is YAML")
                    .into_iter()
                    .filter(|(key, _)| key == role.name),
            ));
            let config = Config::check(&one).unwrap_or_else(|problems| panic!("{}: {problems}", role.name));
            assert!(!config.shown()[role.name].is_null(), "{}", role.name);
            again(&config);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = parse(ALL).shown().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in [
            "https://user:***@host.example/x",
            "Authorization: ***",
            "X-Key: ***",
            "no-store",
            "\"step_down_token_file\":\"/token\"",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }

    #[test]
    fn defaults_that_hold_are_shown_beside_what_was_written() {
        let shown = parse(ALL).shown();
        let route = &shown["broadcast"][0]["routes"][0];
        assert_eq!(
            (&route["require"], &route["timeout"], &route["retries"]),
            (&"all".into(), &"10s".into(), &0.into())
        );
        assert_eq!(shown["broadcast"][0]["routes"][1]["timeout"], "3s", "what was written stays");
        assert_eq!((&shown["drain_timeout"], &shown["broadcast"][1]["keepalive"]), (&"10s".into(), &true.into()));
        let brief = parse("elect: [{name: a}]").shown();
        assert!(brief["admin"].is_null() && brief["elect"][0]["http"].is_null(), "nothing is switched on: {brief}");
        assert_eq!(brief["elect"][0]["lock"], "leases");
    }

    #[test]
    fn flags_are_shown_as_keys_of_a_file() {
        let arguments = ["fanfare", "broadcast", "--endpoints", "192.0.2.1:80", "--require=any", "--no-keepalive"];
        let Ok(crate::cli::Task::Serve(flags)) = crate::cli::parse_with(arguments, &Default::default()) else {
            panic!("it is to serve")
        };
        let config = flags.config().unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.shown()["broadcast"][0]["routes"][0]["require"], "any");
        assert_eq!(config.shown()["broadcast"][0]["keepalive"], false);
        assert_eq!(again(&config), config);
    }
}
