//! The HTTP API of the services that are followed.
//!
//! | path | answer |
//! |---|---|
//! | `/endpoints` | the v1 Endpoints object of the first service; 503 before its first complete list |
//! | `/endpoints/last_updated` | the time of the last event or bookmark about it |
//! | `/endpoints/watch` | every change of it, as server-sent events |
//! | `/v1/services` | all services in short |
//! | `/v1/services/<namespace>/<name>/endpoints[/last_updated, /watch]` | the same for each service |
//! | `/health`, `/healthz` | `ok` while the process runs |
//! | `/ready`, `/readyz` | whether every service has a complete list, and the data is not too old |
//! | `/metrics` | of the process |
//!
//! All of them with and without a slash at the end, served directly. `/endpoints` takes `If-None-Match`, and
//! `?wait=30s` with `&index=N` or `If-None-Match` waits for a change.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{FromRequestParts, Path, Query, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use jiff::Timestamp;
use runtime::{drain::DrainWatch, if_none_match::IfNoneMatch, listener::WaitingRoom, metrics::Metrics};
use serde::Serialize;

use super::{
    poll::{self, WaitQuery},
    service::{Published, Service},
};

/// The header with the index of the answered state.
const INDEX: HeaderName = HeaderName::from_static("x-endpoints-index");

/// The header with the age of the data in seconds.
const AGE: HeaderName = HeaderName::from_static("x-endpoints-age");

/// The dependencies of the API.
pub struct EndpointsApi {
    /// The services; the first one answers where none is named. There is at least one.
    pub services: Vec<Arc<Service>>,
    /// How old the data may be before `/ready` fails; `None`: no limit.
    pub max_age: Option<Duration>,
    /// The metrics that `/metrics` reports.
    pub metrics: Metrics,
    /// Ends event streams and long polls.
    pub closing: DrainWatch,
}

type EndpointsState = State<Arc<EndpointsApi>>;
type Name = Path<(String, String)>;
type NotFound = (StatusCode, String);

/// A request about one service.
struct ServiceRequest {
    wait: WaitQuery,
    if_none_match: IfNoneMatch,
    last_event_id: Option<u64>,
    room: WaitingRoom,
}

/// The summary of a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSummary {
    namespace: String,
    name: String,
    path: String,
    /// Whether there is a complete list; without one the other fields are null.
    synced: bool,
    ready: Option<usize>,
    not_ready: Option<usize>,
    index: Option<u64>,
    last_changed: Option<String>,
    age_seconds: f64,
}

// === impl EndpointsApi ===

impl EndpointsApi {
    /// The routes.
    pub fn router(self) -> Router {
        let api = Arc::new(self);
        let first = [
            ("/endpoints", get(async |api: EndpointsState, ask: ServiceRequest| api.endpoints(api.first(), ask).await)),
            ("/endpoints/last_updated", get(async |api: EndpointsState| last_updated(api.first()))),
            ("/endpoints/watch", get(async |api: EndpointsState, ask: ServiceRequest| api.watch(api.first(), &ask))),
        ];
        let named = [
            ("/v1/services", get(async |api: EndpointsState| api.all())),
            ("/v1/services/{namespace}/{name}/endpoints", get(named_endpoints)),
            ("/v1/services/{namespace}/{name}/endpoints/last_updated", get(named_last_updated)),
            ("/v1/services/{namespace}/{name}/endpoints/watch", get(named_watch)),
        ];
        let process = [
            ("/health", get(async || "ok")),
            ("/healthz", get(async || "ok")),
            ("/ready", get(async |api: EndpointsState| api.ready())),
            ("/readyz", get(async |api: EndpointsState| api.ready())),
            ("/metrics", get(metrics_text)),
        ];
        // The replaced tool has the slash, and most clients leave it out.
        let both = |router: Router<Arc<Self>>, (path, answer): (&str, MethodRouter<Arc<Self>>)| {
            router.route(path, answer.clone()).route(&format!("{path}/"), answer)
        };
        let router = first.into_iter().chain(named).chain(process).fold(Router::new(), both);
        router.fallback(async |api: EndpointsState, uri: Uri| api.nothing(&uri)).with_state(api)
    }

    /// Checks readiness for `/ready`.
    ///
    /// # Errors
    /// Every service without a complete list, and every one whose data is too old.
    pub fn check(&self) -> Result<(), String> {
        let mut why = Vec::new();
        for service in &self.services {
            let age = service.age();
            if service.now().is_none() {
                why.push(format!("{}: there is no complete list of its slices yet", service.key()));
            } else if let Some(max) = self.max_age.filter(|max| age > *max) {
                let (age, max) = (age.as_secs(), runtime::duration::format(max));
                why.push(format!("{}: the data is {age}s old, and may be {max} old", service.key()));
            }
        }
        if self.closing.is_draining() {
            why.push("draining".to_owned());
        }
        if why.is_empty() { Ok(()) } else { Err(why.join("; ")) }
    }

    fn first(&self) -> &Arc<Service> {
        &self.services[0]
    }

