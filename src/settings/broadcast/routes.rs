//! Which requests a route of `fanfare broadcast` takes: only in the file.

use std::sync::Arc;

use proxy::config::{FieldPattern, HostPattern, Match, PathPattern};

use super::ROUTE;
use crate::settings::{List, Setting, group, key, values::parsed};

group!(GROUP, "Routes";
    NAME: Setting<Arc<str>> = key(ROUTE, "name").default("what it sends to").one("TEXT", route_name),
        "What metrics and logs call the route; no two have the same";
    MATCH_METHODS: List<Option<Box<str>>> = key(ROUTE, "match.methods").alias("method").default("any")
        .commas("METHOD", method_or_all),
        "Methods that take the route, as written";
    MATCH_HOSTS: List<HostPattern> = key(ROUTE, "match.hosts").alias("host").default("any").commas("HOST", parsed),
        "Hosts that take the route: a name, or *.example.org for all below it";
    MATCH_PATHS: List<PathPattern> = key(ROUTE, "match.paths").alias("path").default("any").commas("PATH", parsed),
        "Paths that take the route: exact, or a prefix with one * at the end. What an endpoint may read as a path \
         outside of the prefix is 400";
    MATCH_HEADERS: List<FieldPattern> = key(ROUTE, "match.headers").default("any").many("NAME: VALUE", field_pattern),
        "Header fields that must all be there: a value, the front of one with * at the end, or * for any; also a \
         mapping of names to values";
);

/// Shown in metric labels and log lines, so it is short and printable.
fn route_name(text: &str) -> Result<Arc<str>, String> {
    let printable = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if printable {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is not a name: use 1 to 200 printable ASCII characters without spaces"))
    }
}

/// As in `allow`, `*` stands for all.
fn method_or_all(text: &str) -> Result<Option<Box<str>>, String> {
    if text == "*" { Ok(None) } else { Match::method(text).map(Some).map_err(|error| error.to_string()) }
}

fn field_pattern(text: &str) -> Result<FieldPattern, String> {
    FieldPattern::parse(text).map_err(|error| error.to_string())
}
