//! The routes of the mirror's listener: health, readiness, remotes and metrics.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use mirror::Health;
use runtime::{metrics::Metrics, readiness::Readiness};

/// The state of the routes.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) health: Health,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
}

impl Api {
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(healthy))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/remotes", get(remotes))
            .with_state(self)
    }
}

/// 200 or 503, as in the replaced tool. An unavailable remote cluster is not a reason for a restart.
async fn healthy(State(api): State<Api>) -> Response {
    match api.health.check() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not healthy: {why}\n")).into_response(),
    }
}

async fn ready(State(api): State<Api>) -> Response {
    match api.readiness.check() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

/// The state of each remote cluster.
async fn remotes(State(api): State<Api>) -> Response {
    Json(api.health.report()).into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    // Rendering many series takes a while, so it does not run on a worker.
    match tokio::task::spawn_blocking(move || api.metrics.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
