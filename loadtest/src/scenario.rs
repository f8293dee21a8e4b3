//! The scenarios, with their loads, subjects and settings.

mod access_log;
mod many;
mod redeliver;
mod startup;
mod wire;

pub(crate) use redeliver::OWES_NOTHING;

use anyhow::bail;

use crate::{
    bar::Bar,
    cores::Placement,
    endpoints::Special,
    protocols::Protocols,
    subject::{AccessLog, Binary, Subject},
};

/// A scenario.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its description.
    pub(crate) about: &'static str,
    /// The number of endpoints.
    pub(crate) endpoints: usize,
    /// The work.
    pub(crate) work: Work,
    /// The placement on cores.
    pub(crate) placement: Placement,
    /// The rows; the bare loop is the first.
    pub(crate) cases: Vec<Case>,
    /// The metrics of its table.
    pub(crate) columns: &'static [&'static str],
    /// The metric of the chart.
    pub(crate) chart: Option<&'static str>,
    /// The bars for Fanfare.
    pub(crate) bars: Vec<Bar>,
}

/// The work of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// As many requests as possible over a number of connections; then at a constant rate, if one is given.
    Saturate { body: u64, connections: usize, rate: Option<f64> },
    /// As many requests as possible, each over a connection of its own, a number at a time.
    Reconnect { connections: usize },
    /// As many requests as possible over one connection, with a number in flight; with HTTP/1.1, over that number of connections.
    Streams { streams: usize },
    /// As many requests as possible with a body in so many chunks of this size.
    Chunked { chunks: u64, size: u64, connections: usize },
    /// As many requests as possible; then at half that rate, for a multiple of the usual duration.
    HalfLoad { connections: usize, times: f64 },
    /// No requests: starts of the process.
    Start,
    /// No requests: so many routes to so many endpoints each, some of which change.
    Many { routes: usize, each: usize },
    /// Requests at a constant rate, for a multiple of the usual duration.
    Steady { rate: f64, connections: usize, times: f64 },
    /// The same, while the last endpoint stops and starts every second.
    Restart { rate: f64, connections: usize, times: f64 },
    /// As many requests as possible, while the file of endpoints is rewritten twice a second with 9 of 10 of them.
    Churn { connections: usize, times: f64 },
    /// One request with a long body.
    Upload { bytes: u64 },
    /// As many requests as possible, which one endpoint misses, and the journal alone with as many that wait for it at a time.
    Missed { connections: usize },
    /// So many requests with a body, which one endpoint misses and may be owed from then on; then requests without one at a
    /// constant rate; then a start with what is owed.
    Owed { jobs: u64, rate: f64, connections: usize, times: f64 },
    /// Connections that do nothing, after one request each or after none.
    Idle { connections: usize, request: bool },
}

/// A row: a subject, and its settings.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The subject.
    pub(crate) subject: Subject,
    /// The name of the variant, if the scenario has several.
    pub(crate) variant: &'static str,
    /// The protocols on both sides.
    pub(crate) protocols: Protocols,
    /// Its access log.
    pub(crate) log: AccessLog,
    /// Flags of Fanfare.
    pub(crate) flags: &'static [&'static str],
    /// The number of worker threads.
    pub(crate) threads: usize,
    /// The special endpoints.
    pub(crate) special: Vec<(usize, Special)>,
    /// The variant of the same subject that it is compared with.
    pub(crate) against: Option<&'static str>,
}

const TINY: &[&str] = &[
    "cpu_us_per_request",
    "cpu_us_at_rate",
    "requests_per_second",
    "p50_us",
    "p99_us",
    "peak_bytes",
    "syscalls_per_request",
    "voluntary_switches_per_request",
    "errors",
    "lost_copies",
];
const BODY: &[&str] = &[
    "bytes_per_second",
    "cpu_us_per_mib",
    "cpu_us_per_request",
    "peak_bytes",
    "syscalls_per_request",
    "errors",
    "lost_copies",
];
const CHUNKED: &[&str] = &["cpu_us_per_request", "bytes_per_second", "peak_bytes", "errors", "lost_copies"];
const HALF: &[&str] =
    &["p50_us", "p99_us", "p999_us", "rate_per_second", "cpu_us_per_request", "errors", "unsent", "lost_copies"];
const STEADY: &[&str] =
    &["p50_us", "p99_us", "p999_us", "cpu_us_per_request", "peak_bytes", "errors", "unsent", "lost_copies"];
