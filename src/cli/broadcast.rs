//! What the flags of `fanfare broadcast` say beyond the table of settings.

use clap::ArgMatches;
use serde_yaml::Value;

use super::flags::{Flags, given};
use crate::settings::Role;

/// Flags of which exactly one is given.
const SOURCES: [&str; 4] = ["service", "endpoints", "endpoints-file", "endpoints-dns"];

/// Adds `--all-must-succeed`, an older way of saying two values of `--require`, and counts the sources of endpoints.
pub(super) fn amend(flags: &mut Flags, role: &Role, matches: &ArgMatches) {
    let sources = SOURCES.iter().filter(|flag| matches.contains_id(flag)).count();
    if sources != 1 {
        let number = if sources == 0 { "none of them is".to_owned() } else { format!("{sources} are") };
        let names = SOURCES.map(|flag| format!("--{flag}")).join(", ");
        let message = format!("exactly one of these tells where the endpoints come from, but {number} given");
        flags.problem(&names, message, &["broadcast[0].routes[0].to"]);
    }
    let all = role.settings().find(|s| s.flag == "all-must-succeed").and_then(|s| given(matches, s));
    let Some(Value::Bool(all)) = all else { return };
    let rule = if all { "all" } else { "any" };
    match matches.get_one::<String>("require") {
        Some(require) if require != rule => {
            let message = format!("{all} means --require {rule}, but --require {require} is given too");
            flags.problem("--all-must-succeed", message, &[]);
        }
        _ => flags.set("broadcast[].routes[].require", rule.into()),
    }
}
