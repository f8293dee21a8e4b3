//! The head that legs write: the fields of a request, changed by this hop and by the route.

use std::hint::cold_path;

use bytes::{BufMut, Bytes};
use spans::RequestTrace;

use super::{
    ask::is_report,
    fields::{Nominated, VerbatimFields},
    write::{put, put_length},
};
use crate::{
    config::FieldEdits,
    grpc,
    http::{Class, Framing, Version, members, request::RequestHead},
};

/// What the head of a leg has besides the client's fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarding<'a> {
    /// The client's address.
    pub client: &'a str,
    /// Whether its `X-Forwarded-*` are trusted.
    pub trusted: bool,
    /// Of the listener: `http` or `https`.
    pub scheme: &'a str,
    /// The name of this deployment in `Via`.
    pub via: &'a str,
    /// The request's id, if the client sent none that is used.
    pub id: Option<&'a str>,
    /// The trace of the request, if tracing is configured. The parent in the head is the request's span, which each leg replaces.
    pub trace: Option<RequestTrace>,
    /// Whether `Authorization` was for this process, so that endpoints do not get it.
    pub is_authenticated: bool,
    /// Whether the client asked for the report, so that this is removed from `Accept`.
    pub report: bool,
    /// The value of `Host` if the client sent none.
    pub host: Option<&'a str>,
    /// Whether it replaces the client's.
    pub replaces_host: bool,
    /// The target that replaces the client's.
    pub target: Option<&'a [u8]>,
    /// The time that endpoints have, for a gRPC request.
    pub grpc_timeout: Option<std::time::Duration>,
    /// The further changes of the route.
    pub edits: Option<&'a FieldEdits>,
}

/// The head that every leg writes, framed as the client's head says.
#[must_use]
pub fn leg_head(head: &RequestHead, forwarding: &Forwarding<'_>) -> Bytes {
    let mut out = Vec::new();
    put_leg_head(&mut out, head, forwarding);
    out.into()
}

/// Writes that head.
pub fn put_leg_head(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    // The added fields are short, except for the host, which may be written twice.
    out.reserve(head.fields.bytes().len() + head.host().map_or(0, <[u8]>::len) + 512);
    out.put_slice(head.method());
    match forwarding.target {
        Some(target) => {
            cold_path();
            out.put_slice(b" ");
            out.put_slice(target);
        }
        None => {
            out.put_slice(if head.target_lacks_slash() { b" /" } else { b" " });
            out.put_slice(head.target());
        }
    }
    out.put_slice(b" HTTP/1.1\r\n");
    let nominated = Nominated::of(&head.fields);
    let mut has_host = false;
    let mut verbatim = VerbatimFields::of(&head.fields);
    let edits = forwarding.edits;
    for field in head.fields.fields() {
        match field.class {
            Class::Host if forwarding.replaces_host => {}
            Class::Host => {
                has_host = true;
                verbatim.copy(out, field);
            }
            class if class.is_never_forwarded() => {}
            // It is answered here.
            Class::Expect => {}
            // Written below, with this hop.
            Class::ForwardedFor => {}
            Class::ForwardedProto | Class::ForwardedHost | Class::Forwarded if !forwarding.trusted => {}
            Class::RequestId if forwarding.id.is_some() => {}
            Class::TraceParent if forwarding.trace.is_some() => {}
            // It belongs to a `traceparent` that is missing or invalid.
            Class::TraceState if forwarding.trace.is_some_and(|trace| trace.parent.is_none()) => {}
            Class::Authorization if forwarding.is_authenticated => {}
            _ if edits.is_some_and(|edits| edits.drops(verbatim.parts(field).0)) => {}
            Class::Other
                if forwarding.grpc_timeout.is_some()
                    && verbatim.parts(field).0.eq_ignore_ascii_case(b"grpc-timeout") => {}
            Class::Accept if forwarding.report => {
                cold_path();
                let (name, value) = verbatim.parts(field);
                verbatim.flush(out);
                put_without_report(out, name, value);
            }
            _ if nominated.has(verbatim.parts(field).0) => {}
            _ => verbatim.copy(out, field),
        }
    }
    verbatim.flush(out);
    if !has_host {
        cold_path();
        let own = forwarding.host.map(str::as_bytes);
        let host = if forwarding.replaces_host { own } else { head.host().or(own) };
        put(out, b"Host", host.unwrap_or_default());
    }
    match head.framing {
        Framing::Length(length) => put_length(out, length),
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Unspecified => {}
    }
    put_forwarding(out, head, forwarding);
    out.put_slice(b"\r\n");
}

fn put_forwarding(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    out.put_slice(match head.version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
        Version::Http2 => b"Via: 2.0 ",
    });
    out.put_slice(forwarding.via.as_bytes());
    out.put_slice(b"\r\n");
    // Fields that the route sets or removes are not written here.
    let is_ours = |name: &str| forwarding.edits.is_none_or(|edits| !edits.drops(name.as_bytes()));
    if is_ours("X-Forwarded-For") {
        out.put_slice(b"X-Forwarded-For: ");
        if forwarding.trusted {
            cold_path();
            for hop in head.fields.list(Class::ForwardedFor) {
                out.put_slice(hop);
                out.put_slice(b", ");
            }
        }
        out.put_slice(forwarding.client.as_bytes());
        out.put_slice(b"\r\n");
    }
    let is_passed_on = |class| forwarding.trusted && head.fields.of(class).next().is_some();
    if !is_passed_on(Class::ForwardedProto) && is_ours("X-Forwarded-Proto") {
        put(out, b"X-Forwarded-Proto", forwarding.scheme.as_bytes());
    }
    if let Some(host) = head.host()
        && !is_passed_on(Class::ForwardedHost)
        && is_ours("X-Forwarded-Host")
    {
        put(out, b"X-Forwarded-Host", host);
    }
    if let Some(time) = forwarding.grpc_timeout {
        cold_path();
        put(out, b"Grpc-Timeout", grpc::timeout_value(time).as_bytes());
    }
    if let Some(id) = forwarding.id {
        put(out, b"X-Request-Id", id.as_bytes());
    }
    if let Some(trace) = forwarding.trace
        && is_ours("traceparent")
    {
        cold_path();
        put(out, b"traceparent", &trace.traceparent(trace.request_span()));
    }
    if let Some(edits) = forwarding.edits {
        cold_path();
        out.put_slice(edits.lines());
    }
}

/// Writes an `Accept` without the media type of the report, unless it would be empty.
fn put_without_report(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    let rest: Vec<&[u8]> = members(value).filter(|range| !is_report(range)).collect();
    if !rest.is_empty() {
        put(out, name, &rest.join(b", ".as_slice()));
    }
}
