//! What a listener knows of its callers: how they prove who they are, how often they may ask, and what is counted of them.

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

/// What a listener needs of that, made with the table.
#[derive(Debug)]
pub struct Callers {
    authenticator: Authenticator,
    limiter: Option<Arc<Limiter>>,
    /// Where requests are counted by identity, if they are.
    counted: Option<Arc<Sources>>,
}

// === impl Callers ===

impl Callers {
    /// What this listener needs. Counts of callers are taken over from before where the rate is what it was.
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

    /// What a request proves about its sender.
    #[must_use]
    pub fn authenticate(&self, head: &RequestHead) -> Proof {
        // Most listeners ask for no proof, and most requests have none.
        if self.authenticator.is_empty() || !head.fields.has(Class::Authorization) {
            return Proof::None;
        }
        self.authenticator.authenticate(head.fields.of(Class::Authorization), SystemTime::now)
    }

    /// Whether the caller may ask once more now.
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
