//! Why a remote Service is not mirrored, as a reason and a text.

use std::fmt;

use controlplane::index::ServiceKey;

use crate::names::NameError;

/// Why a mirror is not created or not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is an alias, and aliases are not mirrored unless that is configured.
    ExternalName,
    /// It cannot have a local name.
    Name(NameError),
    /// Another remote Service has the same local name.
    Collision {
        /// The one that does not get it.
        loser: String,
        /// The one that has it.
        holder: String,
    },
    /// There is a Service of that name, and it is no mirror of this remote.
    Foreign(ServiceKey),
    /// There is a mirror of that name, and it is another cluster's.
    OtherCluster {
        /// The Service here.
        service: ServiceKey,
        /// The UID of that cluster's `kube-system`, or its name.
        cluster: String,
    },
    /// There is a slice of that name, and it is not ours.
    ForeignSlice(String),
}

impl Refusal {
    /// The reason of the event, and the value of the metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ExternalName => "InvalidServiceType",
            Self::Name(_) => "InvalidName",
            Self::Collision { .. } => "NameCollision",
            Self::Foreign(_) => "ForeignService",
            Self::OtherCluster { .. } => "OtherClustersMirror",
            Self::ForeignSlice(_) => "ForeignEndpointSlice",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalName => f.write_str(
                "a Service of type ExternalName is not mirrored: its name may mean something else in this cluster; configure that \
                 aliases are copied if it does not",
            ),
            Self::Name(error) => error.fmt(f),
            Self::Collision { loser, holder } => write!(
                f,
                "{loser} is not mirrored, because {holder} has the same local name: rename one of the two, or choose \
                 another prefix or naming scheme"
            ),
            Self::Foreign(service) => write!(
                f,
                "Service {service} exists already and is not a mirror of this remote, so it is not changed: rename it, or \
                 choose another prefix or namespace for mirrors"
            ),
            Self::OtherCluster { service, cluster } => write!(
                f,
                "Service {service} is a mirror of another cluster ({cluster}), so it is not changed: choose another prefix, \
                 or name that cluster as a former one if this remote was rebuilt"
            ),
            Self::ForeignSlice(name) => write!(
                f,
                "EndpointSlice {name} exists already and is not a mirror of this remote, so it is not changed: delete or rename it"
            ),
        }
    }
}
