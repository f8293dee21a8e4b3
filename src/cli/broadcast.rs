//! Flags of `fanfare broadcast` that the table of settings does not explain: an older spelling, and a choice of sources.

use clap::ArgMatches;
use serde_yaml::Value;

use super::flags::{Flags, given};
use crate::settings::{
    Entry,
    broadcast::{
        answer::{ALL_MUST_SUCCEED, REQUIRE},
        endpoints::{ENDPOINTS, ENDPOINTS_DNS, ENDPOINTS_FILE, ENDPOINTS_REFRESH, ENDPOINTS_URL, PORT_NAME, SERVICE},
    },
    environment::Environment,
};

/// Reads `--all-must-succeed`, an older spelling of two values of `--require`, and checks that one source is given.
pub(super) fn amend(flags: &mut Flags, matches: &ArgMatches, environment: &Environment) {
    one_source(flags);
    all_must_succeed(flags, matches, environment);
}

/// Checks that exactly one source of endpoints is given. If it is a flag, variables for other sources are ignored.
fn one_source(flags: &mut Flags) {
    let sources: [&Entry; 5] = [&SERVICE, &ENDPOINTS, &ENDPOINTS_FILE, &ENDPOINTS_URL, &ENDPOINTS_DNS];
    let by_flag = |flags: &Flags, source: &Entry| flags.is_given(source) && flags.variable_of(source).is_none();
    if sources.iter().any(|source| by_flag(flags, source)) {
        // Settings of a removed source are removed with it.
        let parts: [(&Entry, &Entry); 2] = [(&PORT_NAME, &SERVICE), (&ENDPOINTS_REFRESH, &ENDPOINTS_URL)];
        let unused = parts.into_iter().filter(|(_, source)| !by_flag(flags, source)).map(|(part, _)| part);
        for setting in sources.into_iter().chain(unused.collect::<Vec<_>>()) {
            if flags.variable_of(setting).is_some() {
                flags.unset(setting);
            }
        }
    }
    let given = sources.iter().filter(|source| flags.is_given(source)).count();
    if given != 1 {
        let number = if given == 0 { "none of them is".to_owned() } else { format!("{given} are") };
        let name = |source: &Entry| match flags.variable_of(source) {
            Some(variable) => variable.to_owned(),
            None => format!("--{}", source.flag),
        };
        let names = sources.map(name).join(", ");
        let message = format!("exactly one of these tells where the endpoints come from, but {number} given");
        flags.problem(&names, message, &["broadcast[0].routes[0].to"]);
    }
}

fn all_must_succeed(flags: &mut Flags, matches: &ArgMatches, environment: &Environment) {
    let by_flag = given(matches, &ALL_MUST_SUCCEED).map(|value| (value, None));
    let by_variable = || environment.given(&ALL_MUST_SUCCEED).map(|given| (given.value, Some(given.variable)));
    let Some((value, variable)) = by_flag.or_else(by_variable) else { return };
    let name = variable.clone().unwrap_or_else(|| format!("--{}", ALL_MUST_SUCCEED.flag));
    let Value::Bool(all) = value else {
        flags.problem(&name, "is neither true nor false".to_owned(), &[]);
        return;
    };
    let rule = if all { "all" } else { "any" };
    let require = matches.get_one::<String>(REQUIRE.flag).cloned();
    let require = require.or_else(|| match environment.given(&REQUIRE)?.value {
        Value::String(text) => Some(text),
        _ => None,
    });
    match (require, variable.is_some(), flags.variable_of(&REQUIRE).is_some()) {
        // A flag takes precedence over a variable.
        (Some(_), true, false) => {}
        (Some(require), by_variable, require_by_variable) if by_variable == require_by_variable && require != rule => {
            let message = format!("{all} means --require {rule}, but --require {require} is given too");
            flags.problem(&name, message, &[]);
        }
        _ => flags.set(&REQUIRE, rule.into()),
    }
}
