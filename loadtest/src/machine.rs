//! The environment of a run: machine, commit, folders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// The machine of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Cores that may be used.
    pub(crate) cores: usize,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// File descriptors that a process may have.
    pub(crate) open_files: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        let memory: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            cpu: value(&text("/proc/cpuinfo"), "model name"),
            cores: crate::cores::available().len(),
            memory: memory * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }

    /// A short name for folders.
    pub(crate) fn slug(&self) -> String {
        let cpu: String =
            self.cpu.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let words: Vec<&str> =
            cpu.split('-').filter(|word| !word.is_empty() && !matches!(*word, "r" | "tm" | "cpu")).take(4).collect();
        format!("{}-{}cores", if words.is_empty() { "unknown".to_owned() } else { words.join("-") }, self.cores)
    }
}

/// The commit of the workspace, marked where files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "--short=12", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit} with changes"),
        (None, _) => "none".to_owned(),
    }
}

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The folder that cargo builds in.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name_that_can_be_a_folder() {
        let named = |cpu: &str| Machine { cpu: cpu.to_owned(), cores: 2, ..Machine::default() }.slug();
        assert_eq!(named("AMD EPYC"), "amd-epyc-2cores");
        assert_eq!(named("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz"), "intel-xeon-e5-2680-2cores");
        assert_eq!(named(""), "unknown-2cores");
        let this = Machine::this();
        assert!(this.cores > 0 && this.memory > 0 && !this.kernel.is_empty(), "{this:?}");
    }
}
