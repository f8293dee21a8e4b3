//! What a file takes from the environment: `${NAME}` within its values, and variables of flags that outrank its keys.

use std::{collections::BTreeSet, fmt, sync::Arc};

use runtime::config::{Problem, Problems};
use serde_yaml::{Mapping, Value};

use crate::settings::{Entry, ROLES, Role, environment::Environment};

/// A file with its placeholders filled in.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) value: Value,
    /// What cannot be filled in.
    pub(super) problems: Problems,
    used: Vec<Used>,
}

/// The environment that a file is read in. It is never printed.
#[derive(Clone, Default)]
pub(crate) struct FileEnvironment(Option<Arc<Environment>>);

/// Variables that outrank keys of the file, each with the path of its key.
#[derive(Debug, Default)]
pub(super) struct Outranked(Vec<(String, String)>);

/// A variable that was filled in.
struct Used {
    path: String,
    name: String,
    value: String,
}

/// A value that is shorter may stand in a message by chance.
const TELLING: usize = 6;

/// Sections of which a process has one. A variable says nothing about others: which one would it be?
const OF_PROCESS: [&str; 5] = ["", "kubernetes", "admin", "admin.tls", "leader_elect"];

// === impl FileEnvironment ===

impl FileEnvironment {
    pub(super) fn of(environment: &Environment) -> Self {
        Self(Some(Arc::new(environment.clone())))
    }

    /// Fills in the placeholders of every value. Only values are looked at, and after the YAML was read, so that what is filled in
    /// cannot become anything but a part of this value.
    pub(super) fn fill(&self, raw: &Value) -> Filled {
        let mut filled = Filled { value: raw.clone(), ..Filled::default() };
        if let Some(environment) = &self.0 {
            let mut value = std::mem::take(&mut filled.value);
            filled.walk(&mut value, "", environment);
            filled.value = value;
        }
        filled
    }
}

impl fmt::Debug for FileEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileEnvironment")
    }
}

// === impl Filled ===

impl Filled {
    fn walk(&mut self, value: &mut Value, path: &str, environment: &Environment) {
        match value {
            Value::String(text) if text.contains('$') => match expand(text, environment) {
                Ok((filled, used)) => {
                    let used = used.into_iter().map(|(name, value)| Used { path: path.to_owned(), name, value });
                    self.used.extend(used);
                    *text = filled;
                }
                Err(message) => {
                    self.problems.push(Problem { path: path.to_owned(), message });
                    *value = Value::Null;
                }
            },
            Value::Sequence(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    self.walk(element, &format!("{path}[{index}]"), environment);
                }
            }
            Value::Mapping(mapping) => {
                for (key, value) in mapping {
                    let key = key.as_str().unwrap_or_default();
                    let dot = if path.is_empty() { "" } else { "." };
                    self.walk(value, &format!("{path}{dot}{}", runtime::config::quoted(key)), environment);
                }
            }
            _ => {}
        }
    }

    /// The names of the variables that were filled in.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.used.iter().map(|used| used.name.as_str()).collect()
    }

    /// The problems of what was filled in, without the values of variables: they may be secrets. What follows from a placeholder that could
    /// not be filled in is left out.
    pub(super) fn told(&self, problems: &Problems) -> Problems {
        let mut told = Problems::default();
        for problem in problems {
            let unfilled = self.problems.iter().find(|unfilled| unfilled.path == problem.path);
            if unfilled.is_none_or(|unfilled| unfilled == problem) {
                told.push(self.without_values(problem));
            }
        }
        told
    }

    /// A problem without the values of variables.
    pub(super) fn without_values(&self, problem: &Problem) -> Problem {
        let mut message = problem.message.clone();
        for Used { path, name, value } in &self.used {
            let here =
                problem.path == *path || path.strip_prefix(&problem.path).is_some_and(|rest| rest.starts_with('['));
            let placeholder = format!("${{{name}}}");
            let parts = value.split(',').map(str::trim);
            for part in [value.as_str()].into_iter().chain(parts).filter(|part| !part.is_empty()) {
                if here {
                    message = message.replace(&format!("{part:?}"), &format!("{placeholder:?}"));
                }
                if here || part.len() >= TELLING {
                    message = message.replace(part, &placeholder);
                    message = message.replace(&part.escape_debug().to_string(), &placeholder);
                }
            }
        }
        Problem { path: problem.path.clone(), message }
    }
}

