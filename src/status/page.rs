//! The output of `fanfare status`: a table for each part with content.

use std::io::{self, IsTerminal as _};

use serde_json::Value;

use super::is_json;
use crate::{
    cli::Status,
    columns,
    console::{self, Unwritable},
};

/// The parts that are lists of rows, with their titles.
const PARTS: [(&str, &str); 7] = [
    ("owed", "Owed to endpoints"),
    ("watches", "Watches"),
    ("lists", "Lists of endpoints"),
    ("elections", "Elections"),
    ("exports", "Exports"),
    ("bridges", "Bridges"),
    ("mirrors", "Mirrored clusters"),
];

/// The columns of an endpoint.
const ENDPOINT: [&str; 6] = ["ENDPOINT", "POD", "ZONE", "STATE", "IN FLIGHT", "RECENT, LATEST FIRST"];

/// The number of outcomes of an endpoint that are shown.
const RECENT: usize = 8;

/// Prints the state; on a terminal with `--watch` it replaces the earlier output.
///
/// # Errors
/// Standard output is closed.
pub(super) fn print(arguments: &Status, status: &Value) -> Result<(), Unwritable> {
    let text = match (is_json(arguments), arguments.watch) {
        (true, true) => format!("{status}\n"),
        (true, false) => format!("{status:#}\n"),
        (false, watch) if watch && io::stdout().is_terminal() => format!("\x1b[H\x1b[J{}", page(status)),
        (false, true) => format!("{}\n", page(status)),
        (false, false) => page(status),
    };
    console::print(&text)
}

fn page(status: &Value) -> String {
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let state = if status["ready"] == true { "ready".to_owned() } else { format!("NOT READY: {}", text("why")) };
    let mut lines = vec![columns::printable(&format!("fanfare {} at {}: {state}", text("version"), text("admin")))];
    if status["config_in_force"] == false {
        lines.push("The current configuration file is refused; the previous one is in use".to_owned());
    }
    for route in status["routes"].as_array().into_iter().flatten() {
        lines.extend(self::route(route));
    }
    if let Some(more) = status["more_routes"].as_u64().filter(|more| *more > 0) {
        lines.push(format!("\nand {more} more routes"));
    }
    for (key, title) in PARTS {
        lines.extend(titled(title, &list(&status[key])));
    }
    let jobs: Vec<&Value> = list(&status["journals"]).into_iter().flat_map(|journal| list(&journal["jobs"])).collect();
    lines.extend(titled("Jobs owed", &jobs));
    lines.join("\n") + "\n"
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// A table under its title, where there is anything in it.
fn titled(title: &str, rows: &[&Value]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("\n{title}")];
    lines.extend(table(rows));
    lines
}

fn route(route: &Value) -> Vec<String> {
    let (members, known) = (&route["members"], route["known"].as_u64().unwrap_or_default());
    let name = route["route"].as_str().unwrap_or_default();
    let require = cell(&route["require"]);
    let title = format!("Route {name}: {require} of {members} endpoints must be ok, {known} known");
    // The line break before it is not text from a peer.
    let mut lines = vec![format!("\n{}", columns::printable(&title))];
    let rows: Vec<Vec<String>> = list(&route["endpoints"]).into_iter().map(endpoint).collect();
    if !rows.is_empty() {
        lines.extend(columns::lines(&ENDPOINT, &rows));
    }
    let left_out = known.saturating_sub(rows.len() as u64);
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines
}

fn endpoint(endpoint: &Value) -> Vec<String> {
    let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
    let is = |key: &str| endpoint[key] == true;
    let state = match (is("ready"), is("serving"), is("terminating")) {
        (_, _, true) => "terminating",
        (true, ..) => "ready",
        (false, true, _) => "serving, not ready",
        (false, false, _) => "not ready",
    };
    let problem = text("problem");
    let state = if problem.is_empty() { state.to_owned() } else { problem };
    let recent = endpoint["recent"].as_array().into_iter().flatten().take(RECENT);
    let recent = recent.map(|one| match one["status"].as_u64() {
        Some(status) if status > 0 => status.to_string(),
        _ => one["outcome"].as_str().unwrap_or_default().to_owned(),
    });
    let in_flight = endpoint["in_flight"].as_u64().unwrap_or_default();
    let recent = recent.collect::<Vec<_>>().join(" ");
    vec![text("endpoint"), text("pod"), text("zone"), state, in_flight.to_string(), recent]
}

/// Rows as a table, with a column for each key that any of them has.
fn table(rows: &[&Value]) -> Vec<String> {
    let mut keys: Vec<&String> = Vec::new();
    for key in rows.iter().filter_map(|row| row.as_object()).flat_map(|row| row.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let headings: Vec<String> = keys.iter().map(|key| key.replace('_', " ").to_uppercase()).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let cells = |row: &&Value| keys.iter().map(|key| shown(key, &row[key.as_str()])).collect::<Vec<_>>();
    columns::lines(&headings, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// A value by its key; metrics of 0 or 1 are shown as no or yes.
fn shown(key: &str, value: &Value) -> String {
    match value.as_i64() {
        Some(0) if key == "in_sync" => "no".to_owned(),
        Some(1) if key == "in_sync" => "yes".to_owned(),
        _ => cell(value),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() => format!("{float:.1}"),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("{} of them", list.len()),
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_existing_roles_are_shown() {
        let status = json!({
            "admin": "127.0.0.1:1", "version": "0.1.0", "ready": false, "why": "no endpoint", "config_in_force": false,
            "more_routes": 2,
            "routes": [{"route": "cache", "require": "majority", "members": 1, "known": 3, "endpoints": [
                {"endpoint": "192.0.2.1:80", "pod": "cache-0", "ready": true, "in_flight": 2,
                 "recent": [{"outcome": "ok", "status": 200}, {"outcome": "connect", "status": 0}]},
                {"endpoint": "192.0.2.2:80", "ready": false, "serving": true, "terminating": true},
            ]}],
            "exports": [{"export": "edge", "sink": "/x", "in_sync": 0}],
            "watches": [{"kind": "services", "age_seconds": 1.26}],
            "elections": [],
            "journals": [{"journal": {"state": "memory"}, "jobs": [{"id": "1", "method": "PURGE", "deliveries": [{}, {}]}]}],
        });
        let expected = "\
fanfare 0.1.0 at 127.0.0.1:1: NOT READY: no endpoint
The current configuration file is refused; the previous one is in use

Route cache: majority of 1 endpoints must be ok, 3 known
ENDPOINT      POD      STATE        IN FLIGHT  RECENT, LATEST FIRST
192.0.2.1:80  cache-0  ready        2          200 connect
192.0.2.2:80           terminating  0
and 1 more

and 2 more routes

Watches
AGE SECONDS  KIND
1.3          services

Exports
EXPORT  IN SYNC  SINK
edge    no       /x

Jobs owed
DELIVERIES  ID  METHOD
2 of them   1   PURGE
";
        assert_eq!(page(&status), expected);
    }
}
