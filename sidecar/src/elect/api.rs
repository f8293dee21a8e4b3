//! The HTTP API of the elections of this process.
//!
//! | path | answer |
//! |---|---|
//! | `/` and every path that is none of these | the four fields of k8s-elector, of the first election |
//! | `/leader` | 200 on the leader, 503 elsewhere |
//! | `/v1/state` | everything; `?wait=30s` waits for a change, `&index=N` for one since that index |
//! | `/watch` | the same as server-sent events |
//! | `POST /v1/step-down` | gives up the lead; from the loopback address, or with a token |
//! | `/v1/elections`, `/v1/elections/<name>[/leader, /watch, /step-down]` | all elections, and each |
//! | `/healthz`, `/readyz`, `/metrics` | of the process |

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use controlplane::lease::{Election, SteppedDown, Watch};
use futures::Stream;
use runtime::{
    drain::DrainWatch,
    duration,
    listener::{Peer, WaitingRoom},
    metrics::Metrics,
    readiness::Readiness,
};
use serde_json::json;

use super::state::{Observed, State};

/// The longest time of a long poll.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The interval of keep-alive comments in event streams.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The dependencies of the API.
pub struct ElectApi {
    /// The elections; the first one answers where none is named. There is at least one.
    pub elections: Vec<Election>,
    /// Who may make this process step down.
    pub step_down: StepDownAccess,
    /// The state that `/readyz` reports.
    pub readiness: Readiness,
    /// The metrics that `/metrics` reports.
    pub metrics: Metrics,
    /// Ends event streams and long polls.
    pub closing: DrainWatch,
}

/// Who may make this process step down: clients on the loopback address, and whoever has the token.
#[derive(Clone, Debug, Default)]
pub struct StepDownAccess {
    /// The bearer token, if there is one.
    pub token: Option<String>,
}

struct Shared {
    elections: Vec<Observed>,
    step_down: StepDownAccess,
    readiness: Readiness,
    metrics: Metrics,
    closing: DrainWatch,
}

#[derive(serde::Deserialize)]
struct LongPoll {
    wait: Option<String>,
    index: Option<String>,
}

type ElectState = Extract<Arc<Shared>>;

// === impl ElectApi ===

impl ElectApi {
    /// The routes.
    pub fn router(self) -> Router {
        let elections = self.elections.into_iter().map(Observed::new).collect();
        let Self { step_down, readiness, metrics, closing, .. } = self;
        let shared = Shared { elections, step_down, readiness, metrics, closing };
        Router::new()
            .route("/leader", get(async |shared: ElectState| leader(shared.first())))
            .route("/watch", get(async |shared: ElectState| watch(shared.first(), &shared)))
            .route("/v1/watch", get(async |shared: ElectState| watch(shared.first(), &shared)))
            .route("/v1/state", get(first_state))
            .route("/v1/step-down", post(first_steps_down))
            .route("/v1/elections", get(all))
            .route("/v1/elections/{name}", get(named_state))
            .route("/v1/elections/{name}/leader", get(async |s: ElectState, name| s.named(name, leader)))
            .route("/v1/elections/{name}/watch", get(async |s: ElectState, name| s.named(name, |one| watch(one, &s))))
            .route("/v1/elections/{name}/step-down", post(named_steps_down))
            .route("/v1/{*rest}", get(nothing))
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics_text))
            .fallback(async |shared: ElectState| Json(shared.first().brief()).into_response())
            .with_state(Arc::new(shared))
    }
}

// === impl StepDownAccess ===

impl StepDownAccess {
    /// Whether this is the token.
    #[must_use]
    pub fn takes(&self, token: &str) -> bool {
        self.token.as_deref().is_some_and(|known| same(known, token))
    }

    fn allows(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if let (Some(token), Some(given)) = (&self.token, given) {
            return same(token, given);
        }
        peer.is_local(headers)
    }
}

/// Whether both are equal, compared in constant time.
fn same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b));
    one.len() == other.len() && differences == 0
}

// === impl Shared ===

impl Shared {
    fn first(&self) -> &Observed {
        &self.elections[0]
    }

    fn find(&self, name: &str) -> Option<&Observed> {
        self.elections.iter().find(|observed| observed.election.name() == name)
    }

    fn named(&self, Path(name): Path<String>, answer: impl FnOnce(&Observed) -> Response) -> Response {
        self.find(&name).map_or_else(|| self.unknown(&name), answer)
    }

    fn unknown(&self, name: &str) -> Response {
        let names: Vec<&str> = self.elections.iter().map(|observed| observed.election.name()).collect();
        let text = format!("there is no election {name:?}; the elections are: {}\n", names.join(", "));
        (StatusCode::NOT_FOUND, text).into_response()
    }
}

// === handlers ===

fn leader(observed: &Observed) -> Response {
    let state = observed.brief();
    let status = if state.is_leader { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, no_store(), Json(state)).into_response()
}

async fn state(observed: &Observed, wait: &LongPoll, room: &WaitingRoom, shared: &Shared) -> Response {
    match wait.wait(observed, room, &shared.closing).await {
        Ok(()) => (no_store(), Json(observed.state())).into_response(),
        Err(refusal) => refusal,
    }
}

async fn first_state(shared: ElectState, wait: Query<LongPoll>, room: Extension<WaitingRoom>) -> Response {
    state(shared.first(), &wait, &room, &shared).await
}

async fn named_state(
    shared: ElectState,
    Path(name): Path<String>,
    wait: Query<LongPoll>,
    room: Extension<WaitingRoom>,
) -> Response {
    match shared.find(&name) {
        Some(observed) => state(observed, &wait, &room, &shared).await,
        None => shared.unknown(&name),
    }
}

