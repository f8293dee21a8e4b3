//! The admin API, on a listener of its own: health, readiness, metrics, the log level, and what roles add.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::listener::{Bound, Guard, Limits};
use crate::metrics::{Exposition, Metrics, OpenMetrics};
use crate::pieces::in_pieces;
use crate::readiness::{PartStatus, Readiness};
use crate::telemetry::{Level, Telemetry};
use crate::tls::ServerTls;

/// A JSON document made anew for each request.
pub type Document = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Writes a text, made anew for each request, piece by piece, so that a long one is never in memory as a whole.
pub type Text = Arc<dyn Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync>;

/// Writes more metrics in the Prometheus text format, like [`Text`]: whole families, each line ended. Exemplars are permitted for OpenMetrics.
pub type MetricsText = Arc<dyn Fn(Exposition, &mut dyn io::Write) -> io::Result<()> + Send + Sync>;

/// The admin API before it is bound.
pub struct Admin {
    shared: ApiState,
    routers: Router,
    tls: Option<ServerTls>,
    guard: Guard,
}

/// A JSON document.
#[derive(Clone)]
enum Written {
    Whole(Document),
    InPieces(Text),
}

#[derive(Clone)]
struct ApiState {
    readiness: Readiness,
    metrics: Metrics,
    more_metrics: Vec<MetricsText>,
    telemetry: Telemetry,
    documents: BTreeMap<String, Written>,
    merged: Vec<String>,
    limits: Limits,
}

// === impl Admin ===

impl Admin {
    /// An API with `/metrics`, `/-/healthy`, `/-/ready` and `/-/log-level`.
    #[must_use]
    pub fn new(readiness: Readiness, metrics: Metrics, telemetry: Telemetry) -> Self {
        Self {
            shared: ApiState {
                readiness,
                metrics,
                more_metrics: Vec::new(),
                telemetry,
                documents: BTreeMap::new(),
                merged: Vec::new(),
                limits: Limits::default(),
            },
            routers: Router::new(),
            tls: None,
            guard: Guard::local_changes(),
        }
    }

    /// Adds a JSON document at exactly this path (`/-/endpoints`). A second one at the same path replaces the first; the paths above are not replaced.
    #[must_use]
    pub fn json(mut self, path: impl Into<String>, document: Document) -> Self {
        self.shared.documents.insert(path.into(), Written::Whole(document));
        self
    }

    /// The same for a document that may be long.
    #[must_use]
    pub fn long_json(mut self, path: impl Into<String>, document: Text) -> Self {
        self.shared.documents.insert(path.into(), Written::InPieces(document));
        self
    }

    /// Adds metrics that are kept outside of the process's recorder, in the Prometheus text format: whole families, each line ended. Their names
    /// must differ from those of the recorder.
    #[must_use]
    pub fn more_metrics(mut self, text: MetricsText) -> Self {
        self.shared.more_metrics.push(text);
        self
    }

    /// Adds a role's own routes; `paths` are what the 404 answer lists for them. A handler here may take its time (long polls, event streams): the
    /// connection's time-outs rest while it runs and while its body streams.
    ///
    /// # Panics
    /// A route of the router overlaps one that is there already.
    #[must_use]
    pub fn merge(mut self, router: Router, paths: &[&str]) -> Self {
        self.routers = self.routers.merge(router);
        self.shared.merged.extend(paths.iter().map(ToString::to_string));
        self
    }

    /// Sets who may send which requests. By default anyone may read, and only this machine may change anything, because the
    /// listener is often bound to every address, for probes and scrapers.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.shared.limits = limits;
        self
    }

    /// Speaks TLS, where it is configured.
    #[must_use]
    pub fn tls(mut self, tls: Option<ServerTls>) -> Self {
        self.tls = tls;
        self
    }

    /// Binds the listener. Port 0 takes a free port: [`Bound::addr`] tells which.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub async fn bind(self, addr: SocketAddr) -> io::Result<Bound> {
        let (limits, tls) = (self.shared.limits, self.tls.clone());
        Ok(Bound::bind("admin", addr, self.into_router(), limits).await?.tls(tls))
    }

    /// Listens on a socket that was passed to this process.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn listen(self, socket: std::net::TcpListener) -> io::Result<Bound> {
        let (limits, tls) = (self.shared.limits, self.tls.clone());
        Ok(Bound::listen("admin", socket, self.into_router(), limits)?.tls(tls))
    }

    fn into_router(self) -> Router {
        let own = Router::new()
            .route("/metrics", get(metrics))
            .route("/-/healthy", get(|| async { "OK" }))
            .route("/-/ready", get(ready))
            .route("/-/log-level", get(log_level).put(set_log_level))
            .fallback(document)
            .with_state(Arc::new(self.shared));
        self.guard.guard(self.routers.merge(own))
    }
}