// === impl Used ===

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.path)
    }
}

// === impl Outranked ===

impl Outranked {
    /// Lets variables outrank keys, and adds what the file does not say.
    pub(super) fn apply(raw: &mut Value, environment: &Environment) -> Self {
        let mut outranked = Self::default();
        if raw.is_null() {
            *raw = Value::Mapping(Mapping::new());
        }
        for setting in of_process() {
            let Some(given) = own(setting, environment) else { continue };
            let path = setting.path();
            let switches_on = ["admin.listen", "leader_elect.enabled"].contains(&path.as_str());
            let section = setting.section.split('.').next().unwrap_or_default();
            let is_there = section.is_empty() || section == "kubernetes" || raw.get(section).is_some();
            if (switches_on || is_there) && outranked.0.iter().all(|(before, _)| *before != path) {
                put(raw, &path, given.value);
                outranked.0.push((path, given.variable));
            }
        }
        outranked
    }

    /// A problem of a key by the variable that outranks it.
    pub(super) fn named(&self, problem: Problem) -> Problem {
        match self.0.iter().find(|(path, _)| *path == problem.path) {
            Some((path, variable)) => Problem { path: format!("{variable} ({path})"), message: problem.message },
            None => problem,
        }
    }
}

/// Variables that say nothing to a process that reads this file, although they probably should.
pub(super) fn doubtful(raw: &Value, environment: &Environment, filled_in: &BTreeSet<&str>) -> Problems {
    let known: Vec<String> = of_process().iter().filter_map(|setting| setting.variable()).collect();
    let mut problems = environment.doubtful_beside(&known);
    let mut told: BTreeSet<String> = BTreeSet::new();
    for setting in ROLES.iter().filter(|role| raw.get(role.name).is_some()).flat_map(Role::settings) {
        let Some(given) = own(setting, environment) else { continue };
        let variable = given.variable;
        if !known.contains(&variable) && !filled_in.contains(variable.as_str()) && told.insert(variable.clone()) {
            let message = format!(
                "this environment variable says nothing about a file, in which --{} may stand more than once: write \
                 ${{{variable}}} where it is meant",
                setting.flag
            );
            problems.push(Problem { path: variable, message });
        }
    }
    problems
}

/// What the variable of its flag says. Other variables are those of tools that have no file.
fn own(setting: &Entry, environment: &Environment) -> Option<crate::settings::environment::Given> {
    environment.given(&Entry { env: &[], ..*setting })
}

/// The settings of which a process has one, whatever its roles; each flag means the same for every role.
fn of_process() -> Vec<&'static Entry> {
    let all: Vec<&Entry> = ROLES.iter().flat_map(Role::settings).filter(|setting| !setting.flag.is_empty()).collect();
    let means_one =
        |setting: &Entry| all.iter().all(|other| other.flag != setting.flag || other.path() == setting.path());
    let is_one = |setting: &&&Entry| !setting.key.is_empty() && OF_PROCESS.contains(&setting.section);
    // What switches a section on comes first.
    let mut settings: Vec<&Entry> = all.iter().filter(is_one).filter(|setting| means_one(setting)).copied().collect();
    settings.sort_by_key(|setting| !["admin.listen", "leader_elect.enabled"].contains(&setting.path().as_str()));
    settings
}

/// Puts a value at a path without lists.
fn put(into: &mut Value, path: &str, value: Value) {
    let Value::Mapping(mapping) = into else { return };
    match path.split_once('.') {
        Some((step, rest)) => {
            let section = mapping.entry(step.into()).or_insert(Value::Null);
            if section.is_null() {
                *section = Value::Mapping(Mapping::new());
            }
            put(section, rest, value);
        }
        None => drop(mapping.insert(path.into(), value)),
    }
}

