//! The model of an export: from selected Services to the named backends that a load balancer's file lists.
//!
//! Rule: a name never changes because another object appears. The oldest Service keeps the short form, a later namesake
//! gets its namespace in the name.
//!
//! Pure: a catalog in, backends out, no I/O and no clock.

mod application;
mod choice;
mod known;
mod names;
mod template;
mod units;

use std::sync::Arc;

pub use application::Application;
pub use choice::{InvalidMembers, InvalidPort, Members, PortChoice};
use controlplane::{
    catalog::{Catalog, Entry},
    index::Port,
};
pub use names::Names;
use snapshot::Endpoint;
pub use template::{InvalidTemplate, NameTemplate};

/// The options by which backends are built from a catalog: their ports, their endpoints, their names. By default every port and its
/// ready endpoints, named `<service>-<port>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// How backends are named.
    pub names: NameTemplate,
    /// Which endpoints are members.
    pub members: Members,
    /// Which ports have backends; all where it is empty.
    pub ports: Vec<PortChoice>,
}

/// One name in a load balancer's configuration, and the endpoints behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name, unique in its list: 1 to 200 bytes of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`, of which the first is a letter or
    /// a digit. Safe in every format as it is.
    pub name: Arc<str>,
    /// Its Service.
    pub entry: Arc<Entry>,
    /// The port's name and transport protocol.
    pub port: Port,
    /// The port number that its endpoints listen on; where they differ, the lowest. While it has no endpoint, the number of its last
    /// ones, else the one of the Service.
    pub number: u16,
    /// The Service's own number for the port (`spec.ports[].port`); 0 where that is not known.
    pub service_port: u16,
    /// The application protocol of the port.
    pub application: Application,
    /// The port's `appProtocol` as it is written; empty where there is none.
    pub app_protocol: Arc<str>,
    /// Its endpoints, ordered by address; none while no endpoint is a member.
    pub endpoints: Arc<[Endpoint]>,
}

impl Model {
    /// The backends of a catalog, ordered by name. `names` holds the names that are taken; pass the same value to each call, and each
    /// value to one model only.
    #[must_use]
    pub fn backends(&self, catalog: &Catalog, names: &mut Names) -> Vec<Backend> {
        names.update(self, catalog);
        names.backends()
    }
}

impl Backend {
    /// Whether an endpoint of this backend is draining, so that it gets no new requests: it is terminating, and another one is
    /// ready. If none is ready, terminating ones serve, as with kube-proxy.
    pub fn draining(&self) -> impl Fn(&Endpoint) -> bool {
        let any_ready = self.endpoints.iter().any(|endpoint| endpoint.conditions.ready);
        move |endpoint| any_ready && endpoint.conditions.terminating && !endpoint.conditions.ready
    }

    /// The name of its Service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.entry.key.name
    }

    /// Its Service's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.entry.key.namespace
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
