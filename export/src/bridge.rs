//! The bridge: pulls exported files from a store into local files, as a whole, verified, and only when they have changed.
//!
//! Rule: the bridge verifies files by the sha256 of the manifest, or, without a manifest, by checking that the content can be an
//! exported file. While that fails (a writer is between manifest and file, or was overtaken, or something else answers in the
//! store's place), the files that were pulled before stay, and readiness gives the reason.

mod content;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::{counter, gauge};
use runtime::{backoff::Backoff, drain::DrainWatch, readiness::Gate};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    metrics::{BRIDGE_IN_SYNC, PULLS},
    sink::{Connect, Document, Fetched, Manifest, Sink, SinkError, SinkErrorKind, Source, Target, Writer, sha256},
};

/// The most files of a set.
const MAX_FILES: usize = 10_000;

/// The most bytes of all files of a set (256 MiB).
const MAX_BYTES: usize = 256 << 20;

/// The time for which files may differ from their manifest without a report, because a writer may be between the two.
const MISMATCH_GRACE: Duration = Duration::from_secs(5);

/// The first delay after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// The configuration of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// The store: one file, or a set of files that has a manifest.
    pub from: Target,
    /// The destination: a file or a directory of this machine.
    pub to: Target,
    /// The interval between two pulls.
    pub interval: Duration,
    /// Whether a file without a manifest is refused.
    pub require_manifest: bool,
    /// The time limit of one pull.
    pub timeout: Duration,
}

/// A bridge.
pub struct Bridge {
    config: Config,
    source: Source,
    sink: Sink,
    gate: Gate,
    /// The manifest and the files as they were pulled last, by name, with their tags.
    pulled: BTreeMap<String, Pulled>,
    manifest: Option<Pulled>,
}

#[derive(Clone)]
struct Pulled {
    tag: Option<String>,
    media_type: Option<String>,
    bytes: Bytes,
}

/// The result of one pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The files were new, and are written.
    Written,
    /// The files have not changed.
    Unchanged,
    /// There is nothing to pull yet. What was pulled before stays.
    Missing,
    /// The files are not those of the manifest. What was pulled before stays.
    Mismatch,
}

impl Bridge {
    /// Opens both ends. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`SinkError`] if one of them cannot be used as configured.
    pub fn new(config: Config, connect: &Connect, gate: Gate) -> Result<Self, SinkError> {
        let refused = |target: &Target, what: &str| SinkError {
            place: target.to_string(),
            kind: SinkErrorKind::Refused,
            what: what.into(),
        };
        if !matches!(config.to, Target::File { .. }) {
            return Err(refused(&config.to, "a bridge writes to a file or a directory"));
        }
        let to = if config.from.is_set() {
            if !config.to.is_set() {
                return Err(refused(&config.to, "several files need a directory: end it with `/`"));
            }
            config.to.clone()
        } else {
            // In a directory, the file keeps its name in the store.
            config.to.file(&config.from.file_name())
        };
        let source = config.from.open_source(connect)?;
        let sink = to.open(&Connect { manifest: false, ..connect.clone() })?;
        gate.set_not_ready("nothing has been pulled yet");
        Ok(Self { config, source, sink, gate, pulled: BTreeMap::new(), manifest: None })
    }

