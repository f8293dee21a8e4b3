//! A request to the Kubernetes API as the API server's authorizer sees it: verb, resource, namespace, name.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, http::request::Parts};

use super::Fault;
use testkit::boot_time;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads one object, or a path that is no resource.
    Get,
    /// Reads a collection.
    List,
    /// Follows a collection.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

/// One request, as the proxy saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// When its last byte had come, by the clock of [`boot_time`].
    pub at: Duration,
    /// What it does.
    pub verb: Verb,
    /// The path.
    pub path: String,
    /// What follows the `?`, if anything.
    pub query: String,
    /// The group, empty for the core group and for what is no resource.
    pub group: String,
    /// The plural name, with the subresource if there is one: `pods/status`. Empty for what is no resource.
    pub resource: String,
    /// The namespace, empty for none.
    pub namespace: String,
    /// The object's name, empty for none, as in every `create`.
    pub name: String,
    /// The client's user agent.
    pub agent: String,
    /// The whole body.
    pub body: Bytes,
    /// The fault that was applied to it.
    pub fault: Option<Fault>,
    /// When it was sent on to the API server, if it was, by the same clock.
    pub passed_on: Option<Duration>,
    /// When the head of the API server's answer had come, by the same clock.
    pub answered: Option<Duration>,
    /// The status of the answer, from the API server or made up, whether or not its client waited for it.
    pub status: Option<u16>,
}

impl Call {
    /// Whether it has this verb and this resource (`leases`, `pods/status`).
    #[must_use]
    pub fn is(&self, verb: Verb, resource: &str) -> bool {
        self.verb == verb && self.resource == resource
    }

    /// Whether it changes something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn of(head: &Parts, body: Bytes) -> Self {
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let agent = head.headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, rest) = match segments.as_slice() {
            ["api", _version, rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => ("", &[][..]),
        };
        let (namespace, rest) = match rest {
            // A namespace itself, or a part of it.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            _ => ("", rest),
        };
        let (resource, name) = match rest {
            [] => (String::new(), ""),
            [resource] => ((*resource).to_owned(), ""),
            [resource, name] => ((*resource).to_owned(), *name),
            [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), *name),
        };
        let collection = !resource.is_empty() && name.is_empty();
        let watch = query.split('&').any(|pair| matches!(pair, "watch=1" | "watch=true"));
        let verb = match head.method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if collection => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ if collection && watch => Verb::Watch,
            _ if collection => Verb::List,
            _ => Verb::Get,
        };
        Self {
            at: boot_time::now(),
            verb,
            group: group.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            agent: agent.to_owned(),
            body,
            fault: None,
            passed_on: None,
            answered: None,
            status: None,
            path,
            query,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn call(method: Method, target: &str) -> Call {
        let request = Request::builder().method(method).uri(target).body(()).expect("a valid request");
        Call::of(&request.into_parts().0, Bytes::new())
    }

    fn told(method: Method, target: &str) -> String {
        let call = call(method, target);
        format!("{:?} {}|{}|{}|{}", call.verb, call.group, call.resource, call.namespace, call.name)
    }

    #[test]
    fn verbs_resources_namespaces_and_names_are_told_apart() {
        let leases = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
        let expected = [
            (Method::GET, "/version", "Get |||"),
            (Method::GET, "/api/v1/services", "List |services||"),
            (Method::GET, "/api/v1/services?watch=true&resourceVersion=7", "Watch |services||"),
            (Method::GET, "/api/v1/services?labelSelector=watch%3Dtrue", "List |services||"),
            (Method::GET, "/api/v1/namespaces", "List |namespaces||"),
            (Method::PUT, "/api/v1/namespaces/shop/finalize", "Update |namespaces/finalize||shop"),
            (Method::GET, "/api/v1/namespaces/shop", "Get |namespaces||shop"),
            (Method::POST, "/api/v1/namespaces/shop/configmaps", "Create |configmaps|shop|"),
            (Method::PATCH, "/api/v1/namespaces/shop/pods/web-0/status", "Patch |pods/status|shop|web-0"),
            (Method::DELETE, "/api/v1/namespaces/shop/pods", "DeleteCollection |pods|shop|"),
            (Method::DELETE, "/api/v1/namespaces/shop/pods/web-0", "Delete |pods|shop|web-0"),
        ];
        for (method, target, told_as) in expected {
            assert_eq!(told(method, target), told_as, "{target}");
        }
        let update = call(Method::PUT, &format!("{leases}/a?timeout=1s"));
        assert!(update.is(Verb::Update, "leases") && update.writes());
        assert_eq!((&*update.group, &*update.query, &*update.name), ("coordination.k8s.io", "timeout=1s", "a"));
    }
}
