//! The name of a deployment in `Via`, by which it detects loops.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Serialize, Serializer};
use snapshot::ContentHash;

use super::is_token;

/// The name in `Via`: the same for all replicas of a deployment, and unique among deployments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViaName {
    /// This one.
    Given(Box<str>),
    /// A name derived from this host and the address of the listener.
    OfHost(Box<str>),
}

/// The text is not a name for `Via`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name for Via: use at most 128 letters, digits, - and . without spaces")]
pub struct InvalidVia(String);

/// The longest name, and the readable part of a generated one.
const MAX_NAME_BYTES: usize = 128;
const MAX_READABLE_CHARS: usize = 64;

impl ViaName {
    /// A name derived from this text.
    #[must_use]
    pub fn for_deployment(text: &str) -> Self {
        Self::Given(made_up(text))
    }

    /// The name of a listener at this address.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Box<str> {
        match self {
            Self::Given(name) => name.clone(),
            Self::OfHost(host) => made_up(&format!("{host}/{address}")),
        }
    }
}

/// A readable part, and a hash that makes it unique.
fn made_up(text: &str) -> Box<str> {
    let readable: String =
        text.chars().take(MAX_READABLE_CHARS).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("fanfare-{readable}-{}", ContentHash::of(text)).into()
}

impl Default for ViaName {
    fn default() -> Self {
        Self::OfHost(Box::default())
    }
}

impl FromStr for ViaName {
    type Err = InvalidVia;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_token(text) && text.len() <= MAX_NAME_BYTES {
            Ok(Self::Given(text.into()))
        } else {
            Err(InvalidVia(text.to_owned()))
        }
    }
}

impl fmt::Display for ViaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(name) => f.write_str(name),
            Self::OfHost(_) => f.write_str("host and listener"),
        }
    }
}

impl Serialize for ViaName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_and_its_own() {
        let address = ([127, 0, 0, 1], 80).into();
        assert_eq!(&*"edge".parse::<ViaName>().unwrap().at(address), "edge");
        let of = |host: &str, port| ViaName::OfHost(host.into()).at(([127, 0, 0, 1], port).into());
        assert_eq!(of("a", 1), of("a", 1));
        assert!(of("a", 1) != of("a", 2) && of("a", 1) != of("b", 1));
        let deployment = ViaName::for_deployment("shop/cache").at(address);
        assert!(deployment.starts_with("fanfare-shop-cache-") && is_token(&deployment), "{deployment}");
        assert_ne!(deployment, ViaName::for_deployment("shop-cache").at(address));
        for text in ["", "a b", "a,b", "a(b)", &"a".repeat(129)] {
            assert!(text.parse::<ViaName>().is_err(), "{text:?}");
        }
    }
}