async fn all(shared: ElectState) -> Response {
    let states: Vec<State> = shared.elections.iter().map(Observed::state).collect();
    (no_store(), Json(json!({ "elections": states }))).into_response()
}

async fn first_steps_down(shared: ElectState, peer: Extension<Peer>, headers: HeaderMap) -> Response {
    step_down(shared.first(), &shared, *peer, &headers).await
}

async fn named_steps_down(
    shared: ElectState,
    Path(name): Path<String>,
    peer: Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    match shared.find(&name) {
        Some(observed) => step_down(observed, &shared, *peer, &headers).await,
        None => shared.unknown(&name),
    }
}

async fn step_down(observed: &Observed, shared: &Shared, peer: Peer, headers: &HeaderMap) -> Response {
    if !shared.step_down.allows(peer, headers) {
        let why = "only from the loopback address, or with the bearer token of the configuration\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    tracing::info!(election = observed.election.name(), peer = %peer.0, "asked to step down");
    match observed.election.step_down().await {
        Ok(how) => Json(json!({ "released": how == SteppedDown::Released })).into_response(),
        Err(not_leading) => (StatusCode::CONFLICT, format!("{not_leading}\n")).into_response(),
    }
}

fn watch(observed: &Observed, shared: &Shared) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL);
    (no_store(), Sse::new(events(observed.clone(), shared.closing.clone())).keep_alive(keep_alive)).into_response()
}

/// An event stream of the current state and every change, until the process ends.
fn events(observed: Observed, closing: DrainWatch) -> impl Stream<Item = Result<Event, Infallible>> {
    let watch = observed.election.watch();
    futures::stream::unfold((observed, watch, closing, None), |(observed, mut watch, closing, sent)| async move {
        loop {
            let state = observed.state();
            if sent != Some(state.index) {
                let index = state.index;
                // A state can always be written as JSON.
                let data = serde_json::to_string(&state).unwrap_or_default();
                let event = Event::default().event("state").id(index.to_string()).data(data);
                return Some((Ok(event), (observed, watch, closing, Some(index))));
            }
            tokio::select! {
                _ = watch.changed() => {}
                () = closing.wait() => return None,
            }
        }
    })
}

async fn nothing() -> Response {
    let paths = "/v1/state /v1/watch /v1/step-down /v1/elections /v1/elections/<name>[/leader, /watch, /step-down]";
    (StatusCode::NOT_FOUND, format!("not found; the paths below /v1 are: {paths}\n")).into_response()
}

async fn ready(shared: ElectState) -> Response {
    match shared.readiness.check() {
        Ok(()) => "ok".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics_text(shared: ElectState) -> Response {
    let metrics = shared.metrics.clone();
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn no_store() -> [(header::HeaderName, &'static str); 1] {
    [(header::CACHE_CONTROL, "no-store")]
}

// === impl Wait ===

impl LongPoll {
    /// Waits for a change, if the query asks for it.
    ///
    /// # Errors
    /// The response to an invalid query, or 503 if too many clients wait already.
    async fn wait(&self, observed: &Observed, room: &WaitingRoom, closing: &DrainWatch) -> Result<(), Response> {
        let bad = |why: String| (StatusCode::BAD_REQUEST, why).into_response();
        // Registered before the index is read, so that no change in between is missed.
        let mut watch: Watch = observed.election.watch();
        let now = observed.state().index;
        let since = match &self.index {
            None => now,
            Some(text) => text.parse().map_err(|_| bad(format!("index={text}: is not a whole number\n")))?,
        };
        let Some(wait) = &self.wait else { return Ok(()) };
        let wait = duration::parse(wait).map_err(|error| bad(format!("wait={wait}: {error}\n")))?.min(MAX_WAIT);
        if now != since || wait.is_zero() {
            return Ok(());
        }
        let _waiter = room.enter().map_err(IntoResponse::into_response)?;
        let change = async {
            while observed.state().index == since {
                watch.changed().await;
            }
        };
        tokio::select! {
            () = change => {}
            () = tokio::time::sleep(wait) => {}
            () = closing.wait() => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_or_the_token_makes_it_step_down() {
        let with = |token: Option<&str>| StepDownAccess { token: token.map(str::to_owned) };
        let allows = |access: &StepDownAccess, peer: &str, fields: &[(header::HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), header::HeaderValue::from_static(value)));
            access.allows(Peer((peer.parse::<std::net::IpAddr>().expect("an address"), 1).into()), &fields.collect())
        };
        let (none, some) = (with(None), with(Some("s3cret")));
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(allows(&none, local, &[]) && allows(&some, local, &[]), "{local}");
            assert!(!allows(&none, local, &[(header::ORIGIN, "http://a.example")]), "{local}: a page in a browser");
        }
        for remote in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!allows(&none, remote, &[]) && !allows(&some, remote, &[]), "{remote}");
            for wrong in ["Bearer ", "Bearer s3cre", "Bearer s3cret ", "Bearer s3creT", "s3cret", "Basic s3cret"] {
                assert!(!allows(&some, remote, &[(header::AUTHORIZATION, wrong)]), "{remote}: {wrong}");
            }
            assert!(allows(&some, remote, &[(header::AUTHORIZATION, "Bearer s3cret")]), "{remote}");
            assert!(!allows(&none, remote, &[(header::AUTHORIZATION, "Bearer s3cret")]), "there is no token");
        }
        assert!(
            !allows(&some, "127.0.0.1", &[(header::AUTHORIZATION, "Bearer wrong")]),
            "who has one must have it right"
        );
    }
}
