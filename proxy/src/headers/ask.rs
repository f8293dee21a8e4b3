//! What the fields of a request ask of this proxy.

use std::net::IpAddr;

use crate::{
    config,
    http::{Class, members, request::RequestHead},
};

/// The media type of the report; also how a client asks for it.
pub const REPORT_MEDIA_TYPE: &str = "application/vnd.broadcast+json";

/// Whether the request has been through a proxy of this name.
#[must_use]
pub fn has_passed(head: &RequestHead, via: &str) -> bool {
    head.fields.list(Class::Via).any(|hop| {
        let mut parts = hop.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
        parts.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(via.as_bytes()))
    })
}

/// Whether the client asks for the report instead of an endpoint's answer.
#[must_use]
pub fn wants_report(head: &RequestHead) -> bool {
    head.fields.list(Class::Accept).any(is_report)
}

/// How many bytes of the start of every answer's body the report is asked to show: `bodies=4096` behind its media type.
#[must_use]
pub fn report_excerpt(head: &RequestHead) -> usize {
    let bodies = |parameter: &[u8]| {
        let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("bodies").then(|| value.parse().ok()).flatten()
    };
    let reports = head.fields.list(Class::Accept).filter(|range| is_report(range));
    reports.flat_map(|range| range.split(|b| *b == b';').skip(1)).find_map(bodies).unwrap_or(0)
}

/// Whether the client asks for an answer before the request is carried out (RFC 7240 section 4.1).
#[must_use]
pub fn prefers_async(head: &RequestHead) -> bool {
    let mut preferences = head.fields.all("prefer").flat_map(members);
    preferences.any(|preference| {
        let name = preference.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"respond-async")
    })
}

/// Whether the forwarding fields of a client are trusted.
#[must_use]
pub fn is_trusted(listener: &config::Listener, client: IpAddr) -> bool {
    access::network::is_in(client, &listener.trust_forwarded)
}

pub(super) fn is_report(range: &[u8]) -> bool {
    let range = range.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    range.eq_ignore_ascii_case(REPORT_MEDIA_TYPE.as_bytes())
}
