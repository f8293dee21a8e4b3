//! Access control of listeners beside the data path: either changes are allowed from this machine only, or every request needs a
//! bearer token.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use super::Peer;

/// Whether a token is accepted.
type IsKnown = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The access control of a listener.
#[derive(Clone)]
pub struct Guard {
    /// Checks tokens; none if tokens are not used.
    is_known: Option<IsKnown>,
    /// Paths that anyone may read: those of probes, which carry no token.
    open: &'static [&'static str],
}

/// The probes of the admin listener.
const PROBES: [&str; 4] = ["/-/healthy", "/-/ready", "/healthz", "/readyz"];

// === impl Guard ===

impl Guard {
    /// Anyone may read, and only this machine may change anything.
    #[must_use]
    pub fn local_changes() -> Self {
        Self { is_known: None, open: &[] }
    }

    /// Every request needs a bearer token that `is_known` accepts, except for requests of probes.
    #[must_use]
    pub fn tokens(is_known: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { is_known: Some(Arc::new(is_known)), open: &PROBES }
    }

    /// Replaces the paths of probes.
    #[must_use]
    pub fn with_probes(self, open: &'static [&'static str]) -> Self {
        Self { open, ..self }
    }

    /// Makes the router refuse requests that are not allowed.
    pub fn guard(self, router: Router) -> Router {
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let refused = self.check(&request);
            async move {
                match refused {
                    None => next.run(request).await,
                    Some(refused) => refused,
                }
            }
        }))
    }

    /// The refusal of a request that is not allowed; none if it is allowed.
    fn check(&self, request: &Request) -> Option<Response> {
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        let Some(is_known) = &self.is_known else {
            let peer = request.extensions().get::<Peer>();
            // A request without a known peer counts as remote.
            let is_local = peer.is_some_and(|peer| peer.is_local(request.headers()));
            return (!reads && !is_local).then(only_local);
        };
        if reads && self.open.contains(&request.uri().path()) {
            return None;
        }
        match bearer(request.headers()) {
            Some(token) if is_known(token) => None,
            Some(_) => Some(unauthorized("Bearer realm=\"fanfare\", error=\"invalid_token\"")),
            None => Some(unauthorized("Bearer realm=\"fanfare\"")),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_known.is_some() { "Guard(tokens)" } else { "Guard(local changes)" })
    }
}

/// The bearer token of a request; none where there is none, or more than one field.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn only_local() -> Response {
    let text =
        "only from the loopback address, or with a token of --metrics-tokens: use for instance kubectl port-forward\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

fn unauthorized(challenge: &'static str) -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(WWW_AUTHENTICATE, challenge)],
        "this path needs a token: Authorization: Bearer <token>\n",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(guard: &Guard, method: &str, path: &str, peer: &str, fields: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Peer(peer.parse().expect("an address")));
        guard.check(&request).map_or(200, |refused| refused.status().as_u16())
    }

    const HERE: &str = "127.0.0.1:1";
    const ELSEWHERE: &str = "192.0.2.1:1";

    #[test]
    fn without_tokens_anyone_reads_and_this_machine_changes() {
        let guard = Guard::local_changes();
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(status(&guard, method, "/metrics", ELSEWHERE, &[]), 200);
        }
        for method in ["PUT", "POST", "DELETE", "PATCH", "NEW"] {
            assert_eq!(status(&guard, method, "/-/log-level", HERE, &[]), 200);
            assert_eq!(status(&guard, method, "/-/log-level", ELSEWHERE, &[]), 403);
            assert_eq!(status(&guard, method, "/-/log-level", HERE, &[("origin", "http://page")]), 403);
        }
    }

    #[test]
    fn with_tokens_every_request_carries_one_but_those_of_probes() {
        let guard = Guard::tokens(|token| token == "s3cret");
        for peer in [HERE, ELSEWHERE] {
            for method in ["GET", "PUT", "DELETE"] {
                let ask = |fields: &[(&str, &str)]| status(&guard, method, "/-/log-level", peer, fields);
                assert_eq!(ask(&[]), 401);
                assert_eq!(ask(&[("authorization", "Bearer wrong")]), 401);
                assert_eq!(ask(&[("authorization", "Basic s3cret")]), 401);
                assert_eq!(ask(&[("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")]), 401);
                assert_eq!(ask(&[("authorization", "bEARER s3cret")]), 200);
            }
            assert_eq!(status(&guard, "GET", "/-/ready", peer, &[]), 200);
            assert_eq!(status(&guard, "POST", "/-/ready", peer, &[]), 401);
        }
        let guard = guard.with_probes(&["/health"]);
        assert_eq!(status(&guard, "GET", "/health", ELSEWHERE, &[]), 200);
        for path in ["/-/ready", "/health/", "/healthz"] {
            assert_eq!(status(&guard, "GET", path, ELSEWHERE, &[]), 401, "{path}");
        }
    }
}