const CHURN: &[&str] = &[
    "cpu_us_per_request",
    "requests_per_second",
    "saturated_p99_us",
    "peak_bytes",
    "rewrites",
    "errors",
    "lost_copies",
    "extra_copies",
];
const UPLOAD: &[&str] = &["bytes_per_second", "peak_bytes", "growth_bytes", "cpu_us_per_mib", "errors", "lost_copies"];
const IDLE: &[&str] = &["bytes_per_connection", "connections", "rss_bytes", "errors"];
const THREADS: &[&str] =
    &["cpu_us_per_request", "requests_per_second", "syscalls_per_request", "errors", "lost_copies"];

/// Bytes of a body in chunks.
const CHUNKED_BYTES: u64 = 2_000_000;
/// A time-out longer than any upload.
const LONG: &[&str] = &["--timeout", "600s"];
const MANY: &[&str] = &["--max-connections", "20000"];

/// Every scenario, with these binaries of Fanfare.
pub(crate) fn all(binaries: &[Binary]) -> Vec<Scenario> {
    let workspace = [Binary::workspace()];
    let cases = Cases { binaries: if binaries.is_empty() { &workspace } else { binaries } };
    let groups = [
        sizes(&cases),
        access_log::all(&cases),
        latency(&cases),
        policies(&cases),
        faults(&cases),
        scale(&cases),
        wire::all(&cases),
        redeliver::all(&cases),
        startup::all(&cases),
        many::all(&cases),
    ];
    groups.concat()
}

/// Builds the rows of scenarios.
struct Cases<'a> {
    binaries: &'a [Binary],
}

impl Cases<'_> {
    fn fanfare(&self) -> impl Iterator<Item = Subject> {
        fanfare(self.binaries)
    }

    /// Every subject, those of Fanfare with these flags.
    fn everybody(&self, flags: &'static [&'static str]) -> Vec<Case> {
        let rivals = [Subject::Nginx, Subject::Envoy, Subject::Traefik, Subject::Pingora, Subject::GoTool];
        let mut cases = vec![Case::new(Subject::Bare)];
        cases.extend(self.fanfare().map(|subject| Case { flags, ..Case::new(subject) }));
        cases.extend(rivals.map(Case::new));
        cases
    }

    /// Fanfare in each of these variants: name, flags, threads, and the variant that it is compared with.
    fn variants(&self, variants: &[(&'static str, &'static [&'static str], usize, Option<&'static str>)]) -> Vec<Case> {
        let mut cases = vec![Case::new(Subject::Bare)];
        for subject in self.fanfare() {
            for (variant, flags, threads, against) in variants {
                let subject = subject.clone();
                cases.push(Case { variant, flags, threads: *threads, against: *against, ..Case::new(subject) });
            }
        }
        cases
    }

    /// Every subject that tolerates the loss of one of three endpoints, with good ones and with one of this kind.
    fn one_bad(&self, special: Special) -> Vec<Case> {
        let mut cases = vec![Case::new(Subject::Bare)];
        for subject in self.fanfare().chain([Subject::Nginx, Subject::Envoy, Subject::Traefik]) {
            // The last endpoint is special, because other proxies answer from the first.
            let bad = vec![(2, special)];
            let flags: &[&str] = &["--require", "any"];
            let well = Case { flags, variant: "all well", ..Case::new(subject.clone()) };
            let ill = Case { variant: "one bad", special: bad, against: Some("all well"), flags, ..Case::new(subject) };
            cases.extend([well, ill]);
        }
        cases
    }
}

fn scenario(
    name: &'static str,
    about: &'static str,
    endpoints: usize,
    work: Work,
    cases: Vec<Case>,
    columns: &'static [&'static str],
) -> Scenario {
    Scenario {
        name,
        about,
        endpoints,
        work,
        cases,
        columns,
        placement: Placement::Apart,
        chart: None,
        bars: Vec::new(),
    }
}

fn saturate(body: u64, connections: usize, rate: Option<f64>) -> Work {
    Work::Saturate { body, connections, rate }
}

