//! The managed block in a hosts file (`hosts(5)`): names of endpoints, before DNS has them.
//!
//! Rules: everything outside of the block stays the same, byte for byte. The file is replaced as a whole, with its mode and owner.
//! If it is a mount, as `/etc/hosts` in a pod, and cannot be replaced, it is written in place, in one write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use controlplane::index::ServiceKey;
use runtime::files;
use snapshot::Endpoint;

use super::{document::endpoints, service::Published};

/// The first and the last line of the block.
const BEGIN: &str = "# BEGIN fanfare endpoints (between these lines everything is written anew)";
const END: &str = "# END fanfare endpoints";

/// The prefix of the line that begins a service's part of the block.
const SERVICE_PREFIX: &str = "# service ";

/// The largest hosts file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsFile {
    /// Its path. A symbolic link is followed.
    pub path: PathBuf,
    /// The DNS domain of the kube cluster, the suffix of full names (`cluster.local`).
    pub domain: String,
}

/// How the file was updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteResult {
    /// It had this content already.
    Unchanged,
    /// The file was replaced atomically.
    Replaced,
    /// The file cannot be replaced and was overwritten in place.
    InPlace,
}

/// Why a hosts file cannot be updated.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostsError {
    /// Reading or writing failed.
    #[error("cannot {what} {path}: {why}")]
    Io { what: &'static str, path: PathBuf, why: io::Error },
    /// It has only a part of the block, so that the lines of the block cannot be distinguished from others.
    #[error(
        "{0} has only one of the lines {BEGIN:?} and {END:?}, or several: remove these and the lines between them, which are written again"
    )]
    Torn(PathBuf),
    /// It is not a hosts file.
    #[error("{0} is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge(PathBuf),
}

/// The lines of each service.
pub(super) type Parts = BTreeMap<ServiceKey, String>;

// === impl HostsFile ===

impl HostsFile {
    /// The lines of one service's ready endpoints: an address, the DNS names of its host name (or of its pod, in the same form, if
    /// it has none), and the bare name of the pod.
    pub(super) fn lines(&self, key: &ServiceKey, published: &Published) -> String {
        let ServiceKey { namespace, name } = key;
        let mut lines: BTreeMap<_, String> = BTreeMap::new();
        for (_, endpoint) in endpoints(&published.entry.view).filter(|(_, endpoint)| endpoint.conditions.ready) {
            let Some(host) = host(endpoint) else { continue };
            let ip = endpoint.address.ip();
            let short = format!("{host}.{name}");
            let names =
                format!("{short}.{namespace}.svc.{} {short}.{namespace}.svc {short}.{namespace} {short}", self.domain);
            let bare = bare(endpoint).map(|bare| format!(" {bare}")).unwrap_or_default();
            lines.entry(ip).or_insert_with(|| format!("{ip}\t{names}{bare}\n"));
        }
        lines.into_values().collect()
    }

    /// Updates the block. Services of `keep` that are not in `parts` keep their lines in the file.
    pub(super) fn write(&self, parts: &Parts, keep: &[ServiceKey]) -> Result<WriteResult, HostsError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |why| HostsError::Io { what, path, why }
        };
        // The target of a link is replaced, not the link.
        let path = match fs::canonicalize(&self.path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.path.clone(),
            Err(error) => return Err(failed("find", &self.path)(error)),
        };
        let found = match files::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let metadata = found.as_ref().map(File::metadata).transpose().map_err(failed("read", &path))?;
        if metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_FILE_BYTES) {
            return Err(HostsError::TooLarge(path));
        }
        let mut old = Vec::new();
        if let Some(file) = found {
            file.take(MAX_FILE_BYTES).read_to_end(&mut old).map_err(failed("read", &path))?;
        }
        let new = with_block(&old, &unambiguous(parts), keep).ok_or_else(|| HostsError::Torn(path.clone()))?;
        if new == old {
            return Ok(WriteResult::Unchanged);
        }
        match replace(&path, &new, metadata.as_ref()) {
            Ok(()) => Ok(WriteResult::Replaced),
            Err(error) if metadata.is_some() && cannot_be_replaced(&error) => {
                write_over(&path, &old, &new).map_err(failed("write", &path))?;
                Ok(WriteResult::InPlace)
            }
            Err(error) => Err(failed("write", &path)(error)),
        }
    }
}

/// The name of an endpoint: its host name, else its pod's, if that can be part of a name.
fn host(endpoint: &Endpoint) -> Option<&str> {
    let label = |text: &&str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        !text.is_empty() && text.bytes().all(inner)
    };
    let pod = endpoint.pod.as_ref().map(|pod| &*pod.name);
    endpoint.hostname.as_deref().or(pod).filter(label)
}

