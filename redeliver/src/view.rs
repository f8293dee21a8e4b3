//! How jobs are shown at `/-/jobs`.

use crate::{
    JobId, Millis,
    core::{Core, Delivery, State},
    journal::{Damage, Health},
};

use std::{path::Path, sync::Arc};

use serde::Serialize;

/// How many jobs are shown where nobody says.
const LIMIT: usize = 100;
/// How many are shown at most.
const MOST: usize = 1_000;

/// Which jobs are asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those with a delivery for this endpoint: its address now or then, or the name of its pod.
    pub endpoint: Option<String>,
    /// Only those of this route.
    pub route: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
    /// Only those that are older than this one.
    pub after: Option<JobId>,
}

/// What `/-/jobs` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobsView {
    /// The jobs that were asked for, the newest first.
    pub jobs: Vec<JobView>,
    /// Where they are kept.
    pub journal: JournalView,
}

/// How a journal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalView {
    directory: Option<String>,
    /// `memory`, `opening`, `open`, `waiting` or `failed`.
    state: &'static str,
    error: Option<Arc<str>>,
    damaged: Option<DamageView>,
}

/// What was damaged when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageView {
    /// Where the damaged file is now.
    file: String,
    /// How many jobs could be read.
    kept: usize,
    error: String,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Somebody is owed it.
    Owed,
    /// Everybody has answered it.
    Done,
    /// Somebody did not get it in time, or it was dropped.
    Expired,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    id: String,
    route: Arc<str>,
    method: Arc<str>,
    uri: String,
    host: Arc<str>,
    ts: String,
    expires: String,
    bytes: u32,
    state: JobState,
    deliveries: Vec<DeliveryView>,
}

/// What one endpoint is owed, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryView {
    endpoint: Arc<str>,
    pod: Option<Arc<str>>,
    state: &'static str,
    attempts: u32,
    last: Option<LastView>,
}

/// How the last try ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastView {
    outcome: &'static str,
    status: Option<u16>,
    at: String,
    error: Option<Arc<str>>,
}

impl JournalView {
    pub(crate) fn new(directory: Option<&Path>, health: Option<&Health>, damage: Option<&Damage>) -> Self {
        let (state, error) = match (directory, health) {
            (None, _) => ("memory", None),
            (Some(_), None) => ("opening", None),
            (Some(_), Some(Health::Open)) => ("open", None),
            (Some(_), Some(Health::Waiting)) => ("waiting", None),
            (Some(_), Some(Health::Failed(error))) => ("failed", Some(error.clone())),
        };
        let damaged = damage.map(|damage| DamageView {
            file: damage.aside.display().to_string(),
            kept: damage.kept,
            error: damage.error.clone(),
        });
        Self { directory: directory.map(|directory| directory.display().to_string()), state, error, damaged }
    }
}

impl JobState {
    /// Reads the value of `?state=`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "owed" => Some(Self::Owed),
            "done" => Some(Self::Done),
            "expired" => Some(Self::Expired),
            _ => None,
        }
    }

    fn of(deliveries: &[Delivery]) -> Self {
        if deliveries.iter().any(|delivery| delivery.state.is_owed()) {
            Self::Owed
        } else if deliveries.iter().any(|delivery| matches!(delivery.state, State::Expired | State::Dropped)) {
            Self::Expired
        } else {
            Self::Done
        }
    }
}

impl JobView {
    /// Its identifier, as it is shown.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Core {
    /// The jobs that are asked for, the newest first.
    #[must_use]
    pub fn show(&self, query: &Query) -> Vec<JobView> {
        let limit = query.limit.unwrap_or(LIMIT).min(MOST);
        let wanted = self.jobs(query.after.unwrap_or(JobId::MAX)).filter(|(_, job)| {
            query.state.is_none_or(|state| JobState::of(&job.deliveries) == state)
                && query.route.as_ref().is_none_or(|route| **route == **self.route_name(job))
                && query.endpoint.as_ref().is_none_or(|wanted| job.deliveries.iter().any(|it| self.is_for(it, wanted)))
        });
        wanted.take(limit).filter_map(|(id, _)| self.show_one(id)).collect()
    }

    /// One job.
    #[must_use]
    pub fn show_one(&self, id: JobId) -> Option<JobView> {
        let job = self.job(id)?;
        let deliveries = job.deliveries.iter().map(|delivery| DeliveryView {
            endpoint: self.place_of(delivery).clone(),
            pod: delivery.whom.pod.clone(),
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            last: delivery.last.as_ref().map(|last| LastView {
                outcome: last.outcome,
                status: last.status,
                at: moment(last.at),
                error: last.error.clone(),
            }),
        });
        Some(JobView {
            id: id.to_string(),
            route: self.route_name(job).clone(),
            method: job.request.method.clone(),
            uri: String::from(&*job.request.target),
            host: job.request.host.clone(),
            ts: moment(job.arrived),
            expires: moment(job.expires),
            bytes: job.size,
            state: JobState::of(&job.deliveries),
            deliveries: deliveries.collect(),
        })
    }

    fn is_for(&self, delivery: &Delivery, wanted: &str) -> bool {
        **self.place_of(delivery) == *wanted
            || *delivery.whom.endpoint == *wanted
            || delivery.whom.pod.as_deref() == Some(wanted)
    }
}

fn moment(at: Millis) -> String {
    let time = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    time.map_or_else(|| String::from("-"), |time| format!("{time:.3}"))
}