/// By the number of endpoints, and by the size of the body.
fn sizes(cases: &Cases<'_>) -> Vec<Scenario> {
    let tiny = |name, about, endpoints, rate| Scenario {
        placement: Placement::Together,
        chart: Some("cpu_us_per_request"),
        ..scenario(name, about, endpoints, saturate(0, 32, Some(rate)), cases.everybody(&[]), TINY)
    };
    let body = |name, about, body, connections| Scenario {
        chart: Some("cpu_us_per_mib"),
        ..scenario(name, about, 10, saturate(body, connections, None), cases.everybody(LONG), BODY)
    };
    let chunked = |name, about, chunks, size| {
        let work = Work::Chunked { chunks, size, connections: 2 };
        scenario(name, about, 5, work, cases.everybody(LONG), CHUNKED)
    };
    vec![
        tiny("tiny-n1", "no body to 1 endpoint, where the others are plain proxies", 1, 1000.0),
        tiny("tiny-n3", "no body to 3 endpoints", 3, 1000.0),
        tiny("tiny-n10", "no body to 10 endpoints", 10, 500.0),
        tiny("tiny-n50", "no body to 50 endpoints", 50, 100.0),
        Scenario { placement: Placement::Together, ..body("body-1k", "1 KiB to 10 endpoints", 1 << 10, 32) },
        body("body-64k", "64 KiB to 10 endpoints", 64 << 10, 16),
        body("body-10m", "10 MiB to 10 endpoints", 10 << 20, 4),
        chunked("chunks-one", "2 MB in one chunk to 5 endpoints", 1, CHUNKED_BYTES),
        chunked("chunks-byte", "2 MB in chunks of one byte to 5 endpoints", CHUNKED_BYTES, 1),
    ]
}

/// With as many requests as come at half of what each subject can do.
fn latency(cases: &Cases<'_>) -> Vec<Scenario> {
    let half = |name, about, endpoints| {
        let work = Work::HalfLoad { connections: 32, times: 2.0 };
        scenario(name, about, endpoints, work, cases.everybody(&[]), HALF)
    };
    vec![
        half("half-n3", "no body to 3 endpoints, at half of the requests/s that the subject can do", 3),
        half("half-n10", "no body to 10 endpoints, at half of the requests/s that the subject can do", 10),
    ]
}

/// By the number of endpoints that must answer with success.
fn policies(cases: &Cases<'_>) -> Vec<Scenario> {
    let variants = cases.variants(&[
        ("all", &["--require", "all"], 1, None),
        ("any", &["--require", "any"], 1, Some("all")),
        ("majority", &["--require", "majority"], 1, Some("all")),
    ]);
    let about = "no body to 3 endpoints, by policy";
    let scenario = scenario("policies", about, 3, saturate(0, 32, Some(1000.0)), variants, TINY);
    vec![Scenario { placement: Placement::Together, ..scenario }]
}

/// With an endpoint that is slow, unreachable, silent or restarting.
fn faults(cases: &Cases<'_>) -> Vec<Scenario> {
    let one_bad = |name, about, special| {
        let work = Work::Steady { rate: 500.0, connections: 32, times: 2.0 };
        let scenario = scenario(name, about, 3, work, cases.one_bad(special), STEADY);
        Scenario { placement: Placement::Together, ..scenario }
    };
    let mut restart = cases.everybody(&["--require", "majority"]);
    restart.retain(|case| !matches!(case.subject, Subject::Bare | Subject::Pingora | Subject::GoTool));
    restart.insert(0, Case { variant: "nothing restarts", ..Case::new(Subject::Bare) });
    let restart = scenario(
        "restart",
        "a majority of 3 endpoints, one of them 1 s up and 1 s down; 500 requests/s",
        3,
        Work::Restart { rate: 500.0, connections: 32, times: 4.0 },
        restart,
        STEADY,
    );
    vec![
        one_bad("any-slow", "any of 3 endpoints, one of them 1 s slow; 500 requests/s", Special::Slow(1000)),
        one_bad("any-blackhole", "any of 3 endpoints, one of them drops SYNs; 500 requests/s", Special::Dropped),
        one_bad("any-silent", "any of 3 endpoints, one of them never answers; 500 requests/s", Special::Silent),
        Scenario { placement: Placement::Together, ..restart },
    ]
}

/// With many endpoints, many bytes, many connections, or several threads.
fn scale(cases: &Cases<'_>) -> Vec<Scenario> {
    let idle = |name, about, request| {
        scenario(name, about, 1, Work::Idle { connections: 10_000, request }, cases.everybody(MANY), IDLE)
    };
    let threads = scenario(
        "threads",
        "no body to 3 endpoints, by worker threads; nothing is pinned",
        3,
        saturate(0, 32, None),
        cases.variants(&[("1 thread", &[], 1, None), ("2 threads", &[], 2, Some("1 thread"))]),
        THREADS,
    );
    vec![
        scenario(
            "churn-1000",
            "1,000 endpoints, the file of which is rewritten twice a second; the bare loop has 1,000 without change",
            1000,
            Work::Churn { connections: 2, times: 2.0 },
            cases.variants(&[("", &[], 1, None)]),
            CHURN,
        ),
        scenario(
            "upload-1g",
            "1 GiB to 5 endpoints",
            5,
            Work::Upload { bytes: 1 << 30 },
            cases.everybody(LONG),
            UPLOAD,
        ),
        idle("idle-10000", "10,000 client connections without a request", false),
        idle("idle-10000-used", "10,000 client connections after one request each", true),
        Scenario { placement: Placement::Anywhere, ..threads },
    ]
}

