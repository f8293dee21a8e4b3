//! HAProxy: `backend` sections with their `server` lines, for a further `-f`, and a map from host and path to backend.

use std::fmt::Write as _;

use super::{LeftOut, Trust, leave_out, route::routes};
use crate::backend::{Application, Backend};

pub(super) fn render(trust: &Trust, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let mut text = String::from("# Made by fanfare: changes here are lost.\n");
    for backend in backends {
        let application = backend.application;
        if matches!(application, Application::Udp | Application::Sctp) {
            leave_out(left_out, &backend.name, "HAProxy balances only TCP");
            continue;
        }
        let mode = if application.is_http() { "http" } else { "tcp" };
        let options = options(application, trust);
        line(&mut text, format_args!("\nbackend {}\n    mode {mode}", backend.name));
        let draining = backend.draining();
        for endpoint in &*backend.endpoints {
            // With weight 0 a server gets only requests of clients that are bound to it by stickiness.
            let weight = if draining(endpoint) { " weight 0" } else { "" };
            // Counters and the runtime API identify a server by its name, so the name is derived from the address, which stays the
            // same.
            let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
            line(&mut text, format_args!("    server {ip}_{port} {}{options}{weight}", endpoint.address));
        }
    }
    text
}

/// The map, for `use_backend %[base,map_beg(<file>)]`: the longest prefix of host and path wins.
pub(super) fn map(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let mut lines = Vec::new();
    for (name, route) in routes(backends, left_out) {
        let path = route.path.as_deref().unwrap_or("/");
        lines.extend(route.hosts.iter().map(|host| format!("{host}{path} {name}\n")));
    }
    lines.sort();
    lines.insert(0, "# Made by fanfare: changes here are lost.\n".to_owned());
    lines.concat()
}

fn options(application: Application, trust: &Trust) -> String {
    if application.is_h2c() {
        return " proto h2".to_owned();
    }
    match trust {
        _ if !application.is_tls() => String::new(),
        Trust::System => " ssl verify required ca-file @system-ca".to_owned(),
        Trust::File(path) => format!(" ssl verify required ca-file {path}"),
        Trust::Anyone => " ssl verify none".to_owned(),
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes everything");
}
