//! The settings of `fanfare broadcast`. Flags concern one listener with one route.

pub(crate) mod answer;
pub(crate) mod bounds;
pub(crate) mod callers;
pub(crate) mod changes;
pub(crate) mod endpoints;
pub(crate) mod process;
pub(crate) mod redelivery;
pub(crate) mod requests;
pub(crate) mod routes;
pub(crate) mod time;
pub(crate) mod tls;
pub(crate) mod upstream;

use super::{Dashes, Role};

/// A listener.
const LISTENER: &str = "broadcast[]";

/// A route of a listener.
const ROUTE: &str = "broadcast[].routes[]";

/// The role.
pub(super) const ROLE: Role = Role {
    name: "broadcast",
    about: "Sends every request to every endpoint of a service and gives back one answer",
    dashes: Dashes::Two,
    groups: &[
        endpoints::GROUP,
        endpoints::KUBERNETES,
        upstream::GROUP,
        answer::GROUP,
        redelivery::GROUP,
        requests::GROUP,
        callers::GROUP,
        tls::GROUP,
        changes::GROUP,
        time::GROUP,
        bounds::GROUP,
        process::GROUP,
        routes::GROUP,
    ],
};
