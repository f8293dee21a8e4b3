//! What a route sends again to endpoints that missed it, and the directories of journals.

use std::{io, path::Path, sync::Arc};

use proxy::config::{Policy, Redeliver};
use runtime::config::{Problem, Problems, Section};
use rustix::fs::{Access, access};

use super::Config;
use crate::settings::{Entry, broadcast::redelivery as settings};

/// The key of a route.
const KEY: &str = "redeliver";

/// Reads what a route sends again, and how long a body may be that is kept for it.
pub(super) fn read(route: &Section<'_>, policy: &mut Policy) {
    let section = route.section(KEY);
    let keep = settings::FOR.read(&section);
    let longest = settings::MAX_BODY.read(&section);
    policy.max_kept_body = longest.map_or(policy.max_kept_body, |longest| longest.try_into().unwrap_or(u64::MAX));
    let mut redeliver = Redeliver::lasting(keep.unwrap_or_default());
    redeliver.rules.max_body = longest.unwrap_or(redeliver.rules.max_body);
    redeliver.rules.order = settings::ORDER.or(&section, redeliver.rules.order);
    redeliver.rules.gone = settings::GONE.or(&section, redeliver.rules.gone);
    redeliver.journal = settings::JOURNAL.read(&section);
    if settings::METHODS.is_given(&section) {
        redeliver.methods = settings::METHODS.read(&section);
        if settings::METHODS.nodes(&section).is_empty() {
            settings::METHODS.problem(&section, "is empty: name at least one");
        }
    }
    if settings::ON.is_given(&section) {
        redeliver.on = settings::ON.read(&section).join(",").parse().unwrap_or(redeliver.on);
        if settings::ON.nodes(&section).is_empty() {
            settings::ON.problem(&section, "is empty: name at least one");
        }
    }
    redeliver.identity = settings::IDENTITY.or(&section, redeliver.identity);
    redeliver.grace = settings::GRACE.or(&section, redeliver.grace);
    let limits = &mut redeliver.limits;
    limits.max_bytes = settings::MAX_BYTES.or(&section, limits.max_bytes);
    limits.max_jobs = settings::MAX_JOBS.or(&section, limits.max_jobs);
    limits.concurrency = settings::CONCURRENCY.or(&section, limits.concurrency);
    limits.backoff = settings::BACKOFF.or(&section, limits.backoff);
    redeliver.on_deferred = on_deferred(route, &section);
    redeliver.respond_async = settings::ASYNC.or(route, false);
    if settings::FOR.is_given(&section) {
        policy.redeliver = keep.map(|_| Arc::new(redeliver));
    } else {
        is_missing(route, &section, policy);
    }
    section.finish();
}

fn on_deferred(route: &Section<'_>, section: &Section<'_>) -> Option<u16> {
    let (of_route, here) = (settings::ON_DEFERRED.read(route), settings::ON_DEFERRED_TOO.read(section));
    if let (Some(of_route), Some(here)) = (of_route, here)
        && of_route != here
    {
        let message = format!("is {here}, and on_deferred of the route is {of_route}: both mean the same, use one");
        settings::ON_DEFERRED_TOO.problem(section, message);
    }
    of_route.or(here)
}

/// Without a time nothing is sent again, so that whatever else is said about it would be without effect.
fn is_missing(route: &Section<'_>, section: &Section<'_>, policy: &Policy) {
    let needs_time: [&Entry; 13] = [
        &settings::JOURNAL,
        &settings::METHODS,
        &settings::ON,
        &settings::ORDER,
        &settings::MAX_BYTES,
        &settings::MAX_JOBS,
        &settings::BACKOFF,
        &settings::IDENTITY,
        &settings::GONE,
        &settings::GRACE,
        &settings::CONCURRENCY,
        &settings::ON_DEFERRED_TOO,
        &settings::MAX_BODY,
    ];
    // The bodies of waves are kept as well.
    let is_for_waves = |entry: &Entry| entry.key == settings::MAX_BODY.key && policy.waves.is_some();
    let has_no_effect = |entry: &&Entry| entry.get(section).value().is_some() && !is_for_waves(entry);
    let message = "has no effect where nothing is sent again: say with `for` (--redeliver) for how long, like 1h";
    if let Some(entry) = needs_time.into_iter().find(has_no_effect) {
        entry.problem(section, message);
    } else if settings::ON_DEFERRED.get(route).value().is_some() {
        settings::ON_DEFERRED.problem(route, message);
    } else if settings::ASYNC.read(route) == Some(true) {
        settings::ASYNC.problem(route, message);
    }
}