/// The name of an endpoint's pod, if it is unambiguous alone: without dots, and not `localhost`.
fn bare(endpoint: &Endpoint) -> Option<&str> {
    let fits = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !name.ends_with("localhost")
    };
    endpoint.pod.as_ref().map(|pod| &*pod.name).filter(fits)
}

/// The lines without ambiguous bare names: those of pods in several namespaces, and those that a service has too.
fn unambiguous(parts: &Parts) -> Parts {
    let bare = |line: &str| line.rsplit_once(' ').map(|(_, name)| name.to_owned()).filter(|name| !name.contains('.'));
    let mut namespaces: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (key, text) in parts {
        for name in text.lines().filter_map(bare) {
            namespaces.entry(name).or_default().insert(&key.namespace);
        }
    }
    let clear = |name: &str| {
        namespaces.get(name).is_some_and(|all| all.len() == 1) && !parts.keys().any(|key| *key.name == *name)
    };
    let kept = |line: &str| match line.rsplit_once(' ') {
        Some((rest, name)) if !name.contains('.') && !clear(name) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    parts.iter().map(|(key, text)| (key.clone(), text.lines().map(kept).collect())).collect()
}

/// The file with a new block in place of the old one, or else at the end; none if it has only a part of a block.
fn with_block(old: &[u8], parts: &Parts, keep: &[ServiceKey]) -> Option<Vec<u8>> {
    let mut lines = old.split_inclusive(|byte| *byte == b'\n');
    let is = |line: &[u8], marker: &str| line.trim_ascii_end() == marker.as_bytes();
    let mut before: Vec<u8> = Vec::new();
    let mut inside = false;
    for line in lines.by_ref() {
        if is(line, END) {
            return None;
        }
        if is(line, BEGIN) {
            inside = true;
            break;
        }
        before.extend_from_slice(line);
    }
    let mut known: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut part = Vec::new();
    let mut ended = !inside;
    for line in lines.by_ref() {
        if is(line, BEGIN) {
            return None;
        }
        if is(line, END) {
            ended = true;
            break;
        }
        if let Some(service) = line.strip_prefix(SERVICE_PREFIX.as_bytes()) {
            part = service.trim_ascii_end().to_vec();
        }
        known.entry(part.clone()).or_default().extend_from_slice(line);
    }
    let mut after: Vec<u8> = Vec::new();
    for line in lines {
        if is(line, BEGIN) || is(line, END) {
            return None;
        }
        after.extend_from_slice(line);
    }
    if !ended {
        return None;
    }
    let mut block: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for key in keep {
        let name = key.to_string();
        if let Some(lines) = known.remove(name.as_bytes()) {
            block.insert(name, lines);
        }
    }
    for (key, lines) in parts {
        block.insert(key.to_string(), format!("{SERVICE_PREFIX}{key}\n{lines}").into_bytes());
    }
    let mut new = before;
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.push(b'\n');
    }
    new.extend_from_slice(format!("{BEGIN}\n").as_bytes());
    block.into_values().for_each(|lines| new.extend(lines));
    new.extend_from_slice(format!("{END}\n").as_bytes());
    new.extend(after);
    Some(new)
}

/// Replaces the file atomically, keeping its mode and owner.
fn replace(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = String::from(".");
    let file_name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // Writing to a text cannot fail.
    let _ = write!(name, "{}.fanfare-{}", file_name.to_string_lossy(), std::process::id());
    let temporary = folder.join(name);
    let done = write_new(&temporary, content, old).and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // It need not exist.
        let _ = fs::remove_file(&temporary);
        return done;
    }
    // So that the rename survives a crash. Some file systems do not support it.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Whether a file cannot be renamed over this one: it is a mount, or its folder or owner is another user's.
fn cannot_be_replaced(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), CrossesDevices | PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

fn write_new(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    // An earlier process with the same id may have left one behind.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    if let Some(old) = old {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o7777))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

/// Writes everything from the first difference on in one write, then truncates the file to its new length. A full disk changes nothing.
fn write_over(path: &Path, old: &[u8], new: &[u8]) -> io::Result<()> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let mut file = OpenOptions::new().write(true).open(path)?;
    reserve(&file, new.len())?;
    file.seek(io::SeekFrom::Start(same as u64))?;
    file.write_all(&new[same..])?;
    file.set_len(new.len() as u64)?;
    file.sync_all()
}

/// Has the disk set this many bytes aside, so that a full one is noticed before anything is overwritten.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        // Some file systems cannot, and an empty file needs nothing.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
