//! The API server's keys, and the verification of a service account's token with them (pure).

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::provider;
use crate::{
    by::{is_label, is_object_name},
    identity::Identity,
};

/// Largest tolerated difference between the clock here and the API server's, in seconds.
pub const LEEWAY: u64 = 10;

/// The most keys of a key set.
const MAX_KEYS: usize = 100;

/// The keys that sign tokens of service accounts, and the issuer of these tokens.
#[derive(Clone)]
pub struct KeySet {
    issuer: Box<str>,
    keys: Vec<Key>,
    /// The document that the keys were read from.
    document: Box<[u8]>,
}

#[derive(Clone)]
struct Key {
    id: Box<str>,
    key: DecodingKey,
    /// The algorithms that it signs with.
    algorithms: Vec<Algorithm>,
}

/// A verified token, with its validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its service account.
    pub identity: Identity,
    /// From when on, in seconds since 1970.
    pub not_before: u64,
    /// Until when, in seconds since 1970.
    pub expires: u64,
}

/// Why a document is not a key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// Not JSON, or of another shape.
    #[error("it is not a key set: {0}")]
    Shape(String),
    /// More keys than any API server has.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// No usable key.
    #[error(
        "it has no key to verify with: RSA keys of 2048 bits and more and keys on P-256 and P-384 can be used, with a kid"
    )]
    None,
    /// No issuer.
    #[error("it names no issuer")]
    NoIssuer,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a JSON Web Token.
    #[error("it is not a JSON Web Token")]
    Malformed,
    /// The algorithm `none`, a shared secret, or an algorithm that the key does not sign with.
    #[error("its algorithm is not one of its key's")]
    Algorithm,
    /// The keys are not known yet.
    #[error("the API server's keys are not known yet")]
    NoKeys,
    /// Signed with a key that is not among those of the API server.
    #[error("its key is none of the API server's")]
    UnknownKey,
    /// It was changed, or signed with another key.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer than this API server.
    #[error("it is from another issuer")]
    Issuer,
    /// Another audience.
    #[error("it is for another audience")]
    Audience,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
    /// Something else than a service account.
    #[error("its subject is not a service account")]
    Subject,
}

/// The claims of a token.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMany,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    sub: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

// === impl KeySet ===

impl KeySet {
    /// Reads the two documents of an API server: `/.well-known/openid-configuration`, which names the issuer, and `/openid/v1/jwks`. A key
    /// that cannot be used is left out alone.
    ///
    /// # Errors
    /// [`InvalidKeys`] where they name no issuer or have no key that can be used.
    pub fn parse(configuration: &[u8], keys: &[u8]) -> Result<Self, InvalidKeys> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
        }
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        provider::install();
        let shape = |error: serde_json::Error| InvalidKeys::Shape(error.to_string());
        let Configuration { issuer } = serde_json::from_slice(configuration).map_err(shape)?;
        if issuer.is_empty() {
            return Err(InvalidKeys::NoIssuer);
        }
        let set: Set = serde_json::from_slice(keys).map_err(shape)?;
        if set.keys.len() > MAX_KEYS {
            return Err(InvalidKeys::TooMany);
        }
        let usable: Vec<Key> = set.keys.into_iter().filter_map(Key::of).collect();
        if usable.is_empty() {
            return Err(InvalidKeys::None);
        }
        Ok(Self { issuer: issuer.into(), keys: usable, document: keys.into() })
    }

    /// Who issues the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.id)
    }

    /// Verifies a token for this audience at this time, in seconds since 1970.
    ///
    /// # Errors
    /// [`Refusal`] for the first check that fails.
    pub fn verify(&self, token: &str, audience: &str, now: u64) -> Result<Verified, Refusal> {
        // A header with an unknown algorithm, like `none`, does not parse.
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        if !provider::ALGORITHMS.contains(&header.alg) {
            return Err(Refusal::Algorithm);
        }
        let id = header.kid.as_deref().ok_or(Refusal::UnknownKey)?;
        let key = self.keys.iter().find(|key| *key.id == *id).ok_or(Refusal::UnknownKey)?;
        if !key.algorithms.contains(&header.alg) {
            return Err(Refusal::Algorithm);
        }
        let claims: Claims =
            decode(token, &key.key, &signature_only(header.alg)).map_err(|error| refusal_of(&error))?.claims;
        if claims.iss != *self.issuer {
            return Err(Refusal::Issuer);
        }
        let is_for_it = match &claims.aud {
            OneOrMany::One(one) => one == audience,
            OneOrMany::Many(many) => many.iter().any(|one| one == audience),
        };
        if !is_for_it {
            return Err(Refusal::Audience);
        }
        let verified = Verified {
            identity: service_account(&claims.sub).ok_or(Refusal::Subject)?,
            not_before: seconds(claims.nbf.unwrap_or(0.0))?,
            expires: seconds(claims.exp)?,
        };
        if now.saturating_add(LEEWAY) < verified.not_before {
            return Err(Refusal::NotYet);
        }
        if verified.is_valid_at(now) { Ok(verified) } else { Err(Refusal::Expired) }
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        (&self.issuer, &self.document) == (&other.issuer, &other.document)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("issuer", &self.issuer).field("ids", &self.ids().collect::<Vec<_>>()).finish()
    }
}

/// Has the library check the algorithm and the signature only. Claims are checked here, because the library reads the clock.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation
}

fn refusal_of(error: &jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}

/// A time in a token: seconds since 1970, perhaps with a fraction.
fn seconds(number: f64) -> Result<u64, Refusal> {
    let valid = number.is_finite() && (0.0..1e15).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    valid.then_some(number as u64).ok_or(Refusal::Malformed)
}

/// The service account that a subject names: `system:serviceaccount:<namespace>:<name>`.
fn service_account(subject: &str) -> Option<Identity> {
    let (namespace, name) = subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_label(namespace) && is_object_name(name)).then(|| Identity::service_account(namespace, name))
}

// === impl Verified ===

impl Verified {
    /// Whether it is within its validity.
    #[must_use]
    pub fn is_valid_at(&self, now: u64) -> bool {
        now.saturating_add(LEEWAY) >= self.not_before && now < self.expires.saturating_add(LEEWAY)
    }
}

// === impl Key ===

impl Key {
    /// A key of a set; none if it cannot be used.
    fn of(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|key| provider::knows(key.family()))?;
        let signs = |algorithm: &Algorithm| match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => algorithm.family() == key.family(),
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => *algorithm == Algorithm::ES256,
                EllipticCurve::P384 => *algorithm == Algorithm::ES384,
                _ => false,
            },
            _ => false,
        };
        let named = jwk.common.key_algorithm.map(Algorithm::try_from);
        let algorithms: Vec<Algorithm> = match named {
            Some(Ok(algorithm)) => [algorithm].into_iter().filter(signs).collect(),
            // An unknown algorithm.
            Some(Err(_)) => return None,
            None => provider::ALGORITHMS.into_iter().filter(signs).collect(),
        };
        let id = jwk.common.key_id.clone().filter(|id| !id.is_empty())?;
        (!algorithms.is_empty()).then(|| Self { id: id.into(), key, algorithms })
    }
}
