//! Which requests a route takes, and what it changes about them and their answers.

use std::{fmt::Display, str::FromStr};

use proxy::config::{
    Changes, Direction, FieldEdits, FieldLine, FieldName, FieldPattern, HeaderChanges, HostValue, Match, NewPath,
    PathPattern, Prefix,
};
use runtime::config::{Node, Section};
use serde_yaml::Value;

use super::values::{split, text, texts};

/// Reads which requests a route takes.
pub(super) fn matches(section: Section<'_>) -> Match {
    // As in `allow`, * stands for all.
    let method = |text: &str| if text == "*" { Ok(None) } else { Match::method(text).map(Some) };
    let methods: Option<Vec<_>> = split(&section, &["methods", "method"], method).into_iter().collect();
    let matches = Match {
        methods: methods.unwrap_or_default(),
        hosts: split(&section, &["hosts", "host"], str::parse),
        paths: split(&section, &["paths", "path"], str::parse),
        headers: named(&section, "headers", FieldPattern::parse, FieldPattern::new),
    };
    section.finish();
    matches
}

/// Reads what a route changes.
pub(super) fn changes(route: &Section<'_>, matches: &Match) -> Changes {
    let host = route.parse_with("host", HostValue::from_str);
    let strip_prefix = route.parse_with("strip_prefix", Prefix::from_str);
    let rewrite = route.parse_with("rewrite", NewPath::from_str);
    if strip_prefix.is_some() && rewrite.is_some() {
        route.problem("rewrite", "stands beside strip_prefix: both say what becomes of the path, use one");
    }
    if rewrite.as_ref().is_some_and(NewPath::keeps_rest) && !matches.paths.iter().all(PathPattern::is_prefix) {
        route.problem("rewrite", "has a *, which a path of the route's match that ends in none has nothing for");
    }
    let headers = route.section("headers");
    let edits = |key: &str, direction| {
        let section = headers.section(key);
        let edits = edits(&section, direction);
        section.finish();
        edits
    };
    let headers_read = HeaderChanges {
        request: edits("request", Direction::Request),
        response: edits("response", Direction::Response),
    };
    headers.finish();
    Changes { host, strip_prefix, rewrite, headers: headers_read }
}

fn edits(section: &Section<'_>, direction: Direction) -> FieldEdits {
    let line = |line: FieldLine| line.name().may_change(direction).map(|()| line);
    let read = |key: &str| {
        let one = |text: &str| text.parse().and_then(line);
        let each = |name: &str, values: Vec<String>| {
            values.iter().map(|value| FieldLine::new(name, value).and_then(line)).collect::<Result<Vec<_>, _>>()
        };
        named(section, key, |text| one(text).map(|line| vec![line]), each).into_iter().flatten().collect()
    };
    let name = |text: &str| {
        let name: FieldName = text.parse()?;
        name.may_change(direction).map(|()| name)
    };
    FieldEdits::new(read("set"), read("add"), split(section, &["remove"], name))
}

/// Reads header fields by name: a mapping of names to a value or a list of values, or a list of texts like `name: value`.
fn named<T, E: Display>(
    section: &Section<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    make: impl Fn(&str, Vec<String>) -> Result<T, E>,
) -> Vec<T> {
    let node = section.get(key);
    let Some(Value::Mapping(mapping)) = node.value() else {
        return texts(section, key).iter().filter_map(|node: &Node<'_>| node.parse_with(&parse)).collect();
    };
    let fields = node.section();
    let mut read = Vec::new();
    for name in mapping.keys().filter_map(Value::as_str) {
        let value = fields.get(name);
        if value.value().is_none() {
            value.problem("has no value: use \"\" for an empty one");
            continue;
        }
        let nodes = texts(&fields, name);
        let values: Vec<String> = nodes.iter().filter_map(|node| node.parse_with(text)).collect();
        if values.len() < nodes.len() {
            continue;
        }
        match make(name, values) {
            Ok(field) => read.push(field),
            Err(error) => value.problem(error),
        }
    }
    fields.finish();
    read
}
