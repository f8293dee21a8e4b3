//! A role's own listener, with its TLS and tokens.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use runtime::{
    listener::{Bound, Limits},
    tls::ServerTls,
};

use super::Context;
use crate::config::listener::ListenerAccess;

/// A listener to be bound.
pub(super) struct RoleListener<'a> {
    /// Its name in logs and errors.
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) access: &'a ListenerAccess,
    /// The paths of probes, which need no token.
    pub(super) probes: &'static [&'static str],
    pub(super) limits: Limits,
}

// === impl RoleListener ===

impl RoleListener<'_> {
    /// Binds it. If requests need a token, those that `takes_too` accepts are accepted besides those of the file.
    pub(super) async fn bind(
        self,
        router: Router,
        context: &Context,
        takes_too: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> anyhow::Result<Bound> {
        let Self { name, address, access, probes, limits } = self;
        let router = match &access.tokens {
            Some(path) => context.access.guard(path, takes_too)?.with_probes(probes).guard(router),
            None => router,
        };
        let tls = access.tls.clone().map(ServerTls::load).transpose();
        let tls = tls.with_context(|| format!("TLS of the {name} listener"))?;
        Ok(Bound::bind(name, address, router, limits).await?.tls(tls))
    }
}
