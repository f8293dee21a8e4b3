//! Authenticates the sender of a request by the proofs that a listener accepts.

use std::{sync::Arc, time::SystemTime};

use crate::{bearer::Presented, identity::Identity, service_accounts::Verifier, tokens::TokenFile};

/// The proofs that a listener accepts. If empty, every caller is unknown.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    /// Tokens of a file.
    pub tokens: Option<Arc<TokenFile>>,
    /// Tokens of service accounts.
    pub service_accounts: Option<Arc<Verifier>>,
}

/// The result of authenticating a request by its `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// No tokens are configured, or the request has none. Other contents of `Authorization` are passed on to the endpoints.
    None,
    /// An unknown token, which may be meant for the endpoints.
    Unknown,
    /// A known token, which is not passed on to endpoints.
    Known(Identity),
}

// === impl Authenticator ===

impl Authenticator {
    /// Whether no proof is accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_none() && self.service_accounts.is_none()
    }

    /// Authenticates by the values of a request's `Authorization` fields. `now` is called only for tokens of service accounts.
    pub fn authenticate<'a>(&self, values: impl Iterator<Item = &'a [u8]>, now: impl Fn() -> SystemTime) -> Proof {
        if self.is_empty() {
            return Proof::None;
        }
        let token = match Presented::of(values) {
            Presented::Nothing => return Proof::None,
            Presented::Unusable => return Proof::Unknown,
            Presented::Token(token) => token,
        };
        if let Some(holder) = self.tokens.as_ref().and_then(|tokens| tokens.holder(token)) {
            return Proof::Known(holder);
        }
        match &self.service_accounts {
            // A token of a service account is a JWT, which has three parts.
            Some(verifier) if token.bytes().filter(|b| *b == b'.').count() == 2 => {
                match verifier.verify(token, now()) {
                    Ok(identity) => Proof::Known(identity),
                    Err(refusal) => {
                        tracing::debug!(%refusal, "a token of a service account is refused");
                        Proof::Unknown
                    }
                }
            }
            _ => Proof::Unknown,
        }
    }
}

// === impl Proof ===

impl Proof {
    /// The authenticated identity, if any.
    #[must_use]
    pub fn into_identity(self) -> Option<Identity> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::None | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_of_the_file_authenticates_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tokens");
        std::fs::write(&path, "ci:token-of-the-pipeline\n").expect("writes");
        let tokens = Arc::new(TokenFile::read(&path).expect("readable"));
        let authenticator = Authenticator { tokens: Some(tokens), service_accounts: None };
        let proof = |values: &[&str]| {
            authenticator
                .authenticate(values.iter().map(|value| value.as_bytes()), || unreachable!("no time is needed"))
        };
        assert_eq!(proof(&["bearer token-of-the-pipeline"]), Proof::Known(Identity::token("ci")));
        assert_eq!(proof(&["Bearer another-token"]), Proof::Unknown);
        assert_eq!(proof(&["Bearer a.b.c"]), Proof::Unknown);
        assert_eq!(proof(&["Bearer token-of-the-pipeline", "Bearer token-of-the-pipeline"]), Proof::Unknown);
        assert_eq!(proof(&["Basic dG9rZW4tb2YtdGhlLXBpcGVsaW5l"]), Proof::None);
        assert_eq!(proof(&[]), Proof::None);
        let nothing = Authenticator::default();
        assert_eq!(nothing.authenticate([&b"Bearer x"[..]].into_iter(), SystemTime::now), Proof::None);
    }
}
