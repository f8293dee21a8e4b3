//! One client connection that speaks HTTP/1.1: requests come in one after the other, and each gets its answer.

pub(crate) mod draining;
mod head;
mod http2;

use std::{hint::cold_path, sync::Arc, time::Duration};

use access::clients::Requests;
use tokio::{sync::watch, time::Instant};

pub(crate) use self::http2::Place;
use self::{
    draining::Draining,
    head::{ClientProtocol, RefusedHead},
};
use crate::{
    clock,
    config::Listener,
    downstream::Downstream,
    exchange::{Outbound, alarm::Alarm},
    http::{Fields, request::RequestHead},
    metrics::RequestResult,
    problem::Problem,
    proxy_error::ProxyError,
    request::{self, Carrier, Next, RequestContext, WithoutRoute, id::RequestId},
    seats::Seat,
    shared::{Capacity, Connected, Shared, Worker},
};

/// The time for which the rest of a body is read after an early answer, so that the client can read the answer.
const LINGER: Duration = Duration::from_secs(2);

/// The shortest time for which a new connection may still bring a request after the drain has begun.
pub(crate) const MIN_DRAIN_IDLE: Duration = Duration::from_secs(1);

/// A client connection in service.
pub(crate) struct Connection {
    /// The number of its listener in the table.
    listener: usize,
    /// The configuration of the listener, and the number of its table.
    config: Arc<Listener>,
    tables: u64,
    client: Downstream,
    /// The client's address as text, for the heads of legs.
    client_ip: Box<str>,
    alarm: Alarm,
    draining: Draining,
    seat: Arc<Seat>,
    /// Counts the client's requests.
    requests: Option<Requests>,
    /// Whether this task is registered to be woken on eviction.
    is_registered: bool,
    /// The deadline of the first head, if its time began before its first byte.
    due: Option<Instant>,
    /// Memory for the fields of the next head.
    fields: Fields,
    /// When the first byte of the last head came.
    began: Instant,
    served: u64,
}

// === impl Connection ===

impl Connection {
    /// Begins to serve an accepted connection; none if the table does not have its listener.
    pub(crate) fn new(
        shared: &Shared,
        listener: usize,
        mut client: Downstream,
        shutdown: watch::Receiver<Duration>,
        connected: &Connected,
    ) -> Option<Self> {
        let tables = shared.tables_made();
        let config = shared.table.load().listeners.get(listener)?.config.clone();
        let due = client.take_due();
        let client_ip = client.peer.ip().to_string().into();
        let (alarm, draining, fields) = (Alarm::default(), Draining::new(shutdown), Fields::default());
        Some(Self {
            listener,
            config,
            tables,
            client,
            client_ip,
            alarm,
            draining,
            seat: connected.seat.clone(),
            requests: connected.requests(),
            is_registered: false,
            due,
            fields,
            began: clock::now(),
            served: 0,
        })
    }

    /// Serves requests until the connection ends. Returns the connection if the client speaks HTTP/2, so that neither future
    /// contains the state of the other version.
    pub(crate) async fn serve(mut self, worker: &Arc<Worker>) -> Option<Self> {
        match self.find_version(&worker.shared).await? {
            ClientProtocol::Http2 => return Some(self),
            ClientProtocol::Http1 => {}
        }
        loop {
            let head = self.read_head(&worker.shared).await;
            self.seat.paid();
            self.due = None;
            let next = match head {
                Ok(Some(head)) => self.request(worker, head).await,
                Ok(None) => Next::Close,
                Err(refused) => {
                    cold_path();
                    self.refuse_head(&worker.shared, refused).await;
                    Next::Linger
                }
            };
            self.served += 1;
            match next {
                Next::Keep => continue,
                Next::Close => self.client.close().await,
                Next::Abort => {}
                Next::Linger => self.linger().await,
            }
            return None;
        }
    }

