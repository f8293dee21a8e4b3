//! Reports mirrors that are refused: by a log line, a metric and an event of the local Service, at most once an hour.

use std::time::{Duration, Instant};

use ::metrics::counter;
use controlplane::index::ServiceKey;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};

use super::{Apply, count};
use crate::{live::digest, metrics as names};

/// The reporting component of events.
const REPORTING_COMPONENT: &str = "fanfare-mirror";
/// The time for which a report is not repeated. The API server keeps events for an hour.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3600);
/// The most reports that are remembered. With more of them, some are repeated early.
const MAX_REMEMBERED: usize = 10_000;
/// The longest note: the API server refuses longer ones.
const MAX_NOTE_LENGTH: usize = 1000;

impl Apply {
    /// Reports about a local Service, which need not exist. A failure to do so is logged and has no other effect.
    pub(crate) async fn report(&self, service: &ServiceKey, uid: Option<&str>, reason: &'static str, note: &str) {
        let what = digest(&(service.namespace.as_ref(), service.name.as_ref(), reason, note));
        if !self.is_news(what, Instant::now()) {
            return;
        }
        counter!(names::REFUSED, "reason" => reason).increment(1);
        tracing::warn!(%service, reason, "{note}");
        let event = event(service, uid, reason, note, what);
        let api: Api<Event> = self.api(&service.namespace);
        let limit = super::CALL_TIMEOUT;
        let params = PostParams::default();
        let written = self.leadership.write(limit, async |_claim| api.create(&params, &event).await).await;
        count("events", "create", &written);
        if let Err(error) = written
            && !matches!(&error, controlplane::lease::WriteError::Failed(kube::Error::Api(status)) if status.code == 409)
        {
            tracing::debug!(%service, %error, "the event could not be written");
        }
    }

    fn is_news(&self, what: u64, now: Instant) -> bool {
        let mut reported_at = self.reported_at.lock();
        if reported_at.get(&what).is_some_and(|at| now.duration_since(*at) < REPEAT_INTERVAL) {
            return false;
        }
        if reported_at.len() >= MAX_REMEMBERED {
            reported_at.retain(|_what, at| now.duration_since(*at) < REPEAT_INTERVAL);
        }
        if reported_at.len() >= MAX_REMEMBERED {
            reported_at.clear();
        }
        reported_at.insert(what, now);
        true
    }
}

/// An event whose name is derived from its content, so that the API server refuses a repetition by any process as a duplicate.
fn event(service: &ServiceKey, uid: Option<&str>, reason: &str, note: &str, digest: u64) -> Event {
    let now = Time(Timestamp::now());
    let mut note = note.to_owned();
    if note.len() > MAX_NOTE_LENGTH {
        let end = (0..=MAX_NOTE_LENGTH).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
    }
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{digest:016x}", service.name)),
            namespace: Some(service.namespace.to_string()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Service".into()),
            namespace: Some(service.namespace.to_string()),
            name: Some(service.name.to_string()),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        },
        type_: Some("Warning".into()),
        reason: Some(reason.to_owned()),
        message: Some(note),
        source: Some(EventSource { component: Some(REPORTING_COMPONENT.into()), host: None }),
        reporting_component: Some(REPORTING_COMPONENT.into()),
        reporting_instance: Some(REPORTING_COMPONENT.into()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    }
}
