//! What many endpoints cost: a configuration of many routes, each with a file of endpoints. Memory, the metrics' size, CPU at rest, and
//! CPU for each change of one endpoint.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    accounting::Usage,
    metric,
    process::Kept,
    subject::{Plan, Subject, fanfare},
    turn::Outcome,
};

/// The changes, each of one endpoint.
const CHANGES: usize = 40;
/// The interval between two of them, longer than that at which files are looked at, so that no two are one.
const CHANGE_INTERVAL: Duration = Duration::from_millis(600);
/// How long CPU at rest is measured.
const REST: Duration = Duration::from_secs(6);
/// A file that has just been written is read again for so long, in case that it is written to within the resolution of its time stamp.
const SETTLED: Duration = Duration::from_secs(4);
/// Counts every reading of a file.
const READS: &str = "fanfare_endpoint_file_reads_total";

/// The files of one turn.
struct Files {
    folder: PathBuf,
    /// Endpoints of a route.
    each: usize,
}

/// Measures one subject with so many routes to so many endpoints each.
pub(crate) fn measure(
    subject: &Subject,
    program: &Path,
    plan: &Plan<'_>,
    (routes, each): (usize, usize),
) -> anyhow::Result<Outcome> {
    let mut out = Outcome::default();
    let Subject::Fanfare(_) = subject else {
        out.notes.push("it has no routes".to_owned());
        return Ok(out);
    };
    let files = Files { folder: plan.work.join("many"), each };
    let config = files.write(routes, plan.threads)?;
    let log = files.folder.join("log");
    let command = [program.display().to_string(), "run".into(), "--config".into(), config.display().to_string()];
    let kept = Kept::start(&command, &log, None, plan.cores)?;
    let admin = fanfare::ready(&kept, &log)?;
    let sum = |name| anyhow::Ok(fanfare::sum(&fanfare::get(admin, "/metrics")?, name));
    std::thread::sleep(SETTLED);

    let mut set = |key: &str, value: f64| out.metrics.insert(key.to_owned(), metric::rounded(value));
    let before = Usage::of(kept.pid);
    std::thread::sleep(REST);
    let at_rest = Usage::of(kept.pid).cpu_since(&before) / REST.as_secs_f64();
    set("cpu_us_per_second", at_rest * 1e6);
    set("rss_bytes", before.rss as f64);
    set("peak_bytes", before.peak as f64);
    set("metrics_bytes", fanfare::get(admin, "/metrics")?.len() as f64);

    let read = sum(READS)?;
    let (before, began) = (Usage::of(kept.pid), Instant::now());
    for change in 0..CHANGES {
        files.write_list(change * routes / CHANGES, change + 1)?;
        std::thread::sleep(CHANGE_INTERVAL);
    }
    std::thread::sleep(SETTLED);
    let spent = Usage::of(kept.pid).cpu_since(&before) - at_rest * began.elapsed().as_secs_f64();
    let seen = sum(READS)? - read;
    ensure!(seen == CHANGES as f64, "{seen} of {CHANGES} changes were read");
    set("cpu_us_per_change", (spent * 1e6 / CHANGES as f64).max(0.0));
    match kept.ended() {
        Some(how) => anyhow::bail!("it has ended while it was measured: {how}"),
        None => Ok(out),
    }
}

// === impl Files ===

impl Files {
    /// Writes the configuration and every list. Returns the path of the configuration.
    fn write(&self, routes: usize, threads: usize) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        for route in 0..routes {
            self.write_list(route, 0)?;
        }
        let route = |number: usize| {
            let to = json!({"file": self.list(number)});
            json!({"name": format!("route-{number}"), "match": {"path": format!("/{number}/*")}, "to": to})
        };
        let routes: Vec<Value> = (0..routes).map(route).collect();
        let config = json!({
            "admin": {"listen": "127.0.0.1:0"},
            "threads": threads,
            "access_log": "off",
            "broadcast": [{"listen": "127.0.0.1:0", "routes": routes}],
        });
        let path = self.folder.join("fanfare.json");
        fs::write(&path, serde_json::to_vec(&config)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn list(&self, route: usize) -> PathBuf {
        self.folder.join(format!("{route}.json"))
    }

    /// Writes the list of a route with everything that is known of an endpoint. Its first pod is the one with this number.
    fn write_list(&self, route: usize, first: usize) -> anyhow::Result<()> {
        let group = |n: usize| {
            let number = route * self.each + n;
            let [_, a, b, c] = u32::try_from(number).unwrap_or_default().to_be_bytes();
            let pod = if n == 0 { format!("cache-{number}-{first}") } else { format!("cache-{number}") };
            let (zone, node) = (format!("zone-{}", number % 3), format!("node-{}", number % 100));
            json!({
                "targets": [format!("10.{a}.{b}.{c}:8080")],
                "labels": {"zone": zone, "node": node, "pod": pod, "namespace": "shop"},
            })
        };
        let groups: Vec<Value> = (0..self.each).map(group).collect();
        let (path, fresh) = (self.list(route), self.folder.join("fresh"));
        let write = || {
            fs::write(&fresh, serde_json::to_vec(&groups)?)?;
            fs::rename(&fresh, &path)?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}
