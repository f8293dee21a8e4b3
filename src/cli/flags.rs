//! The flags of a role become the same raw configuration that a file holds, so that both are read, checked and run by
//! the same code.

use clap::{Arg, ArgAction, ArgMatches, Command, builder::BoolishValueParser, parser::ValueSource};
use runtime::config::{Problem, Problems};
use serde_yaml::{Mapping, Value};

use crate::{
    config::Config,
    settings::{Entry, Kind, Role},
};

/// The flags that were given, as the file that says the same.
#[derive(Debug)]
pub(crate) struct Flags {
    role: &'static Role,
    raw: Value,
    /// Problems that only flags can have.
    problems: Problems,
    /// Paths in the file whose problems are left out, because flags explain them better.
    explained: Vec<&'static str>,
}

/// The prefix of the hidden counterpart of every switch.
const NO: &str = "no-";

// === impl Flags ===

impl Flags {
    /// What was given on the command line and in the environment.
    pub(super) fn new(
        role: &'static Role,
        matches: &ArgMatches,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut raw = Value::Mapping(Mapping::new());
        // The role is asked for even where no flag is given, so that what is missing is named.
        if let Some(section) = role.section() {
            insert(&mut raw, section, Value::Mapping(Mapping::new()));
        }
        for setting in role.settings().filter(|setting| !setting.key.is_empty()) {
            let flag = if setting.flag.is_empty() { None } else { given(matches, setting) };
            let value = flag
                .or_else(|| from_environment(setting, environment))
                .or_else(|| setting.always.then(|| setting.default.into()));
            match value {
                Some(Value::Sequence(values)) if matches!(setting.kind, Kind::Each(_)) => {
                    for (index, value) in values.into_iter().enumerate() {
                        insert_in(&mut raw, &setting.path(), index, value);
                    }
                }
                Some(value) => insert(&mut raw, &setting.path(), value),
                None => {}
            }
        }
        Self { role, raw, problems: Problems::default(), explained: Vec::new() }
    }

    /// Gives a setting a value.
    pub(super) fn set(&mut self, setting: &Entry, value: Value) {
        insert(&mut self.raw, &setting.path(), value);
    }

    /// Takes out the outermost section that a setting stands in.
    pub(super) fn unset_section(&mut self, setting: &Entry) {
        if let Value::Mapping(raw) = &mut self.raw {
            raw.remove(setting.section);
        }
    }

    /// Gives a setting a value unless it has one.
    pub(super) fn set_default(&mut self, setting: &Entry, value: Value) {
        let mut defaults = Value::Mapping(Mapping::new());
        insert(&mut defaults, &setting.path(), value);
        complete(&mut self.raw, defaults);
    }

