//! Kubernetes events about changes of the leader, as client-go reports them. Best effort: only the end of the process waits for
//! them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Api, Client, api::PostParams};
use tokio::{task::JoinSet, time::timeout};
use tracing::{debug, warn};

/// The component that reports the events.
const COMPONENT: &str = "fanfare";
/// The time limit for sending one event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The most events in flight; further ones are dropped.
const MAX_EVENTS_IN_FLIGHT: usize = 4;

/// Reports events about one lock.
#[derive(Debug)]
pub(super) struct Reporter {
    api: Api<Event>,
    about: ObjectReference,
    under_way: JoinSet<()>,
    /// Whether the missing right was logged; it is logged once.
    named: Arc<AtomicBool>,
}

impl Reporter {
    pub(super) fn new(client: Client, about: ObjectReference) -> Self {
        let namespace = about.namespace.clone().unwrap_or_default();
        Self {
            api: Api::namespaced(client, &namespace),
            about,
            under_way: JoinSet::new(),
            named: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Sends an event, in the background.
    pub(super) fn report(&mut self, uid: &str, message: String) {
        while self.under_way.try_join_next().is_some() {}
        if self.under_way.len() >= MAX_EVENTS_IN_FLIGHT {
            return;
        }
        let (api, named) = (self.api.clone(), Arc::clone(&self.named));
        let event = self.event(uid, message);
        self.under_way.spawn(async move {
            match timeout(EVENT_TIMEOUT, api.create(&PostParams::default(), &event)).await {
                Ok(Ok(_)) => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    if !named.swap(true, Ordering::Relaxed) {
                        warn!(
                            "RBAC: the verb \"create\" on events is missing, so that changes of the leader are reported in \
                             this log only: bind the service account to a Role in the lock's namespace with it ({})",
                            status.message
                        );
                    }
                }
                Ok(Err(error)) => debug!(%error, "an event was not accepted"),
                Err(_elapsed) => debug!("an event was not accepted within {EVENT_TIMEOUT:?}"),
            }
        });
    }

    /// Waits until all events have been sent, for at most this time.
    pub(super) async fn flush(&mut self, within: Duration) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        let _ = timeout(within, all).await;
    }

    fn event(&self, uid: &str, message: String) -> Event {
        let now = Time(Timestamp::now());
        let about = ObjectReference { uid: Some(uid.to_owned()), ..self.about.clone() };
        let name = about.name.clone().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}.")),
                namespace: about.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: about,
            reason: Some("LeaderElection".into()),
            message: Some(message),
            type_: Some("Normal".into()),
            source: Some(EventSource { component: Some(COMPONENT.into()), host: None }),
            reporting_component: Some(COMPONENT.into()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        }
    }
}
