//! The flags of a role become the same raw configuration that a file holds, so that both are read, checked and run by
//! the same code.

use std::ffi::OsStr;

use clap::{
    Arg, ArgAction, ArgMatches, Command, ValueHint,
    builder::{BoolishValueParser, PossibleValue, StringValueParser, TypedValueParser},
    parser::ValueSource,
};
use runtime::config::{Problem, Problems};
use serde_yaml::{Mapping, Value};

use crate::{
    config::Config,
    settings::{Entry, Kind, Role, environment::Environment, is_choice, values::boolean},
};

/// The given flags, as an equivalent file.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    role: &'static Role,
    raw: Value,
    /// The given settings: their paths in the file, each with its variable, if it is not from a flag.
    given: Vec<(String, Option<String>)>,
    /// Variables that are probably mistakes.
    doubtful: Problems,
    /// Problems that only flags can have.
    problems: Problems,
    /// Paths in the file whose problems are left out, because flags explain them better.
    explained: Vec<&'static str>,
}

/// One of several values, which are in the name of the value.
#[derive(Clone)]
struct Choice(&'static str);

/// The prefix of the hidden counterpart of every switch.
const NO: &str = "no-";

// === impl Flags ===

impl Flags {
    /// The settings of the command line and the environment.
    pub(super) fn new(role: &'static Role, matches: &ArgMatches, environment: &Environment) -> Self {
        let mut all = Vec::new();
        let mut raw = Value::Mapping(Mapping::new());
        // The section of the role exists even without flags, so that missing settings are named.
        if let Some(section) = role.section() {
            insert(&mut raw, section, Value::Mapping(Mapping::new()));
        }
        for setting in role.settings().filter(|setting| !setting.key.is_empty()) {
            let flag = if setting.flag.is_empty() { None } else { given(matches, setting) };
            let flag = flag.map(|value| (value, None));
            let given = flag.or_else(|| environment.given(setting).map(|given| (given.value, Some(given.variable))));
            let value = match given {
                Some((value, variable)) => {
                    all.push((setting.path(), variable));
                    Some(value)
                }
                None => setting.always.then(|| setting.default.into()),
            };
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
        let doubtful = environment.doubtful(role);
        Self { role, raw, given: all, doubtful, problems: Problems::default(), explained: Vec::new() }
    }

    /// The variable that sets a setting.
    pub(super) fn variable_of(&self, setting: &Entry) -> Option<&str> {
        let path = setting.path();
        self.given.iter().find(|(at, _)| *at == path).and_then(|(_, variable)| variable.as_deref())
    }

    /// Whether a flag or a variable sets it.
    pub(super) fn is_given(&self, setting: &Entry) -> bool {
        let path = setting.path();
        self.given.iter().any(|(at, _)| *at == path)
    }

    /// Whether a switch is on, by flag or variable.
    pub(super) fn is_on(&self, setting: &Entry) -> bool {
        match at(&self.raw, &setting.path()) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => boolean(text) == Ok(true),
            _ => false,
        }
    }

    /// Removes a setting.
    pub(super) fn unset(&mut self, setting: &Entry) {
        let path = setting.path();
        let Some((section, key)) = path.rsplit_once('.') else { return };
        if let Some(Value::Mapping(section)) = at_mut(&mut self.raw, section) {
            section.remove(key);
        }
        self.given.retain(|(at, _)| *at != path);
    }

    /// Variables that are probably mistakes.
    pub(crate) fn doubtful(&self) -> &Problems {
        &self.doubtful
    }

    /// Gives a setting a value.
    pub(super) fn set(&mut self, setting: &Entry, value: Value) {
        insert(&mut self.raw, &setting.path(), value);
    }

    /// Removes the outermost section of a setting.
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

    /// Notes a problem that only flags can have. Resulting problems at the paths `explained` of the file are not reported.
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
    /// The problems of the equivalent file, each named by its flag.
    pub(crate) fn by_flag(&self, problems: &Problems) -> Problems {
        let mut named = Problems::default();
        problems.iter().for_each(|problem| named.push(self.with_flag(problem)));
        named
    }

    fn with_flag(&self, Problem { path, message }: &Problem) -> Problem {
        let message = message.clone();
        let Some(setting) = self.role.setting_at(path) else { return Problem { path: path.clone(), message } };
        let path = match (setting.flag, self.variable_of(setting)) {
            ("", None) => path.clone(),
            ("", Some(variable)) => variable.to_owned(),
            (flag, None) => format!("--{flag}"),
            (flag, Some(variable)) => format!("{variable} (--{flag})"),
        };
        Problem { path, message }
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
    let variables = setting.variables();
    if !variables.is_empty() {
        help += &format!(" [env: {}]", variables.join(", "));
    }
    let mut arg = Arg::new(setting.flag).long(setting.flag).help(help).allow_hyphen_values(true);
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    let switch = |arg: Arg| arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    match setting.kind {
        Kind::One(name) => vec![with_value(arg, name)],
        Kind::Many(name) | Kind::Commas(name) | Kind::Each(name) => {
            vec![with_value(arg, name).action(ArgAction::Append)]
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

/// A flag with a value, and its completions: paths, or the values in the name of the value.
fn with_value(arg: Arg, name: &'static str) -> Arg {
    let arg = arg.value_name(name);
    match name {
        "PATH" => arg.value_hint(ValueHint::AnyPath),
        _ if is_choice(name) => arg.value_parser(Choice(name)).hide_possible_values(true),
        _ => arg,
    }
}

// === impl Choice ===

impl TypedValueParser for Choice {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        // An unknown value is reported like every other problem of the configuration.
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.split('|').map(PossibleValue::new)))
    }
}

/// The value of a setting, as written in the file.
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

/// The value at a path like `a.b[].c`; of lists, in the first element.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| match step.strip_suffix("[]") {
        Some(list) => value.get(list)?.get(0),
        None => value.get(step),
    })
}

/// The same, mutable.
fn at_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, step| match step.strip_suffix("[]") {
        Some(list) => value.get_mut(list)?.get_mut(0),
        None => value.get_mut(step),
    })
}

/// Sets the value at a path like `a.b[].c`, and creates mappings and lists on the way; every list has one element.
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

/// Adds the settings that only `from` has; every list has one element.
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
