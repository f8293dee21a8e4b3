//! The live page at `/` of the admin listener, compiled in, and `/-/overview`, which it reads.
//!
//! The page contains no secrets and is served without a token; its data need one. It loads nothing from other servers.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderName, header},
    response::{IntoResponse, Response},
    routing::get,
};
use proxy::introspect::Look;
use runtime::{build_info, metrics::Metrics, readiness::Readiness};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{parts, shared::DataPlane};

/// The paths of the page and of its data.
pub(crate) const PATHS: [&str; 4] = ["/", "/-/page.css", "/-/page.js", "/-/overview"];

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Permits only scripts, styles and data of this listener, and no embedding in other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The default and the maximum number of endpoints.
const ENDPOINTS: usize = 200;
pub(crate) const MOST_ENDPOINTS: usize = 1_000;

/// The number of jobs of each journal.
const JOBS: usize = 50;

/// The maximum number of endpoints with pending deliveries.
const OWED: usize = 200;

/// The data of the page.
pub(crate) struct Overview {
    pub(crate) data_plane: DataPlane,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
}

/// The query for endpoints.
#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    find: String,
    #[serde(default)]
    problems: bool,
    limit: Option<usize>,
}

/// The routes of the page.
pub(crate) fn router(overview: Overview) -> Router {
    let file = |content_type: &'static str, text: &'static str| get(async move || asset(content_type, text));
    Router::new()
        .route(PATHS[0], file("text/html; charset=utf-8", HTML))
        .route(PATHS[1], file("text/css; charset=utf-8", STYLE))
        .route(PATHS[2], file("text/javascript; charset=utf-8", SCRIPT))
        .route(PATHS[3], get(answer).with_state(Arc::new(overview)))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // It is small, and must match the version of the running process.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn answer(State(overview): State<Arc<Overview>>, Query(ask): Query<Ask>) -> Response {
    // A search through many endpoints takes time, and must not delay other requests of the listener.
    let shown = tokio::task::spawn_blocking(move || overview.show(ask)).await.unwrap_or_default();
    ([(header::CACHE_CONTROL, "no-store")], Json(shown)).into_response()
}

// === impl Overview ===

impl Overview {
    fn show(&self, ask: Ask) -> Value {
        let handle = self.data_plane.get();
        let most = ask.limit.unwrap_or(ENDPOINTS).min(MOST_ENDPOINTS);
        let look = Look { find: ask.find, with_problems: ask.problems, most };
        let not_ready = self.readiness.check().err();
        let mut shown = parts::parts(&self.metrics.render());
        let mut add = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
        add("version", build_info::line().into());
        add("ready", not_ready.is_none().into());
        add("why", not_ready.into());
        let Some(handle) = handle else {
            // What does not broadcast has no routes, which is not the same as none.
            add("routes", Value::Null);
            return shown.into();
        };
        let row = |(endpoint, owed)| json!({"endpoint": endpoint, "owed": owed});
        add("owed", handle.owed_by_endpoint().into_iter().take(OWED).map(row).collect());
        add("journals", json!(handle.owed(JOBS)));
        if let Value::Object(routes) = handle.overview(&look) {
            shown.extend(routes);
        }
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_no_script_or_style_in_it_and_nothing_from_elsewhere() {
        for text in [HTML, STYLE, SCRIPT] {
            assert!(!text.contains("//cdn") && !text.contains("https://") && !text.contains("http://"), "{text}");
        }
        assert!(!HTML.contains("style=") && !HTML.contains("onclick") && !HTML.contains("<style"));
        assert_eq!(HTML.matches("<script").count(), 1);
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval("), "what others say becomes text only");
    }
}
