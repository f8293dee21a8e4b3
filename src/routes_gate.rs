//! The readiness of the routes, one by one and as a whole: a route is ready once its source of endpoints has its first list and an
//! endpoint is ready, or none is needed.

use std::{collections::BTreeMap, pin::pin};

use runtime::readiness::{Gate, Readiness};

use crate::{
    config::{Process, Ready},
    shared::Shared,
};

/// The most routes that are named for one reason.
const MAX_NAMED: usize = 5;

/// The task that keeps the readiness up to date. Dropping it ends the task.
pub(crate) struct RoutesGateTask(tokio::task::JoinHandle<()>);

/// The state of every route by name: ready, or why not.
type Routes = BTreeMap<String, Result<(), String>>;

/// Keeps the readiness of the process and of each route up to date with the routes and their sources.
pub(crate) fn spawn(gate: Gate, shared: &Shared, handle: proxy::Handle, sources: Readiness) -> RoutesGateTask {
    RoutesGateTask(tokio::spawn(keep(gate, shared.clone(), handle, sources)))
}

async fn keep(gate: Gate, shared: Shared, handle: proxy::Handle, sources: Readiness) {
    let (mut config, mut in_service) = (shared.config.subscribe(), handle.in_service());
    let mut reading = pin!(handle.journals_read());
    let mut is_reading = true;
    let (mut seen, mut routes) = (proxy::SeenRoutes::default(), Routes::new());
    loop {
        // Registered before the state is read, so that no change in between is missed.
        let source = sources.changed();
        in_service.borrow_and_update();
        let process = config.borrow_and_update().process.clone();
        if is_reading {
            // One journal of several may have been read.
            seen = proxy::SeenRoutes::default();
        }
        let changed = handle.changed_routes(&mut seen);
        let pending = sources.pending();
        let states = changed.routes.iter().map(|route| state(route, &process, &pending));
        if changed.all {
            routes = states.collect();
            shared.readiness.set_parts(routes.clone());
        } else {
            for (name, state) in states {
                shared.readiness.set_part(name.clone(), state.clone());
                routes.insert(name, state);
            }
        }
        match whole(&routes, process.ready) {
            Ok(()) => gate.set_ready(),
            Err(why) => gate.set_not_ready(why),
        }
        tokio::select! {
            changed = in_service.changed() => if changed.is_err() { return },
            // These concern every route.
            changed = config.changed() => if changed.is_err() { return } else { seen = proxy::SeenRoutes::default() },
            () = source => seen = proxy::SeenRoutes::default(),
            () = &mut reading, if is_reading => (is_reading, seen) = (false, proxy::SeenRoutes::default()),
        }
    }
}

/// A route's name and state.
fn state(
    route: &proxy::RouteState,
    process: &Process,
    pending: &BTreeMap<String, String>,
) -> (String, Result<(), String>) {
    let state = match (pending.get(route.cluster.as_str()), &route.unread_journal) {
        (Some(why), _) => Err(format!("{}: {why}", route.cluster)),
        // The source may have a list that requests do not see yet.
        (None, _) if !route.has_list => Err(format!("{}: {}", route.cluster, route.why_none)),
        (None, Some(journal)) => Err(format!("the journal {} is still being read", journal.display())),
        (None, None) if route.has_endpoint || process.ready_no_endpoint => Ok(()),
        (None, None) if route.why_none.is_empty() => Err("no endpoint".to_owned()),
        (None, None) => Err(format!("no endpoint ({})", route.why_none)),
    };
    (route.name.to_string(), state)
}

/// Whether the process is ready, given the state of its routes.
fn whole(routes: &Routes, ready: Ready) -> Result<(), String> {
    let pending: Vec<_> = routes.iter().filter_map(|(name, state)| Some((name, state.as_ref().err()?))).collect();
    let some_ready = pending.len() < routes.len();
    if pending.is_empty() || (ready == Ready::Any && some_ready) {
        return Ok(());
    }
    // Routes to the same endpoints have the same reason.
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, why) in pending {
        reasons.entry(why).or_default().push(name);
    }
    let reasons = reasons.into_iter().map(|(why, names)| {
        let more =
            if names.len() > MAX_NAMED { format!(" and {} more", names.len() - MAX_NAMED) } else { String::new() };
        format!("{why} for {}{more}", names[..names.len().min(MAX_NAMED)].join(", "))
    });
    Err(reasons.collect::<Vec<_>>().join("; "))
}

// === impl RoutesGateTask ===

impl Drop for RoutesGateTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(states: &[(&str, Option<&str>)]) -> Routes {
        let state = |why: &Option<&str>| why.map_or(Ok(()), |why| Err(why.to_owned()));
        states.iter().map(|(name, why)| ((*name).to_owned(), state(why))).collect()
    }

    #[test]
    fn all_means_every_route_and_any_means_one() {
        let (none, both) = (routes(&[]), routes(&[("a", None), ("b", None)]));
        let (one, neither) = (
            routes(&[("a", None), ("b", Some("no endpoint"))]),
            routes(&[("a", Some("c: why")), ("b", Some("no endpoint"))]),
        );
        for (routes, all, any) in
            [(&none, true, true), (&both, true, true), (&one, false, true), (&neither, false, false)]
        {
            assert_eq!(whole(routes, Ready::All).is_ok(), all, "{routes:?}");
            assert_eq!(whole(routes, Ready::Any).is_ok(), any, "{routes:?}");
        }
        assert_eq!(whole(&neither, Ready::Any), Err("c: why for a; no endpoint for b".into()));
    }

    #[test]
    fn a_route_is_not_ready_before_requests_see_its_list() {
        let route = |has_list, has_endpoint| proxy::RouteState {
            name: "a".into(),
            cluster: snapshot::ClusterName::new("c").expect("a name"),
            has_list,
            has_endpoint,
            why_none: "why".to_owned(),
            unread_journal: None,
        };
        let (strict, lenient) = (Process::default(), Process { ready_no_endpoint: true, ..Process::default() });
        let pending = BTreeMap::new();
        for (route, process, ready) in [
            (route(false, false), &strict, Err("c: why".to_owned())),
            (route(false, false), &lenient, Err("c: why".to_owned())),
            (route(true, false), &strict, Err("no endpoint (why)".to_owned())),
            (route(true, false), &lenient, Ok(())),
            (route(true, true), &strict, Ok(())),
        ] {
            assert_eq!(state(&route, process, &pending).1, ready, "{route:?}");
        }
    }

    #[test]
    fn a_route_is_not_ready_before_its_journal_is_read() {
        let route = proxy::RouteState {
            name: "a".into(),
            cluster: snapshot::ClusterName::new("c").expect("a name"),
            has_list: true,
            has_endpoint: true,
            why_none: String::new(),
            unread_journal: Some("/var/lib/j".into()),
        };
        let expected = Err("the journal /var/lib/j is still being read".to_owned());
        assert_eq!(state(&route, &Process::default(), &BTreeMap::new()).1, expected);
    }

    #[test]
    fn of_many_routes_a_few_are_named() {
        let names: Vec<String> = (0..9).map(|n| format!("r{n}")).collect();
        let routes: Routes = names.iter().map(|name| (name.clone(), Err("no endpoint".to_owned()))).collect();
        assert_eq!(whole(&routes, Ready::All), Err("no endpoint for r0, r1, r2, r3, r4 and 4 more".into()));
    }
}