/// The scenarios whose name is or begins with one of `names`, those of a run with these subjects.
///
/// # Errors
/// The first name without a match.
pub(crate) fn choose(names: &[String], subjects: &[String], binaries: &[Binary]) -> anyhow::Result<Vec<Scenario>> {
    let mut scenarios = all(binaries);
    for name in names {
        if !scenarios.iter().any(|scenario| scenario.name.starts_with(name.as_str())) {
            let known = scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
            bail!("no scenario is called {name:?}; there are {known}");
        }
    }
    let keys: Vec<&str> = scenarios.iter().flat_map(|s| &s.cases).map(|case| case.subject.key()).collect();
    if let Some(unknown) = subjects.iter().find(|subject| !keys.contains(&subject.as_str())) {
        bail!("no subject is called {unknown:?}; there are bare, fanfare, nginx, envoy, traefik, pingora, go-tool");
    }
    scenarios.retain(|scenario| {
        // A whole name means only that one.
        let exact = names.iter().any(|name| name == scenario.name);
        let part = names.iter().any(|name| {
            scenario.name.starts_with(name.as_str()) && !all(binaries).iter().any(|other| other.name == *name)
        });
        names.is_empty() || exact || part
    });
    for scenario in &mut scenarios {
        let wanted = |case: &Case| {
            case.subject == Subject::Bare || subjects.is_empty() || subjects.iter().any(|s| s == case.subject.key())
        };
        scenario.cases.retain(wanted);
    }
    Ok(scenarios)
}

fn fanfare(binaries: &[Binary]) -> impl Iterator<Item = Subject> {
    binaries.iter().cloned().map(Subject::Fanfare)
}

impl Case {
    /// A subject with its settings as they are for every scenario.
    pub(crate) fn new(subject: Subject) -> Self {
        Self {
            subject,
            variant: "",
            protocols: Protocols::default(),
            flags: &[],
            log: AccessLog::Off,
            threads: 1,
            special: Vec::new(),
            against: None,
        }
    }

    /// Whether it is Fanfare with a journal.
    pub(crate) fn journals(&self) -> bool {
        self.flags.contains(&"--redeliver-journal")
    }

    /// Its name in tables.
    pub(crate) fn label(&self) -> String {
        self.label_of(self.variant)
    }

    /// The name of another variant of the same subject in tables.
    pub(crate) fn label_of(&self, variant: &str) -> String {
        if variant.is_empty() { self.subject.to_string() } else { format!("{}, {variant}", self.subject) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::metric;

    #[test]
    fn every_scenario_begins_with_the_bare_loop_and_names_everything_once() {
        let mut names = HashSet::new();
        for scenario in all(&[]) {
            assert!(names.insert(scenario.name));
            assert_eq!(scenario.cases[0].subject, Subject::Bare, "{}", scenario.name);
            let labels: HashSet<String> = scenario.cases.iter().map(Case::label).collect();
            assert_eq!(labels.len(), scenario.cases.len(), "{}", scenario.name);
            for case in &scenario.cases {
                assert!(case.against.is_none_or(|variant| labels.contains(&case.label_of(variant))));
            }
            for column in scenario.columns.iter().chain(&scenario.chart) {
                assert!(metric::find(column).is_some(), "{column}");
            }
            for bar in &scenario.bars {
                assert!(metric::find(bar.metric).is_some(), "{}", bar.metric);
                assert!(bar.of.is_none_or(|other| labels.contains(other)), "{bar:?}");
                assert!(scenario.cases.iter().any(|case| case.variant == bar.variant), "{bar:?}");
            }
        }
    }

    #[test]
    fn scenarios_are_chosen_by_name_or_its_beginning() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            choose(&wanted, &[], &[]).map(|chosen| chosen.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["tiny"]).unwrap(), ["tiny-n1", "tiny-n3", "tiny-n10", "tiny-n50"]);
        assert_eq!(names(&["tiny-n1"]).unwrap(), ["tiny-n1"]);
        assert_eq!(names(&["idle-10000", "any-s"]).unwrap(), ["any-slow", "any-silent", "idle-10000"]);
        assert_eq!(names(&[]).unwrap().len(), all(&[]).len());
        assert!(names(&["nothing"]).is_err());
        let only = choose(&["tiny-n3".into()], &["nginx".into()], &[]).unwrap();
        assert_eq!(only[0].cases.iter().map(Case::label).collect::<Vec<_>>(), ["bare loop", "nginx"]);
        assert!(choose(&[], &["haproxy".into()], &[]).is_err());
    }
}
