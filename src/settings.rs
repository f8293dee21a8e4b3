//! The one table of every setting: its flag, its key in the file, its default and its meaning. The command line, the
//! mapping from flags to keys and the reference in `docs/configuration.md` all follow from it.

mod table;

pub(crate) use table::GROUPS;

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The long flag of `fanfare broadcast`; empty: only in the file.
    pub(crate) flag: &'static str,
    /// The short flag.
    pub(crate) short: Option<char>,
    /// Where it stands in the file; empty: only a flag.
    pub(crate) key: &'static str,
    /// What kind of value it takes.
    pub(crate) kind: Kind,
    /// What holds where it is not given, as one would write it; empty: nothing.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) help: &'static str,
}

/// What a setting takes, with the name that stands for the value in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One value.
    One(&'static str),
    /// Any number of values: a repeatable flag, a list (or one value) in the file.
    Many(&'static str),
    /// `true` or `false`; the bare flag is `true`, `--no-…` is `false`.
    Switch,
}

/// A heading of the help and of the reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// What stands below it.
    pub(crate) settings: &'static [Setting],
}

/// Every setting.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The flag of the setting that stands at a path of the file, whatever the indices in it.
pub(crate) fn flag_at(path: &str) -> Option<&'static str> {
    let key = without_indices(path);
    let key = key.strip_suffix("[]").unwrap_or(&key);
    all().find(|setting| setting.key == key && !setting.flag.is_empty()).map(|setting| setting.flag)
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

    /// The reference's table. A `|` would end a cell, also within code.
    fn table() -> String {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
        let mut table = "| Flag | Key in the file | Value | Default | Meaning |\n|---|---|---|---|---|\n".to_owned();
        for group in GROUPS {
            writeln!(table, "| **{}** | | | | |", group.title).unwrap();
            for setting in group.settings {
                let Setting { flag, short, key, kind, default, help } = setting;
                let long = if flag.is_empty() { String::new() } else { format!("--{flag}") };
                let flag = short
                    .map_or_else(|| code(&long), |short| format!("{}, {}", code(&format!("-{short}")), code(&long)));
                let value = match kind {
                    Kind::One(name) => (*name).to_owned(),
                    Kind::Many(name) => format!("{name}, repeatable"),
                    Kind::Switch => "true or false".to_owned(),
                };
                let (value, help) = (value.replace('|', "\\|"), help.replace('|', "\\|"));
                writeln!(table, "| {flag} | {} | {value} | {} | {help} |", code(key), code(default)).unwrap();
            }
        }
        table
    }

    #[test]
    fn the_reference_has_every_flag_and_key() {
        const BEGIN: &str = "<!-- settings: UPDATE_DOCS=1 cargo test -p fanfare writes this table -->\n";
        const END: &str = "<!-- /settings -->\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the reference has a place for the table");
        let (_, after) = rest.split_once(END).expect("the table ends");
        let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(text == wanted, "docs/configuration.md is out of date: run UPDATE_DOCS=1 cargo test -p fanfare");
        }
    }

    #[test]
    fn no_flag_or_key_comes_twice() {
        let (mut flags, mut shorts, mut keys) = (HashSet::new(), HashSet::new(), HashSet::new());
        for setting in all() {
            assert!(setting.flag.is_empty() || flags.insert(setting.flag), "--{}", setting.flag);
            assert!(setting.short.is_none_or(|short| shorts.insert(short)), "-{:?}", setting.short);
            assert!(setting.key.is_empty() || keys.insert(setting.key), "{}", setting.key);
        }
    }

    #[test]
    fn a_path_in_the_file_leads_to_its_flag() {
        assert_eq!(flag_at("broadcast[0].routes[12].timeout"), Some("timeout"));
        assert_eq!(flag_at("broadcast[0].routes[0].to.endpoints[3]"), Some("endpoints"));
        assert_eq!(flag_at("admin.listen"), Some("metrics-interface"));
        assert_eq!(flag_at("broadcast[0]"), None);
    }
}
