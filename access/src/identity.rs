//! Identities of callers: a token, a service account, the names in a certificate, an address.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::san::San;

/// An authenticated caller as rules, logs and metrics name it: `token:ci` or `sa:shop/cms`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

/// The sender of a request, by every means of identification. Only the address is always known.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// The holder of the token in the request, which is from the token file or of a service account.
    pub identity: Option<Identity>,
    /// The names in the client certificate of its connection.
    pub certificate: Option<&'a CertificateNames>,
    /// Its address.
    pub address: IpAddr,
}

/// The names in the verified certificate of a connection, and the name of its holder in logs. Built once for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    names: Box<[San]>,
    identity: Identity,
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

    /// The form that rules use.
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

// === impl CertificateNames ===

impl CertificateNames {
    /// The names of a certificate with these DNS names and URIs; none if it has no name of a single host or workload.
    #[must_use]
    pub fn of(dns: &[String], uris: &[String]) -> Option<Self> {
        let dns = dns.iter().filter_map(|name| San::dns(name));
        let names: Box<[San]> = dns.chain(uris.iter().filter_map(|uri| San::uri(uri))).collect();
        let identity = Identity(format!("san:{}", names.first()?).into());
        Some(Self { names, identity })
    }

    /// The DNS names, then the URIs. There is at least one.
    #[must_use]
    pub fn names(&self) -> &[San] {
        &self.names
    }
}

// === impl Caller ===

impl Caller<'_> {
    /// Whether it is authenticated, by a token or a certificate. An address proves nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.identity.is_some() || self.certificate.is_some()
    }

    /// Its name in logs and metrics: from its token, else the first name in its certificate; none if it is not authenticated.
    #[must_use]
    pub fn name(&self) -> Option<Identity> {
        self.identity.clone().or_else(|| self.certificate.map(|certificate| certificate.identity.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_called_by_its_token_before_its_certificate_and_never_by_its_address() {
        let names = CertificateNames::of(&["*.svc".into(), "a.cms.svc".into()], &["spiffe://a/b".into()]).unwrap();
        assert_eq!(names.names(), [San::dns("a.cms.svc").unwrap(), San::uri("spiffe://a/b").unwrap()]);
        let certificate = Some(&names);
        let caller = |identity, certificate| Caller { identity, certificate, address: [192, 0, 2, 1].into() };
        let name = |caller: &Caller<'_>| caller.name().map(|name| name.to_string());
        assert_eq!(name(&caller(Some(Identity::token("ci")), certificate)), Some("token:ci".into()));
        assert_eq!(name(&caller(None, certificate)), Some("san:a.cms.svc".into()));
        assert_eq!(name(&caller(Some(Identity::service_account("shop", "cms")), None)), Some("sa:shop/cms".into()));
        let nobody = caller(None, None);
        assert!(name(&nobody).is_none() && !nobody.is_known());
        let spiffe = CertificateNames::of(&[], &["spiffe://a/b".into()]);
        assert_eq!(name(&caller(None, spiffe.as_ref())), Some("san:spiffe://a/b".into()));
        assert_eq!(CertificateNames::of(&["*.svc".into()], &["a b".into()]), None, "the names of nobody");
    }
}