    /// Notes a problem that only flags can have. What it leads to at the paths `explained` of the file is not told again.
    pub(super) fn problem(&mut self, flags: &str, message: String, explained: &[&'static str]) {
        self.problems.push(Problem { path: flags.to_owned(), message });
        self.explained.extend(explained);
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// Every problem, each named by its flag.
    pub(crate) fn config(&self) -> Result<Config, Problems> {
        let checked = Config::check(&self.raw);
        let mut problems = self.problems.clone();
        let more = checked.as_ref().err().into_iter().flatten();
        more.filter(|problem| !self.explained.contains(&problem.path.as_str())).for_each(|problem| {
            problems.push(self.with_flag(problem));
        });
        if problems.is_empty() { checked } else { Err(problems) }
    }
}

impl Flags {
    /// Problems of the file that says the same, each named by its flag.
    pub(crate) fn by_flag(&self, problems: &Problems) -> Problems {
        let mut named = Problems::default();
        problems.iter().for_each(|problem| named.push(self.with_flag(problem)));
        named
    }

    fn with_flag(&self, Problem { path, message }: &Problem) -> Problem {
        let path = self.role.flag_at(path).map_or_else(|| path.clone(), |flag| format!("--{flag}"));
        Problem { path, message: message.clone() }
    }
}

/// The subcommand with every flag of the role.
pub(super) fn command(role: &'static Role) -> Command {
    let mut command = Command::new(role.name)
        .about(role.about)
        .after_help("Durations are written like 300ms, 10s or 1m30s, sizes like 64KiB or 10MB.");
    for group in role.groups {
        command = command.next_help_heading(group.title);
        for setting in group.settings.iter().filter(|setting| !setting.flag.is_empty()) {
            command = command.args(arguments(setting));
        }
    }
    command
}

/// The flag, and for a switch its hidden negation.
fn arguments(setting: &Entry) -> Vec<Arg> {
    let mut help = setting.help.to_owned();
    if !setting.default.is_empty() {
        help += &format!(" [default: {}]", setting.default);
    }
    if let Some(name) = setting.env.first() {
        help += &format!(" [env: {name}]");
    }
    let mut arg = Arg::new(setting.flag).long(setting.flag).help(help).allow_hyphen_values(true);
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    let switch = |arg: Arg| arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    match setting.kind {
        Kind::One(name) => vec![arg.value_name(name)],
        Kind::Many(name) | Kind::Commas(name) | Kind::Each(name) => {
            vec![arg.value_name(name).action(ArgAction::Append)]
        }
        Kind::Ignored { value } => {
            let arg = if value { arg } else { switch(arg) };
            vec![arg.hide(true).action(ArgAction::Append)]
        }
        Kind::Switch => {
            let arg = switch(arg).value_name("BOOL").value_parser(BoolishValueParser::new()).hide_possible_values(true);
            let id = format!("{NO}{}", setting.flag);
            let negation = Arg::new(id.clone()).long(id).hide(true).action(ArgAction::SetTrue);
            vec![arg.overrides_with(format!("{NO}{}", setting.flag)), negation.overrides_with(setting.flag)]
        }
    }
}

/// What was given for a setting, as it would be written in the file.
pub(super) fn given(matches: &ArgMatches, setting: &Entry) -> Option<Value> {
    match setting.kind {
        Kind::One(_) => matches.get_one::<String>(setting.flag).map(|text| text.as_str().into()),
        Kind::Many(_) | Kind::Commas(_) | Kind::Each(_) => {
            let texts = matches.get_many::<String>(setting.flag)?;
            Some(Value::Sequence(texts.map(|text| text.as_str().into()).collect()))
        }
        Kind::Switch => {
            let negation = format!("{NO}{}", setting.flag);
            let negated = matches.value_source(&negation) == Some(ValueSource::CommandLine);
            if negated { Some(false.into()) } else { matches.get_one::<bool>(setting.flag).map(|on| (*on).into()) }
        }
        Kind::Ignored { .. } => None,
    }
}

/// The first of its variables that is set and not empty. Its value is checked together with the file.
fn from_environment(setting: &Entry, environment: &impl Fn(&str) -> Option<String>) -> Option<Value> {
    let text = setting.env.iter().find_map(|name| environment(name).filter(|text| !text.is_empty()))?;
    Some(text.as_str().into())
}

/// Puts a value where a path like `a.b[].c` leads, and makes the mappings and lists on the way; every list has one element.
fn insert(into: &mut Value, path: &str, value: Value) {
    insert_in(into, path, 0, value);
}

/// The same in this element of the innermost list.
fn insert_in(into: &mut Value, path: &str, index: usize, value: Value) {
    let (step, rest) = match path.split_once('.') {
        Some((step, rest)) => (step, Some(rest)),
        None => (path, None),
    };
    let Value::Mapping(mapping) = into else { return };
    let empty = || Value::Mapping(Mapping::new());
    let slot = match step.strip_suffix("[]") {
        Some(key) => {
            let list = mapping.entry(key.into()).or_insert_with(|| Value::Sequence(Vec::new()));
            let Value::Sequence(elements) = list else { return };
            let index = if rest.is_some_and(|rest| rest.contains("[]")) { 0 } else { index };
            while elements.len() <= index {
                elements.push(empty());
            }
            &mut elements[index]
        }
        None => mapping.entry(step.into()).or_insert_with(empty),
    };
    match rest {
        Some(rest) => insert_in(slot, rest, index, value),
        None => *slot = value,
    }
}

/// Adds what only `from` has; every list has one element.
fn complete(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(there) => complete(there, value),
                    None => drop(into.insert(key, value)),
                }
            }
        }
        (Value::Sequence(into), Value::Sequence(from)) => {
            for (into, from) in into.iter_mut().zip(from) {
                complete(into, from);
            }
        }
        _ => {}
    }
}
