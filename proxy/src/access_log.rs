//! The access log: one entry per request, made when its last leg has ended and written by a separate thread. If the log cannot be
//! written fast enough, entries are dropped, counted and reported; requests never wait for it.

mod json;
mod lines;
mod scan;
mod target;
mod text;
mod texts;
mod writer;

use std::{
    borrow::Cow,
    cell::RefCell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use access::identity::Identity;
use spans::TraceId;
use tokio::time::Instant;

use self::{lines::Lines, text::Timestamp, writer::Writer};
use crate::{
    clock,
    config::AccessLog,
    events::Events,
    exchange::{Exchange, Leg, compare::Comparison},
    grpc::Code,
    metrics::RequestResult,
    report::{self, LegReport},
};

pub(crate) use self::target::{loggable_query, loggable_target};
pub use self::{
    text::{loggable, timestamp},
    texts::Texts,
};

thread_local! {
    /// The entry under construction; each thread reuses the memory of the last one.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The entry of one request, without its legs. Tests hold what is written as JSON against what serde makes of it.
#[derive(Debug)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Entry<'a> {
    /// When it began, as RFC 3339 in UTC.
    time: Timestamp,
    /// Its id.
    id: &'a str,
    /// The id of its trace, if it has one.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    trace_id: Option<TraceId>,
    /// The client's address.
    #[cfg_attr(test, serde(serialize_with = "as_text"))]
    client: SocketAddr,
    /// The caller's identity: `token:ci`, `sa:shop/cms`, `san:cms.example`; none if unknown.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    identity: Option<&'a str>,
    /// Its method.
    method: &'a str,
    /// The host it asked for.
    host: &'a str,
    /// Its target, at most 2 KiB of it, without credentials of its query.
    target: &'a str,
    /// The route it took.
    route: &'a str,
    /// The status of the answer; 499 if the client disconnected before it.
    status: u16,
    /// The same in gRPC, where the request is one of gRPC.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    grpc_status: Option<Code>,
    /// The result in the answer.
    result: &'static str,
    /// The result when the last leg had ended.
    completed: &'static str,
    /// How many endpoints answered something else than most, where answers are compared and some did.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    divergent: Option<usize>,
    /// Bytes of its body.
    received: u64,
    /// Bytes of body answered.
    sent: u64,
    /// Milliseconds from the start of the request to the end of the answer.
    #[cfg_attr(test, serde(rename = "ms", serialize_with = "report::as_millis"))]
    took: Duration,
    /// Why the proxy decided instead of the endpoints, if it did.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    reason: Option<&'a str>,
    /// The job of the request, if there is or was one.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    job: Option<String>,
}

/// The legs of a request, all of which have ended.
#[derive(Debug)]
struct LegResults<'a> {
    legs: &'a [Leg],
    comparison: Option<Comparison>,
    now: Instant,
}

/// Who is told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those who read the log.
    line: bool,
    /// Those who watch.
    event: bool,
}

/// The data of a request for the log, which outlives the request's connection.
#[derive(Debug)]
pub struct LogRecord {
    /// Who is told.
    pub wanted: Wanted,
    /// When it began.
    pub time: SystemTime,
    /// Its id, and what it asked for, as it can be logged.
    pub texts: Texts,
    /// The id of its trace, if it has one.
    pub trace: Option<TraceId>,
    /// The client's address.
    pub client: SocketAddr,
    /// Who it has proven to be.
    pub identity: Option<Identity>,
    /// The status it was answered with.
    pub status: u16,
    /// The same in gRPC, where the request is one of gRPC.
    pub grpc_status: Option<Code>,
    /// What became of it.
    pub result: RequestResult,
    /// Bytes of body answered.
    pub sent: u64,
    /// To the end of the answer.
    pub took: Duration,
    /// Why no endpoint was asked, or no longer.
    pub reason: Option<Cow<'static, str>>,
}

