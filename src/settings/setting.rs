//! One setting: its line in the table, and the typed constant by which its value is read from the file.

use std::{fmt::Display, ops::Deref};

use runtime::config::{Node, Section};
use serde_yaml::Value;

/// What the table says about a setting, whatever the type of its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The long flag; empty: only in the file.
    pub(crate) flag: &'static str,
    /// The short flag.
    pub(crate) short: Option<char>,
    /// Environment variables that say the same, the first that is set and not empty; a flag outranks them.
    pub(crate) env: &'static [&'static str],
    /// The section of the file that it belongs to, with `[]` behind a list; empty: the outermost.
    pub(crate) section: &'static str,
    /// Its key in that section, or the path to it; empty: only a flag.
    pub(crate) key: &'static str,
    /// Another spelling of the last step of that path; empty: none.
    pub(crate) alias: &'static str,
    /// What kind of value it takes.
    pub(crate) kind: Kind,
    /// What holds where it is not given, as one would write it; empty: nothing.
    pub(crate) default: &'static str,
    /// The command line says the default where nothing is given: in a file, what is not there does not hold.
    pub(crate) always: bool,
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
    /// The same, and each may be several with commas between them.
    Commas(&'static str),
    /// One value in each element of the list that it belongs to: a repeatable flag, whose values are for one element each.
    Each(&'static str),
    /// `true` or `false`; the bare flag is `true`, `--no-…` is `false`.
    Switch,
    /// A flag that is taken, as the tool that the role replaces takes it, and means nothing. Not shown.
    Ignored {
        /// It has a value, which may stand behind a space.
        value: bool,
    },
}

/// A setting with one value of this type.
pub(crate) struct Setting<T> {
    pub(crate) entry: Entry,
    parse: fn(&str) -> Result<T, String>,
}

/// A setting with any number of values of this type.
pub(crate) struct List<T> {
    pub(crate) entry: Entry,
    parse: fn(&str) -> Result<T, String>,
}

/// A setting that has a flag.
pub(super) const fn flag(flag: &'static str) -> Entry {
    Entry {
        flag,
        short: None,
        env: &[],
        section: "",
        key: "",
        alias: "",
        kind: Kind::Ignored { value: false },
        default: "",
        always: false,
        help: "",
    }
}

/// A setting that only the file has.
pub(super) const fn key(section: &'static str, key: &'static str) -> Entry {
    flag("").at(section, key)
}

/// Declares settings: a typed constant for each of `NAME: Type = how it is written, "what it means";`.
macro_rules! settings {
    ($($name:ident: $type:ty = $setting:expr, $help:literal;)*) => {
        $(pub(crate) const $name: $type = $setting.help($help);)*
    };
}

/// Declares settings like [`settings!`], and a group of the table with these and, behind a `+`, entries from elsewhere.
///
/// The group repeats what a constant is made of instead of using it, so that the compiler warns of a setting that nobody
/// reads.
macro_rules! group {
    ($group:ident, $title:literal; $($($name:ident: $type:ty = $setting:expr, $help:literal)? $(+ $entry:expr)?;)*) => {
        $($(pub(crate) const $name: $type = $setting.help($help);)?)*
        pub(in $crate::settings) const $group: $crate::settings::Group = $crate::settings::Group {
            title: $title,
            settings: &[$($({
                const SETTING: $type = $setting.help($help);
                SETTING.entry
            })? $($entry)?),*],
        };
    };
}

pub(super) use {group, settings};

// === impl Entry ===

impl Entry {
    /// Where it stands in the file; empty: nowhere.
    pub(crate) fn path(&self) -> String {
        let dot = if self.section.is_empty() || self.key.is_empty() { "" } else { "." };
        if self.key.is_empty() { String::new() } else { format!("{}{dot}{}", self.section, self.key) }
    }

    /// Whether its default is described in words, so that those words, given as a value, mean the same as no value.
    pub(crate) fn has_default_in_words(&self) -> bool {
        const WORDS: [&str; 6] = ["all", "any", "everything", "nobody", "none", "unlimited"];
        !self.key.is_empty() && (WORDS.contains(&self.default) || self.default.contains([' ', '<']))
    }

    /// The value as it was written, in the innermost section that it stands in.
    pub(crate) fn get<'a>(&self, section: &Section<'a>) -> Node<'a> {
        section.get(self.name())
    }

    /// Whether it is written there, be it as `null`.
    pub(crate) fn is_given(&self, section: &Section<'_>) -> bool {
        section.contains(self.name())
    }

    /// Notes a problem with it.
    pub(crate) fn problem(&self, section: &Section<'_>, message: impl Display) {
        section.problem(self.name(), message);
    }

    /// Its key in the innermost section.
    fn name(&self) -> &'static str {
        self.key.rsplit_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The same in another section.
    pub(crate) const fn under(self, section: &'static str) -> Self {
        Self { section, ..self }
    }

    pub(super) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub(super) const fn env(self, env: &'static [&'static str]) -> Self {
        Self { env, ..self }
    }

    pub(super) const fn at(self, section: &'static str, key: &'static str) -> Self {
        Self { section, key, ..self }
    }

    pub(super) const fn alias(self, alias: &'static str) -> Self {
        Self { alias, ..self }
    }

    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(super) const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// Without its default, for roles that do without it.
    pub(super) const fn unless_given(self) -> Self {
        Self { always: false, default: "", ..self }
    }

    pub(super) const fn ignored(self, value: bool) -> Self {
        Self { kind: Kind::Ignored { value }, ..self }
    }

    pub(super) const fn switch(self, parse: fn(&str) -> Result<bool, String>) -> Setting<bool> {
        Setting { entry: Self { kind: Kind::Switch, ..self }, parse }
    }

    pub(super) const fn one<T>(self, value: &'static str, parse: fn(&str) -> Result<T, String>) -> Setting<T> {
        Setting { entry: Self { kind: Kind::One(value), ..self }, parse }
    }

    pub(super) const fn each<T>(self, value: &'static str, parse: fn(&str) -> Result<T, String>) -> Setting<T> {
        Setting { entry: Self { kind: Kind::Each(value), ..self }, parse }
    }

    pub(super) const fn many<T>(self, value: &'static str, parse: fn(&str) -> Result<T, String>) -> List<T> {
        List { entry: Self { kind: Kind::Many(value), ..self }, parse }
    }

    pub(super) const fn commas<T>(self, value: &'static str, parse: fn(&str) -> Result<T, String>) -> List<T> {
        List { entry: Self { kind: Kind::Commas(value), ..self }, parse }
    }
}

