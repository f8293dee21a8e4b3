//! Authenticates a request, finds its route, and checks everything that can be checked before a leg starts.

use std::{borrow::Cow, hint::cold_path, sync::Arc};

use access::{
    authenticator::Proof,
    identity::{Caller, Identity},
    metrics::RequestResult as AccessResult,
};

use super::{Admitted, RequestContext};
use crate::{
    config::Unchangeable,
    control::{self, Control, InvalidControl},
    headers,
    http::Framing,
    metrics::RequestResult,
    problem::Problem,
    proxy_error::ProxyError,
    table::{NoRoute, Permitted, RouteEntry},
};

/// Why no leg starts.
pub(super) struct Refusal {
    /// The route, if there is one.
    pub(super) route: Option<Arc<RouteEntry>>,
    /// The caller's identity, if known.
    pub(super) identity: Option<Identity>,
    pub(super) result: RequestResult,
    pub(super) problem: Problem,
}

/// A request that its route accepts.
struct AcceptedRequest<'a> {
    route: Cow<'a, Arc<RouteEntry>>,
    target: Option<Vec<u8>>,
    is_dry_run: bool,
}

// === impl Refusal ===

impl Refusal {
    #[cold]
    fn of_listener(status: u16, kind: ProxyError, detail: impl Into<Cow<'static, str>>) -> Self {
        let problem = Problem::new(status, kind, detail);
        Self { route: None, identity: None, result: RequestResult::Rejected, problem }
    }

    #[cold]
    fn of_route(route: &Arc<RouteEntry>, result: RequestResult, problem: Problem) -> Self {
        Self { route: Some(route.clone()), identity: None, result, problem }
    }
}

/// Authenticates the caller, finds the route, and checks access.
pub(super) fn admit<'a>(request: &RequestContext<'a>) -> Result<Admitted<'a>, Refusal> {
    let proof = request.listener.callers.authenticate(request.head);
    let (is_authenticated, is_unproven) = (matches!(proof, Proof::Known(_)), proof == Proof::Unknown);
    let (identity, address) = (proof.into_identity(), request.client.ip());
    let caller = Caller { identity, certificate: request.certificate, address };
    let identity = caller.name();
    let permitted = permit(request, &caller, identity.as_ref(), is_unproven);
    match permitted.and_then(|permitted| take(request, permitted)) {
        Ok(AcceptedRequest { route, target, is_dry_run }) => {
            Ok(Admitted { route, target, identity, is_authenticated, is_dry_run })
        }
        Err(refusal) => {
            cold_path();
            Err(Refusal { identity, ..refusal })
        }
    }
}

/// The route of a request that access control permits.
fn permit<'a>(
    request: &RequestContext<'a>,
    caller: &Caller<'_>,
    identity: Option<&Identity>,
    is_unproven: bool,
) -> Result<Permitted<'a>, Refusal> {
    let callers = &request.listener.callers;
    if let Some(seconds) = callers.admit(identity, caller.address).retry_after() {
        cold_path();
        callers.count(identity, AccessResult::Limited);
        let detail = "more requests than this caller may send in this time: try again later";
        let refusal = Refusal::of_listener(429, ProxyError::HttpRequestDenied, detail);
        return Err(Refusal { problem: refusal.problem.with_field("Retry-After", seconds.to_string()), ..refusal });
    }
    let permitted = request.listener.route(request.head, caller);
    callers.count(
        identity,
        match &permitted {
            Err(NoRoute::Unauthorized) => AccessResult::Unauthorized,
            Err(NoRoute::NotAllowed) => AccessResult::Forbidden,
            Ok(_) | Err(NoRoute::NoMatch | NoRoute::Leaves(_)) => AccessResult::Allowed,
        },
    );
    permitted.map_err(|why| no_route(why, is_unproven))
}

/// Checks that the route can send the request, with its control settings.
fn take<'a>(request: &RequestContext<'a>, permitted: Permitted<'a>) -> Result<AcceptedRequest<'a>, Refusal> {
    let route = permitted.route;
    let refuse = |(result, problem)| Refusal::of_route(route, result, problem);
    let control = control(request, permitted.may_control).map_err(refuse)?;
    check(request, route).map_err(refuse)?;
    let (own, is_dry_run) = match control {
        None => (None, false),
        Some(control) => {
            cold_path();
            (control.apply(route).map_err(|why| refuse(invalid(&why)))?, control.dry_run)
        }
    };
    let route = own.map_or(Cow::Borrowed(route), |own| Cow::Owned(Arc::new(own)));
    check_own(request, &route).map_err(refuse)?;
    let longest = request.listener.config.head.target;
    match route.config.changes.target(&route.config.matches, request.head.target(), longest) {
        Ok(target) => Ok(AcceptedRequest { route, target, is_dry_run }),
        Err(why) => {
            cold_path();
            let status = if why == Unchangeable::TooLong { 414 } else { 400 };
            let problem = Problem::new(status, ProxyError::HttpRequestError, why.to_string());
            Err(refuse((RequestResult::Rejected, problem)))
        }
    }
}

