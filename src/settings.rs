//! The one table of every setting: its flag, its environment variables, its key in the file, its default and its meaning.
//! The command line, the mapping from flags to keys and the reference in `docs/configuration.md` all follow from it.

pub(crate) mod bridge;
pub(crate) mod broadcast;
pub(crate) mod discover;
pub(crate) mod elect;
pub(crate) mod endpoints;
pub(crate) mod environment;
pub(crate) mod mirror;
pub(crate) mod process;
pub(crate) mod schema;
pub(crate) mod send;
mod setting;
pub(crate) mod store;
pub(crate) mod values;

use serde_yaml::Value;

pub(crate) use setting::{Entry, Kind, List, Setting, elements, is_choice};
use setting::{flag, group, key, settings};

/// The outermost section of the file.
const ROOT: &str = "";

/// A role: what a subcommand does, and what can be set about it.
#[derive(Debug)]
pub(crate) struct Role {
    /// The subcommand.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// How its flags may be written.
    pub(crate) dashes: Dashes,
    /// Its settings, in the order in which the help and the reference show them.
    pub(crate) groups: &'static [Group],
}

/// How the flags of a role may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dashes {
    /// `--flag`, and `-f` where it has a short form.
    Two,
    /// As Go's flag package takes them, which the tool that the role replaces uses: `-flag` as well.
    OneOrTwo,
}

/// A heading of the help and of the reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// What stands below it.
    pub(crate) settings: &'static [Entry],
}

/// Every role, in the order in which the help and the reference show them.
pub(crate) const ROLES: &[Role] =
    &[broadcast::ROLE, elect::ROLE, discover::ROLE, bridge::ROLE, endpoints::ROLE, mirror::ROLE];

// === impl Role ===

impl Role {
    /// The role with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ROLES.iter().find(|role| role.name == name)
    }

    /// Every setting.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &'static Entry> + use<> {
        self.groups.iter().flat_map(|group| group.settings)
    }

    /// Its section of the file: `elect[]`, or `endpoints`.
    pub(crate) fn section(&self) -> Option<&'static str> {
        let sections = self.settings().filter_map(|setting| setting.section.split('.').next());
        sections.into_iter().find(|section| section.trim_end_matches("[]") == self.name)
    }

    /// The setting that stands at a path of the file, or in the list there, whatever the indices in it. One that has a flag comes
    /// first.
    pub(crate) fn setting_at(&self, path: &str) -> Option<&'static Entry> {
        let key = without_indices(path);
        let list = format!("{key}[]");
        let key = key.strip_suffix("[]").unwrap_or(&key);
        let at_path = |setting: &Entry| setting.path() == key || setting.section == list;
        let stands = |setting: &&Entry| at_path(setting) && !key.is_empty();
        self.settings()
            .find(|setting| stands(setting) && !setting.flag.is_empty())
            .or_else(|| self.settings().find(stands))
    }
}

/// A raw configuration without the values that say in words what holds where nothing is said: `max_body: unlimited` is the
/// same as no `max_body`. Every other default is a value like any other.
pub(crate) fn without_defaults_in_words(raw: &Value) -> Value {
    let mut raw = raw.clone();
    for setting in ROLES.iter().flat_map(Role::settings).filter(|setting| setting.has_default_in_words()) {
        leave_out(&mut raw, &setting.path(), setting.default);
    }
    raw
}

/// Makes the value at a path nothing where it is this text, or a list of this one text.
fn leave_out(value: &mut Value, path: &str, text: &str) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let Value::Mapping(mapping) = value else { return };
    let Some(value) = mapping.get_mut(step.trim_end_matches("[]")) else { return };
    match (rest, value) {
        (Some(rest), Value::Sequence(elements)) => elements.iter_mut().for_each(|one| leave_out(one, rest, text)),
        (Some(rest), value) => leave_out(value, rest, text),
        (None, value) => {
            let one = match &*value {
                Value::Sequence(elements) if elements.len() == 1 => &elements[0],
                other => other,
            };
            if one.as_str() == Some(text) {
                *value = Value::Null;
            }
        }
    }
}

