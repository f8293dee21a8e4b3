//! The JSON of jobs at `/-/jobs`.

use crate::{
    JobId, Millis,
    core::{Core, Delivery, State},
    journal::{Damage, Health},
};

use std::{path::Path, sync::Arc};

use serde::Serialize;

/// The default number of jobs.
const LIMIT: usize = 100;
/// The largest number of jobs.
const MOST: usize = 1_000;

/// A query for jobs.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those with a delivery for this endpoint: its current or former address, or the name of its pod.
    pub endpoint: Option<String>,
    /// Only those of this route.
    pub route: Option<String>,
    /// The largest number of jobs.
    pub limit: Option<usize>,
    /// Only those that are older than this one.
    pub after: Option<JobId>,
}

/// The document of `/-/jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobsView {
    /// The jobs, the newest first.
    pub jobs: Vec<JobView>,
    /// The journal.
    pub journal: JournalView,
}

/// The state of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalView {
    directory: Option<String>,
    /// `memory`, `opening`, `open`, `waiting` or `failed`.
    state: &'static str,
    error: Option<Arc<str>>,
    damaged: Option<DamageView>,
}

/// The damage that was found when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageView {
    /// The new path of the damaged file.
    file: String,
    /// The number of jobs that could be read.
    kept: usize,
    error: String,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Some delivery is owed.
    Owed,
    /// All deliveries were answered.
    Done,
    /// Some delivery expired or was dropped.
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

/// A delivery of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryView {
    endpoint: Arc<str>,
    pod: Option<Arc<str>>,
    state: &'static str,
    attempts: u32,
    last: Option<LastView>,
}

/// The last attempt.
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

impl Query {
    /// How many jobs are shown at most.
    #[must_use]
    pub fn most(&self) -> usize {
        self.limit.unwrap_or(LIMIT).min(MOST)
    }
}

impl JobView {
    /// Its identifier as text.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Shows another text in place of the target.
    pub fn show_target(&mut self, shown: impl FnOnce(&str) -> String) {
        self.uri = shown(&self.uri);
    }
}

impl Core {
    /// The requested jobs, the newest first.
    #[must_use]
    pub fn show(&self, query: &Query) -> Vec<JobView> {
        self.show_some(query, usize::MAX).0
    }

    /// The jobs that are asked for, the newest first, of so many that are looked at; and after which one to go on, unless all
    /// have been.
    #[must_use]
    pub fn show_some(&self, query: &Query, looked_at: usize) -> (Vec<JobView>, Option<JobId>) {
        let (mut found, most) = (Vec::new(), query.most());
        for (count, (id, job)) in self.jobs(query.after.unwrap_or(JobId::MAX)).enumerate() {
            let wanted = query.state.is_none_or(|state| JobState::of(&job.deliveries) == state)
                && query.route.as_ref().is_none_or(|route| **route == **self.route_name(job))
                && query.endpoint.as_ref().is_none_or(|wanted| job.deliveries.iter().any(|it| self.is_for(it, wanted)));
            if wanted {
                found.extend(self.show_one(id));
            }
            if found.len() >= most || count + 1 >= looked_at {
                return (found, Some(id));
            }
        }
        (found, None)
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
