//! A configuration file that tests replace while a process follows it.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{client, eventually};

use crate::process::Fanfare;

/// A configuration file in a folder of its own.
pub(crate) struct ConfigFile {
    folder: TempDir,
    pub(crate) path: PathBuf,
}

impl ConfigFile {
    /// A file with this text.
    pub(crate) fn new(text: &str) -> Self {
        let file = Self::missing();
        file.write(text);
        file
    }

    /// The folder alone; the file is still to be written.
    pub(crate) fn missing() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join("fanfare.yaml"), folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces it in one step, as editors and Kubernetes do.
    pub(crate) fn write(&self, text: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(&new, &self.path).expect("it can be renamed");
    }

    /// A process with this file that is ready.
    pub(crate) async fn serve(&self) -> Fanfare {
        let fanfare = Fanfare::serve(self.arguments()).await;
        fanfare.wait_ready().await;
        fanfare
    }

    /// The arguments of a process with this file.
    pub(crate) fn arguments(&self) -> [&std::ffi::OsStr; 3] {
        ["run".as_ref(), "--config".as_ref(), self.path.as_os_str()]
    }
}

/// Has it read its file again, and waits until so many reloads have had this result.
pub(crate) async fn reload(fanfare: &Fanfare, result: &str, count: u32) {
    let wanted = format!("fanfare_config_reloads_total{{result=\"{result}\"}} {count}\n");
    fanfare.signal(Signal::HUP);
    eventually!(format!("reload {count}"), client::get(fanfare.admin(), "/metrics").await.text(), |text| text
        .contains(&wanted));
}
