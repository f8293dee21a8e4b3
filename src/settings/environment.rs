//! The environment as it says what flags say: the variable of each flag, its values, and variables that are probably misspelt.

use std::{collections::BTreeMap, ffi::OsString};

use runtime::config::{Problem, Problems, nearest};
use serde_yaml::Value;

use super::{Entry, Kind, ROLES, Role};

/// The environment of a process. A variable that is set to nothing counts as one that is not set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    /// Variables that look like those of flags, and whose values are not UTF-8 text.
    not_text: Vec<String>,
}

/// What a setting is given by the environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    /// The variable.
    pub(crate) variable: String,
    /// As the file would say it.
    pub(crate) value: Value,
}

/// What the variable of every flag begins with.
const PREFIX: &str = "FANFARE_";

// === impl Environment ===

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        Self::from_os(std::env::vars_os())
    }

    fn from_os(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.variables.insert(name, value)),
                Err(_) if name.starts_with(PREFIX) => environment.not_text.push(name),
                Err(_) => {}
            }
        }
        environment
    }

    /// The value of a variable that is set to something.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The value of a variable that is set, be it to nothing.
    pub(crate) fn even_empty(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// What it says about a setting: the first of its variables that is set.
    pub(crate) fn given(&self, setting: &Entry) -> Option<Given> {
        let own = setting.variable();
        let names = own.as_deref().into_iter().chain(setting.env.iter().copied());
        let set = |name| self.get(name).filter(|text| !is_of_kubernetes(name, text));
        let (name, text) = names.into_iter().find_map(|name| Some((name, set(name)?)))?;
        let value = if Some(name) == own.as_deref() { in_file(setting, text) } else { text.into() };
        Some(Given { variable: name.to_owned(), value })
    }

    /// Variables that are probably meant for a role and are not taken: misspelt ones, each with the right spelling, and ones that are
    /// not text.
    pub(crate) fn doubtful(&self, role: &Role) -> Problems {
        self.doubtful_beside(&role.settings().filter_map(Entry::variable).collect::<Vec<_>>())
    }

    /// The same for a process that takes these variables.
    pub(crate) fn doubtful_beside(&self, known: &[String]) -> Problems {
        let mut problems = Problems::default();
        let known_stems: Vec<String> = known.iter().map(|name| stem(name).to_owned()).collect();
        let unknown = self.variables.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name);
        for name in unknown.filter(|name| name.starts_with(PREFIX) && !known.contains(name)) {
            if is_of_a_service(name) || is_of_any_role(name) {
                continue;
            }
            if let Some(meant) = nearest(stem(name), &known_stems) {
                let message = format!("this environment variable means nothing, did you mean {PREFIX}{meant}?");
                problems.push(Problem { path: name.clone(), message });
            }
        }
        for name in self.not_text.iter().filter(|name| known.contains(name)) {
            let message = "this environment variable is not UTF-8 text, and is not used".to_owned();
            problems.push(Problem { path: name.clone(), message });
        }
        problems
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, not_text: Vec::new() }
    }
}

// === impl Entry ===

impl Entry {
    /// The variable that says what its flag says.
    pub(crate) fn variable(&self) -> Option<String> {
        let has_one = !self.flag.is_empty() && !matches!(self.kind, Kind::Ignored { .. });
        has_one.then(|| format!("{PREFIX}{}", self.flag.replace('-', "_").to_ascii_uppercase()))
    }

    /// Every variable that says it, in the order in which they count.
    pub(crate) fn variables(&self) -> Vec<String> {
        self.variable().into_iter().chain(self.env.iter().map(ToString::to_string)).collect()
    }
}

/// The value of a flag's variable as the file would say it. A flag that may be repeated has one value in each line.
fn in_file(setting: &Entry, text: &str) -> Value {
    match setting.kind {
        Kind::Many(_) | Kind::Commas(_) | Kind::Each(_) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Value::Sequence(lines.map(Value::from).collect())
        }
        Kind::Switch => boolish(text).map_or_else(|| text.into(), Value::Bool),
        Kind::One(_) | Kind::Ignored { .. } => text.into(),
    }
}

