//! The steps of an update, which are the same for every place.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use super::{
    Condition, Conditions, Document, Done, Fetched, FileState, Location, Manifest, Place, SCHEMA, SeenManifest, Sink,
    SinkError, SinkErrorKind, Writer, address, manifest::Ownership, sha256,
};

/// The most attempts of an update while others keep writing.
const MAX_ATTEMPTS: usize = 4;

/// A tag that no file has.
const TAG_OF_NO_FILE: &str = "\"00000000000000000000000000000000\"";

/// The media type of a manifest.
const JSON: &str = "application/json";

impl Sink {
    pub(super) fn new(place: Place, location: Location, manifest: bool) -> Self {
        let conditions = if place.knows_conditions() { Conditions::Unknown } else { Conditions::Ignored };
        let manifest = manifest || location.is_set();
        Self {
            place,
            location,
            manifest,
            there: BTreeMap::new(),
            seen: None,
            taken: None,
            written: BTreeMap::new(),
            stopped: None,
            conditions,
        }
    }

    /// Whether it holds a set of files.
    pub fn is_set(&self) -> bool {
        self.location.is_set()
    }

    /// Reads all files that were not read yet, and returns the addresses in them.
    ///
    /// # Errors
    /// [`SinkError`] if something cannot be read for another reason than missing rights.
    pub async fn look(&mut self, documents: &[Document]) -> Result<HashSet<String>, SinkError> {
        let mut found = HashSet::new();
        if self.manifest && self.seen.is_none() {
            let key = self.location.manifest();
            let (there, bytes) = self.read(&key).await?;
            let manifest = bytes.map(|bytes| Manifest::parse(&bytes)).transpose();
            let manifest = manifest.map_err(|why| {
                self.trouble(SinkErrorKind::Refused, format!("{key}: {why}; remove it if it is not needed"))
            })?;
            self.seen = Some(SeenManifest { manifest, there });
        }
        let wanted = documents.iter().map(|document| self.location.file(&document.name));
        let names: Vec<String> = wanted.chain(self.owned().into_keys()).collect();
        for name in names {
            if self.there.contains_key(&name) {
                continue;
            }
            let (there, bytes) = self.read(&name).await?;
            found.extend(bytes.iter().flat_map(|bytes| address::addresses(bytes)));
            self.there.insert(name, there);
        }
        Ok(found)
    }

    /// The addresses that these files name.
    pub fn addresses(documents: &[Document]) -> HashSet<String> {
        documents.iter().flat_map(|document| address::addresses(&document.bytes)).collect()
    }

    /// Updates the place to exactly these files; files of others are left alone, and files that are up to date are not written.
    ///
    /// `until` is when the right to write ends; no write begins after it. Dropping the future is safe: call [`Sink::forget`] then,
    /// because a write in progress may have happened.
    ///
    /// # Errors
    /// [`SinkError`]; each file then has its old content or the new one, as a whole.
    pub async fn put(
        &mut self,
        documents: &[Document],
        writer: &Writer,
        until: Option<Instant>,
    ) -> Result<Done, SinkError> {
        if self.taken.as_ref().is_none_or(|(taken_for, _)| taken_for != writer) {
            // In another term, earlier reads are outdated.
            self.taken = None;
            self.stopped = None;
            self.forget();
        }
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let mut done = Done::default();
        for _round in 0..MAX_ATTEMPTS {
            done.unchanged = 0;
            match self.attempt(documents, writer, until, &mut done).await {
                Err(error) if error.kind == SinkErrorKind::Conflict => {
                    done.conflicts += 1;
                    self.forget();
                }
                Err(error) => {
                    // A write in progress may have happened.
                    self.forget();
                    if error.kind == SinkErrorKind::Foreign {
                        self.stopped = Some(error.clone());
                    }
                    return Err(error);
                }
                Ok(()) => return Ok(done),
            }
        }
        Err(self
            .trouble(SinkErrorKind::Conflict, format!("another writer wrote in between {MAX_ATTEMPTS} times in a row")))
    }

    /// Discards what was read, so that the next write reads the place again.
    pub fn forget(&mut self) {
        self.there.clear();
        self.seen = None;
    }

