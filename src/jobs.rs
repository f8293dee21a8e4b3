//! `/-/jobs` of the admin listener: lists, retries and deletes jobs of redelivery.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use redeliver::{
    JobId, Redelivery,
    core::Retry,
    view::{JobState, JobView, JournalView, Query as JobQuery},
};
use serde::Serialize;
use serde_json::json;

use crate::shared::DataPlane;

/// The paths that the answer to an unknown path lists.
pub(crate) const PATHS: [&str; 3] = ["/-/jobs", "/-/jobs/<id>", "/-/jobs/<id>/retry"];

/// Jobs of every journal, the newest first, and the states of the journals.
#[derive(Serialize)]
struct Listing {
    jobs: Vec<JobView>,
    journals: Vec<JournalView>,
}

/// The reason why a request is refused.
struct Refusal(StatusCode, String);

/// The routes. The listener decides which clients may send requests that change something.
pub(crate) fn router(data_plane: DataPlane) -> Router {
    Router::new()
        .route("/-/jobs", get(list))
        .route("/-/jobs/{id}", get(show).delete(remove))
        .route("/-/jobs/{id}/retry", post(retry))
        .method_not_allowed_fallback(not_allowed)
        .with_state(data_plane)
}

async fn list(
    State(data_plane): State<DataPlane>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let query = query(pairs).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why))?;
    let views = data_plane.get().map(|data_plane| data_plane.jobs(&query)).unwrap_or_default();
    let mut listing = Listing { jobs: Vec::new(), journals: Vec::new() };
    for view in views {
        listing.jobs.extend(view.jobs);
        listing.journals.push(view.journal);
    }
    // All ids have the same length, and are times of arrival first.
    listing.jobs.sort_by(|a, b| b.id().cmp(a.id()));
    listing.jobs.truncate(query.most());
    Ok(answer(StatusCode::OK, &listing))
}

async fn show(State(data_plane): State<DataPlane>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let wanted = parsed(&id)?;
    let job = data_plane.get().and_then(|data_plane| data_plane.job(wanted));
    job.map(|job| answer(StatusCode::OK, &job)).ok_or_else(|| unknown(wanted))
}

async fn retry(State(data_plane): State<DataPlane>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let wanted = parsed(&id)?;
    let tried = redeliveries(&data_plane).iter().map(|kept| kept.retry(wanted)).find(|it| *it != Retry::Unknown);
    match tried.unwrap_or(Retry::Unknown) {
        Retry::Begun(endpoints) => {
            tracing::info!(job = %wanted, endpoints, "an operator has requested a retry of a job");
            Ok(answer(StatusCode::ACCEPTED, &json!({ "id": wanted.to_string(), "endpoints": endpoints })))
        }
        Retry::NothingOwed => {
            let why = format!("job {wanted} has no pending deliveries: there is nothing to retry");
            Err(Refusal(StatusCode::CONFLICT, why))
        }
        Retry::Unknown => Err(unknown(wanted)),
    }
}

async fn remove(State(data_plane): State<DataPlane>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let wanted = parsed(&id)?;
    if redeliveries(&data_plane).iter().any(|kept| kept.delete(wanted)) {
        tracing::info!(job = %wanted, "an operator has deleted a job and its pending deliveries");
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(unknown(wanted))
    }
}

/// The router sets the header `Allow`.
async fn not_allowed() -> Refusal {
    let why = "GET reads /-/jobs and /-/jobs/<id>, DELETE drops /-/jobs/<id>, POST tries /-/jobs/<id>/retry at once";
    Refusal(StatusCode::METHOD_NOT_ALLOWED, why.to_owned())
}

fn redeliveries(data_plane: &DataPlane) -> Vec<Redelivery> {
    data_plane.get().map(proxy::Handle::redeliveries).unwrap_or_default()
}

fn parsed(id: &str) -> Result<JobId, Refusal> {
    id.parse().map_err(|error: redeliver::NotAnId| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn unknown(id: JobId) -> Refusal {
    let why = format!("there is no job {id}: it belongs to another process, was deleted, or was done too long ago");
    Refusal(StatusCode::NOT_FOUND, why)
}

/// The query for jobs.
fn query(pairs: Vec<(String, String)>) -> Result<JobQuery, String> {
    let mut query = JobQuery::default();
    for (name, value) in pairs {
        match name.as_str() {
            "state" => {
                let state = JobState::parse(&value);
                query.state =
                    Some(state.ok_or_else(|| format!("state={value:?} is not a state: use owed, done or expired"))?);
            }
            "endpoint" => query.endpoint = Some(value),
            "route" => query.route = Some(value),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                query.limit = Some(limit.ok_or_else(|| format!("limit={value:?} is not a number of at least 1"))?);
            }
            "after" => query.after = Some(value.parse().map_err(|error| format!("after: {error}"))?),
            _ => return Err(format!("{name:?} is not a parameter: use state, endpoint, route, limit and after")),
        }
    }
    Ok(query)
}

/// An answer that must not be cached.
fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

// === impl Refusal ===

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &[(&str, &str)]) -> Result<JobQuery, String> {
        query(text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn invalid_queries_are_reported() {
        let all = asked(&[("state", "owed"), ("endpoint", "a:80"), ("route", "r"), ("limit", "5")]).unwrap();
        assert_eq!((all.state, all.most(), all.route.as_deref()), (Some(JobState::Owed), 5, Some("r")));
        assert_eq!(asked(&[]).unwrap().most(), 100);
        for (pair, told) in [
            (("state", "lost"), "use owed, done or expired"),
            (("limit", "0"), "at least 1"),
            (("limit", "x"), "at least 1"),
            (("after", "1"), "16 hexadecimal digits"),
            (("stat", "owed"), "use state, endpoint, route, limit and after"),
        ] {
            let error = asked(&[pair]).map(|_| ()).unwrap_err();
            assert!(error.contains(told), "{pair:?}: {error}");
        }
    }
}
