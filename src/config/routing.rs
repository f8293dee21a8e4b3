//! Reads the match of a route, and its changes of requests and answers.

use std::fmt::Display;

use proxy::config::{
    Changes, Direction, FieldEdits, FieldLine, FieldName, FieldPattern, HeaderChanges, Match, NewPath, PathPattern,
};
use runtime::config::Section;
use serde_yaml::Value;

use crate::settings::{
    List,
    broadcast::{changes, routes},
    elements,
    values::text,
};

/// Reads the match of a route.
pub(super) fn matches(section: Section<'_>) -> Match {
    let methods: Option<Vec<_>> = routes::MATCH_METHODS.read(&section).into_iter().collect();
    let matches = Match {
        methods: methods.unwrap_or_default(),
        hosts: routes::MATCH_HOSTS.read(&section),
        paths: routes::MATCH_PATHS.read(&section),
        headers: named(&routes::MATCH_HEADERS, &section, |name, values| {
            FieldPattern::new(name, values).map(|pattern| vec![pattern])
        }),
    };
    section.finish();
    matches
}

/// Reads the changes of a route.
pub(super) fn changes(route: &Section<'_>, matches: &Match) -> Changes {
    let host = changes::HOST.read(route);
    let strip_prefix = changes::STRIP_PREFIX.read(route);
    let rewrite = changes::REWRITE.read(route);
    if strip_prefix.is_some() && rewrite.is_some() {
        changes::REWRITE.problem(route, "stands beside strip_prefix: both change the path, use one of them");
    }
    if rewrite.as_ref().is_some_and(NewPath::keeps_rest) && !matches.paths.iter().all(PathPattern::is_prefix) {
        changes::REWRITE.problem(route, "has a *, but not every path of the route's match ends in *");
    }
    let headers = route.section("headers");
    let (set, add, remove) = (&changes::SET_HEADER, &changes::ADD_HEADER, &changes::REMOVE_HEADER);
    let request = edits(headers.section("request"), Direction::Request, set, add, remove);
    let (set, add, remove) =
        (&changes::SET_RESPONSE_HEADER, &changes::ADD_RESPONSE_HEADER, &changes::REMOVE_RESPONSE_HEADER);
    let response = edits(headers.section("response"), Direction::Response, set, add, remove);
    headers.finish();
    Changes { host, strip_prefix, rewrite, headers: HeaderChanges { request, response } }
}

fn edits(
    section: Section<'_>,
    direction: Direction,
    set: &List<FieldLine>,
    add: &List<FieldLine>,
    remove: &List<FieldName>,
) -> FieldEdits {
    let line = |line: FieldLine| line.name().may_change(direction).map(|()| line);
    let lines = |setting: &List<FieldLine>| {
        let make = |name: &str, values: Vec<String>| {
            values.iter().map(|value| FieldLine::new(name, value).and_then(line)).collect()
        };
        named(setting, &section, make)
    };
    let edits = FieldEdits::new(lines(set), lines(add), remove.read(&section));
    section.finish();
    edits
}

/// Reads header fields by name: a mapping of names to a value or a list of values, or a list of texts like `name: value`.
fn named<T, E: Display>(
    setting: &List<T>,
    section: &Section<'_>,
    make: impl Fn(&str, Vec<String>) -> Result<Vec<T>, E>,
) -> Vec<T> {
    let node = setting.get(section);
    let Some(Value::Mapping(mapping)) = node.value() else { return setting.read(section) };
    let fields = node.section();
    let mut read = Vec::new();
    for name in mapping.keys().filter_map(Value::as_str) {
        let value = fields.get(name);
        if value.value().is_none() {
            value.problem("has no value: use \"\" for an empty one");
            continue;
        }
        let nodes = elements(value.clone());
        let values: Vec<String> = nodes.iter().filter_map(|node| node.parse_with(text)).collect();
        if values.len() < nodes.len() {
            continue;
        }
        match make(name, values) {
            Ok(fields) => read.extend(fields),
            Err(error) => value.problem(error),
        }
    }
    fields.finish();
    read
}
