//! Answers that no endpoint gave: `application/problem+json` (RFC 9457) with `Proxy-Status` (RFC 9209).

use std::borrow::Cow;

use bytes::{BufMut, Bytes};
use serde::Serialize;

use crate::{
    headers::{self, AnswerFraming},
    http::{self, request::BadRequest},
    proxy_error::ProxyError,
};

/// A made-up answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status. One below 400 is answered without a body: nothing is wrong then.
    pub status: u16,
    /// The error type of RFC 9209 section 2.3.
    pub kind: ProxyError,
    /// What is wrong and, where there is something, what to do about it.
    pub detail: Cow<'static, str>,
    /// A field that goes with it, where one does: its name and value.
    pub field: Option<(&'static str, Cow<'static, str>)>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl Problem {
    /// A problem with that status.
    #[cold]
    pub fn new(status: u16, kind: ProxyError, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, detail: detail.into(), field: None }
    }

    /// The same with a field of the answer.
    #[must_use]
    pub fn with_field(self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some((name, value.into())), ..self }
    }

    /// The client's request was refused for this.
    #[must_use]
    pub fn bad_request(error: BadRequest) -> Self {
        Self::new(error.status(), ProxyError::HttpRequestError, error.to_string())
    }

    /// The body; empty for a status that is no error.
    #[must_use]
    pub fn body(&self, request_id: Option<&str>) -> Bytes {
        if self.status < 400 {
            return Bytes::new();
        }
        let title = match http::reason(self.status) {
            "" => "Error",
            reason => reason,
        };
        let body = Body { kind: "about:blank", title, status: self.status, detail: &self.detail, request_id };
        // A struct of texts and a number always becomes JSON.
        serde_json::to_vec(&body).map_or_else(|_| Bytes::new(), Bytes::from)
    }

    /// Writes the head up to the fields that the caller adds; `length` is that of the body.
    pub fn put_head(&self, out: &mut impl BufMut, length: usize) {
        headers::put_status(out, self.status, http::reason(self.status).as_bytes());
        if self.status >= 400 {
            headers::put_text(out, "Content-Type", &["application/problem+json"]);
            let detail: String = self.detail.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
            // A string of RFC 8941 section 3.3.3: quotes and backslashes are escaped.
            let detail = detail.replace('\\', "\\\\").replace('"', "\\\"");
            headers::put_text(
                out,
                "Proxy-Status",
                &["fanfare; error=", self.kind.as_str(), "; details=\"", &detail, "\""],
            );
        }
        if let Some((name, value)) = &self.field {
            headers::put_text(out, name, &[value]);
        }
        if self.status == 405 {
            headers::put_text(out, "Allow", &["GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]);
        }
        headers::put_text(out, "Date", &[&httpdate::fmt_http_date(std::time::SystemTime::now())]);
        if !matches!(self.status, 204 | 304) {
            headers::put_framing(out, AnswerFraming::Length(length as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_is_wrong_twice_for_people_and_for_machines() {
        let problem = Problem::new(502, ProxyError::ConnectionRefused, "cannot \"connect\"\u{e9}\r\n");
        let mut out = Vec::new();
        problem.put_head(&mut out, 5);
        let head = String::from_utf8(out).unwrap();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/problem+json\r\n"));
        let details = "Proxy-Status: fanfare; error=connection_refused; details=\"cannot \\\"connect\\\"\"\r\n";
        assert!(head.contains(details), "{head}");
        let body: serde_json::Value = serde_json::from_slice(&problem.body(Some("id"))).unwrap();
        assert_eq!((&body["status"], &body["title"]), (&502.into(), &"Bad Gateway".into()));
        assert_eq!(body["request_id"], "id");
    }

    #[test]
    fn every_status_of_an_error_has_its_standard_title() {
        for (status, title) in [(401, "Unauthorized"), (413, "Content Too Large"), (429, "Too Many Requests")] {
            let problem = Problem::new(status, ProxyError::HttpRequestDenied, "why");
            let mut out = Vec::new();
            problem.put_head(&mut out, 0);
            assert!(out.starts_with(format!("HTTP/1.1 {status} {title}\r\n").as_bytes()));
            let body: serde_json::Value = serde_json::from_slice(&problem.body(None)).unwrap();
            assert_eq!(body["title"], title);
        }
    }

    #[test]
    fn a_status_that_is_no_error_has_no_body() {
        for status in [204, 304] {
            let problem = Problem::new(status, ProxyError::DestinationUnavailable, "no endpoint");
            let mut out = Vec::new();
            problem.put_head(&mut out, 0);
            assert!(problem.body(None).is_empty());
            let head = String::from_utf8(out).unwrap();
            assert!(!head.contains("Proxy-Status") && !head.contains("Content-Length"), "{head}");
        }
    }
}