    /// Pulls until the drain. Once it has files it stays ready while the store is unavailable or empty, because they are still good. It
    /// is not ready while the store has something else in their place.
    pub async fn run(mut self, drain: DrainWatch) {
        let mut backoff = Backoff::new(RETRY.0, 2.0, RETRY.1);
        let mut said = String::new();
        crate::metrics::bridge_from_zero(&self.config.name);
        let mut has_files = false;
        let mut differs_since = None;
        loop {
            let pulled = self.pull().await;
            let result = match &pulled {
                Ok(Pull::Written) => "written",
                Ok(Pull::Unchanged) => "unchanged",
                Ok(Pull::Missing) => "missing",
                Ok(Pull::Mismatch) => "mismatch",
                Err(error) => error.kind.as_str(),
            };
            let name = self.config.name.to_string();
            counter!(PULLS, "bridge" => name.clone(), "result" => result).increment(1);
            let good = matches!(pulled, Ok(Pull::Written | Pull::Unchanged));
            gauge!(BRIDGE_IN_SYNC, "bridge" => name).set(if good { 1.0 } else { 0.0 });
            let news = match &pulled {
                Ok(Pull::Written) => format!("pulled {}", self.config.from),
                Ok(Pull::Unchanged) => String::new(),
                Ok(Pull::Missing) => format!("there is no {} yet: the files pulled before are kept", self.config.from),
                Ok(Pull::Mismatch) => {
                    format!("{} does not match its manifest: the files pulled before are kept", self.config.from)
                }
                Err(error) => format!("{error}: the files pulled before are kept"),
            };
            differs_since = matches!(pulled, Ok(Pull::Mismatch)).then(|| differs_since.unwrap_or_else(Instant::now));
            let lasts = differs_since.is_some_and(|since| since.elapsed() >= MISMATCH_GRACE);
            let wrong = matches!(&pulled, Err(error) if error.kind == SinkErrorKind::Refused);
            has_files |= good;
            if good {
                self.gate.set_ready();
            } else if wrong || lasts || !has_files {
                self.gate.set_not_ready(news.clone());
            }
            if news != said {
                match &pulled {
                    Ok(Pull::Written) => tracing::info!(bridge = %self.config.name, "{news}"),
                    Ok(Pull::Unchanged) => {}
                    _ => tracing::warn!(bridge = %self.config.name, "{news}"),
                }
                said = if matches!(pulled, Ok(Pull::Written)) { String::new() } else { news };
            }
            let pause = match pulled {
                Ok(Pull::Written | Pull::Unchanged) => {
                    backoff.reset();
                    self.config.interval
                }
                // A writer is between the manifest and the files, and will soon have finished.
                Ok(Pull::Missing | Pull::Mismatch) => backoff.next_delay().min(self.config.interval),
                Err(_) => backoff.next_delay().max(self.config.interval),
            };
            tokio::select! {
                () = drain.wait() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Pulls once, with retries within this time.
    ///
    /// # Errors
    /// The reason why nothing could be pulled.
    pub async fn once(mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut backoff = Backoff::new(RETRY.0, 2.0, RETRY.1);
        loop {
            let why = match self.pull().await {
                Ok(Pull::Written | Pull::Unchanged) => return Ok(()),
                Ok(Pull::Missing) => format!("there is no {}", self.config.from),
                Ok(Pull::Mismatch) => format!("{} does not match its manifest", self.config.from),
                Err(error) if !error.kind.may_pass() => return Err(error.to_string()),
                Err(error) => error.to_string(),
            };
            let pause = backoff.next_delay();
            if Instant::now() + pause >= deadline {
                return Err(why);
            }
            sleep(pause).await;
        }
    }

    /// Makes one attempt to pull.
    ///
    /// # Errors
    /// [`SinkError`] if the store cannot be read, or the files cannot be written.
    pub async fn pull(&mut self) -> Result<Pull, SinkError> {
        let place = self.config.from.to_string();
        let limit = self.config.timeout;
        match tokio::time::timeout(limit, self.look()).await {
            Ok(pull) => pull,
            Err(_elapsed) => {
                let what = format!("no answer within {limit:?}");
                Err(SinkError { place, kind: SinkErrorKind::Unavailable, what })
            }
        }
    }

    async fn look(&mut self) -> Result<Pull, SinkError> {
        let manifest = self.fetch_manifest().await?;
        let one = self.config.from.file_name();
        let names: Vec<String> = match &manifest {
            _ if !self.config.from.is_set() => vec![one],
            Some(manifest) => manifest.sha256.keys().cloned().collect(),
            // Only the manifest says which files a set has.
            None => return Ok(Pull::Missing),
        };
        if manifest.is_none() && self.config.require_manifest {
            return Ok(Pull::Missing);
        }
        if names.len() > MAX_FILES {
            return Err(self.refused(format!("the manifest names {} files, more than {MAX_FILES}", names.len())));
        }
        let mut files = BTreeMap::new();
        let mut total = 0;
        for name in names {
            let before = self.pulled.get(&name).cloned();
            let Some(file) = self.fetch(&self.source.file(&name), before).await? else { return Ok(Pull::Missing) };
            match &manifest {
                Some(manifest) if manifest.sha256.get(&name) != Some(&sha256(&file.bytes)) => {
                    return Ok(Pull::Mismatch);
                }
                Some(_) => {}
                None => self.check(&name, &file).await?,
            }
            total += file.bytes.len();
            if total > MAX_BYTES {
                return Err(self.refused(format!("its files have more than {MAX_BYTES} bytes")));
            }
            files.insert(name, file);
        }
        self.pulled = files;
        let is_set = self.sink.is_set();
        let documents: Vec<Document> = self
            .pulled
            .iter()
            .map(|(name, file)| Document {
                name: if is_set { name.clone() } else { String::new() },
                content_type: "application/octet-stream",
                bytes: file.bytes.clone(),
            })
            .collect();
        let writer = Writer { cluster: "".into(), id: "bridge".into(), term: None };
        let done = self.sink.put(&documents, &writer, None).await?;
        // The directory is read again at the next pull, because somebody may have changed it.
        self.sink.forget();
        Ok(if done.written + done.removed > 0 { Pull::Written } else { Pull::Unchanged })
    }

    /// Checks, without a manifest, whether the content can be the file.
    async fn check(&self, name: &str, file: &Pulled) -> Result<(), SinkError> {
        let (there, here, file) = (name.to_owned(), self.config.to.file_name(), file.clone());
        // Parsing a large file takes a while, so it does not run on a worker.
        let by_url = matches!(self.config.from, Target::Http { .. });
        let check = move || content::check(&[&there, &here], file.media_type.as_deref(), by_url, &file.bytes);
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.map_err(|error| self.refused(format!("it could not be checked: {error}")))?;
        checked.map_err(|why| self.refused(why))
    }

    async fn fetch_manifest(&mut self) -> Result<Option<Manifest>, SinkError> {
        let fetched = self.fetch(&self.source.manifest(), self.manifest.clone()).await;
        let fetched = match fetched {
            // The right to read may be limited to the file.
            Err(error)
                if matches!(error.kind, SinkErrorKind::Denied | SinkErrorKind::Refused)
                    && !self.config.require_manifest
                    && !self.config.from.is_set() =>
            {
                None
            }
            fetched => fetched?,
        };
        self.manifest.clone_from(&fetched);
        let parsed = fetched.map(|manifest| Manifest::parse(&manifest.bytes)).transpose();
        parsed.map_err(|why| self.refused(format!("{}: {why}", self.source.manifest())))
    }

    /// The file with this key; the one that was pulled before, if it has not changed.
    async fn fetch(&self, key: &str, before: Option<Pulled>) -> Result<Option<Pulled>, SinkError> {
        let tag = before.as_ref().and_then(|before| before.tag.as_deref());
        Ok(match self.source.fetch(key, tag).await? {
            Fetched::Found { bytes, tag, media_type } => Some(Pulled { tag, media_type, bytes }),
            Fetched::Same => before,
            Fetched::Missing => None,
            Fetched::NoFile(why) => {
                return Err(SinkError { place: self.source.shown(key), kind: SinkErrorKind::Refused, what: why });
            }
        })
    }

    fn refused(&self, what: String) -> SinkError {
        SinkError { place: self.config.from.to_string(), kind: SinkErrorKind::Refused, what }
    }
}