    /// Answers a client for whom there is no room.
    pub(crate) async fn refuse(mut self, shared: &Shared, capacity: Capacity) {
        let problem = if capacity == Capacity::ClientFull {
            let detail =
                "this address has reached its limit of connections: close some, or raise max-connections-per-client";
            Problem::new(429, ProxyError::ConnectionLimitReached, detail).with_field("Retry-After", "1")
        } else {
            let detail = "the proxy has reached its limit of connections: try again later, or raise max-connections";
            Problem::new(503, ProxyError::ConnectionLimitReached, detail)
        };
        self.answer_without_route(shared, RequestResult::Rejected, problem, &[], LINGER).await;
        self.linger().await;
    }

    /// Answers an invalid or refused head.
    async fn refuse_head(&mut self, shared: &Shared, RefusedHead { problem, seen }: RefusedHead) {
        let idle = self.config.timeouts.body;
        self.answer_without_route(shared, RequestResult::Client, problem, &seen, idle).await;
    }

    /// Answers a request that cannot have a route; `seen` has the received bytes of its head.
    async fn answer_without_route(
        &mut self,
        shared: &Shared,
        result: RequestResult,
        problem: Problem,
        seen: &[u8],
        idle: Duration,
    ) {
        // A client of another protocol cannot read the answer, and RFC 9113 section 3.4 requires that the connection is closed.
        let is_foreign = self.served == 0 && self.config.http2 && head::is_foreign(seen);
        let (client, config, began) = (self.client.peer, &self.config, self.began);
        let refused = WithoutRoute { shared, config, client, seen, result, problem, began };
        let mut outbound = Outbound::Http1(&mut self.client);
        refused.refuse(Some(&mut outbound).filter(|_| !is_foreign), idle, &mut self.alarm).await;
    }

    /// Serves one request after its head was read.
    async fn request(&mut self, worker: &Worker, head: RequestHead) -> Next {
        let started = clock::now();
        let _requesting = self.requests.as_ref().map(Requests::begin);
        // The only load of the table for this request.
        let listener = worker.shared.table.load().listeners.get(self.listener).cloned();
        let Some(listener) = listener else { return Next::Close };
        let id = RequestId::of(&head);
        let certificate = self.client.certificate.clone();
        let context = RequestContext {
            head: &head,
            listener: &listener,
            worker,
            id: id.as_str(),
            is_new_id: id.is_new(),
            client: self.client.peer,
            client_ip: &self.client_ip,
            certificate: certificate.as_deref(),
            scheme: self.client.scheme(),
            is_grpc: false,
            trace: worker.shared.begin_trace(&head),
            started,
        };
        let http1 = request::Http1Carrier::new(&head, &mut self.client, &self.draining, &self.seat);
        let next = context.serve(&mut Carrier::Http1(http1), &mut self.alarm).await;
        self.fields = head.fields.recycle();
        next
    }

    /// Closes without a reset, which could discard the answer at a client that is still sending: shuts down writing, and reads on
    /// for a while.
    async fn linger(&mut self) {
        let until = clock::now() + LINGER;
        let (client, alarm) = (&mut self.client, &mut self.alarm);
        std::future::poll_fn(|cx| {
            let _ = client.poll_shutdown(cx);
            loop {
                client.buffer.clear();
                match client.poll_fill(cx, 16 * 1024) {
                    std::task::Poll::Ready(Ok(0) | Err(_)) => return std::task::Poll::Ready(()),
                    std::task::Poll::Ready(Ok(_)) => {}
                    std::task::Poll::Pending => return alarm.poll(cx, until).map(|_| ()),
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: impl FnOnce(Connection, &'static Arc<Worker>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_has_room_for_one_request_and_not_for_what_it_does_not_speak() {
        let serve = size_of_future(|connection, worker| connection.serve(worker));
        let http2 = size_of_future(|connection, worker| connection.serve_http2(worker));
        assert!(serve <= 3 * 1024, "{serve} bytes");
        assert!(http2 <= 2560, "{http2} bytes");
    }
}
