//! The access log: one entry per request, written when its last leg has ended, by a thread of its own. A log that
//! cannot be written fast enough loses entries, which are counted and told; it never holds up a request.

mod writer;

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, SystemTime},
};

use access::identity::Identity;
use serde::Serialize;

use tokio::time::Instant;

use self::writer::{Counters, Writer};
use crate::{
    config::AccessLog,
    exchange::Exchange,
    grpc::Code,
    metrics::RequestResult,
    report::{self, LegReport},
};

/// Entries that may wait to be written.
const QUEUE: usize = 8 * 1024;

/// The bytes of a target that are logged.
const TARGET: usize = 2 * 1024;

/// What is logged of one request.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When it began, as RFC 3339 in UTC.
    pub time: String,
    /// Its id.
    pub id: &'a str,
    /// The client's address.
    pub client: String,
    /// Who it has proven to be: `token:ci`, `sa:shop/cms`, `san:cms.example`; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<&'a str>,
    /// Its method.
    pub method: &'a str,
    /// The host it asked for.
    pub host: &'a str,
    /// Its target, at most 2 KiB of it.
    pub target: &'a str,
    /// The route it took.
    pub route: &'a str,
    /// The status it was answered with; 499: the client went away before that.
    pub status: u16,
    /// The same in gRPC, where the request is one of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<Code>,
    /// What its answer said.
    pub result: &'static str,
    /// What became of it when its last leg had ended.
    pub completed: &'static str,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of body answered.
    pub sent: u64,
    /// To the end of the answer in milliseconds.
    pub ms: f64,
    /// Why no endpoint was asked, or no longer; none where the endpoints decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// What every leg did.
    pub legs: Vec<LegReport<'a>>,
}

/// What the log needs to know of a request, also after its connection has gone on.
#[derive(Debug)]
pub struct LogRecord {
    /// When it began.
    pub time: SystemTime,
    /// Its id.
    pub id: String,
    /// The client's address.
    pub client: SocketAddr,
    /// Who it has proven to be.
    pub identity: Option<Identity>,
    /// Its method, as it can be logged.
    pub method: String,
    /// The host it asked for, as it can be logged.
    pub host: String,
    /// Its target, as it can be logged.
    pub target: String,
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
    /// Writes the entry; `exchange` is that of the request, with every leg ended.
    pub fn write(&self, log: &Log, route: &str, completed: RequestResult, exchange: Option<&Exchange>) {
        let now = Instant::now();
        log.write(&Entry {
            time: timestamp(self.time),
            id: &self.id,
            client: self.client.to_string(),
            identity: self.identity.as_ref().map(Identity::as_str),
            method: &self.method,
            host: &self.host,
            target: &self.target,
            route,
            status: self.status,
            grpc_status: self.grpc_status,
            result: self.result.as_str(),
            completed: completed.as_str(),
            received: exchange.map_or(0, Exchange::body_received),
            sent: self.sent,
            ms: report::millis(self.took),
            reason: self.reason.as_deref(),
            legs: exchange.map_or_else(Vec::new, |e| e.legs().iter().map(|leg| report::leg(leg, now)).collect()),
        });
    }
}

/// Takes entries.
#[derive(Clone, Debug)]
pub struct Log {
    format: AccessLog,
    lines: Option<SyncSender<String>>,
    counters: Arc<Counters>,
}

/// Sees to it that what is queued is written before the process ends: dropping it waits for that, for a second at most.
#[derive(Debug)]
pub struct AtExit(pub Log);

impl Log {
    /// A log in this format, on standard output.
    #[must_use]
    pub fn start(format: AccessLog) -> Self {
        let counters = Arc::<Counters>::default();
        if format == AccessLog::Off {
            return Self { format, lines: None, counters };
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let (writing, json) = (counters.clone(), format == AccessLog::Json);
        let spawned = writer::standard_output().and_then(|out| {
            let writer = Writer::new(out, json, writing);
            std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&receiver))
        });
        if let Err(error) = &spawned {
            tracing::error!(%error, "cannot start the access log: nothing is logged");
        }
        Self { format, lines: spawned.is_ok().then_some(sender), counters }
    }

    /// Whether entries are wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes an entry, or counts it as dropped.
    pub fn write(&self, entry: &Entry<'_>) {
        let Some(lines) = &self.lines else { return };
        let line = match self.format {
            AccessLog::Json => serde_json::to_string(entry).unwrap_or_default(),
            AccessLog::Text | AccessLog::Off => text(entry),
        };
        if lines.try_send(line).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is queued now is written, at most so long. Blocks the thread.
    pub fn flush(&self, patience: Duration) {
        let Some(lines) = &self.lines else { return };
        let written = self.counters.ask();
        // Wakes the writer; where there is no room for it, the writer is awake.
        let _ = lines.try_send(String::new());
        let _ = written.recv_timeout(patience);
    }

    /// Entries dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        self.0.flush(Duration::from_secs(1));
    }
}

fn text(entry: &Entry<'_>) -> String {
    let mut line = format!(
        "{} {} \"{} {}\" {} {} {:.3}ms completed={} route={} host={} id={}",
        entry.time,
        entry.client,
        entry.method,
        entry.target,
        entry.status,
        entry.result,
        entry.ms,
        entry.completed,
        entry.route,
        entry.host,
        entry.id
    );
    if let Some(code) = entry.grpc_status {
        line.push_str(&format!(" grpc_status={code}"));
    }
    if let Some(identity) = entry.identity {
        line.push_str(&format!(" identity={identity}"));
    }
    if let Some(reason) = entry.reason {
        line.push_str(&format!(" reason=\"{}\"", quotable(reason)));
    }
    for leg in &entry.legs {
        let outcome = leg.outcome.map_or("running", |outcome| outcome.as_str());
        let status = leg.status.map_or_else(String::new, |status| format!(":{status}"));
        let code = leg.grpc_status.map_or_else(String::new, |code| format!(":grpc={code}"));
        line.push_str(&format!(" {}={outcome}{status}{code}:{:.3}ms", leg.pod.unwrap_or(leg.endpoint), leg.ms));
    }
    line
}

/// The part of a text from a client that can be logged: printable ASCII, of bounded length.
#[must_use]
pub fn loggable(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(TARGET)];
    kept.iter().map(|b| if b.is_ascii_graphic() && *b != b'"' { char::from(*b) } else { '.' }).collect()
}

/// A text of ours as it can stand between quotes in a line: what it holds of others must not end them.
fn quotable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '"' { '.' } else { c }).collect()
}

/// A time in UTC as RFC 3339 with milliseconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    // Only a time thousands of years away has no timestamp.
    jiff::Timestamp::try_from(time).map_or_else(|_| String::from("-"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(951_827_696_007_900);
        assert_eq!(timestamp(time), "2000-02-29T12:34:56.007Z");
    }

    #[test]
    fn nothing_of_a_client_breaks_a_line() {
        assert_eq!(loggable(b"/a\r\n\"b\xff"), "/a...b.");
        assert_eq!(loggable(&[b'a'; 5000]).len(), TARGET);
    }
}