impl LogRecord {
    /// Writes the entry; `ended` is the exchange of the request, with every leg ended, and how their answers compare.
    pub fn write(
        &self,
        log: &Log,
        route: &str,
        completed: RequestResult,
        ended: Option<(&Exchange, Option<Comparison>)>,
    ) {
        let (exchange, comparison) = ended.map_or((None, None), |(exchange, comparison)| (Some(exchange), comparison));
        let legs = LegResults { legs: exchange.map_or(&[], Exchange::legs), comparison, now: clock::now() };
        let divergent = comparison.map(|comparison| comparison.divergent).filter(|divergent| *divergent > 0);
        if self.wanted.event {
            log.events.request(self, route, completed, divergent, legs.iter());
        }
        let entry = Entry {
            time: Timestamp::of(self.time),
            id: self.texts.id(),
            trace_id: self.trace,
            client: self.client,
            identity: self.identity.as_ref().map(Identity::as_str),
            method: self.texts.method(),
            host: self.texts.host(),
            target: self.texts.target(),
            route,
            status: self.status,
            grpc_status: self.grpc_status,
            result: self.result.as_str(),
            completed: completed.as_str(),
            divergent,
            received: exchange.map_or(0, Exchange::body_received),
            sent: self.sent,
            took: self.took,
            reason: self.reason.as_deref(),
            job: exchange.and_then(|exchange| exchange.quorum().deferred).map(|deferred| deferred.job.to_string()),
        };
        log.write(&entry, &legs);
    }
}

impl LegResults<'_> {
    fn iter(&self) -> impl Iterator<Item = LegReport<'_>> {
        self.legs.iter().map(|leg| report::leg(leg, self.comparison.as_ref(), self.now))
    }
}

/// A handle for writing entries. Clones share the log.
#[derive(Clone, Debug)]
pub struct Log {
    is_json: bool,
    lines: Option<Arc<Open>>,
    events: Arc<Events>,
}

/// An enabled log. Dropping it ends the writer after it has written the queued lines.
#[derive(Debug)]
struct Open(Arc<Lines>);

/// Flushes the log before the process ends: dropping it waits for the queued lines, for at most a second.
#[derive(Debug)]
pub struct AtExit(pub Log);

impl Log {
    /// A log in this format, on standard output; those who watch are told what is logged as well.
    #[must_use]
    pub(crate) fn start(format: AccessLog, events: Arc<Events>) -> Self {
        let is_json = format == AccessLog::Json;
        if format == AccessLog::Off {
            return Self { is_json, lines: None, events };
        }
        let lines = Arc::<Lines>::default();
        let written = lines.clone();
        let spawned = writer::standard_output().and_then(|out| {
            let writer = Writer::new(out, is_json);
            std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&written))
        });
        if let Err(error) = &spawned {
            tracing::error!(%error, "cannot start the access log: nothing is logged");
        }
        Self { is_json, lines: spawned.is_ok().then(|| Arc::new(Open(lines))), events }
    }

    /// Who is to be told of a request with this result; none: nobody. To be asked once.
    #[must_use]
    pub fn wants(&self, result: RequestResult) -> Option<Wanted> {
        let wanted = Wanted { line: self.lines.is_some(), event: self.events.takes(result) };
        (wanted.line || wanted.event).then_some(wanted)
    }

    /// Writes an entry, or counts it as dropped.
    fn write(&self, entry: &Entry<'_>, legs: &LegResults<'_>) {
        let Some(Open(lines)) = self.lines.as_deref() else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            if self.is_json {
                json::put(line, entry, legs.iter());
            } else {
                text::put(line, entry, legs.iter());
            }
            line.push(b'\n');
            lines.put(line);
        });
    }

    /// Waits until the lines that are queued now are written, for at most `patience`. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        if let Some(Open(lines)) = self.lines.as_deref() {
            // Lines that could not be written in that time are lost.
            let _ = lines.flush().recv_timeout(patience);
        }
    }

    /// Entries dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lines.as_deref().map_or(0, |Open(lines)| lines.dropped())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        self.0.flush(Duration::from_secs(1));
    }
}

/// Writes the text of a value.
#[cfg(test)]
fn as_text<S: serde::Serializer>(value: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
