//! `/-/events` of the admin listener: what the data plane tells of those who watch it, as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::{Stream, StreamExt as _};
use proxy::events::Watcher;

use crate::shared::DataPlane;

/// Where the events are.
pub(crate) const PATH: &str = "/-/events";

/// How often something is sent where nothing happens, so that both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The route of the events.
pub(crate) fn router(data_plane: DataPlane) -> Router {
    Router::new().route(PATH, get(async move || answer(&data_plane)))
}

fn answer(data_plane: &DataPlane) -> Response {
    let Some(handle) = data_plane.get() else {
        let why = "this process broadcasts nothing, or not yet: there is nothing to watch\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], why).into_response();
    };
    match handle.watch() {
        Ok(watcher) => {
            let told = [(header::CACHE_CONTROL, "no-store")];
            (told, Sse::new(stream(watcher)).keep_alive(KeepAlive::new().interval(HEARTBEAT))).into_response()
        }
        Err(full) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], format!("{full}\n")).into_response()
        }
    }
}

fn stream(watcher: Watcher) -> impl Stream<Item = Result<Event, Infallible>> {
    // Said at once, so that whoever asks knows that nothing is missed from here on.
    let opened = futures::stream::once(async { Ok(Event::default().comment("watching")) });
    let events = futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok(Event::default().event(event.name).data(&*event.data)), watcher))
    });
    opened.chain(events)
}
