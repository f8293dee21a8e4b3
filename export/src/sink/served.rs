//! Files kept in memory and served over HTTP: what Traefik's http provider and Prometheus' `http_sd` read.
//!
//! It maps a request to a response; only long polls wait. The listener of the role mounts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::RwLock;
use runtime::if_none_match::IfNoneMatch;
use tokio::{sync::watch, time::Instant};

use super::{Document, Fetched, sha256};

/// The longest time of a long poll.
pub const MAX_WAIT: Duration = Duration::from_secs(300);

/// The files. Paths are absolute, as in a URL.
pub struct Served {
    files: RwLock<BTreeMap<String, ServedFile>>,
    /// The paths of files that are not rendered yet, or their prefixes with a final slash.
    expected: RwLock<BTreeSet<String>>,
    /// Incremented with every change of any file.
    index: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct ServedFile {
    document: Document,
    etag: String,
    index: u64,
    modified: SystemTime,
}

/// The relevant parts of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServedRequest<'a> {
    /// `GET` or `HEAD`; nothing else is allowed.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without `?`: `wait=30s` waits that long for a change, `index=7` names the version that the client has.
    pub query: Option<&'a str>,
    /// The field `If-None-Match`, if there is one.
    pub if_none_match: Option<&'a IfNoneMatch>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedResponse {
    /// The status.
    pub status: u16,
    /// The header fields, without the framing.
    pub fields: Vec<(&'static str, String)>,
    /// The body, which is not sent for `HEAD`.
    pub body: Bytes,
}

impl Default for Served {
    fn default() -> Self {
        Self { files: RwLock::default(), expected: RwLock::default(), index: watch::Sender::new(0) }
    }
}

impl Served {
    /// Without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// The response. A long poll waits until the file changes, for [`MAX_WAIT`] at most.
    pub async fn answer(&self, request: ServedRequest<'_>) -> ServedResponse {
        self.answer_where(request, || Some(())).await
    }

    /// Like [`answer`](Self::answer), but waits only if `may_wait` returns a permit, which it holds meanwhile; else the response is
    /// 503.
    pub async fn answer_where<P>(
        &self,
        request: ServedRequest<'_>,
        may_wait: impl Fn() -> Option<P>,
    ) -> ServedResponse {
        if !matches!(request.method, "GET" | "HEAD") {
            let allow = ("allow", "GET, HEAD".to_owned());
            return ServedResponse::text(405, "only GET and HEAD are allowed").with(allow);
        }
        let (wait, known) = match parameters(request.query.unwrap_or_default()) {
            Ok(parameters) => parameters,
            Err(why) => return ServedResponse::text(400, &why),
        };
        let mut changes = self.index.subscribe();
        let deadline = Instant::now() + wait;
        let mut permit = None;
        loop {
            changes.borrow_and_update();
            let file = self.files.read().get(request.path).cloned();
            let news = match (&file, known, request.if_none_match) {
                (None, ..) => false,
                (Some(file), Some(known), _) => file.index != known,
                (Some(file), None, Some(condition)) => !condition.matches(&file.etag),
                (Some(_), None, None) => true,
            };
            if news || Instant::now() >= deadline {
                return self.respond(file, request);
            }
            if permit.is_none() {
                permit = may_wait();
                if permit.is_none() {
                    return ServedResponse::text(503, "too many long polls are open").with(("retry-after", "1".into()));
                }
            }
            // The sender is part of `self`, and so outlives this.
            let _ = tokio::time::timeout_at(deadline, changes.changed()).await;
        }
    }

    fn respond(&self, file: Option<ServedFile>, request: ServedRequest<'_>) -> ServedResponse {
        let Some(file) = file else {
            if !self.expects(request.path) {
                return ServedResponse::text(404, "there is no file of this name");
            }
            // With 503 a client keeps what it has, which it would not with an empty list.
            return ServedResponse::text(503, "the file has not been rendered yet").with(("retry-after", "1".into()));
        };
        let fields = vec![
            ("etag", file.etag.clone()),
            ("last-modified", httpdate::fmt_http_date(file.modified)),
            ("cache-control", "no-cache".into()),
            ("x-fanfare-index", file.index.to_string()),
        ];
        if request.if_none_match.is_some_and(|condition| condition.matches(&file.etag)) {
            return ServedResponse { status: 304, fields, body: Bytes::new() };
        }
        ServedResponse { status: 200, fields, body: file.document.bytes }
            .with(("content-type", file.document.content_type.into()))
    }

    /// Announces a file, so that the response is 503 instead of 404 until it is rendered.
    pub fn expect(&self, path: &str) {
        self.expected.write().insert(path.to_owned());
    }

    fn expects(&self, path: &str) -> bool {
        self.expected
            .read()
            .iter()
            .any(|expected| expected == path || (expected.ends_with('/') && path.starts_with(expected.as_str())))
    }

    pub(super) fn fetch(&self, path: &str) -> Fetched {
        match self.files.read().get(path) {
            Some(file) => {
                let media_type = Some(file.document.content_type.to_owned());
                Fetched::Found { bytes: file.document.bytes.clone(), tag: None, media_type }
            }
            None => Fetched::Missing,
        }
    }

    pub(super) fn store(&self, path: &str, document: Document) {
        let etag = format!("\"{}\"", sha256(&document.bytes));
        self.index.send_modify(|index| {
            *index += 1;
            let file = ServedFile { document, etag, index: *index, modified: SystemTime::now() };
            self.files.write().insert(path.to_owned(), file);
        });
    }

    pub(super) fn remove(&self, path: &str) {
        self.index.send_modify(|index| {
            *index += 1;
            self.files.write().remove(path);
        });
    }
}

impl ServedResponse {
    fn text(status: u16, what: &str) -> Self {
        let fields =
            vec![("content-type", "text/plain; charset=utf-8".to_owned()), ("cache-control", "no-store".into())];
        Self { status, fields, body: Bytes::from(format!("{what}\n")) }
    }

    fn with(mut self, field: (&'static str, String)) -> Self {
        self.fields.push(field);
        self
    }
}

/// How long to wait, and which index the client has.
fn parameters(query: &str) -> Result<(Duration, Option<u64>), String> {
    let (mut wait, mut known) = (Duration::ZERO, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "wait" => {
                let asked = runtime::duration::parse(value).map_err(|why| format!("wait={value}: {why}"))?;
                wait = asked.min(MAX_WAIT);
            }
            "index" => known = Some(value.parse().map_err(|_| format!("index={value} is not a number"))?),
            // Consumers may have parameters of their own.
            _ => {}
        }
    }
    Ok((wait, known))
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("paths", &self.files.read().keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("serve:")
    }
}