    fn find(&self, (namespace, name): &(String, String)) -> Result<&Arc<Service>, NotFound> {
        let same = |service: &&Arc<Service>| {
            *service.key().namespace == *namespace.as_str() && *service.key().name == *name.as_str()
        };
        let nothing = || format!("the service {namespace}/{name} is not followed; the paths are:\n{}", self.paths());
        self.services.iter().find(same).ok_or_else(|| (StatusCode::NOT_FOUND, nothing()))
    }

    async fn endpoints(&self, service: &Service, ask: ServiceRequest) -> Response {
        let published = match ask.wait.published(service, &ask.if_none_match, &ask.room, &self.closing).await {
            Ok(published) => published,
            Err(refusal) => return refusal,
        };
        let Some(published) = published else { return unknown(service) };
        let headers = headers(service, &published);
        if ask.if_none_match.matches(&published.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        ([(header::CONTENT_TYPE, "application/json")], headers, published.body.clone()).into_response()
    }

    fn watch(&self, service: &Arc<Service>, ask: &ServiceRequest) -> Response {
        let no_cache = [(header::CACHE_CONTROL, "no-store")];
        (no_cache, poll::events(service, ask.last_event_id, &self.closing)).into_response()
    }

    fn all(&self) -> Response {
        let services: Vec<ServiceSummary> = self.services.iter().map(|service| ServiceSummary::new(service)).collect();
        ([(header::CACHE_CONTROL, "no-store")], Json(BTreeMap::from([("services", services)]))).into_response()
    }

    fn ready(&self) -> Response {
        match self.check() {
            Ok(()) => "ok".into_response(),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
        }
    }

    fn nothing(&self, uri: &Uri) -> Response {
        let paths = "/endpoints\n/endpoints/last_updated\n/endpoints/watch\n/v1/services\n/health\n/ready\n/metrics\n";
        let text = format!("there is nothing at {}; the paths are:\n{paths}{}", uri.path(), self.paths());
        (StatusCode::NOT_FOUND, text).into_response()
    }

    /// The path of each service, one per line.
    fn paths(&self) -> String {
        self.services.iter().fold(String::new(), |mut text, service| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{}", path(service));
            text
        })
    }
}

// === handlers ===

async fn named_endpoints(api: EndpointsState, Path(name): Name, ask: ServiceRequest) -> Result<Response, NotFound> {
    Ok(api.endpoints(api.find(&name)?, ask).await)
}

async fn named_last_updated(api: EndpointsState, Path(name): Name) -> Result<Response, NotFound> {
    Ok(last_updated(api.find(&name)?))
}

async fn named_watch(api: EndpointsState, Path(name): Name, ask: ServiceRequest) -> Result<Response, NotFound> {
    Ok(api.watch(api.find(&name)?, &ask))
}

/// The time in the layout of the replaced tool, Go's `2006-01-02T15:04:05-0700`.
fn last_updated(service: &Service) -> Response {
    if service.now().is_none() {
        return unknown(service);
    }
    let heard = Timestamp::now() - service.age();
    let json = BTreeMap::from([("lastUpdated", heard.strftime("%Y-%m-%dT%H:%M:%S+0000").to_string())]);
    ([(header::CACHE_CONTROL, "no-store")], Json(json)).into_response()
}

/// The answer before the first complete list, which must differ from that for a service without endpoints.
fn unknown(service: &Service) -> Response {
    let why = format!("there is no complete list of the slices of {} yet\n", service.key());
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why).into_response()
}

/// The headers of every answer about a service.
fn headers(service: &Service, published: &Published) -> [(HeaderName, HeaderValue); 5] {
    let value = |text: &str| HeaderValue::from_str(text).expect("a number, a date and a tag are visible ASCII");
    // RFC 9110, 5.6.7.
    let changed = published.changed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    [
        (header::ETAG, value(&published.etag)),
        (header::LAST_MODIFIED, value(&changed)),
        // Clients may store it, and have to revalidate it each time.
        (header::CACHE_CONTROL, value("no-cache")),
        (INDEX, value(&published.index.to_string())),
        (AGE, value(&format!("{:.3}", service.age().as_secs_f64()))),
    ]
}

fn path(service: &Service) -> String {
    format!("/v1/services/{}/endpoints", service.key())
}

async fn metrics_text(api: EndpointsState) -> Response {
    let metrics = api.metrics.clone();
    // Rendering walks every series, so it does not run on the workers.
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be rendered: {error}\n")).into_response()
        }
    }
}

// === impl ServiceSummary ===

impl ServiceSummary {
    fn new(service: &Service) -> Self {
        let published = service.now();
        let count = published.as_deref().map(Published::count);
        Self {
            namespace: service.key().namespace.to_string(),
            name: service.key().name.to_string(),
            path: path(service),
            synced: published.is_some(),
            ready: count.map(|(ready, _)| ready),
            not_ready: count.map(|(_, not_ready)| not_ready),
            index: published.as_ref().map(|published| published.index),
            last_changed: published.as_ref().map(|published| published.changed.to_string()),
            age_seconds: service.age().as_secs_f64(),
        }
    }
}

// === impl ServiceRequest ===

impl<S: Send + Sync> FromRequestParts<S> for ServiceRequest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Query(wait) =
            Query::<WaitQuery>::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let last_event_id = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
        let if_none_match = IfNoneMatch::of(&parts.headers);
        let Extension(room) = Extension::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        Ok(Self { wait, if_none_match, last_event_id, room })
    }
}
