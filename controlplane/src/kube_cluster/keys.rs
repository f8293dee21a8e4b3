//! The watches on EndpointSlices and Services that this crate knows.

use crate::{
    index::SERVICE_NAME,
    watch::{Scope, WatchKey},
};

/// The watch on the slices of all Services.
pub(crate) fn slices_of_services(scope: Scope) -> WatchKey {
    slices(scope, SERVICE_NAME.to_owned())
}

/// The watch on the slices of the Services of this name.
pub(crate) fn service_slices(scope: Scope, name: &str) -> WatchKey {
    slices(scope, format!("{SERVICE_NAME}={name}"))
}

/// The watch on the slices that name no Service.
pub(crate) fn orphaned_slices(scope: Scope) -> WatchKey {
    slices(scope, format!("!{SERVICE_NAME}"))
}

/// The watch on Services.
pub(crate) fn services(scope: Scope) -> WatchKey {
    WatchKey::new("services", "", scope, "")
}

fn slices(scope: Scope, selector: String) -> WatchKey {
    WatchKey::new("endpointslices", "discovery.k8s.io", scope, selector)
}
