//! Which requests a route of `fanfare broadcast` takes: only in the file.

use std::sync::Arc;

use proxy::config::{FieldPattern, HostPattern, Match, PathPattern};

use super::ROUTE;
use crate::settings::{List, Setting, group, key, values::parsed};

group!(GROUP, "Routes";
    NAME: Setting<Arc<str>> = key(ROUTE, "name").default("what it sends to").one("TEXT", route_name),
        "Name of the route in metrics and logs; no two routes have the same";
    MATCH_METHODS: List<Option<Box<str>>> = key(ROUTE, "match.methods").alias("method").default("any")
        .commas("METHOD", method_or_all),
        "Methods that the route matches, as written";
    MATCH_HOSTS: List<HostPattern> = key(ROUTE, "match.hosts").alias("host").default("any").commas("HOST", parsed),
        "Hosts that the route matches: a name, or *.example.org for all names below it";
    MATCH_PATHS: List<PathPattern> = key(ROUTE, "match.paths").alias("path").default("any").commas("PATH", parsed),
        "Paths that the route matches: exact, or a prefix with one * at the end. A path that an endpoint may read as \
         one outside of the prefix gets 400";
    MATCH_HEADERS: List<FieldPattern> = key(ROUTE, "match.headers").default("any").many("NAME: VALUE", field_pattern),
        "Header fields that must all be present: a value, the beginning of one with * at the end, or * for any; also \
         a mapping of names to values";
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
