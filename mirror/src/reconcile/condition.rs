//! The condition of a global Service: whether its sources are in conflict.

use controlplane::{index::ServiceKey, watch::ObjectKey};
use k8s_openapi::{
    api::core::v1::{Service, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{Reconciler, Work};
use crate::{desired::Desired, live::LiveService, marks, plan, world::Observation};

impl Reconciler {
    /// Reports conflicts by events and by a condition.
    pub(super) async fn condition(&self, desired: &Desired, live: &LiveService, work: &mut Work) {
        let key = ServiceKey::from(&ObjectKey::of(&live.object.metadata));
        let uid = live.at().uid;
        for conflict in &desired.conflicts {
            self.apply.report(&key, Some(&uid), conflict.about.reason(), &conflict.to_string()).await;
        }
        let Some(service) = with_condition(desired, &live.object) else { return };
        match self.apply.replace_status(&service).await {
            Ok(None) => {}
            Ok(Some(written)) => {
                work.wrote = true;
                let wanted = plan::service_digest(&desired.service);
                self.world.lock().put_service(written, Observation::Answered(wanted));
            }
            Err(failure) => work.fail(failure),
        }
    }
}

/// The Service with the desired condition; `None` where it has that already.
fn with_condition(desired: &Desired, live: &Service) -> Option<Service> {
    let conditions = live.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let there = conditions.iter().find(|condition| condition.type_ == marks::CONFLICT);
    let (status, reason, message) = match desired.conflicts.as_slice() {
        [] if there.is_none() => return None,
        [] => ("False", "NoConflicts", String::new()),
        conflicts @ [first, ..] => {
            let texts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
            ("True", first.about.reason(), texts.join("; "))
        }
    };
    if there.is_some_and(|there| there.status == status && there.reason == reason && there.message == message) {
        return None;
    }
    let since = there.filter(|there| there.status == status).map(|there| there.last_transition_time.clone());
    let condition = Condition {
        type_: marks::CONFLICT.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_transition_time: since.unwrap_or_else(|| Time(Timestamp::now())),
        observed_generation: None,
    };
    let mut all: Vec<Condition> = conditions.into_iter().filter(|other| other.type_ != marks::CONFLICT).collect();
    all.push(condition);
    let mut service = live.clone();
    service.status = Some(ServiceStatus { conditions: Some(all), ..service.status.take().unwrap_or_default() });
    Some(service)
}
