//! What a caller can be known by: a token, a service account, the names in its certificate, its address.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::san::San;

/// An authenticated caller as rules, logs and metrics name it: `token:ci` or `sa:shop/cms`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

/// Who sent a request, by each means by which it can be known. Its address always is.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// By the token in the request: a token of the file, or that of a service account.
    pub identity: Option<Identity>,
    /// By the certificate of its connection: the names in it.
    pub certificate: &'a [San],
    /// By its address.
    pub address: IpAddr,
}

// === impl Identity ===

impl Identity {
    /// The holder of the token with this name.
    #[must_use]
    pub fn token(name: &str) -> Self {
        Self(format!("token:{name}").into())
    }

    /// A Kubernetes service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self(format!("sa:{namespace}/{name}").into())
    }

    /// As rules name it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Caller ===

impl Caller<'_> {
    /// Whether it has proven who it is, by a token or a certificate. An address proves nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.identity.is_some() || !self.certificate.is_empty()
    }

    /// What logs and metrics call it: by its token, else by the first name in its certificate; none where it is not known.
    #[must_use]
    pub fn name(&self) -> Option<Identity> {
        let certificate = || self.certificate.first().map(|san| Identity(format!("san:{san}").into()));
        self.identity.clone().or_else(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_called_by_its_token_before_its_certificate_and_never_by_its_address() {
        let certificate = [San::dns("a.cms.svc").unwrap(), San::dns("b.cms.svc").unwrap()];
        let caller = |identity, certificate| Caller { identity, certificate, address: [192, 0, 2, 1].into() };
        let name = |caller: &Caller<'_>| caller.name().map(|name| name.to_string());
        assert_eq!(name(&caller(Some(Identity::token("ci")), &certificate)), Some("token:ci".into()));
        assert_eq!(name(&caller(None, &certificate)), Some("san:a.cms.svc".into()));
        assert_eq!(name(&caller(Some(Identity::service_account("shop", "cms")), &[])), Some("sa:shop/cms".into()));
        let nobody = caller(None, &[]);
        assert!(name(&nobody).is_none() && !nobody.is_known());
    }
}
