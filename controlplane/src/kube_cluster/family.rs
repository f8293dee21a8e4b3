//! Reads the primary address family of Services whose pods have addresses of both families.
//!
//! Slices do not contain it, and the role may lack the right to read Services. So only such Services are read, once after every
//! complete list; without an answer the view's own rule applies.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use imbl::OrdSet;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::debug;

use crate::{
    build,
    index::{Index, IpFamily, ServiceKey},
    watch::{Failure, Reason, Status, any_change},
};

/// The time limit of an answer of the API server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the families of one index up to date until it is dropped.
pub(super) async fn look_up(client: Client, index: &Mutex<Index>, status: &Status) -> Infallible {
    let mut changes = [status.subscribe()];
    let mut asked = HashSet::new();
    let mut known = OrdSet::new();
    loop {
        any_change(&mut changes).await;
        build::burst(&mut changes).await;
        let undecided = index.lock().undecided();
        if undecided.ptr_eq(&known) && asked.len() == undecided.len() {
            continue;
        }
        known.clone_from(&undecided);
        asked.retain(|key| undecided.contains(key));
        for key in undecided {
            if !asked.insert(key.clone()) {
                continue;
            }
            match primary(&client, &key).await {
                Ok(Some(family)) => {
                    if index.lock().set_primary(&key, family) {
                        status.changed();
                    }
                }
                Ok(None) => {}
                Err(failure) if failure.reason == Reason::Forbidden => {
                    debug!(service = %key, "Services cannot be read; the address family is chosen by the endpoints");
                }
                // It is read again at the next change.
                Err(_) => drop(asked.remove(&key)),
            }
        }
    }
}

/// `Service.spec.ipFamilies[0]`.
async fn primary(client: &Client, key: &ServiceKey) -> Result<Option<IpFamily>, Failure> {
    let services: Api<Service> = Api::namespaced(client.clone(), &key.namespace);
    let answer = timeout(ANSWER_TIMEOUT, services.get_opt(&key.name)).await;
    let service =
        answer.map_err(|_elapsed| Failure::no_answer("get", ANSWER_TIMEOUT))?.map_err(|e| Failure::of("get", &e))?;
    let families = service.and_then(|service| service.spec).and_then(|spec| spec.ip_families).unwrap_or_default();
    Ok(families.first().and_then(|family| IpFamily::read(family)))
}