impl Config {
    /// The journals that are no directories and cannot become one, and those of other versions of Fanfare.
    pub(super) fn check_journals(&self, problems: &mut Problems) {
        for (l, listener) in self.proxy.listeners.iter().enumerate() {
            for (r, route) in listener.routes.iter().enumerate() {
                let journal = route.policy.redeliver.as_ref().and_then(|redeliver| redeliver.journal.as_deref());
                if let Some(message) = journal.and_then(unusable) {
                    let path = format!("broadcast[{l}].routes[{r}].{KEY}.journal");
                    problems.push(Problem { path, message });
                }
            }
        }
    }
}

/// Why a directory cannot be used, as far as that is no fault of the disk, which may pass.
fn unusable(journal: &Path) -> Option<String> {
    let shown = journal.display();
    // Of what is not there yet, the directory in which it would be made.
    let there = journal.ancestors().find_map(|path| std::fs::metadata(path).ok().map(|found| (path, found)));
    let (path, found) = there?;
    let made = path != journal;
    if !found.is_dir() {
        return Some(match made {
            true => format!("{shown} cannot be created: {} is a file; name a directory", path.display()),
            false => format!("{shown} is a file: name a directory, in which the files of the journal are created"),
        });
    }
    let rights = access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
    if rights.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return Some(match made {
            true => format!("{shown} cannot be created: this user has no permission to write in {}", path.display()),
            false => {
                format!("this user has no permission to write in {shown}: change its owner, or name another directory")
            }
        });
    }
    redeliver::journal::check(journal).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    const ROUTE: &str = "broadcast[0].routes[0]";

    fn config(route: &str) -> Result<Config, String> {
        let text = format!(
            "broadcast: [{{listen: '127.0.0.1:0', routes: [{{to: {{endpoints: ['192.0.2.1:80']}}, {route}}}]}}]"
        );
        Config::parse(text.as_bytes()).map_err(|problems| problems.to_string())
    }

    fn redeliver(route: &str) -> Arc<Redeliver> {
        let config = config(route).unwrap_or_else(|problems| panic!("{route}: {problems}"));
        config.proxy.listeners[0].routes[0].policy.redeliver.clone().expect("it is on")
    }

    #[test]
    fn the_shortest_one_has_the_documented_defaults() {
        let plain = redeliver("redeliver: {for: 1h}");
        assert_eq!(*plain, Redeliver::lasting(Duration::from_secs(3600)));
        let told = redeliver(
            "redeliver: {for: 1h, journal: memory only, methods: 'PURGE,BAN,PUT,DELETE', order: endpoint,
             on: 'connect,reset,timeout,rejected,lagged,5xx', max_body: 1MiB, max_bytes: 256MiB, max_jobs: 100000,
             backoff: 250ms..30s, identity: name, gone: keep, grace: 5ms, concurrency: 8}",
        );
        assert_eq!(told, plain);
        assert!(config("async: false").is_ok(), "it is off");
        assert!(config("require: all").unwrap().proxy.listeners[0].routes[0].policy.redeliver.is_none());
    }

    #[test]
    fn every_key_is_taken() {
        let all = redeliver(
            "redeliver: {for: 2h, journal: /j, methods: [POST, PURGE], on: [connect, 5xx], order: none, max_body: 2KiB,
             max_bytes: 1MiB, max_jobs: 7, backoff: 1s..2s, identity: address, gone: drop, grace: 0s, concurrency: 1},
             on_deferred: 202, async: true",
        );
        assert!(all.respond_async);
        assert_eq!(
            (all.journal.as_deref(), all.on_deferred, all.grace),
            (Some(Path::new("/j")), Some(202), Duration::ZERO)
        );
        assert_eq!((all.limits.max_jobs, all.rules.max_body, all.limits.concurrency), (7, 2048, 1));
        assert!(
            all.takes(b"POST") && !all.takes(b"PUT") && all.on.counts("connect", None) && !all.on.counts("reset", None)
        );
        assert_eq!(
            redeliver("redeliver: {for: 1h, on_deferred: 202}"),
            redeliver("redeliver: {for: 1h}, on_deferred: 202")
        );
    }

    #[test]
    fn the_longest_body_bounds_waves_too() {
        let policy = |route: &str| config(route).unwrap().proxy.listeners[0].routes[0].policy.clone();
        assert_eq!(policy("waves: {size: 1}").longest_body(), Some(1 << 20));
        assert_eq!(policy("waves: {size: 1}, redeliver: {max_body: 10}").longest_body(), Some(10));
        assert_eq!(policy("waves: {size: 1}, redeliver: {max_body: 10, for: 1h}").longest_body(), Some(10));
        assert_eq!(policy("redeliver: {max_body: 10, for: 1h}").longest_body(), None);
    }

    #[test]
    fn contradictory_settings_are_reported_with_what_to_do() {
        for (bad, told) in [
            (
                "redeliver: {journal: /j}",
                "redeliver.journal: has no effect where nothing is sent again: say with `for`",
            ),
            ("redeliver: {methods: POST}", "redeliver.methods: has no effect"),
            ("redeliver: {max_body: 1KiB}", "redeliver.max_body: has no effect"),
            ("on_deferred: 202", "on_deferred: has no effect"),
            ("async: true", "async: has no effect where nothing is sent again: say with `for` (--redeliver)"),
            ("redeliver: {for: 0s}", "redeliver.for: must be longer than 0s"),
            ("redeliver: {for: 1h, methods: []}", "redeliver.methods: is empty"),
            ("redeliver: {for: 1h, on: []}", "redeliver.on: is empty"),
            ("redeliver: {for: 1h, methods: 'PU RGE'}", "redeliver.methods: "),
            ("redeliver: {for: 1h, on: 4xx}", "redeliver.on: \"4xx\" is neither an outcome"),
            ("redeliver: {for: 1h, order: fifo}", "redeliver.order: \"fifo\" does not say whether"),
            ("redeliver: {for: 1h, gone: lost}", "redeliver.gone: \"lost\" does not say what happens"),
            ("redeliver: {for: 1h, identity: pod}", "redeliver.identity: \"pod\" does not say who"),
            ("redeliver: {for: 1h, max_body: 0}", "redeliver.max_body: must be at least 1"),
            ("redeliver: {for: 1h, max_bytes: 0}", "redeliver.max_bytes: must be at least 1"),
            ("redeliver: {for: 1h, max_jobs: 0}", "redeliver.max_jobs: must be at least 1"),
            ("redeliver: {for: 1h, concurrency: 0}", "redeliver.concurrency: must be at least 1"),
            ("redeliver: {for: 1h, backoff: 1s}", "redeliver.backoff: \"1s\" does not say"),
            ("redeliver: {for: 1h, journal: ''}", "redeliver.journal: is empty"),
            ("redeliver: {for: 1h, on_deferred: 203}, on_deferred: 202", "redeliver.on_deferred: is 203, and"),
            ("redeliver: {for: 1h}, on_deferred: 102", "on_deferred: 102 is not a final HTTP status"),
            ("redeliver: {for: 1h, jornal: /j}", "redeliver.jornal: unknown key, did you mean \"journal\"?"),
        ] {
            let problems = config(bad).map(|_| ()).expect_err(bad);
            assert!(problems.starts_with(&format!("{ROUTE}.{told}")), "{bad}: {problems}");
        }
    }

    #[test]
    fn routes_that_share_a_journal_share_its_bounds() {
        let two = |first: &str, second: &str| {
            let route = |more: &str| format!("{{to: {{endpoints: ['192.0.2.1:80']}}, redeliver: {{for: 1h, {more}}}}}");
            let routes = format!("{}, {}", route(first), route(second));
            let text = format!("broadcast: [{{listen: '127.0.0.1:0', routes: [{routes}]}}]");
            Config::parse(text.as_bytes()).map(|_| ()).map_err(|problems| problems.to_string())
        };
        assert_eq!(two("journal: /j, max_jobs: 5", "journal: /k"), Ok(()));
        assert_eq!(two("journal: /j, gone: drop", "journal: /j/, order: none"), Ok(()));
        let problems = two("journal: /j, max_jobs: 5", "journal: /j").unwrap_err();
        assert!(
            problems
                .starts_with("broadcast[0].routes[1].redeliver: has other bounds than route \"fixed:192.0.2.1:80\"")
        );
        assert!(problems.contains("in the journal /j"), "{problems}");
        assert!(two("max_jobs: 5", "").unwrap_err().contains("keep their jobs in memory"));
    }

    #[test]
    fn a_journal_is_a_directory_or_can_become_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let told = |path: PathBuf| unusable(&path).unwrap_or_default();
        assert_eq!(told(folder.path().to_owned()), "");
        assert_eq!(told(folder.path().join("new/one")), "");
        assert!(told(file.clone()).contains("is a file: name a directory"));
        assert!(told(file.join("in/it")).contains(&format!("cannot be created: {} is a file", file.display())));
        let text = format!("redeliver: {{for: 1h, journal: {}}}", file.display());
        let problems = config(&text).unwrap().check_files().problems.to_string();
        assert!(problems.starts_with(&format!("{ROUTE}.redeliver.journal: ")), "{problems}");
    }

    #[test]
    fn it_is_shown_as_a_file_says_it_and_only_where_it_is_on() {
        let shown = config("redeliver: {for: 1h, journal: /j}").unwrap().shown();
        let route = &shown["broadcast"][0]["routes"][0];
        assert_eq!((&route["redeliver"]["journal"], &route["redeliver"]["max_jobs"]), (&"/j".into(), &100_000.into()));
        let again = Config::parse(shown.to_string().as_bytes()).unwrap();
        assert_eq!(again, config("redeliver: {for: 1h, journal: /j}").unwrap());
        let off = config("require: all").unwrap().shown();
        assert!(off["broadcast"][0]["routes"][0]["redeliver"].is_null(), "{off}");
    }
}