    async fn attempt(
        &mut self,
        documents: &[Document],
        writer: &Writer,
        until: Option<Instant>,
        done: &mut Done,
    ) -> Result<(), SinkError> {
        self.check_names(documents)?;
        self.look(documents).await?;
        self.own(documents)?;
        let wanted: BTreeMap<String, String> =
            documents.iter().map(|document| (self.location.label(&document.name), sha256(&document.bytes))).collect();
        let gone = self.gone(&wanted);
        if self.manifest {
            self.take_over(writer)?;
            self.swap_manifest(&wanted, &gone, writer, until).await?;
        } else {
            self.taken = Some((writer.clone(), None));
        }
        for document in documents {
            let name = self.location.file(&document.name);
            let hash = &wanted[&self.location.label(&document.name)];
            match self.there.get(&name) {
                Some(FileState::Found { sha256, .. }) if sha256 == hash => done.unchanged += 1,
                Some(FileState::Unreadable) if self.written.get(&name) == Some(hash) => done.unchanged += 1,
                _ => {
                    self.write(&name, document, until).await?;
                    done.written += 1;
                }
            }
        }
        for (name, hash) in gone {
            let name = self.location.file(&name);
            match self.there.get(&name) {
                Some(FileState::Found { sha256, .. }) if *sha256 == hash => {
                    self.in_time(until)?;
                    self.place.remove(&name).await?;
                    done.removed += 1;
                }
                Some(FileState::Found { .. }) => {
                    tracing::warn!(place = %self, file = name, "another writer has changed the file: it is not removed");
                }
                _ => {}
            }
            self.there.remove(&name);
        }
        Ok(())
    }

    /// Checks that no name, which may come from a manifest in a store, leads out of the place.
    fn check_names(&self, documents: &[Document]) -> Result<(), SinkError> {
        let names: HashSet<&str> = documents.iter().map(|document| document.name.as_str()).collect();
        let manifest = Location::manifest_of_set();
        let leads_out = |name: &str| {
            name == manifest || name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains('\0')
        };
        match names.iter().find(|name| self.is_set() && leads_out(name)) {
            Some(name) => Err(self.trouble(SinkErrorKind::Refused, format!("`{name}` cannot be the name of a file"))),
            None if names.len() < documents.len() || (!self.is_set() && documents.len() > 1) => Err(self
                .trouble(SinkErrorKind::Refused, "two files have the same name, or it holds one file only".to_owned())),
            None => Ok(()),
        }
    }

    /// Checks that every existing file of a set is ours: a manifest of ours must name it.
    fn own(&self, documents: &[Document]) -> Result<(), SinkError> {
        if !self.is_set() {
            // A single file was named by the configuration.
            return Ok(());
        }
        let owned = self.owned();
        for document in documents {
            let name = self.location.file(&document.name);
            let Some(FileState::Found { sha256: found, .. }) = self.there.get(&name) else { continue };
            if !owned.contains_key(&name) && *found != sha256(&document.bytes) {
                let what =
                    format!("a file {name} exists that Fanfare did not write: remove it, or write somewhere else");
                return Err(self.trouble(SinkErrorKind::Refused, what));
            }
        }
        Ok(())
    }

    /// The files that are ours by the manifest: their names within the place, and their hashes.
    fn owned(&self) -> BTreeMap<String, String> {
        let manifest = self.seen.iter().filter_map(|seen| seen.manifest.as_ref());
        let files = manifest.flat_map(|manifest| manifest.removing.iter().chain(&manifest.sha256));
        files.map(|(name, hash)| (self.location.file(name), hash.clone())).collect()
    }

    /// Files of ours that are no longer wanted: their names, and the hashes with which they were written.
    fn gone(&self, wanted: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let Some(manifest) = self.seen.as_ref().and_then(|seen| seen.manifest.as_ref()) else { return BTreeMap::new() };
        let files = manifest.removing.iter().chain(&manifest.sha256);
        let unwanted = files.filter(|(name, _)| !wanted.contains_key(*name));
        let there = unwanted
            .filter(|(name, _)| !matches!(self.there.get(&self.location.file(name)), Some(FileState::Missing) | None));
        there.map(|(name, hash)| (name.clone(), hash.clone())).collect()
    }

    /// Checks whether the existing manifest may be replaced.
    fn take_over(&mut self, writer: &Writer) -> Result<(), SinkError> {
        let found = self.seen.as_ref().and_then(|seen| seen.manifest.as_ref());
        let stranger = found.filter(|manifest| match manifest.ownership(writer) {
            Ownership::Mine | Ownership::Earlier => false,
            // A process that starts takes over. A manifest of another writer that appears later means that the other one has.
            Ownership::Other => self.taken.as_ref().is_some_and(|(_, accepted)| accepted.as_ref() != Some(*manifest)),
            Ownership::Foreign => true,
        });
        if let Some(theirs) = stranger {
            let Manifest { cluster, writer: who, version, .. } = theirs;
            let what = if **cluster == *writer.cluster {
                format!("`{who}` writes to this place now (version {version}): this process stops writing")
            } else {
                format!(
                    "`{who}` writes the endpoints of the cluster `{cluster}` here, and this is `{}`: choose another place, or \
                     remove {}",
                    writer.cluster,
                    self.location.manifest()
                )
            };
            return Err(self.trouble(SinkErrorKind::Foreign, what));
        }
        self.taken = Some((writer.clone(), found.cloned()));
        Ok(())
    }

