//! Endpoints from files with lists of targets (`groups`), followed while they change; a broken edit keeps the last good list of
//! its file.
//!
//! A path is one file. A path with `*`, `?` or `[...]` stands for every file that it matches: together they are the list, in the
//! order of their names. A file named `*.json` is JSON, any other is YAML.

use std::path::Path;

use runtime::file_watch::{FileEvent, Poller};
use runtime::readiness::Gate;
use snapshot::{ClusterName, Publisher};

use super::dns::Resolver;
use super::groups::{self, Format};
use super::list::{List, ListEntry};

mod followed;
mod pattern;
#[cfg(test)]
mod tests;

use followed::LatestList;
pub use pattern::{FilePattern, InvalidFilePattern};

/// Counter `{cluster, result}`: readings of endpoint files; result is `ok`, `invalid` or `unreadable`. The last two keep the last good list.
pub const FILE_READS: &str = "fanfare_endpoint_file_reads_total";

/// The source: one file, or all files that match a pattern, feed one cluster.
#[derive(Debug)]
pub struct FileSource {
    /// The cluster it owns.
    pub cluster: ClusterName,
    /// The files. None of them need exist yet.
    pub files: FilePattern,
    /// Checks the files, and those of other sources.
    pub poller: Poller,
    /// The DNS client for host names.
    pub resolver: Resolver,
    /// Receives the endpoints.
    pub publisher: Publisher,
    /// Opens with the first good list and stays open.
    pub gate: Gate,
}

// === impl FileSource ===

impl FileSource {
    /// Keeps the cluster current for ever. It first appears when every file that is there has been read and one is good; a list
    /// takes effect when each of its names has been looked up once. The cluster stays when the future is dropped; removing it is up
    /// to the caller.
    pub async fn run(self) {
        metrics::describe_counter!(
            FILE_READS,
            "Readings of endpoint files by cluster and result (ok, invalid, unreadable)."
        );
        let Self { cluster, files, poller, resolver, publisher, gate } = self;
        let results = ["ok", "invalid", "unreadable"];
        runtime::metrics::from_zero(FILE_READS, &[("cluster", &[cluster.as_str()]), ("result", &results)]);
        let if_empty = format!("{files} lists none");
        let lists = LatestList::follow(cluster.clone(), files, &poller);
        let mut list = List::new(cluster, publisher, gate, resolver);
        loop {
            tokio::select! {
                read = lists.next() => match read {
                    Ok(entries) => list.set(entries, &*if_empty),
                    Err(why) => list.fail(why),
                },
                () = list.refresh() => {}
            }
        }
    }
}

/// The list in a file, or the reason why it cannot be read.
fn read(cluster: &ClusterName, path: &Path, event: FileEvent) -> Result<Vec<ListEntry>, String> {
    let (result, read) = match event {
        FileEvent::Unreadable(why) => ("unreadable", Err(why)),
        FileEvent::Changed(content) => match groups::parse(format(path), &content) {
            Ok(entries) => ("ok", Ok(entries)),
            Err(error) => ("invalid", Err(format!("{}: {error}", path.display()))),
        },
    };
    count(cluster, result);
    match &read {
        Ok(entries) => {
            tracing::info!(%cluster, file = %path.display(), targets = entries.len(), "endpoint file read");
        }
        Err(why) => tracing::warn!(%cluster, %why, "the endpoint file cannot be used, keeping the last good list"),
    }
    read
}

fn count(cluster: &ClusterName, result: &'static str) {
    metrics::counter!(FILE_READS, "cluster" => cluster.to_string(), "result" => result).increment(1);
}

fn format(path: &Path) -> Format {
    if path.extension().is_some_and(|extension| extension == "json") { Format::Json } else { Format::Yaml }
}