/// The control settings of a request, if its caller has control; none without such fields.
fn control(request: &RequestContext<'_>, may_control: bool) -> Result<Option<Control>, (RequestResult, Problem)> {
    let fields = &request.head.fields;
    let Some(name) = control::first_field(fields) else { return Ok(None) };
    cold_path();
    if !may_control {
        // Ignoring the field could reach more endpoints than intended.
        let detail = format!(
            "{} is only for callers that may decide how a request is sent: by --control-from, or by a rule of --allow with control",
            String::from_utf8_lossy(name)
        );
        return Err((RequestResult::Rejected, Problem::new(403, ProxyError::HttpRequestDenied, detail)));
    }
    Control::read(fields).map(Some).map_err(|why| invalid(&why))
}

#[cold]
fn invalid(why: &InvalidControl) -> (RequestResult, Problem) {
    (RequestResult::Client, Problem::new(why.status(), ProxyError::HttpRequestError, why.to_string()))
}

#[cold]
fn no_route(why: NoRoute, is_unproven: bool) -> Refusal {
    match why {
        NoRoute::Unauthorized => {
            // RFC 6750 section 3.1: an error code is given only if the request had a token.
            let (detail, challenge) = if is_unproven {
                ("the credentials in Authorization are not valid", "Bearer realm=\"fanfare\", error=\"invalid_token\"")
            } else {
                ("this request needs authentication", "Bearer realm=\"fanfare\"")
            };
            let refusal = Refusal::of_listener(401, ProxyError::HttpRequestDenied, detail);
            Refusal { problem: refusal.problem.with_field("WWW-Authenticate", challenge), ..refusal }
        }
        NoRoute::NotAllowed => Refusal::of_listener(
            403,
            ProxyError::HttpRequestDenied,
            "this caller has no permission for this method and path",
        ),
        NoRoute::NoMatch => Refusal::of_listener(404, ProxyError::DestinationNotFound, "no route matches this request"),
        NoRoute::Leaves(pattern) => {
            let detail = format!(
                "an endpoint may read this path as one outside of {pattern}, because it has dot segments, plain or encoded: \
                 send the intended path"
            );
            Refusal::of_listener(400, ProxyError::HttpRequestError, detail)
        }
    }
}

/// Checks that the route can send the request.
fn check(request: &RequestContext<'_>, route: &RouteEntry) -> Result<(), (RequestResult, Problem)> {
    let policy = &route.config.policy;
    let refusal = |result, status, kind, detail: String| Err((result, Problem::new(status, kind, detail)));
    if headers::has_passed(request.head, &route.via) {
        let detail = "this request has been broadcast to these endpoints before".to_owned();
        return refusal(RequestResult::Rejected, 508, ProxyError::ProxyLoopDetected, detail);
    }
    let total = route.members.len();
    let empty = |status, detail| refusal(RequestResult::Empty, status, ProxyError::DestinationUnavailable, detail);
    if total == 0 {
        // Without a list it is unknown whether there are endpoints that should get the request: that is never a success.
        let status = if route.has_list() { policy.on_empty } else { 503 };
        return empty(status, format!("{} has no endpoint: {}", route.config.cluster, route.why_empty));
    }
    if total < policy.min_endpoints {
        return empty(503, format!("{total} endpoints, at least {} are wanted", policy.min_endpoints));
    }
    if let Some(owed) = &route.owed
        && let Some(journal) = owed.unread_journal()
        && owed.config.takes(request.head.method())
    {
        let journal = journal.display();
        let detail =
            format!("the journal {journal} is still being read, and what endpoints are owed goes first: try again");
        let problem = Problem::new(503, ProxyError::ProxyInternalError, detail).with_field("Retry-After", "1");
        return Err((RequestResult::Rejected, problem));
    }
    Ok(())
}

/// Checks the length of the body, and that there are enough endpoints for the policy.
fn check_own(request: &RequestContext<'_>, route: &RouteEntry) -> Result<(), (RequestResult, Problem)> {
    if let (Framing::Length(length), Some(limit)) = (request.head.framing, route.config.policy.longest_body())
        && length > limit
    {
        let detail = format!("the request body has {length} bytes, the limit is {limit}");
        return Err((RequestResult::Client, Problem::new(413, ProxyError::HttpRequestError, detail)));
    }
    let total = route.members.len();
    let required = route.config.policy.require.required(total);
    if required > total {
        let detail = format!("{total} endpoints, {required} are required to be ok");
        return Err((RequestResult::Empty, Problem::new(503, ProxyError::DestinationUnavailable, detail)));
    }
    Ok(())
}
