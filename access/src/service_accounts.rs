//! Tokens of Kubernetes service accounts, verified with the API server's own keys and without asking it.
//!
//! ```text
//! API server -> whoever fetches -> Publisher ==> Keys ==> Verifier <- token of a request
//!                     ^------ wanted ------------------------'
//! ```
//!
//! The keys are fetched elsewhere and arrive as a watched value. A token whose key is not among them is refused at once, and a
//! fetch of the keys is requested, so that its next use may succeed. Verified tokens are cached by their hash until they expire.

pub mod keys;
mod provider;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use tokio::sync::Notify;

use crate::identity::Identity;
pub use keys::{InvalidKeys, KeySet, Refusal, Verified};

/// The most verified tokens in the cache.
const MAX_VERIFIED_TOKENS: usize = 10_000;

/// The state that both ends of a channel of keys share.
#[derive(Debug, Default)]
struct Shared {
    keys: ArcSwapOption<KeySet>,
    wanted: Notify,
}

/// The writing end of the channel.
#[derive(Debug)]
pub struct Publisher(Arc<Shared>);

/// The reading end of the channel: the current keys. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Shared>);

/// Verifies tokens for one audience.
#[derive(Debug)]
pub struct Verifier {
    audience: Box<str>,
    keys: Keys,
    /// By the hash of the token.
    verified_tokens: Cache<[u8; 32], CachedToken>,
}

/// A verified token.
#[derive(Clone, Debug)]
struct CachedToken {
    /// The keys it was verified with. After a change of keys it is verified again.
    keys: Arc<KeySet>,
    verified: Verified,
}

/// A channel of keys, still without any.
#[must_use]
pub fn channel() -> (Publisher, Keys) {
    let shared = Arc::<Shared>::default();
    (Publisher(shared.clone()), Keys(shared))
}

// === impl Publisher ===

impl Publisher {
    /// Replaces the keys.
    pub fn publish(&self, keys: KeySet) {
        let same = self.0.keys.load().as_deref().is_some_and(|known| *known == keys);
        if !same {
            self.0.keys.store(Some(Arc::new(keys)));
        }
    }

    /// Waits until a request had a token that was signed with an unknown key. Safe to cancel.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

// === impl Keys ===

impl Keys {
    /// The current keys; none before the first were published.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.0.keys.load_full()
    }
}

// === impl Verifier ===

impl Verifier {
    /// A verifier of tokens for this audience.
    #[must_use]
    pub fn new(audience: &str, keys: Keys) -> Self {
        Self { audience: audience.into(), keys, verified_tokens: Cache::new(MAX_VERIFIED_TOKENS) }
    }

    /// The audience.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The service account whose token this is.
    ///
    /// # Errors
    /// [`Refusal`] if it is not a token of a service account or cannot be verified. Refusals are not cached.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let Some(keys) = self.keys.current() else {
            self.keys.0.wanted.notify_one();
            return Err(Refusal::NoKeys);
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(CachedToken { keys: used, verified }) = self.verified_tokens.get(&hash)
            && Arc::ptr_eq(&used, &keys)
        {
            return if verified.is_valid_at(now) { Ok(verified.identity) } else { Err(Refusal::Expired) };
        }
        match keys.verify(token, &self.audience, now) {
            Ok(verified) => {
                self.verified_tokens.insert(hash, CachedToken { keys, verified: verified.clone() });
                Ok(verified.identity)
            }
            Err(refusal) => {
                if refusal == Refusal::UnknownKey {
                    self.keys.0.wanted.notify_one();
                }
                Err(refusal)
            }
        }
    }
}

#[cfg(test)]
mod tests;