    /// Writes the manifest, unless it is there already.
    async fn swap_manifest(
        &mut self,
        wanted: &BTreeMap<String, String>,
        gone: &BTreeMap<String, String>,
        writer: &Writer,
        until: Option<Instant>,
    ) -> Result<(), SinkError> {
        let seen = self.seen.as_ref().and_then(|seen| seen.manifest.as_ref());
        let current = seen.is_some_and(|manifest| {
            manifest.ownership(writer) == Ownership::Mine && manifest.sha256 == *wanted && manifest.removing == *gone
        });
        if current {
            return Ok(());
        }
        let next = Manifest {
            schema: SCHEMA,
            cluster: writer.cluster.to_string(),
            writer: writer.id.to_string(),
            term: writer.term.clone(),
            version: seen.map_or(1, |manifest| manifest.version + 1),
            sha256: wanted.clone(),
            removing: gone.clone(),
        };
        let key = self.location.manifest();
        let there = self.seen.as_ref().map_or(FileState::Missing, |seen| seen.there.clone());
        self.there.insert(key.clone(), there);
        let document = Document { name: String::new(), content_type: JSON, bytes: next.to_bytes().into() };
        self.write(&key, &document, until).await?;
        let there = self.there.remove(&key).unwrap_or(FileState::Unreadable);
        self.taken = Some((writer.clone(), Some(next.clone())));
        self.seen = Some(SeenManifest { manifest: Some(next), there });
        Ok(())
    }

    /// Writes one file, on the condition that it has not changed since it was read, where the place honours conditions.
    async fn write(&mut self, name: &str, document: &Document, until: Option<Instant>) -> Result<(), SinkError> {
        let there = self.there.remove(name).unwrap_or(FileState::Unreadable);
        if self.conditions == Conditions::Unknown && there != FileState::Unreadable {
            self.in_time(until)?;
            match self.place.store(name, document, Condition::Is(TAG_OF_NO_FILE), until).await {
                Err(error) if error.kind == SinkErrorKind::Conflict => self.conditions = Conditions::Honoured,
                Ok(tag) => {
                    self.ignores_conditions();
                    self.wrote(name, document, tag);
                    return Ok(());
                }
                // The store may not support the condition. A write without it will show.
                Err(error) if error.kind == SinkErrorKind::Refused => self.ignores_conditions(),
                Err(error) => return Err(error),
            }
        }
        let condition = match &there {
            _ if self.conditions != Conditions::Honoured => Condition::Nothing,
            FileState::Missing => Condition::Absent,
            FileState::Found { tag: Some(tag), .. } => Condition::Is(tag),
            FileState::Found { tag: None, .. } | FileState::Unreadable => Condition::Nothing,
        };
        self.in_time(until)?;
        let tag = self.place.store(name, document, condition, until).await?;
        self.wrote(name, document, tag);
        Ok(())
    }

    fn wrote(&mut self, name: &str, document: &Document, tag: Option<String>) {
        let sha256 = sha256(&document.bytes);
        self.written.insert(name.to_owned(), sha256.clone());
        self.there.insert(name.to_owned(), FileState::Found { sha256, tag });
    }

    fn ignores_conditions(&mut self) {
        self.conditions = Conditions::Ignored;
        tracing::warn!(place = %self, "this store ignores conditions on writes: concurrent writers may overwrite each other");
    }

    async fn read(&self, name: &str) -> Result<(FileState, Option<bytes::Bytes>), SinkError> {
        match self.place.fetch(name, None).await {
            Ok(Fetched::Found { bytes, tag, .. }) => {
                Ok((FileState::Found { sha256: sha256(&bytes), tag }, Some(bytes)))
            }
            Ok(Fetched::Missing | Fetched::Same) => Ok((FileState::Missing, None)),
            Ok(Fetched::NoFile(why)) => {
                tracing::warn!(place = %self, "{name}: {why}: the file is written without a condition, and once after every start");
                Ok((FileState::Unreadable, None))
            }
            Err(error) if error.kind == SinkErrorKind::Denied => {
                tracing::warn!(%error, "the file cannot be read: it is written without a condition, and once after every start");
                Ok((FileState::Unreadable, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the right to write still lasts.
    fn in_time(&self, until: Option<Instant>) -> Result<(), SinkError> {
        match until {
            Some(until) if Instant::now() >= until => {
                Err(self.trouble(SinkErrorKind::Unavailable, "too slow: the right to write has ended"))
            }
            _ => Ok(()),
        }
    }

    fn trouble(&self, kind: SinkErrorKind, what: impl Into<String>) -> SinkError {
        SinkError::new(self, kind, what)
    }
}

impl std::fmt::Display for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its name is unique: a place may hold several sinks.
        write!(f, "{}{}", self.place, self.location)
    }
}