/// `a[3].b[0]` as `a[].b[]`.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !(inside && c.is_ascii_digit())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fmt::Write as _, path::Path};

    use super::*;

    /// The reference's table of a role. A `|` would end a cell, also within code.
    fn table(role: &Role) -> String {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
        let mut table =
            "| Flag | Environment | Key in the file | Value | Default | Meaning |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for group in role.groups {
            writeln!(table, "| **{}** | | | | | |", group.title).unwrap();
            for setting in group.settings.iter().filter(|setting| !matches!(setting.kind, Kind::Ignored { .. })) {
                let Entry { flag, short, kind, default, help, .. } = setting;
                let dashes = if role.dashes == Dashes::OneOrTwo { "-" } else { "--" };
                let long = if flag.is_empty() { String::new() } else { format!("{dashes}{flag}") };
                let flag = short
                    .map_or_else(|| code(&long), |short| format!("{}, {}", code(&format!("-{short}")), code(&long)));
                let env = setting.variables().iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
                let value = match kind {
                    Kind::One(name) => (*name).to_owned(),
                    Kind::Many(name) | Kind::Commas(name) | Kind::Each(name) => format!("{name}, repeatable"),
                    Kind::Switch | Kind::Ignored { .. } => "true or false".to_owned(),
                };
                let (value, help) = (value.replace('|', "\\|"), help.replace('|', "\\|"));
                writeln!(
                    table,
                    "| {flag} | {env} | {} | {value} | {} | {help} |",
                    code(&setting.path()),
                    code(default)
                )
                .unwrap();
            }
        }
        table
    }

    #[test]
    fn the_reference_has_every_flag_and_key() {
        const END: &str = "<!-- /settings -->\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut wanted = text.clone();
        for role in ROLES {
            let begin =
                format!("<!-- settings of {}: UPDATE_DOCS=1 cargo test -p fanfare writes this table -->\n", role.name);
            let (before, rest) = wanted.split_once(&begin).unwrap_or_else(|| panic!("no place for {}", role.name));
            let (_, after) = rest.split_once(END).expect("the table ends");
            wanted = format!("{before}{begin}{}{END}{after}", table(role));
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(text == wanted, "docs/configuration.md is out of date: run UPDATE_DOCS=1 cargo test -p fanfare");
        }
    }

    #[test]
    fn no_flag_variable_or_key_of_a_role_comes_twice() {
        for role in ROLES {
            let (mut flags, mut shorts, mut keys, mut variables) =
                (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
            for setting in role.settings() {
                assert!(setting.flag.is_empty() || flags.insert(setting.flag), "{}: --{}", role.name, setting.flag);
                assert!(setting.short.is_none_or(|short| shorts.insert(short)), "{}: -{:?}", role.name, setting.short);
                assert!(setting.key.is_empty() || keys.insert(setting.path()), "{}: {}", role.name, setting.path());
                for name in setting.variables() {
                    assert!(variables.insert(name.clone()), "{}: ${name}", role.name);
                }
            }
        }
    }

    #[test]
    fn every_default_in_words_is_accepted_as_a_value_and_means_the_same_as_none() {
        for setting in ROLES.iter().flat_map(Role::settings).filter(|setting| setting.has_default_in_words()) {
            let with = |value: &str| {
                let text =
                    setting.path().rsplit('.').fold(value.to_owned(), |text, step| match step.strip_suffix("[]") {
                        Some(key) => format!("{{{key}: [{text}]}}"),
                        None => format!("{{{step}: {text}}}"),
                    });
                crate::config::Config::parse(text.as_bytes()).map_err(|problems| problems.to_string())
            };
            let nothing = with("null");
            let quoted = format!("{:?}", setting.default);
            assert_eq!(with(&quoted), nothing, "{}", setting.path());
            if matches!(setting.kind, Kind::Many(_) | Kind::Commas(_)) {
                assert_eq!(with(&format!("[{quoted}]")), nothing, "{}", setting.path());
            }
        }
    }

    #[test]
    fn a_path_in_the_file_leads_to_its_flag() {
        let broadcast = Role::named("broadcast").unwrap();
        let flag_at = |path: &str| broadcast.setting_at(path).map(|setting| setting.flag);
        assert_eq!(flag_at("broadcast[0].routes[12].timeout"), Some("timeout"));
        assert_eq!(flag_at("broadcast[0].routes[0].to.endpoints[3]"), Some("endpoints"));
        assert_eq!(flag_at("admin.listen"), Some("metrics-interface"));
        assert_eq!(flag_at("broadcast[0].tls.certificates"), Some("tls-cert"));
        assert_eq!(flag_at("broadcast[0].tls.certificates[1].key"), Some("tls-key"));
        assert_eq!(flag_at("broadcast[0]"), None);
    }
}