// === impl Setting ===

impl<T> Setting<T> {
    pub(super) const fn help(self, help: &'static str) -> Self {
        Self { entry: Entry { help, ..self.entry }, parse: self.parse }
    }

    /// Its value; nothing where it is not given, or cannot be used, which is noted.
    pub(crate) fn read(&self, section: &Section<'_>) -> Option<T> {
        self.get(section).parse_with(self.parse)
    }

    /// Its value, or this.
    pub(crate) fn or(&self, section: &Section<'_>, default: T) -> T {
        self.read(section).unwrap_or(default)
    }

    /// Its value, which must be given.
    pub(crate) fn required(&self, section: &Section<'_>) -> Option<T> {
        self.get(section).required()?.parse_with(self.parse)
    }
}

impl<T> Deref for Setting<T> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

// === impl List ===

impl<T> List<T> {
    pub(super) const fn help(self, help: &'static str) -> Self {
        Self { entry: Entry { help, ..self.entry }, parse: self.parse }
    }

    /// The values of the list, or the one value that stands in its place, as they were written.
    pub(crate) fn nodes<'a>(&self, section: &Section<'a>) -> Vec<Node<'a>> {
        let alias = if self.alias.is_empty() { Vec::new() } else { elements(section.get(self.alias)) };
        elements(self.get(section)).into_iter().chain(alias).collect()
    }

    /// Its values. What cannot be used is noted, and left out.
    pub(crate) fn read(&self, section: &Section<'_>) -> Vec<T> {
        self.read_with(section, self.parse)
    }

    /// Its values by a parser that knows more than their type.
    pub(crate) fn read_with<U, E: Display>(
        &self,
        section: &Section<'_>,
        parse: impl Fn(&str) -> Result<U, E>,
    ) -> Vec<U> {
        let nodes = self.nodes(section);
        if !matches!(self.kind, Kind::Commas(_)) {
            return nodes.iter().filter_map(|node| node.parse_with(&parse)).collect();
        }
        let mut values = Vec::new();
        for node in nodes {
            let Some(text) = node.parse_with(super::values::text) else { continue };
            for item in text.split(',').map(str::trim) {
                match parse(item) {
                    Ok(value) => values.push(value),
                    Err(error) => node.problem(error),
                }
            }
        }
        values
    }
}

impl<T> Deref for List<T> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// Whether the name of a value is all of its values: `off|text|json`.
pub(crate) fn is_choice(name: &str) -> bool {
    name.contains('|') && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The elements of a list, or the one value that stands in its place.
pub(crate) fn elements(node: Node<'_>) -> Vec<Node<'_>> {
    match node.value() {
        None => Vec::new(),
        Some(Value::Sequence(_)) => node.list(),
        Some(_) => vec![node],
    }
}
