//! Waiting for a change: long polls and event streams.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ::metrics::{Gauge, gauge};
use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::Stream;
use runtime::{drain::DrainWatch, duration, if_none_match::IfNoneMatch, listener::WaitingRoom};
use serde::Deserialize;

use super::{
    metrics as names,
    service::{Published, Service},
};

/// The longest time of a long poll.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The interval of keep-alive comments in event streams.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The query of a long poll: `wait` is how long, `index` the state that the client has.
#[derive(Debug, Deserialize)]
pub(super) struct WaitQuery {
    wait: Option<String>,
    index: Option<String>,
}

/// Counts a waiting client until it is dropped.
struct Waiting(Gauge);

// === impl Wait ===

impl WaitQuery {
    /// The published state. A long poll waits until it differs from the client's, or until the time is over. The client names its
    /// state by an index or by `If-None-Match`; without either it waits for any change.
    ///
    /// # Errors
    /// The response to an invalid query, or 503 if too many clients wait already.
    pub(super) async fn published(
        &self,
        service: &Service,
        if_none_match: &IfNoneMatch,
        room: &WaitingRoom,
        closing: &DrainWatch,
    ) -> Result<Option<Arc<Published>>, Response> {
        let bad = |why: String| (StatusCode::BAD_REQUEST, why).into_response();
        let index = match &self.index {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| bad(format!("index={text}: is not a whole number\n")))?),
        };
        let Some(wait) = &self.wait else { return Ok(service.now()) };
        let wait = duration::parse(wait).map_err(|error| bad(format!("wait={wait}: {error}\n")))?.min(MAX_WAIT);
        let mut published = service.subscribe();
        let now = published.borrow_and_update().clone();
        let has = |published: &Published| match (index, &now) {
            // Any other index, even a greater one, is that of another process or of an earlier state.
            (Some(index), _) => published.index == index,
            (None, _) if *if_none_match != IfNoneMatch::Absent => if_none_match.matches(&published.etag),
            (None, Some(now)) => published.index == now.index,
            // It waits for the first list.
            (None, None) => false,
        };
        let news = |published: &Option<Arc<Published>>| published.as_ref().is_some_and(|published| !has(published));
        if news(&now) || wait.is_zero() {
            return Ok(now);
        }
        let (_waiter, _waiting) = (room.enter().map_err(IntoResponse::into_response)?, Waiting::new());
        tokio::select! {
            _ = published.wait_for(news) => {}
            () = tokio::time::sleep(wait) => {}
            () = closing.wait() => {}
        }
        Ok(service.now())
    }
}

/// An event stream of the current state, unless the client has it already, and of every change, until the process ends. A slow client
/// gets only the newest of several changes.
pub(super) fn events(service: &Arc<Service>, last: Option<u64>, closing: &DrainWatch) -> Response {
    Sse::new(stream(service.clone(), last, closing.clone()))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL))
        .into_response()
}

fn stream(
    service: Arc<Service>,
    last: Option<u64>,
    closing: DrainWatch,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let published = service.subscribe();
    // The stream holds the service, so that it is followed as long as there are listeners.
    let state = (service, published, closing, last, Waiting::new());
    futures::stream::unfold(state, |(service, mut published, closing, last, waiting)| async move {
        let new = |published: &Option<Arc<Published>>| published.as_ref().is_some_and(|p| Some(p.index) != last);
        let next = tokio::select! {
            next = published.wait_for(new) => next.ok()?.clone()?,
            () = closing.wait() => return None,
        };
        let event = Event::default().event("endpoints").id(next.index.to_string());
        // The document has no line break in it.
        let event = event.data(String::from_utf8_lossy(&next.body));
        Some((Ok(event), (service, published, closing, Some(next.index), waiting)))
    })
}

// === impl Waiting ===

impl Waiting {
    fn new() -> Self {
        let gauge = gauge!(names::WAITING);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
