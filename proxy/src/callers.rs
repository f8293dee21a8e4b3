//! A listener's access control: authentication, rate limits, and counts by identity.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use access::{
    authenticator::{Authenticator, Proof},
    identity::Identity,
    metrics::RequestResult,
    rate::{Limiter, Verdict},
    sources::Sources,
};

use crate::{
    clock,
    config::Listener,
    http::{Class, request::RequestHead},
};

/// The access control of one listener, built with the table.
#[derive(Debug)]
pub struct Callers {
    authenticator: Authenticator,
    limiter: Option<Arc<Limiter>>,
    /// The counters of requests by identity, if these are counted.
    counted: Option<Arc<Sources>>,
}

// === impl Callers ===

impl Callers {
    /// The access control of this listener. Rate counts are taken over from the previous one if the rate has not changed.
    #[must_use]
    pub fn of(listener: &Listener, previous: Option<&Self>, sources: &Arc<Sources>) -> Self {
        let auth = &listener.auth;
        let limiter = auth.rate_limit.map(|rate| {
            let kept = previous.and_then(|previous| previous.limiter.clone()).filter(|kept| kept.rate() == rate);
            kept.unwrap_or_else(|| Arc::new(Limiter::new(rate, clock::now().into_std())))
        });
        let authenticator = sources.authenticator(auth.tokens.as_deref(), auth.service_accounts.as_deref());
        let names_callers = listener.allow.iter().any(|allow| !allow.by.is_anyone());
        let sees_certificates = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let is_counted = names_callers || limiter.is_some() || sees_certificates || !authenticator.is_empty();
        Self { authenticator, limiter, counted: is_counted.then(|| sources.clone()) }
    }

    /// Authenticates the sender of a request.
    #[must_use]
    pub fn authenticate(&self, head: &RequestHead) -> Proof {
        // The fast path: most listeners accept no tokens, and most requests have none.
        if self.authenticator.is_empty() || !head.fields.has(Class::Authorization) {
            return Proof::None;
        }
        self.authenticator.authenticate(head.fields.of(Class::Authorization), SystemTime::now)
    }

    /// Whether another request is within the caller's rate.
    #[must_use]
    pub fn admit(&self, identity: Option<&Identity>, address: IpAddr) -> Verdict {
        match &self.limiter {
            Some(limiter) => limiter.admit(identity, address, clock::now().into_std()),
            None => Verdict::Within,
        }
    }

    /// Counts a request of a caller.
    pub fn count(&self, identity: Option<&Identity>, result: RequestResult) {
        if let Some(sources) = &self.counted {
            sources.requests.count(identity, result);
        }
    }
}
