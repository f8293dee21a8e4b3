//! Exports to a disk that is full or read-only: every file stays as it was and whole, the failure is told, and it passes by itself.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use kubekit::cluster;
use testkit::{client, eventually};

use super::bed::{account, put, text};
use crate::process::Fanfare;

/// All formats but `haproxy-map`, which names backends and changes with none of their endpoints.
const FORMATS: [&str; 12] = [
    "traefik",
    "traefik-json",
    "default",
    "json",
    "prometheus",
    "envoy",
    "envoy-cds",
    "haproxy",
    "nginx",
    "nginx-stream",
    "hosts",
    "template",
];

const TEMPLATE: &str = "{% for backend in backends %}{% for endpoint in backend.endpoints %}{{ endpoint.address }}\n{% endfor %}{% endfor %}";

/// How the disk is taken away, and how it comes back.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Full,
    ReadOnly,
}

/// A process that exports in every format to a small disk of its own.
struct Scene {
    fanfare: Fanfare,
    /// The disk, as this test reaches it.
    disk: PathBuf,
    /// The same, as the process names it.
    inside: PathBuf,
}

// === impl Trouble ===

impl Trouble {
    fn told(self) -> &'static str {
        match self {
            Self::Full => "No space left on device",
            Self::ReadOnly => "Read-only file system",
        }
    }

    fn begin(self, scene: &Scene) {
        match self {
            Self::Full => {
                let mut filler = fs::File::create(scene.disk.join("filler")).expect("there is room for a name");
                while filler.write_all(&[0; 4096]).is_ok() {}
            }
            Self::ReadOnly => scene.remount("ro"),
        }
    }

    fn end(self, scene: &Scene) {
        match self {
            Self::Full => fs::remove_file(scene.disk.join("filler")).expect("it is there"),
            Self::ReadOnly => scene.remount("rw"),
        }
    }
}

// === impl Scene ===

impl Scene {
    async fn new(inside: &Path, template: &Path, namespace: &str, kubeconfig: &str) -> Self {
        let script = r#"mount -t tmpfs -o size=512k none "$1" && shift && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(inside);
        command.args([env!("CARGO_BIN_EXE_fanfare"), "discover", "--select=k8s-service-discovery=yes"]);
        command.args(["-n", namespace, "-k", kubeconfig, "-m", "127.0.0.1:0", "-f", &FORMATS.join(",")]);
        command
            .arg("--envoy-directory=/envoy")
            .arg("--template")
            .arg(template)
            .arg("--to")
            .arg(inside.join(""))
            .env_remove("KUBECONFIG");
        let mut fanfare = Fanfare::spawn(command.into());
        fanfare.wait_listening().await;
        fanfare.wait_ready().await;
        let rest = inside.strip_prefix("/").expect("an absolute path");
        let disk = Path::new("/proc").join(fanfare.pid().to_string()).join("root").join(rest);
        Self { fanfare, disk, inside: inside.to_owned() }
    }

    fn remount(&self, mode: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.fanfare.pid().to_string(), "--user", "--mount", "--preserve-credentials"]);
        let status = command.args(["mount", "-o", &format!("remount,{mode}")]).arg(&self.inside).status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?} (util-linux) remounts a disk of its own");
    }

    /// The content of every file.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match fs::read(&path) {
                    _ if path.is_dir() => collect(&path, files),
                    // It may have been replaced meanwhile.
                    Ok(content) if !path.ends_with("filler") => drop(files.insert(path, content)),
                    _ => {}
                }
            }
        }
        let mut files = BTreeMap::new();
        collect(&self.disk, &mut files);
        files
    }

    /// How many exports have an endpoint in one of their files.
    fn exports_with(&self, address: &str) -> usize {
        let files = self.files();
        files.values().filter(|content| String::from_utf8_lossy(content).contains(address)).count()
    }

    async fn get(&self, path: &str) -> String {
        client::get(self.fanfare.admin(), path).await.text()
    }

    /// The number of exports whose file is, or is not, up to date.
    async fn in_sync(&self, value: u8) -> usize {
        let (metrics, end) = (self.get("/metrics").await, format!("}} {value}"));
        metrics.lines().filter(|line| line.starts_with("fanfare_export_in_sync{") && line.ends_with(&end)).count()
    }
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_changes_no_file_of_any_format_is_told_and_passes() {
    let (cluster, folder) = (cluster::shared().await, tempfile::tempdir().expect("a temporary folder"));
    let account = account(&cluster).await;
    let (namespace, kubeconfig) = (account.namespace(), text(account.kubeconfig_path()));
    let (inside, template) = (folder.path().join("disk"), folder.path().join("template"));
    fs::create_dir(&inside).expect("a folder");
    fs::write(&template, TEMPLATE).expect("it can be written");
    put(&cluster, namespace, "web", 1).await;
    let scene = Scene::new(&inside, &template, namespace, kubeconfig).await;
    let count = FORMATS.len();
    assert!(scene.exports_with("192.0.2.1") >= count, "{:?}", scene.files().keys());
    for (endpoints, trouble) in [(2, Trouble::Full), (3, Trouble::ReadOnly)] {
        let before = scene.files();
        trouble.begin(&scene);
        put(&cluster, namespace, "web", endpoints).await;
        eventually!("all to be out of sync", scene.in_sync(0).await, |out| *out == count);
        let ready = client::get(scene.fanfare.admin(), "/-/ready").await.complete().expect_status(503).text();
        assert!(ready.contains(trouble.told()), "{ready}");
        let warns = |line: &&str| line.contains(" WARN ") && line.contains(trouble.told());
        let told = |log: &str| log.lines().filter(warns).count() >= count;
        scene.fanfare.stderr.wait("a warning of each", told).await;
        // While a write is tried again, its temporary file is there for a moment.
        testkit::eventually!("the files of before, and none left over", scene.files(), |files| *files == before);
        trouble.end(&scene);
        eventually!("all to be in sync", scene.in_sync(1).await, |done| *done == count);
        assert!(scene.exports_with(&format!("192.0.2.{endpoints}")) >= count, "{:?}", scene.files().keys());
        scene.fanfare.wait_ready().await;
        testkit::eventually!("no file to be left over", scene.files(), |files| files.len() == before.len());
    }
}