/// What the flag takes, in whatever case.
fn boolish(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A variable's name without what all begin with.
fn stem(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Processes of several roles often share an environment.
fn is_of_any_role(name: &str) -> bool {
    ROLES.iter().flat_map(Role::settings).any(|setting| setting.variable().as_deref() == Some(name))
}

/// Whether Kubernetes sets this variable in every pod beside a Service that is called `fanfare`, or whose name begins so:
/// `FANFARE_SERVICE_HOST`, `FANFARE_SERVICE_PORT_HTTP`, `FANFARE_PORT`, `FANFARE_CACHE_PORT_80_TCP_ADDR`.
fn is_of_a_service(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("FANFARE") else { return false };
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    rest.ends_with("_PORT") || rest.match_indices("_PORT_").any(|(at, _)| is_port(&rest[at + "_PORT_".len()..]))
}

/// Whether Kubernetes has set this variable to this value: `FANFARE_REUSE_PORT=tcp://10.96.0.7:80` beside a Service `fanfare-reuse`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    is_of_a_service(name) && value.contains("://")
}

/// `80_TCP`, and what may stand behind it.
fn is_port(text: &str) -> bool {
    let mut parts = text.split('_');
    let number = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
    let last = parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part));
    number && protocol && last && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{broadcast, discover};

    /// What Kubernetes sets beside a Service with this name and a port that is called `http`.
    fn of_service(name: &str) -> Vec<(String, String)> {
        let name = name.replace('-', "_").to_ascii_uppercase();
        [
            ("SERVICE_HOST", "10.96.0.7"),
            ("SERVICE_PORT", "80"),
            ("SERVICE_PORT_HTTP", "80"),
            ("PORT", "tcp://10.96.0.7:80"),
            ("PORT_80_TCP", "tcp://10.96.0.7:80"),
            ("PORT_80_TCP_PROTO", "tcp"),
            ("PORT_80_TCP_PORT", "80"),
            ("PORT_80_TCP_ADDR", "10.96.0.7"),
            ("PORT_53_UDP_ADDR", "10.96.0.7"),
        ]
        .map(|(variable, value)| (format!("{name}_{variable}"), value.to_owned()))
        .to_vec()
    }

    #[test]
    fn variables_of_kubernetes_for_services_are_neither_read_nor_warned_about() {
        for service in [
            "fanfare",
            "fanfare-cache",
            "fanfare-service",
            "fanfare-port",
            "fanfare-ports",
            "fanfare-http-port",
            "fanfare-reuse",
        ] {
            let environment: Environment = of_service(service).into_iter().collect();
            for role in ROLES {
                let taken: Vec<_> = role.settings().filter_map(|setting| environment.given(setting)).collect();
                assert_eq!(taken, [], "{service}: {}", role.name);
                assert!(environment.doubtful(role).is_empty(), "{service}: {}", environment.doubtful(role));
            }
        }
    }

    #[test]
    fn no_flag_has_a_variable_that_kubernetes_may_set_to_a_value_that_it_could_have() {
        // Kubernetes sets a URL there, which a switch never is.
        let settings = ROLES.iter().flat_map(Role::settings).filter(|setting| !matches!(setting.kind, Kind::Switch));
        let variables = settings.filter_map(Entry::variable);
        assert_eq!(variables.filter(|name| is_of_a_service(name)).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn a_misspelt_variable_is_told_with_the_right_spelling_and_that_of_another_role_is_not() {
        let environment: Environment =
            [("FANFARE_REQIURE", "any"), ("FANFARE_LABEL_SELECTOR", "x"), ("FANFARE_UNRELATED", "x"), ("REQIURE", "x")]
                .into_iter()
                .collect();
        let told = environment.doubtful(Role::named("broadcast").expect("there is such a role")).to_string();
        assert_eq!(told, "FANFARE_REQIURE: this environment variable means nothing, did you mean FANFARE_REQUIRE?");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_told() {
        use std::os::unix::ffi::OsStringExt as _;
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        let environment = Environment::from_os([("FANFARE_REQUIRE".into(), bytes.clone()), ("OTHER".into(), bytes)]);
        let role = Role::named("broadcast").expect("there is such a role");
        let told = environment.doubtful(role).to_string();
        assert!(told.starts_with("FANFARE_REQUIRE: ") && told.contains("UTF-8") && told.lines().count() == 1, "{told}");
    }

    #[test]
    fn several_values_stand_in_lines_and_a_switch_takes_what_its_flag_takes() {
        let given = |name: &str, text: &str, setting: &Entry| {
            Environment::from_iter([(name, text)]).given(setting).map(|given| given.value)
        };
        let allow = given("FANFARE_ALLOW", "PURGE /a\n\n  GET /b\n", &broadcast::callers::ALLOW);
        assert_eq!(allow, Some(Value::Sequence(vec!["PURGE /a".into(), "GET /b".into()])));
        for (text, on) in [("1", true), ("Yes", true), ("off", false), ("F", false)] {
            assert_eq!(given("FANFARE_REPORT", text, &broadcast::answer::REPORT), Some(on.into()), "{text}");
        }
        assert_eq!(given("FANFARE_REPORT", "maybe", &broadcast::answer::REPORT), Some("maybe".into()));
        assert_eq!(given("FANFARE_REPORT", "", &broadcast::answer::REPORT), None);
        assert_eq!(given("LABEL_FILTER", "a=b", &discover::SELECT), Some("a=b".into()), "the older name still counts");
    }
}
