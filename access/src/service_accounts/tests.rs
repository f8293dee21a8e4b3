//! Tests with tokens that are signed here, with keys of every kind. Tokens of a real API server are in the tests of `controlplane`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
        RSA_PSS_SHA512, RsaEncoding, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

use super::*;

/// A key that was made for these tests.
const RSA: &[u8] = include_bytes!("../../testdata/rsa-2048.der");

const ISSUER: &str = "https://kubernetes.default.svc";
const NOW: u64 = 1_800_000_000;
const AUDIENCE: &str = "fanfare";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs the part of a token in front of its last dot.
trait Signer {
    fn sign(&self, message: &[u8]) -> Vec<u8>;
    fn jwk(&self, id: &str) -> Value;
}

struct Rsa(RsaKeyPair, &'static dyn RsaEncoding);

struct Ec(EcdsaKeyPair, &'static str);

impl Rsa {
    fn new(encoding: &'static dyn RsaEncoding) -> Self {
        Self(RsaKeyPair::from_der(RSA).expect("a key"), encoding)
    }
}

impl Signer for Rsa {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(self.1, &SystemRandom::new(), message, &mut signature).expect("signs");
        signature
    }

    fn jwk(&self, id: &str) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.0.public());
        json!({"kty": "RSA", "use": "sig", "kid": id, "n": encoded(public.n), "e": encoded(public.e)})
    }
}

impl Ec {
    fn new(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("a key"), curve)
    }

    fn p256() -> Self {
        Self::new(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }
}

impl Signer for Ec {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).expect("signs").as_ref().to_vec()
    }

    fn jwk(&self, id: &str) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(self.0.public_key().as_ref().len() / 2);
        json!({"kty": "EC", "use": "sig", "kid": id, "crv": self.1, "x": encoded(x), "y": encoded(y)})
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "sub": "system:serviceaccount:shop:cms",
        "exp": NOW + 600,
        "nbf": NOW - 10,
        "iat": NOW - 10,
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "cms", "uid": "u"}},
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

