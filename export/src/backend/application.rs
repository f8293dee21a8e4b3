//! The application protocol of a port, by its `appProtocol` and its name.

use std::fmt;

use controlplane::index::Protocol;

/// The application protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Application {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP/2 in the clear, with prior knowledge.
    H2c,
    /// gRPC in the clear.
    Grpc,
    /// WebSocket in the clear.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Anything else over TCP.
    Tcp,
    /// Anything over UDP.
    Udp,
    /// Anything over SCTP.
    Sctp,
}

impl Application {
    /// The application protocol of a port. A transport protocol other than TCP decides it; then the `appProtocol`
    /// (`ServicePort.appProtocol`), where an unknown one means plain TCP; then the part of the port's name before the first `-`. Without
    /// any of them it is HTTP.
    #[must_use]
    pub fn of(transport: Protocol, app_protocol: &str, port_name: &str) -> Self {
        match transport {
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
            Protocol::Tcp if !app_protocol.is_empty() => {
                let plain = app_protocol.strip_prefix("kubernetes.io/").unwrap_or(app_protocol);
                Self::known(&plain.to_ascii_lowercase()).unwrap_or(Self::Tcp)
            }
            Protocol::Tcp => {
                let prefix = port_name.split_once('-').map_or(port_name, |(prefix, _rest)| prefix);
                Self::known(&prefix.to_ascii_lowercase()).unwrap_or(Self::Http)
            }
        }
    }

    fn known(word: &str) -> Option<Self> {
        Some(match word {
            "http" => Self::Http,
            "https" | "h2" => Self::Https,
            "h2c" | "http2" => Self::H2c,
            "grpc" => Self::Grpc,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            // Prefixes that service meshes established for protocols other than HTTP.
            "tcp" | "tls" | "mongo" | "mysql" | "postgres" | "redis" => Self::Tcp,
            _ => return None,
        })
    }

    /// The scheme of an endpoint's URL in a load balancer's file; `None` for protocols other than HTTP.
    #[must_use]
    pub fn scheme(self) -> Option<&'static str> {
        match self {
            // A WebSocket connection begins as HTTP.
            Self::Http | Self::Ws => Some("http"),
            Self::Https | Self::Wss => Some("https"),
            Self::H2c | Self::Grpc => Some("h2c"),
            Self::Tcp | Self::Udp | Self::Sctp => None,
        }
    }

    /// Whether it is HTTP, of whatever kind.
    #[must_use]
    pub fn is_http(self) -> bool {
        self.scheme().is_some()
    }

    /// Whether its connections begin with TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        self.scheme() == Some("https")
    }

    /// Whether its connections begin with HTTP/2's preface, in the clear.
    #[must_use]
    pub fn is_h2c(self) -> bool {
        self.scheme() == Some("h2c")
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_protocols() {
        use Application::*;
        let tcp = [
            // appProtocol decides,
            ("http", "grpc-api", Http),
            ("HTTP", "", Http),
            ("https", "http", Https),
            ("kubernetes.io/h2c", "", H2c),
            ("kubernetes.io/ws", "", Ws),
            ("kubernetes.io/wss", "", Wss),
            ("grpc", "http", Grpc),
            ("http2", "", H2c),
            ("redis", "http", Tcp),
            ("example.com/custom", "http", Tcp),
            // then the name's prefix,
            ("", "https-admin", Https),
            ("", "https", Https),
            ("", "grpc-api", Grpc),
            ("", "http2", H2c),
            ("", "tcp-gossip", Tcp),
            ("", "redis", Tcp),
            // and HTTP is what is left.
            ("", "", Http),
            ("", "web", Http),
            ("", "httpish", Http),
            ("", "metrics-https", Http),
        ];
        for (app, name, wanted) in tcp {
            assert_eq!(Application::of(Protocol::Tcp, app, name), wanted, "{app:?} {name:?}");
        }
        for (app, name) in [("http", "http"), ("", "")] {
            assert_eq!(Application::of(Protocol::Udp, app, name), Udp);
            assert_eq!(Application::of(Protocol::Sctp, app, name), Sctp);
        }
        assert!(Tcp.scheme().or(Udp.scheme()).or(Sctp.scheme()).is_none(), "never in an http section");
    }
}
