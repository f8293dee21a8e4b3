//! The protocol of an endpoint, as its source says.

use std::fmt;

/// The protocol of an endpoint, as its source says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoken {
    /// The scheme of its URL in a list of endpoints.
    Scheme(Scheme),
    /// The application protocol of the Service's port (`EndpointSlice.ports[].appProtocol`).
    AppProtocol(AppProtocol),
    /// Nothing, or an unknown value.
    #[default]
    Unspecified,
}

/// The scheme of an endpoint's URL in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TLS.
    Https,
    /// Clear text.
    Http,
}

/// An application protocol that says how requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// HTTP over TLS.
    Https,
    /// gRPC, and so HTTP/2, in clear.
    Grpc,
    /// HTTP/2 in clear, by prior knowledge.
    H2c,
    /// HTTP/1.1 in clear.
    Http,
}

// === impl Spoken ===

impl Spoken {
    /// Reads an `appProtocol`, whose case does not matter. An unknown one gives `Unspecified`.
    #[must_use]
    pub fn by_app_protocol(text: &str) -> Self {
        let plain = text.strip_prefix("kubernetes.io/").unwrap_or(text);
        let known = [
            ("http", AppProtocol::Http),
            ("ws", AppProtocol::Http),
            ("https", AppProtocol::Https),
            ("h2", AppProtocol::Https),
            ("wss", AppProtocol::Https),
            ("h2c", AppProtocol::H2c),
            ("http2", AppProtocol::H2c),
            ("grpc", AppProtocol::Grpc),
        ];
        let found = known.into_iter().find(|(name, _)| plain.eq_ignore_ascii_case(name));
        found.map_or(Self::Unspecified, |(_, protocol)| Self::AppProtocol(protocol))
    }

    /// Whether it speaks TLS; none if the source does not say.
    #[must_use]
    pub fn is_tls(self) -> Option<bool> {
        match self {
            Self::Scheme(scheme) => Some(scheme == Scheme::Https),
            Self::AppProtocol(protocol) => Some(protocol == AppProtocol::Https),
            Self::Unspecified => None,
        }
    }

    /// Whether it speaks HTTP/2 in clear.
    #[must_use]
    pub fn is_h2c(self) -> bool {
        matches!(self, Self::AppProtocol(AppProtocol::H2c | AppProtocol::Grpc))
    }

    /// The text of the source; none if it says nothing.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::Scheme(scheme) => scheme.as_str(),
            Self::AppProtocol(AppProtocol::Https) => "https",
            Self::AppProtocol(AppProtocol::Grpc) => "grpc",
            Self::AppProtocol(AppProtocol::H2c) => "h2c",
            Self::AppProtocol(AppProtocol::Http) => "http",
            Self::Unspecified => return None,
        })
    }

    /// A number that is unique and the same in every build, for hashes.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Unspecified => 0,
            Self::Scheme(Scheme::Http) => 1,
            Self::Scheme(Scheme::Https) => 2,
            Self::AppProtocol(AppProtocol::Http) => 3,
            Self::AppProtocol(AppProtocol::Https) => 4,
            Self::AppProtocol(AppProtocol::H2c) => 5,
            Self::AppProtocol(AppProtocol::Grpc) => 6,
        }
    }
}

// === impl Scheme ===

impl Scheme {
    /// The scheme of a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_application_protocols() {
        for (text, tls, h2c) in [
            ("http", Some(false), false),
            ("HTTPS", Some(true), false),
            ("kubernetes.io/h2c", Some(false), true),
            ("http2", Some(false), true),
            ("grpc", Some(false), true),
            ("kubernetes.io/ws", Some(false), false),
            ("kubernetes.io/wss", Some(true), false),
            ("redis", None, false),
            ("example.com/https", None, false),
            ("", None, false),
        ] {
            let spoken = Spoken::by_app_protocol(text);
            assert_eq!((spoken.is_tls(), spoken.is_h2c()), (tls, h2c), "{text:?}");
        }
    }
}
