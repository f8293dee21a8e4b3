//! `fanfare broadcast`: flags become the same raw configuration that a file holds, so that both are read, checked and
//! run by the same code.

use clap::{Arg, ArgAction, ArgMatches, Command, builder::BoolishValueParser, parser::ValueSource};
use runtime::config::{Problem, Problems};
use serde_yaml::{Mapping, Value};

use crate::{
    config::Config,
    settings::{self, Kind, Setting},
};

/// The flags that were given, as the file that says the same.
#[derive(Debug)]
pub(crate) struct Broadcast {
    raw: Value,
    /// How many sources of endpoints were given.
    sources: usize,
    /// `--all-must-succeed` against `--require`.
    contradiction: Option<String>,
}

/// Flags of which exactly one is given.
const SOURCES: [&str; 4] = ["service", "endpoints", "endpoints-file", "endpoints-dns"];

/// The prefix of the hidden counterpart of every switch.
const NO: &str = "no-";

// === impl Broadcast ===

impl Broadcast {
    pub(super) fn new(matches: &ArgMatches) -> Self {
        let mut raw = Value::Mapping(Mapping::new());
        for setting in settings::all().filter(|setting| !setting.flag.is_empty() && !setting.key.is_empty()) {
            let value = given(matches, setting).or_else(|| listener_default(setting));
            if let Some(value) = value {
                insert(&mut raw, setting.key, value);
            }
        }
        // Kept apart from `--require`, to which it is an older way of saying two of its values.
        let all = settings::all().find(|s| s.flag == "all-must-succeed").and_then(|s| given(matches, s));
        let require = matches.get_one::<String>("require");
        let mut contradiction = None;
        if let Some(Value::Bool(all)) = all {
            let rule = if all { "all" } else { "any" };
            match require {
                Some(require) if require != rule => {
                    contradiction = Some(format!("{all} means --require {rule}, but --require {require} is given too"));
                }
                _ => insert(&mut raw, "broadcast[].routes[].require", rule.into()),
            }
        }
        let sources = SOURCES.iter().filter(|flag| matches.contains_id(flag)).count();
        Self { raw, sources, contradiction }
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// Every problem, each named by its flag.
    pub(crate) fn config(&self) -> Result<Config, Problems> {
        let checked = Config::check(&self.raw);
        let mut problems = Problems::default();
        let mut add = |path: &str, message: String| problems.push(Problem { path: path.to_owned(), message });
        if self.sources != 1 {
            let number = if self.sources == 0 { "none of them is".to_owned() } else { format!("{} are", self.sources) };
            let flags = SOURCES.map(|flag| format!("--{flag}")).join(", ");
            add(&flags, format!("exactly one of these tells where the endpoints come from, but {number} given"));
        }
        if let Some(message) = &self.contradiction {
            add("--all-must-succeed", message.clone());
        }
        for Problem { path, message } in checked.as_ref().err().into_iter().flatten() {
            match settings::flag_at(path) {
                Some(flag) => add(&format!("--{flag}"), message.clone()),
                // Said above, in terms of flags.
                None if path == "broadcast[0].routes[0].to" && self.sources != 1 => {}
                None => add(path, message.clone()),
            }
        }
        if problems.is_empty() { checked } else { Err(problems) }
    }
}

/// The subcommand with every flag of the table of settings.
pub(super) fn command() -> Command {
    let mut command = Command::new("broadcast")
        .about("Sends every request to every endpoint of a service and gives back one answer")
        .after_help("Durations are written like 300ms, 10s or 1m30s, sizes like 64KiB or 10MB.");
    for group in settings::GROUPS {
        command = command.next_help_heading(group.title);
        for setting in group.settings.iter().filter(|setting| !setting.flag.is_empty()) {
            command = command.args(arguments(setting));
        }
    }
    command
}

/// The flag, and for a switch its hidden negation.
fn arguments(setting: &Setting) -> Vec<Arg> {
    let help = match setting.default {
        "" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    };
    let mut arg = Arg::new(setting.flag).long(setting.flag).help(help).allow_hyphen_values(true);
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    match setting.kind {
        Kind::One(name) => vec![arg.value_name(name)],
        Kind::Many(name) => vec![arg.value_name(name).action(ArgAction::Append)],
        Kind::Switch => {
            let arg = arg
                .value_name("BOOL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(BoolishValueParser::new())
                .hide_possible_values(true);
            let id = format!("{NO}{}", setting.flag);
            let negation = Arg::new(id.clone()).long(id).hide(true).action(ArgAction::SetTrue);
            vec![arg.overrides_with(format!("{NO}{}", setting.flag)), negation.overrides_with(setting.flag)]
        }
    }
}

/// What was given for a setting, as the file would hold it.
fn given(matches: &ArgMatches, setting: &Setting) -> Option<Value> {
    match setting.kind {
        Kind::One(_) => matches.get_one::<String>(setting.flag).map(|text| text.as_str().into()),
        Kind::Many(_) => {
            let texts = matches.get_many::<String>(setting.flag)?;
            Some(Value::Sequence(texts.map(|text| text.as_str().into()).collect()))
        }
        Kind::Switch => {
            let negation = format!("{NO}{}", setting.flag);
            let negated = matches.value_source(&negation) == Some(ValueSource::CommandLine);
            if negated { Some(false.into()) } else { matches.get_one::<bool>(setting.flag).map(|on| (*on).into()) }
        }
    }
}

/// The two listeners have a default as flags, but not in a file.
fn listener_default(setting: &Setting) -> Option<Value> {
    matches!(setting.flag, "interface" | "metrics-interface").then(|| setting.default.into())
}

/// Puts a value where a path like `a.b[].c` says, making what is on the way; every list has one element.
fn insert(into: &mut Value, path: &str, value: Value) {
    let (step, rest) = match path.split_once('.') {
        Some((step, rest)) => (step, Some(rest)),
        None => (path, None),
    };
    let (key, list) = match step.strip_suffix("[]") {
        Some(key) => (key, true),
        None => (step, false),
    };
    let Value::Mapping(mapping) = into else { return };
    let empty = || Value::Mapping(Mapping::new());
    let slot = mapping.entry(key.into()).or_insert_with(|| if list { Value::Sequence(vec![empty()]) } else { empty() });
    let slot = match slot {
        Value::Sequence(elements) if list => &mut elements[0],
        other => other,
    };
    match rest {
        Some(rest) => insert(slot, rest, value),
        None => *slot = value,
    }
}
