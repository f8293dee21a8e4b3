//! Flags of `fanfare broadcast` that the table of settings does not explain: an older spelling, and a choice of sources.

use clap::ArgMatches;
use serde_yaml::Value;

use super::flags::{Flags, given};
use crate::settings::broadcast::{
    answer::{ALL_MUST_SUCCEED, REQUIRE},
    endpoints::{ENDPOINTS, ENDPOINTS_DNS, ENDPOINTS_FILE, ENDPOINTS_URL, SERVICE},
};

/// Reads `--all-must-succeed`, an older spelling of two values of `--require`, and checks that one source is given.
pub(super) fn amend(flags: &mut Flags, matches: &ArgMatches) {
    // Exactly one of these is given.
    let names = [SERVICE.flag, ENDPOINTS.flag, ENDPOINTS_FILE.flag, ENDPOINTS_URL.flag, ENDPOINTS_DNS.flag];
    let sources = names.iter().filter(|flag| matches.contains_id(flag)).count();
    if sources != 1 {
        let number = if sources == 0 { "none of them is".to_owned() } else { format!("{sources} are") };
        let names = names.map(|flag| format!("--{flag}")).join(", ");
        let message = format!("exactly one of these tells where the endpoints come from, but {number} given");
        flags.problem(&names, message, &["broadcast[0].routes[0].to"]);
    }
    let Some(Value::Bool(all)) = given(matches, &ALL_MUST_SUCCEED) else { return };
    let rule = if all { "all" } else { "any" };
    match matches.get_one::<String>(REQUIRE.flag) {
        Some(require) if require != rule => {
            let message = format!("{all} means --require {rule}, but --require {require} is given too");
            flags.problem("--all-must-succeed", message, &[]);
        }
        _ => flags.set(&REQUIRE, rule.into()),
    }
}
