//! nginx: `upstream` blocks, for an `include` in the `http` or the `stream` context.
//!
//! nginx refuses an upstream without servers, and with it the whole configuration. So a backend without endpoints has one
//! that is `down` and never tried: nginx answers 502 at once.

use std::fmt::Write as _;

use super::{LeftOut, leave_out};
use crate::{
    backend::{Application, Backend},
    sink::PLACEHOLDER_ADDRESS,
};

/// Upstreams for `proxy_pass` and `grpc_pass`.
pub(super) fn http(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    upstreams(backends.iter().filter(|backend| {
        let http = backend.application.is_http();
        if !http {
            leave_out(left_out, &backend.name, "it does not speak HTTP: use the format nginx-stream for it");
        }
        http
    }))
}

/// Upstreams for the `stream` context, of everything over TCP and UDP.
pub(super) fn stream(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    upstreams(backends.iter().filter(|backend| {
        let possible = backend.application != Application::Sctp;
        if !possible {
            leave_out(left_out, &backend.name, "nginx passes on only TCP and UDP");
        }
        possible
    }))
}

fn upstreams<'a>(backends: impl Iterator<Item = &'a Backend>) -> String {
    let mut text = String::from("# Made by fanfare: changes here are lost.\n");
    for backend in backends {
        write!(text, "\nupstream {} {{\n", backend.name).expect("a String takes everything");
        let draining = backend.draining();
        for endpoint in &*backend.endpoints {
            // Only some editions support `drain`, and none a weight of 0. `down` does not affect requests in progress.
            let down = if draining(endpoint) { " down" } else { "" };
            writeln!(text, "    server {}{down};", endpoint.address).expect("a String takes everything");
        }
        if backend.endpoints.is_empty() {
            // The discard port of this machine stands for an empty upstream.
            writeln!(text, "    server {PLACEHOLDER_ADDRESS} down;").expect("a String takes everything");
        }
        text.push_str("}\n");
    }
    text
}
