//! How endpoints are reached by TLS.

use runtime::tls::{ClientSettings, NameError, NameTemplate, Named, ServerName, default_name};
use serde::Serialize;
use snapshot::{Endpoint, Place};

/// TLS to the endpoints of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// Who vouches for the endpoints, what they are shown, what is spoken.
    #[serde(flatten)]
    pub settings: ClientSettings,
    /// The name that an endpoint is asked for and that its certificate must have; none: that of its Service, its host name, or
    /// its address.
    pub server_name: Option<NameTemplate>,
    /// The namespace and the name of the Service that the endpoints are of, where it is one.
    pub service: Option<(Box<str>, Box<str>)>,
}

impl UpstreamTls {
    /// The name of an endpoint.
    pub(crate) fn name_of(&self, endpoint: &Endpoint<Place>) -> Result<ServerName<'static>, NameError> {
        let pod = endpoint.pod.as_ref();
        let (namespace, service) = match &self.service {
            Some((namespace, service)) => (Some(&**namespace), Some(&**service)),
            None => (pod.map(|pod| &*pod.namespace), None),
        };
        // The host name of a pod is a part of a name only.
        let resolved = endpoint.hostname.as_deref().filter(|_| pod.is_none());
        let named = Named {
            pod: pod.map(|pod| &*pod.name),
            service,
            namespace,
            host: endpoint.address.name().or(resolved),
            address: endpoint.address.addresses().first().map(std::net::SocketAddr::ip),
        };
        match &self.server_name {
            Some(template) => template.fill(&named),
            None => default_name(&named),
        }
    }
}
