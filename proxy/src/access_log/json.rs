//! Formats an entry as one line of JSON, field by field: serde_json would take several times as long.

use std::time::Duration;

use super::{
    Entry,
    scan::is_plain_in_json,
    text::{put_address, put_all, put_fraction},
};
use crate::{headers::put_number, report::LegReport};

/// Writes an entry and its legs as JSON, without the end of the line.
pub(super) fn put<'a>(line: &mut Vec<u8>, entry: &Entry<'_>, legs: impl Iterator<Item = LegReport<'a>>) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(entry.time.as_bytes());
    line.extend_from_slice(b"\",\"id\":");
    put_string(line, entry.id);
    if let Some(trace) = entry.trace_id {
        put_all(line, &[",\"trace_id\":\"", trace.to_hex().as_str(), "\""]);
    }
    line.extend_from_slice(b",\"client\":\"");
    put_address(line, entry.client);
    line.push(b'"');
    put_optional(line, ",\"identity\":", entry.identity);
    for (key, text) in [(",\"method\":", entry.method), (",\"host\":", entry.host), (",\"target\":", entry.target)] {
        line.extend_from_slice(key.as_bytes());
        put_string(line, text);
    }
    line.extend_from_slice(b",\"route\":");
    put_string(line, entry.route);
    line.extend_from_slice(b",\"status\":");
    put_number(line, entry.status.into());
    if let Some(code) = entry.grpc_status {
        line.extend_from_slice(b",\"grpc_status\":");
        put_number(line, code.into());
    }
    put_all(line, &[",\"result\":\"", entry.result, "\",\"completed\":\"", entry.completed, "\""]);
    if let Some(divergent) = entry.divergent {
        line.extend_from_slice(b",\"divergent\":");
        put_number(line, divergent as u64);
    }
    line.extend_from_slice(b",\"received\":");
    put_number(line, entry.received);
    line.extend_from_slice(b",\"sent\":");
    put_number(line, entry.sent);
    line.extend_from_slice(b",\"ms\":");
    put_millis(line, entry.took);
    put_optional(line, ",\"reason\":", entry.reason);
    put_optional(line, ",\"job\":", entry.job.as_deref());
    line.extend_from_slice(b",\"legs\":[");
    for (index, leg) in legs.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        put_leg(line, &leg);
    }
    line.extend_from_slice(b"]}");
}

fn put_leg(line: &mut Vec<u8>, leg: &LegReport<'_>) {
    line.extend_from_slice(b"{\"endpoint\":");
    put_string(line, leg.endpoint);
    put_optional(line, ",\"pod\":", leg.pod);
    put_optional(line, ",\"node\":", leg.node);
    put_optional(line, ",\"zone\":", leg.zone);
    line.extend_from_slice(b",\"status\":");
    match leg.status {
        Some(status) => put_number(line, status.into()),
        None => line.extend_from_slice(b"null"),
    }
    if let Some(code) = leg.grpc_status {
        line.extend_from_slice(b",\"grpc_status\":");
        put_number(line, code.into());
    }
    match leg.outcome {
        Some(outcome) => put_all(line, &[",\"outcome\":\"", outcome.as_str(), "\""]),
        None => line.extend_from_slice(b",\"outcome\":null"),
    }
    line.extend_from_slice(b",\"attempts\":");
    put_number(line, leg.attempts.into());
    line.extend_from_slice(b",\"ms\":");
    put_millis(line, leg.took);
    line.extend_from_slice(b",\"bytes\":");
    put_number(line, leg.bytes);
    put_optional(line, ",\"error\":", leg.error.as_deref());
    if leg.diverges {
        line.extend_from_slice(b",\"diverges\":true");
    }
    line.push(b'}');
}

/// Writes milliseconds with one to three digits after the point.
fn put_millis(line: &mut Vec<u8>, duration: Duration) {
    let digits = put_fraction(line, duration);
    let zeros = if digits[2] != b'0' {
        0
    } else if digits[1] != b'0' {
        1
    } else {
        2
    };
    line.truncate(line.len() - zeros);
}

fn put_optional(line: &mut Vec<u8>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        line.extend_from_slice(key.as_bytes());
        put_string(line, text);
    }
}

/// Writes a text in quotes.
fn put_string(line: &mut Vec<u8>, text: &str) {
    if is_plain_in_json(text) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // A text always becomes JSON, and memory takes all that is written to it.
        let _ = serde_json::to_writer(line, text);
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, time::SystemTime};

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::{access_log::text::Timestamp, outcome::Outcome};

    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        entry: &'a Entry<'a>,
        legs: &'a [LegReport<'a>],
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[ -~]{0,20}", 1 => "[a-z\"\\\\\u{0}-\u{1f}\u{7f}äß€😀]{0,12}", 1 => Just(String::new())]
    }

    fn maybe() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(text())
    }

    /// What differs from leg to leg.
    type Parts = (String, [Option<String>; 4], Option<u16>, bool, u32, u64, u64, bool);

    fn parts() -> impl Strategy<Value = Parts> {
        let texts = [maybe(), maybe(), maybe(), maybe()];
        let status = proptest::option::of(100..600_u16);
        (text(), texts, status, any::<bool>(), any::<u32>(), 0..1_000_000_000_000_u64, any::<u64>(), any::<bool>())
    }

    fn leg(parts: &Parts) -> LegReport<'_> {
        let (endpoint, [pod, node, zone, error], status, ended, attempts, micros, bytes, diverges) = parts;
        LegReport {
            endpoint,
            pod: pod.as_deref(),
            node: node.as_deref(),
            zone: zone.as_deref(),
            status: *status,
            grpc_status: None,
            outcome: ended.then_some(Outcome::ServerError),
            attempts: *attempts,
            took: Duration::from_micros(*micros),
            bytes: *bytes,
            error: error.as_deref().map(Cow::Borrowed),
            digest: None,
            diverges: *diverges,
            body: None,
            wave: None,
        }
    }

    proptest! {
        #[test]
        fn a_line_is_what_serde_json_would_write(
            texts in [text(), text(), text(), text(), text()],
            optional in [maybe(), maybe(), maybe()],
            client in any::<std::net::SocketAddr>(),
            numbers in any::<(u16, u64, u64, Option<u16>)>(),
            micros in 0..1_000_000_000_000_u64,
            legs in proptest::collection::vec(parts(), 0..4),
        ) {
            let (status, received, sent, divergent) = numbers;
            let [id, method, host, target, route] = &texts;
            let [identity, reason, job] = &optional;
            let entry = Entry {
                time: Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_micros(micros)),
                id,
                trace_id: spans::TraceId::from_bytes(u128::from(received).to_be_bytes()),
                client, identity: identity.as_deref(), method, host, target, route, status,
                grpc_status: None,
                result: "ok",
                completed: "partial",
                divergent: divergent.map(usize::from),
                received,
                sent,
                took: Duration::from_micros(micros),
                reason: reason.as_deref(),
                job: job.clone(),
            };
            let legs: Vec<LegReport<'_>> = legs.iter().map(leg).collect();
            let want = serde_json::to_string(&Whole { entry: &entry, legs: &legs }).expect("it is JSON");
            let mut line = Vec::new();
            put(&mut line, &entry, legs.into_iter());
            prop_assert_eq!(String::from_utf8(line).expect("it is text"), want);
        }
    }
}
