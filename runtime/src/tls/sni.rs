//! Chooses the certificate for the server name (SNI) that a client asks for.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// Chooses by the name that the client asks for. The first certificate is the default.
#[derive(Debug)]
pub(super) struct BySni {
    pub(super) identities: Arc<[Identity]>,
    /// The certificate for clients without SNI.
    pub(super) nameless: usize,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return Some(self.identities.get(self.nameless)?.key.clone()) };
        // A name is better than a wildcard; of several alike the first whose key the client can check.
        let mut best: Option<((u8, bool), &Identity)> = None;
        for identity in self.identities.iter() {
            let fits = identity.certificate.fits(name);
            if fits == 0 {
                continue;
            }
            let rank = (fits, identity.key.key.choose_scheme(hello.signature_schemes()).is_some());
            if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                best = Some((rank, identity));
            }
        }
        let best = best.map(|(_, identity)| identity);
        Some(best.or_else(|| self.identities.first())?.key.clone())
    }
}
