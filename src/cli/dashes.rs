//! Flags with one dash, as Go's flag package takes them: the tools that some roles replace are written in Go.

use std::ffi::{OsStr, OsString};

use crate::settings::{Dashes, Role};

/// Gives every long flag of the role its second dash. Other arguments stay as they are.
pub(super) fn normalise(role: &Role, arguments: Vec<OsString>) -> Vec<OsString> {
    if role.dashes == Dashes::Two {
        return arguments;
    }
    let mut rest = arguments.into_iter();
    let mut normal = Vec::with_capacity(rest.len());
    for argument in rest.by_ref() {
        if argument == "--" {
            normal.push(argument);
            break;
        }
        normal.push(if lacks_a_dash(role, &argument) { with_dash(&argument) } else { argument });
    }
    normal.extend(rest);
    normal
}

fn lacks_a_dash(role: &Role, argument: &OsStr) -> bool {
    let Some(text) = argument.to_str().and_then(|text| text.strip_prefix('-')) else { return false };
    let name = text.split_once('=').map_or(text, |(name, _value)| name);
    !name.is_empty() && role.settings().any(|setting| setting.flag == name)
}

fn with_dash(argument: &OsStr) -> OsString {
    let mut full = OsString::from("-");
    full.push(argument);
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(role: &str, arguments: &[&str]) -> Vec<String> {
        let role = Role::named(role).expect("there is such a role");
        let arguments = arguments.iter().map(OsString::from).collect();
        normalise(role, arguments).into_iter().map(|argument| argument.into_string().expect("was text")).collect()
    }

    #[test]
    fn go_flags_get_their_second_dash() {
        let go =
            ["fanfare", "mirror", "-log-level=debug", "-log-level", "info", "--log-level", "-1", "--", "-log-level"];
        let two =
            ["fanfare", "mirror", "--log-level=debug", "--log-level", "info", "--log-level", "-1", "--", "-log-level"];
        assert_eq!(normal("mirror", &go), two);
        let unknown = ["fanfare", "mirror", "-nonsense", "-", "-l", "debug"];
        assert_eq!(normal("mirror", &unknown), unknown, "what is no flag of the role stays as it is");
        let other = ["fanfare", "broadcast", "-log-level", "info"];
        assert_eq!(normal("broadcast", &other), other);
    }
}
