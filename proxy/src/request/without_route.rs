//! Refuses requests that cannot have a route: clients beyond a limit, and invalid heads.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{answer::Answered, id};
use crate::{
    access_log::{LogRecord, Texts},
    clock,
    config::Listener,
    exchange::{BodyForm, Outbound, Outgoing, alarm::Alarm, pace::Pace, quorum::Quorum},
    headers,
    metrics::RequestResult,
    problem::Problem,
    report,
    shared::Shared,
};

/// A refusal before a route was found.
pub(crate) struct WithoutRoute<'a> {
    pub(crate) shared: &'a Shared,
    /// The configuration of the listener.
    pub(crate) config: &'a Listener,
    pub(crate) client: SocketAddr,
    /// The received bytes of the head, whose first line is logged.
    pub(crate) seen: &'a [u8],
    pub(crate) result: RequestResult,
    pub(crate) problem: Problem,
    /// When the first byte came.
    pub(crate) began: Instant,
}

// === impl WithoutRoute ===

impl WithoutRoute<'_> {
    /// Counts, answers and logs the refusal. A client that reads nothing for `idle` is given up. An HTTP/1.1 connection must be
    /// closed afterwards. Without a `client` there is no answer, because the client could not read it.
    pub(crate) async fn refuse(self, client: Option<&mut Outbound<'_>>, idle: Duration, alarm: &mut Alarm) {
        self.shared.refused.count(self.problem.status);
        let id = id::random();
        let sent = match client {
            Some(client) => {
                let mut out = self.answer(id.as_str(), client);
                out.flush(client, Pace { idle, ..Pace::UNKNOWN }, alarm).await;
                out.body_bytes
            }
            None => 0,
        };
        let log = &self.shared.log;
        if let Some(wanted) = log.wants(self.result) {
            let took = clock::now().saturating_duration_since(self.began);
            let (result, status, reason) = (self.result, self.problem.status, Some(self.problem.detail));
            let answered = Answered { wanted, result, status, sent, took, reason };
            record(id.as_str(), self.client, self.seen, answered).write(log, "-", result, None);
        }
    }

    /// The complete answer. If some route's answers have a summary of legs, it reports no legs.
    fn answer(&self, id: &str, client: &Outbound<'_>) -> Outgoing {
        let body = self.problem.body(Some(id));
        let mut head = Vec::with_capacity(512);
        self.problem.put_head(&mut head, body.len());
        if self.config.reports() {
            report::put_headers(&mut head, &Quorum::default(), None);
        }
        // The translation to HTTP/2 drops this field.
        headers::put_text(&mut head, "Connection", &["close"]);
        head.extend_from_slice(b"\r\n");
        let form = match client {
            Outbound::Http1(_) => BodyForm::Plain,
            Outbound::Http2(_) => BodyForm::Frames,
        };
        let mut outgoing = Outgoing::new(head, form);
        // An answer to HEAD has no body, despite its length.
        if !self.seen.starts_with(b"HEAD ") {
            outgoing.push_body(body);
        }
        outgoing.end();
        outgoing
    }
}

/// The log record of the refusal.
fn record(id: &str, client: SocketAddr, seen: &[u8], answered: Answered) -> LogRecord {
    let line = seen.split(|b| b"\r\n".contains(b)).next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ').map(|word| if word.is_empty() { b"-" } else { word });
    let mut word = || words.next().unwrap_or(b"-");
    let (method, target) = (word(), word());
    let Answered { wanted, result, status, sent, took, reason } = answered;
    LogRecord {
        wanted,
        time: SystemTime::now() - took,
        texts: Texts::new(id, method, b"", target),
        trace: None,
        client,
        identity: None,
        status,
        grpc_status: None,
        result,
        sent,
        took,
        reason,
    }
}