fn token(header: &Value, claims: &Value, key: &dyn Signer) -> String {
    let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let signature = encoded(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn keys(jwks: &[Value]) -> Result<KeySet, InvalidKeys> {
    let configuration = json!({"issuer": ISSUER, "jwks_uri": "https://elsewhere"}).to_string();
    KeySet::parse(configuration.as_bytes(), json!({"keys": jwks}).to_string().as_bytes())
}

fn es256() -> Value {
    json!({"alg": "ES256", "kid": "k"})
}

fn cms() -> Identity {
    Identity::service_account("shop", "cms")
}

#[test]
fn tokens_of_every_algorithm_are_verified_with_their_key_and_no_other() {
    let signers: [(&str, Box<dyn Signer>); 8] = [
        ("RS256", Box::new(Rsa::new(&RSA_PKCS1_SHA256))),
        ("RS384", Box::new(Rsa::new(&RSA_PKCS1_SHA384))),
        ("RS512", Box::new(Rsa::new(&RSA_PKCS1_SHA512))),
        ("PS256", Box::new(Rsa::new(&RSA_PSS_SHA256))),
        ("PS384", Box::new(Rsa::new(&RSA_PSS_SHA384))),
        ("PS512", Box::new(Rsa::new(&RSA_PSS_SHA512))),
        ("ES256", Box::new(Ec::p256())),
        ("ES384", Box::new(Ec::new(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"))),
    ];
    for (algorithm, signer) in &signers {
        let header = json!({"alg": algorithm, "kid": "k"});
        let good = token(&header, &claims(), &**signer);
        let verified = keys(&[Ec::p256().jwk("other"), signer.jwk("k")]).unwrap().verify(&good, AUDIENCE, NOW);
        assert_eq!(verified.map(|verified| verified.identity), Ok(cms()), "{algorithm}");
        let another = if algorithm.starts_with("ES") { Ec::p256().jwk("k") } else { signers[6].1.jwk("k") };
        let refused = keys(&[another]).unwrap().verify(&good, AUDIENCE, NOW).expect_err(algorithm);
        assert!(matches!(refused, Refusal::Signature | Refusal::Algorithm), "{algorithm}: {refused}");
    }
}

#[test]
fn each_claim_is_checked() {
    let key = Ec::p256();
    let keys = keys(&[key.jwk("k")]).unwrap();
    let verify = |claims: &Value| keys.verify(&token(&es256(), claims, &key), AUDIENCE, NOW).map(|v| v.identity);
    assert_eq!(verify(&claims()), Ok(cms()));
    assert_eq!(verify(&with(|claims| claims["aud"] = json!(AUDIENCE))), Ok(cms()));
    assert_eq!(verify(&with(|claims| claims["aud"] = json!(["other", AUDIENCE]))), Ok(cms()));
    assert_eq!(verify(&with(|claims| claims["exp"] = json!(NOW as f64 + 0.5))), Ok(cms()));
    assert_eq!(verify(&with(|claims| claims["exp"] = json!(NOW - keys::LEEWAY + 1))), Ok(cms()), "clocks differ");
    assert_eq!(verify(&with(|claims| claims["nbf"] = json!(NOW + keys::LEEWAY))), Ok(cms()), "clocks differ");
    for (name, value, refusal) in [
        ("aud", json!(["other"]), Refusal::Audience),
        ("aud", json!("fanfare2"), Refusal::Audience),
        ("aud", json!([]), Refusal::Audience),
        ("aud", json!(null), Refusal::Malformed),
        ("iss", json!("https://kubernetes.default.svc/"), Refusal::Issuer),
        ("iss", json!(""), Refusal::Issuer),
        ("iss", json!(null), Refusal::Malformed),
        ("exp", json!(NOW - keys::LEEWAY), Refusal::Expired),
        ("exp", json!("never"), Refusal::Malformed),
        ("exp", json!(null), Refusal::Malformed),
        ("exp", json!(-1), Refusal::Malformed),
        ("nbf", json!(NOW + keys::LEEWAY + 1), Refusal::NotYet),
        ("sub", json!("system:serviceaccount:shop"), Refusal::Subject),
        ("sub", json!("system:serviceaccount:shop:"), Refusal::Subject),
        ("sub", json!("system:serviceaccount::cms"), Refusal::Subject),
        ("sub", json!("system:serviceaccount:shop:cms:cms"), Refusal::Subject),
        ("sub", json!("system:serviceaccount:shop/x:cms"), Refusal::Subject),
        ("sub", json!("system:node:n1"), Refusal::Subject),
        ("sub", json!(null), Refusal::Malformed),
    ] {
        let refused = verify(&with(|claims| claims[name] = value.clone()));
        assert_eq!(refused, Err(refusal), "{name}: {value}");
    }
}

#[test]
fn algorithms_of_forged_tokens_are_refused() {
    let key = Ec::p256();
    let rsa = Rsa::new(&RSA_PKCS1_SHA256);
    let keys = keys(&[key.jwk("k"), rsa.jwk("r")]).unwrap();
    let verify = |token: &str| keys.verify(token, AUDIENCE, NOW).map(|v| v.identity);
    let good = token(&es256(), &claims(), &key);
    assert_eq!(verify(&good), Ok(cms()));
    // No signature, no algorithm, and the public key as a shared secret.
    for algorithm in ["none", "None", "NONE", "", "HS256", "HS512", "EdDSA", "ES512", "RS256"] {
        let forged = token(&json!({"alg": algorithm, "kid": "k"}), &claims(), &key);
        let refused = verify(&forged).expect_err(algorithm);
        assert!(matches!(refused, Refusal::Malformed | Refusal::Algorithm), "{algorithm}: {refused}");
        let bare = &forged[..=forged.rfind('.').unwrap()];
        assert!(verify(bare).is_err(), "{algorithm}, without a signature");
    }
    let secret = |message: &[u8]| {
        let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, rsa.jwk("r")["n"].as_str().unwrap().as_bytes());
        ring::hmac::sign(&hmac, message).as_ref().to_vec()
    };
    let message =
        format!("{}.{}", encoded(json!({"alg": "HS256", "kid": "r"}).to_string()), encoded(claims().to_string()));
    let forged = format!("{message}.{}", encoded(secret(message.as_bytes())));
    assert_eq!(verify(&forged), Err(Refusal::Algorithm));
    // Another key, no key, a key in the token itself.
    for header in
        [json!({"alg": "ES256", "kid": "unknown"}), json!({"alg": "ES256"}), json!({"alg": "ES256", "kid": ""})]
    {
        assert_eq!(verify(&token(&header, &claims(), &key)), Err(Refusal::UnknownKey), "{header}");
    }
    let own = Ec::p256();
    let forged = token(&json!({"alg": "ES256", "kid": "k", "jwk": own.jwk("k")}), &claims(), &own);
    assert_eq!(verify(&forged), Err(Refusal::Signature));
    // One changed byte, at any place.
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let changed = encoded(with(|claims| claims["sub"] = json!("system:serviceaccount:shop:admin")).to_string());
    assert_eq!(verify(&format!("{header}.{changed}.{signature}")), Err(Refusal::Signature));
    for text in
        ["", ".", "..", "a.b.c", &format!("{header}.{payload}"), &format!("{good}.{signature}"), &format!("{good}=")]
    {
        assert!(verify(text).is_err(), "{text}");
    }
}

#[test]
fn a_key_that_cannot_be_used_is_left_out_alone() {
    let key = Ec::p256();
    let mut encryption = key.jwk("e");
    encryption["use"] = json!("enc");
    let mut without_id = key.jwk("i");
    without_id.as_object_mut().unwrap().remove("kid");
    let mut named = key.jwk("n");
    named["alg"] = json!("ES256");
    let mut misnamed = key.jwk("m");
    misnamed["alg"] = json!("ES384");
    let secret = json!({"kty": "oct", "kid": "s", "k": encoded("secret")});
    let edwards = json!({"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encoded([1; 32])});
    let p521 = json!({"kty": "EC", "kid": "p", "crv": "P-521", "x": encoded([1; 66]), "y": encoded([1; 66])});
    let unusable =
        [encryption, without_id, misnamed, secret, edwards, p521, json!(7), json!({"kty": "new", "kid": "x"})];
    let all: Vec<Value> = unusable.iter().cloned().chain([named]).collect();
    assert_eq!(keys(&all).unwrap().ids().collect::<Vec<_>>(), ["n"]);
    assert_eq!(keys(&unusable).map(drop), Err(InvalidKeys::None));
    let parse = |configuration: &str, keys: &str| KeySet::parse(configuration.as_bytes(), keys.as_bytes()).map(drop);
    assert_eq!(parse(r#"{"issuer": ""}"#, r#"{"keys": []}"#), Err(InvalidKeys::NoIssuer));
    for (configuration, keys) in [("", ""), ("{}", r#"{"keys": []}"#), (r#"{"issuer": "a"}"#, "[]"), ("<html>", "{}")] {
        assert!(matches!(parse(configuration, keys), Err(InvalidKeys::Shape(_))), "{configuration} {keys}");
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_token_of_an_unknown_key_asks_for_keys_and_counts_once_they_are_there() {
    let (publisher, watched) = channel();
    let verifier = Verifier::new(AUDIENCE, watched.clone());
    let (old, new) = (Ec::p256(), Ec::p256());
    let (of_old, of_new) =
        (token(&es256(), &claims(), &old), token(&json!({"alg": "ES256", "kid": "n"}), &claims(), &new));
    assert_eq!(verifier.verify(&of_old, at(NOW)), Err(Refusal::NoKeys));
    publisher.wanted().await;
    publisher.publish(keys(&[old.jwk("k")]).unwrap());
    assert_eq!(verifier.verify(&of_old, at(NOW)), Ok(cms()));
    assert_eq!(verifier.verify(&of_new, at(NOW)), Err(Refusal::UnknownKey));
    publisher.wanted().await;
    publisher.publish(keys(&[old.jwk("k"), new.jwk("n")]).unwrap());
    assert_eq!((verifier.verify(&of_old, at(NOW)), verifier.verify(&of_new, at(NOW))), (Ok(cms()), Ok(cms())));
    // Removing a key invalidates its tokens, also those that were verified before.
    publisher.publish(keys(&[new.jwk("n")]).unwrap());
    assert_eq!(
        (verifier.verify(&of_old, at(NOW)), verifier.verify(&of_new, at(NOW))),
        (Err(Refusal::UnknownKey), Ok(cms()))
    );
}

#[test]
fn a_token_that_was_verified_is_good_until_it_ends_and_not_longer() {
    let (publisher, watched) = channel();
    let verifier = Verifier::new(AUDIENCE, watched);
    let key = Ec::p256();
    publisher.publish(keys(&[key.jwk("k")]).unwrap());
    let good = token(&es256(), &claims(), &key);
    for (time, expected) in [(NOW, Ok(cms())), (NOW + 609, Ok(cms())), (NOW + 610, Err(Refusal::Expired))] {
        assert_eq!(verifier.verify(&good, at(time)), expected, "{time}");
    }
    let other = Verifier::new("other", verifier.keys);
    assert_eq!(other.verify(&good, at(NOW)), Err(Refusal::Audience), "each audience remembers for itself");
}

#[test]
fn the_cache_is_bounded() {
    let (publisher, watched) = channel();
    let verifier = Verifier::new(AUDIENCE, watched);
    let key = Ec::p256();
    publisher.publish(keys(&[key.jwk("k")]).unwrap());
    let keys = verifier.keys.current().unwrap();
    let verified = keys.verify(&token(&es256(), &claims(), &key), AUDIENCE, NOW).unwrap();
    for n in 0..3 * MAX_VERIFIED_TOKENS as u64 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        verifier.verified_tokens.insert(hash, CachedToken { keys: keys.clone(), verified: verified.clone() });
    }
    assert!(verifier.verified_tokens.len() <= MAX_VERIFIED_TOKENS);
}

proptest::proptest! {
    #[test]
    fn no_token_panics(token in "[a-zA-Z0-9_.=-]{0,80}") {
        let keys = keys(&[Rsa::new(&RSA_PKCS1_SHA256).jwk("k")]).unwrap();
        proptest::prop_assert!(keys.verify(&token, AUDIENCE, NOW).is_err());
    }
}
