//! Connections to endpoints: TLS or clear text, and the protocol, by configuration and by the source of the endpoint.

use std::sync::{Arc, LazyLock};

use runtime::tls::{ClientSettings, NameError, NameTemplate, Named, Roots, ServerName, default_name};
use serde::Serialize;
use snapshot::{Endpoint, Place, Scheme, Spoken};

use super::Policy;
use crate::target::WireProtocol;

/// TLS to the endpoints of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// The endpoints with TLS.
    pub to: TlsTo,
    /// Trusted authorities, client certificate and protocols.
    #[serde(flatten)]
    pub settings: ClientSettings,
    /// The server name for an endpoint, which its certificate must have; by default that of its Service, its host name, or its
    /// address.
    pub server_name: Option<NameTemplate>,
}

/// The endpoints with TLS, if TLS is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsTo {
    /// All but those with `http://` in their list.
    #[default]
    Others,
    /// All. Endpoints with `http://` in their list are refused, because a list must not cause secrets to be sent in clear text.
    All,
    /// None. Endpoints with `https://` in their list are refused.
    None,
}

/// The protocol and the channel of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The protocol.
    pub protocol: WireProtocol,
    /// The channel.
    pub channel: Channel,
}

/// The kind of connections to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Clear text.
    Clear,
    /// TLS.
    Tls(Arc<UpstreamTls>),
    /// None: the configuration contradicts the source of the endpoint.
    Contradicted(&'static str),
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// The default TLS: the system's authorities are trusted, and the certificate must have the name by which the endpoint is
    /// reached.
    #[must_use]
    pub fn unconfigured() -> Arc<Self> {
        static UNCONFIGURED: LazyLock<Arc<UpstreamTls>> = LazyLock::new(|| {
            let settings =
                ClientSettings { roots: Roots::System, sans: Vec::new(), certificate: None, protocols: Vec::new() };
            Arc::new(UpstreamTls { to: TlsTo::Others, settings, server_name: None })
        });
        UNCONFIGURED.clone()
    }

    /// The name of an endpoint.
    pub(crate) fn name_of(&self, endpoint: &Endpoint<Place>) -> Result<ServerName<'static>, NameError> {
        let (pod, service) = (endpoint.pod.as_ref(), endpoint.service.as_ref());
        // The host name of a pod is a part of a name only.
        let resolved = endpoint.hostname.as_deref().filter(|_| pod.is_none());
        let named = Named {
            pod: pod.map(|pod| &*pod.name),
            service: service.map(|service| &*service.name),
            namespace: service.map(|service| &*service.namespace).or(pod.map(|pod| &*pod.namespace)),
            host: endpoint.address.name().or(resolved),
            address: endpoint.address.addresses().first().map(std::net::SocketAddr::ip),
        };
        match &self.server_name {
            Some(template) => template.fill(&named),
            None => default_name(&named),
        }
    }
}

// === impl Manner ===

impl Policy {
    /// The manner for an endpoint with this attribute. The configuration takes precedence over an `appProtocol`.
    #[must_use]
    pub fn manner(&self, spoken: Spoken) -> Manner {
        let channel = Channel::of(self.tls.as_ref(), spoken);
        let in_clear = channel == Channel::Clear;
        Manner { protocol: self.protocol.spoken(!in_clear, spoken), channel }
    }
}

// === impl Channel ===

impl Channel {
    fn of(configured: Option<&Arc<UpstreamTls>>, spoken: Spoken) -> Self {
        let Some(tls) = configured else {
            let by_tls = spoken.is_tls() == Some(true);
            return if by_tls { Self::Tls(UpstreamTls::unconfigured()) } else { Self::Clear };
        };
        match (tls.to, spoken) {
            (TlsTo::All, Spoken::Scheme(Scheme::Http)) => Self::Contradicted(
                "its list says http://, but TLS is demanded for all endpoints of the route (--upstream-tls, to.tls.enabled): \
                 change the list or the route",
            ),
            (TlsTo::None, Spoken::Scheme(Scheme::Https)) => Self::Contradicted(
                "its list says https://, but TLS is turned off for the endpoints of the route (--upstream-tls=false, \
                 to.tls.enabled): change the list or the route",
            ),
            (TlsTo::None, _) | (TlsTo::Others, Spoken::Scheme(Scheme::Http)) => Self::Clear,
            (TlsTo::All | TlsTo::Others, _) => Self::Tls(tls.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamProtocol;

    /// What is spoken, and on what: `clear`, `tls`, or `none`.
    fn manner(to: Option<TlsTo>, protocol: UpstreamProtocol, spoken: Spoken) -> (WireProtocol, &'static str) {
        let tls = to.map(|to| Arc::new(UpstreamTls { to, ..(*UpstreamTls::unconfigured()).clone() }));
        let manner = Policy { tls, protocol, ..Policy::default() }.manner(spoken);
        let channel = match manner.channel {
            Channel::Clear => "clear",
            Channel::Tls(_) => "tls",
            Channel::Contradicted(_) => "none",
        };
        (manner.protocol, channel)
    }

    #[test]
    fn tls_is_on_by_itself_where_the_source_says_so() {
        let on = |to, spoken| manner(to, UpstreamProtocol::Auto, spoken).1;
        let app = Spoken::by_app_protocol;
        let (http, https) = (Spoken::Scheme(Scheme::Http), Spoken::Scheme(Scheme::Https));
        // Nothing configured, configured without more, on, off.
        for (spoken, expected) in [
            (Spoken::Unspecified, ["clear", "tls", "tls", "clear"]),
            (https, ["tls", "tls", "tls", "none"]),
            (http, ["clear", "clear", "none", "clear"]),
            (app("https"), ["tls", "tls", "tls", "clear"]),
            (app("http"), ["clear", "tls", "tls", "clear"]),
            (app("kubernetes.io/h2c"), ["clear", "tls", "tls", "clear"]),
        ] {
            let found = [None, Some(TlsTo::Others), Some(TlsTo::All), Some(TlsTo::None)].map(|to| on(to, spoken));
            assert_eq!(found, expected, "{spoken:?}");
        }
    }

    #[test]
    fn auto_agrees_by_tls_and_goes_by_app_protocol_in_clear() {
        use UpstreamProtocol::{Auto, H2, Http1};
        use WireProtocol as Wire;
        let app = Spoken::by_app_protocol;
        for (protocol, spoken, expected) in [
            (Auto, Spoken::Unspecified, Wire::Http1),
            (Auto, app("http"), Wire::Http1),
            (Auto, app("grpc"), Wire::Http2),
            (Auto, app("kubernetes.io/h2c"), Wire::Http2),
            (Auto, app("https"), Wire::Negotiated),
            (Auto, Spoken::Scheme(Scheme::Https), Wire::Negotiated),
            (Auto, Spoken::Scheme(Scheme::Http), Wire::Http1),
            (Http1, app("grpc"), Wire::Http1),
            (Http1, app("https"), Wire::Http1),
            (H2, Spoken::Unspecified, Wire::Http2),
            (H2, Spoken::Scheme(Scheme::Https), Wire::Http2),
        ] {
            assert_eq!(manner(None, protocol, spoken).0, expected, "{protocol:?} {spoken:?}");
        }
        assert_eq!(manner(Some(TlsTo::All), Auto, app("grpc")), (Wire::Negotiated, "tls"));
        assert_eq!(manner(Some(TlsTo::None), Auto, app("https")), (Wire::Http1, "clear"));
    }
}
