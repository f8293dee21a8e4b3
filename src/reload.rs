//! Following a configuration file: new routes and policies take over without a dropped request, and an invalid new file changes
//! nothing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use runtime::file_watch::{FileEvent, FileWatch};

use crate::{
    config::{self, Config, KubernetesConfig, Process},
    shared::Shared,
    sources::Sources,
};

/// Reloads by result: `applied`, `refused`, and `unchanged` for requested ones.
pub(crate) const RELOADS: &str = "fanfare_config_reloads_total";

/// 1 if the current file is in use, 0 if it was refused.
pub(crate) const IN_FORCE: &str = "fanfare_config_in_force";

/// A configuration file that is watched for changes.
pub(crate) struct Reloader {
    path: PathBuf,
    watch: FileWatch,
}

/// A new reading of the file.
pub(crate) struct Change {
    config: Result<Config, String>,
    /// Whether a reload was requested. Only then an unchanged file is logged.
    asked: bool,
}

// === impl Reloader ===

impl Reloader {
    /// Follows the file.
    pub(crate) fn new(path: &Path) -> Self {
        metrics::describe_counter!(RELOADS, "Reloads of the configuration file by result");
        metrics::describe_gauge!(IN_FORCE, "Whether the current configuration file is in use");
        metrics::gauge!(IN_FORCE).set(1.0);
        runtime::metrics::from_zero(RELOADS, &[("result", &["applied", "refused", "unchanged"])]);
        Self { path: path.to_owned(), watch: FileWatch::new(path) }
    }

    /// Reads the file now, because a reload was requested.
    pub(crate) fn read(&self) -> Change {
        let content =
            runtime::files::read(&self.path).map_err(|error| format!("cannot read {}: {error}", self.path.display()));
        let config = content.and_then(|content| Config::read_text(&content).map_err(|faults| faults.to_string()));
        Change { config, asked: true }
    }

    /// Waits until the file changes; without a reloader, for ever.
    pub(crate) async fn next(reloader: &mut Option<Self>) -> Change {
        let Some(reloader) = reloader else { return std::future::pending().await };
        let config = match reloader.watch.next().await {
            FileEvent::Changed(content) => Config::read_text(&content).map_err(|faults| faults.to_string()),
            FileEvent::Unreadable(why) => Err(why),
        };
        Change { config, asked: false }
    }
}

/// Applies a new configuration, or logs why it is refused.
///
/// Sources of new targets are started, and have their first list, before a route uses them; unused ones are stopped afterwards.
pub(crate) async fn apply(
    change: Change,
    shared: &Shared,
    data_plane: Option<(&proxy::Handle, &mut Sources)>,
    patience: Duration,
) {
    let current = shared.current();
    let (result, in_force) = match change.config {
        Ok(config) if config == *current => {
            metrics::gauge!(IN_FORCE).set(1.0);
            if shared.is_refused.swap(false, Ordering::Relaxed) {
                tracing::info!("the configuration file is again the one that is in use");
            } else if change.asked {
                tracing::info!("the configuration file has not changed");
            }
            if !change.asked {
                return;
            }
            ("unchanged", 1.0)
        }
        Ok(config) => match switch_to(config, &current, shared, data_plane, patience).await {
            Ok(()) => {
                tracing::info!("the configuration file has changed and is in use");
                crate::tasks::warn(&shared.current().warnings());
                ("applied", 1.0)
            }
            Err(why) => refuse(&why),
        },
        Err(why) => refuse(&why),
    };
    metrics::counter!(RELOADS, "result" => result).increment(1);
    metrics::gauge!(IN_FORCE).set(in_force);
    shared.is_refused.store(result == "refused", Ordering::Relaxed);
}

fn refuse(why: &str) -> (&'static str, f64) {
    tracing::error!("the configuration file is refused, everything stays as it was: {why}");
    ("refused", 0.0)
}

async fn switch_to(
    config: Config,
    current: &Config,
    shared: &Shared,
    data_plane: Option<(&proxy::Handle, &mut Sources)>,
    patience: Duration,
) -> Result<(), String> {
    let fixed = needs_restart(current, &config);
    if !fixed.is_empty() {
        return Err(format!("a change of {} needs a restart", fixed.join(", ")));
    }
    let Some((handle, sources)) = data_plane else {
        shared.config.send_replace(Arc::new(config));
        return Ok(());
    };
    let files = config.check_files().problems;
    if !files.is_empty() {
        return Err(one_line(&files));
    }
    let switched = async {
        shared.access.prepare(&config).await.map_err(|error| format!("{error:#}"))?;
        sources.start(&config.targets).await.map_err(|error| format!("{error:#}"))?;
        sources.first_lists(&config.targets, patience).await?;
        handle.reload(config.proxy.clone()).map_err(|error| match error {
            // A file has changed since the configuration was checked.
            proxy::ReloadError::Tls(problems) => config::tls_problems_text(&problems),
            error => error.to_string(),
        })
    };
    let result = switched.await;
    if result.is_ok() {
        sources.set_dns(config.dns);
    }
    let kept = if result.is_ok() { &config.targets } else { &current.targets };
    sources.stop_unused(kept);
    if result.is_err() {
        // Sources with changed settings go back to the old ones. This cannot fail, because their dependencies exist already.
        if let Err(error) = sources.start(kept).await {
            tracing::error!("a source of endpoints cannot be started again: {error:#}");
        }
    }
    shared.access.keep(if result.is_ok() { &config } else { current });
    if result.is_ok() {
        shared.config.send_replace(Arc::new(config));
    }
    result
}

/// The changed settings that need a restart. The data plane checks its own.
fn needs_restart(current: &Config, new: &Config) -> Vec<&'static str> {
    // Destructured, so that every new field is either compared here or ignored on purpose.
    let Config {
        proxy,
        // Sources of endpoints come and go with the routes.
        targets: _,
        // DNS settings apply at once.
        dns: _,
        elect,
        discover,
        bridge,
        endpoints,
        mirror,
        leader_elect,
        kubernetes: KubernetesConfig { kubeconfig, context },
        admin,
        admin_tls,
        admin_tokens,
        // Two texts of the same meaning are the same configuration.
        written: _,
        // These are read each time they are needed.
        process:
            Process {
                ready: _,
                ready_no_endpoint: _,
                drain_delay: _,
                drain_idle: _,
                drain_timeout: _,
                log_level,
                log_format,
            },
    } = current;
    [
        ("admin.listen", *admin != new.admin),
        ("admin.tls", *admin_tls != new.admin_tls),
        ("admin.tokens", *admin_tokens != new.admin_tokens),
        ("kubernetes.kubeconfig", *kubeconfig != new.kubernetes.kubeconfig),
        ("kubernetes.context", *context != new.kubernetes.context),
        ("broadcast (all or nothing of it)", proxy.listeners.is_empty() != new.proxy.listeners.is_empty()),
        ("elect", *elect != new.elect),
        ("discover", *discover != new.discover),
        ("bridge", *bridge != new.bridge),
        ("endpoints", *endpoints != new.endpoints),
        ("leader_elect", *leader_elect != new.leader_elect),
        ("mirror", *mirror != new.mirror),
        // The level can be set over the admin API, which would be undone by an unrelated change of the file.
        ("log_level (use PUT /-/log-level)", *log_level != new.process.log_level),
        ("log_format", *log_format != new.process.log_format),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

fn one_line(problems: &runtime::config::Problems) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