/// A text with its placeholders filled in, and the variables that were.
type Expanded = (String, Vec<(String, String)>);

/// Fills in `${NAME}` and `${NAME:-otherwise}`; `$$` is a dollar sign, and so is one before anything else.
fn expand(text: &str, environment: &Environment) -> Result<Expanded, String> {
    let (mut filled, mut used) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            filled.push('$');
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('{') {
            let advice = "write ${NAME}, ${NAME:-otherwise}, or $${ for these characters themselves";
            let (inside, behind) = behind.split_once('}').ok_or_else(|| format!("a ${{ has no }}: {advice}"))?;
            let (name, otherwise) = match inside.split_once(":-") {
                Some((name, otherwise)) => (name, Some(otherwise)),
                None => (inside, None),
            };
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("${{{inside}}} does not name an environment variable: {advice}"));
            }
            let value = if otherwise.is_some() { environment.get(name) } else { environment.even_empty(name) };
            match (value, otherwise) {
                (Some(value), _) => {
                    filled.push_str(value);
                    used.push((name.to_owned(), value.to_owned()));
                }
                (None, Some(otherwise)) => filled.push_str(otherwise),
                (None, None) => {
                    return Err(format!(
                        "the environment variable {name} is not set: set it, or write ${{{name}:-otherwise}}"
                    ));
                }
            }
            rest = behind;
        } else {
            filled.push('$');
        }
    }
    filled.push_str(rest);
    Ok((filled, used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().copied().collect();
        Config::of_file(text.as_bytes(), &environment).map_err(|problems| problems.to_string())
    }

    fn expanded(text: &str) -> Result<String, String> {
        let environment = [("A", "one"), ("_B2", "t,w$o"), ("EMPTY", "")].into_iter().collect();
        expand(text, &environment).map(|(filled, _)| filled)
    }

    #[test]
    fn placeholders_are_filled_in_wherever_they_stand_in_a_value() {
        for (text, filled) in [
            ("${A}", "one"),
            ("x${A}y${_B2}", "xoneyt,w$o"),
            ("${A:-other}", "one"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-other}", "other"),
            ("$$ $${A} $$$$ $ $A", "$ ${A} $$ $ $A"),
            ("cost: 3$", "cost: 3$"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(filled), "{text}");
        }
        for (text, told) in [
            ("${NONE}", "NONE is not set"),
            ("${A", "has no }"),
            ("${}", "${} does not name"),
            ("${a b}", "does not name"),
            ("${1A}", "does not name"),
        ] {
            assert!(expanded(text).expect_err(text).contains(told), "{text}");
        }
    }

    const FILE: &str = "
broadcast:
  - listen: 127.0.0.1:${PORT:-0}
    routes:
      - to: {endpoints: ['${ONE}', 192.0.2.2:80]}
        timeout: ${TIME}
        headers: {request: {set: {X-Key: '${KEY}'}}}
";

    #[test]
    fn a_value_cannot_become_more_than_a_value() {
        let bad = "192.0.2.1:80, 192.0.2.3:80]}\n    evil: {x: [";
        let problems = read(FILE, &[("ONE", bad), ("TIME", "3s"), ("KEY", "k: [v")]).expect_err("that is no endpoint");
        assert!(
            problems.lines().all(|line| line.starts_with("broadcast[0].routes[0].to.endpoints[0]: ")),
            "{problems}"
        );
        let config = read(FILE, &[("ONE", "192.0.2.1:80"), ("TIME", "3s"), ("KEY", "k: [v")]).expect("it is good");
        assert_eq!(config.proxy.listeners[0].routes[0].policy.timeouts.total.as_secs(), 3);
    }

    #[test]
    fn one_that_is_not_set_is_told_once_with_its_key() {
        let problems = read(FILE, &[("ONE", "192.0.2.1:80"), ("KEY", "")]).expect_err("TIME is not set");
        assert!(
            problems.starts_with("broadcast[0].routes[0].timeout: the environment variable TIME is not set"),
            "{problems}"
        );
        assert_eq!(problems.lines().count(), 1, "{problems}");
        let listen = "broadcast: [{listen: '${X}', routes: [{to: {dns: 'a.example:1'}}]}]";
        assert_eq!(read(listen, &[]).expect_err("X is not set").lines().count(), 1, "not also that it is missing");
    }

    #[test]
    fn no_value_of_a_variable_is_shown() {
        let secret = ("TIME", "hunter2,s3cret");
        let problems = read(FILE, &[("ONE", "192.0.2.1:80"), secret, ("KEY", "k")]).expect_err("that is no time");
        assert!(
            problems.contains("${TIME}") && !problems.contains("hunter2") && !problems.contains("s3cret"),
            "{problems}"
        );
        let list =
            "broadcast: [{listen: ':1', trust_forwarded: '10.0.0.0/8,${X}', routes: [{to: {dns: 'a.example:1'}}]}]";
        let problems = read(list, &[("X", "hun,ter2")]).expect_err("these are no networks");
        assert!(!problems.contains("hun") && !problems.contains("ter2"), "{problems}");
        let config = read(FILE, &[("ONE", "192.0.2.1:80"), ("TIME", "7s"), ("KEY", "hunter2")]).expect("it is good");
        let shown = config.shown().to_string();
        assert!(shown.contains("${TIME}") && !shown.contains("7s") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("\"require\":\"all\""), "defaults stand beside it: {shown}");
        assert!(!format!("{config:?}").contains("FANFARE"), "the environment is printed nowhere");
    }

    #[test]
    fn a_variable_of_a_flag_outranks_what_the_file_says_of_the_process() {
        let file = "{admin: {listen: 127.0.0.1:1}, log_level: info, elect: [{name: a}]}";
        let variables = [
            ("FANFARE_LOG_LEVEL", "debug"),
            ("FANFARE_METRICS_INTERFACE", "127.0.0.1:2"),
            ("FANFARE_DRAIN_DELAY", "3s"),
        ];
        let config = read(file, &variables).expect("it is good");
        assert_eq!(config.process.log_level, runtime::telemetry::Level::Debug);
        assert_eq!(config.admin.map(|admin| admin.port()), Some(2));
        assert_eq!(config.process.drain_delay.as_secs(), 3);
        let problems = read(file, &[("FANFARE_DRAIN_DELAY", "soon")]).expect_err("that is no time");
        assert!(problems.starts_with("FANFARE_DRAIN_DELAY (drain_delay): "), "{problems}");
        let elected = |variables: &[(&str, &str)]| read(file, variables).expect("it is good").leader_elect;
        assert_eq!(elected(&[("FANFARE_LEADER_ELECT_ID", "a")]), None, "it switches nothing on");
        let id =
            elected(&[("FANFARE_LEADER_ELECT", "true"), ("FANFARE_LEADER_ELECT_ID", "a")]).and_then(|config| config.id);
        assert_eq!(id.as_deref(), Some("a"));
    }

    #[test]
    fn a_variable_about_one_of_many_is_a_warning_unless_the_file_names_it() {
        let file = "broadcast: [{listen: '127.0.0.1:0', routes: [{to: {dns: 'a.example:1'}, timeout: TIMEOUT}]}]";
        let warnings = |timeout: &str, name: &str| {
            let config = read(&file.replace("TIMEOUT", timeout), &[(name, "3s")]).expect("it is good");
            config.warnings().to_string()
        };
        let told = warnings("1s", "FANFARE_TIMEOUT");
        assert!(told.starts_with("FANFARE_TIMEOUT: ") && told.contains("${FANFARE_TIMEOUT}"), "{told}");
        assert_eq!(warnings("'${FANFARE_TIMEOUT}'", "FANFARE_TIMEOUT"), "");
        assert!(warnings("1s", "FANFARE_DRAIN_DELY").contains("FANFARE_DRAIN_DELAY"));
        assert_eq!(warnings("1s", "FANFARE_PORT"), "");
    }
}
