//! Finds the route of a request and checks everything that can be checked before a leg starts.

use std::{borrow::Cow, sync::Arc};

use super::{Admitted, RequestContext};
use crate::{
    config::Unchangeable,
    headers,
    http::Framing,
    metrics::RequestResult,
    problem::Problem,
    proxy_error::ProxyError,
    table::{NoRoute, RouteEntry},
};

/// Why no leg starts.
pub(super) struct Refusal {
    /// The route, where there is one.
    pub(super) route: Option<Arc<RouteEntry>>,
    pub(super) result: RequestResult,
    pub(super) problem: Problem,
}

// === impl Refusal ===

impl Refusal {
    fn of_listener(status: u16, kind: ProxyError, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { route: None, result: RequestResult::Rejected, problem: Problem::new(status, kind, detail) }
    }
}

/// Finds the route, and makes sure that the request may take it.
pub(super) fn admit<'a>(request: &RequestContext<'a>) -> Result<Admitted<'a>, Refusal> {
    let route = request.listener.route(request.head).map_err(no_route)?;
    check(request, route).map_err(|(result, problem)| Refusal { route: Some(route.clone()), result, problem })?;
    let longest = request.listener.config.head.target;
    match route.config.changes.target(&route.config.matches, request.head.target(), longest) {
        Ok(target) => Ok(Admitted { route, target }),
        Err(why) => {
            let status = if why == Unchangeable::TooLong { 414 } else { 400 };
            let problem = Problem::new(status, ProxyError::HttpRequestError, why.to_string());
            Err(Refusal { route: Some(route.clone()), result: RequestResult::Rejected, problem })
        }
    }
}

fn no_route(why: NoRoute) -> Refusal {
    match why {
        NoRoute::NotAllowed => {
            Refusal::of_listener(403, ProxyError::HttpRequestDenied, "this method and path are not allowed here")
        }
        NoRoute::NoMatch => Refusal::of_listener(404, ProxyError::DestinationNotFound, "no route matches this request"),
        NoRoute::Leaves(pattern) => {
            let detail = format!(
                "an endpoint may read this path as one outside of {pattern}, because it has dot segments, plain or encoded: \
                 send the path that is meant"
            );
            Refusal::of_listener(400, ProxyError::HttpRequestError, detail)
        }
    }
}

/// Whether the route takes the request.
fn check(request: &RequestContext<'_>, route: &RouteEntry) -> Result<(), (RequestResult, Problem)> {
    let policy = &route.config.policy;
    let refusal = |result, status, kind, detail: String| Err((result, Problem::new(status, kind, detail)));
    if headers::has_passed(request.head, &route.via) {
        let detail = "this request has been broadcast to these endpoints before".to_owned();
        return refusal(RequestResult::Rejected, 508, ProxyError::ProxyLoopDetected, detail);
    }
    if let (Framing::Length(length), Some(limit)) = (request.head.framing, policy.max_body)
        && length > limit
    {
        let detail = format!("the request body has {length} bytes, the limit here is {limit}");
        return refusal(RequestResult::Client, 413, ProxyError::HttpRequestError, detail);
    }
    let total = route.members.len();
    let empty = |status, detail| refusal(RequestResult::Empty, status, ProxyError::DestinationUnavailable, detail);
    if total == 0 {
        return empty(policy.on_empty, format!("{} has no endpoint: {}", route.config.cluster, route.why_empty));
    }
    if total < policy.min_endpoints {
        return empty(503, format!("{total} endpoints, at least {} are wanted", policy.min_endpoints));
    }
    let required = policy.require.required(total);
    if required > total {
        return empty(503, format!("{total} endpoints, {required} are required to be ok"));
    }
    Ok(())
}