// === handlers ===

async fn metrics(State(shared): State<Arc<ApiState>>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Exposition::preferred(&accept.join(","));
    let write = move |out: &mut dyn io::Write| match format {
        Exposition::Text => shared.write_metrics(format, out),
        Exposition::OpenMetrics => {
            let mut open = OpenMetrics::new(out);
            shared.write_metrics(format, &mut open)?;
            open.finish()
        }
    };
    typed(format.content_type(), in_pieces(write))
}

/// The query of a readiness check: about the whole process, or about one route of it.
#[derive(serde::Deserialize)]
struct Ask {
    route: Option<String>,
}

async fn ready(State(shared): State<Arc<ApiState>>, Query(ask): Query<Ask>) -> (StatusCode, String) {
    let pending = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("NOT READY: {why}"));
    let Some(route) = ask.route else {
        return shared.readiness.check().map_or_else(pending, |()| (StatusCode::OK, "OK".to_owned()));
    };
    match shared.readiness.check_part(&route) {
        PartStatus::Ready => (StatusCode::OK, "OK".to_owned()),
        PartStatus::Pending(why) => pending(why),
        PartStatus::Unknown(there) => {
            (StatusCode::NOT_FOUND, format!("there is no route {route:?}; the routes are: {}\n", there.join(", ")))
        }
    }
}

async fn log_level(State(shared): State<Arc<ApiState>>) -> String {
    shared.telemetry.level().to_string()
}

async fn set_log_level(State(shared): State<Arc<ApiState>>, body: Body) -> (StatusCode, String) {
    // A level is one short word, so most bodies are refused by their size alone.
    let body = match tokio::time::timeout(shared.limits.read_timeout, axum::body::to_bytes(body, 64)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return (StatusCode::BAD_REQUEST, format!("cannot read the level from the body: {error}\n")),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n".to_owned()),
    };
    let level: Level = match String::from_utf8_lossy(&body).parse() {
        Ok(level) => level,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    match shared.telemetry.set_level(level) {
        Ok(()) => {
            tracing::info!(%level, "log level changed");
            (StatusCode::OK, level.to_string())
        }
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")),
    }
}

/// Answers with a JSON document, or with 404 and the known paths. Documents are looked up here and not routed, so that none of their
/// paths can overlap a route.
async fn document(State(shared): State<Arc<ApiState>>, method: Method, uri: Uri) -> Response {
    let Some(document) = shared.documents.get(uri.path()) else {
        return (StatusCode::NOT_FOUND, shared.known_paths()).into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "only GET and HEAD here\n").into_response();
    }
    match document {
        // Alternate Display is pretty-printed, and serialising a Value cannot fail.
        Written::Whole(document) => typed("application/json", format!("{:#}\n", document()).into()),
        Written::InPieces(text) => {
            let text = text.clone();
            let write = move |out: &mut dyn io::Write| {
                text(out)?;
                out.write_all(b"\n")
            };
            typed("application/json", in_pieces(write))
        }
    }
}

/// A response that must not be cached.
fn typed(content_type: &'static str, text: Body) -> Response {
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(content_type)), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, text).into_response()
}

// === impl ApiState ===

impl ApiState {
    fn write_metrics(&self, format: Exposition, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(self.metrics.render().as_bytes())?;
        self.more_metrics.iter().try_for_each(|more| more(format, out))
    }

    fn known_paths(&self) -> String {
        let mut paths = vec!["/metrics", "/-/healthy", "/-/ready", "/-/log-level"];
        paths.extend(self.documents.keys().map(String::as_str));
        paths.extend(self.merged.iter().map(String::as_str));
        paths.sort_unstable();
        paths.dedup();
        format!("not found; the paths are:\n{}\n", paths.join("\n"))
    }
}
