//! Where the control plane's binaries come from: built once from Go modules, or given by the user.

use std::{
    collections::VecDeque,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// What is built, and the file name `go build` gives it where that is not the name wanted.
const PACKAGES: [&str; 3] = [
    "go.etcd.io/etcd/server/v3",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
];

/// How often a long build says that it is alive.
const PROGRESS: Duration = Duration::from_secs(10);

/// The control plane's executables.
#[derive(Clone, Debug)]
pub struct Assets {
    directory: PathBuf,
}

impl Assets {
    /// Finds the executables, and builds them first where that has not been done for this `go.mod`.
    ///
    /// `KUBEBUILDER_ASSETS`, if set, names a directory that has them already. Otherwise they are built into the
    /// workspace's target directory, under a lock, so that of many test processes one builds and the others wait.
    /// The build needs Go and the Go module proxy, and takes minutes the first time.
    ///
    /// # Errors
    /// A text that says what is missing and how to get it.
    pub fn locate() -> Result<Self, String> {
        // What has failed once in this process is not tried again by every test.
        static LOCATED: LazyLock<Result<Assets, String>> = LazyLock::new(Assets::find);
        LOCATED.clone()
    }

    fn find() -> Result<Self, String> {
        if let Some(directory) = env::var_os("KUBEBUILDER_ASSETS") {
            return Ok(Self { directory: directory.into() });
        }
        let directory = cache().join(format!("control-plane-{:016x}", fingerprint()?));
        if !directory.is_dir() {
            build(&directory)?;
        }
        Ok(Self { directory })
    }

    /// The path of one executable.
    ///
    /// # Errors
    /// A text naming the executable where the directory does not have it.
    pub fn executable(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(format!(
            "{} has no `{name}`: put it there, or unset KUBEBUILDER_ASSETS and it is built from source",
            self.directory.display()
        ))
    }
}

/// The directory that outlives a test run: what was built, and the state of the clusters that are running.
pub(super) fn cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("testkit")
}

/// Where the Go module lies.
fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

/// Changes with everything that goes into the build.
fn fingerprint() -> Result<u64, String> {
    // `DefaultHasher::new()` has fixed keys: the same files give the same directory in every run.
    let mut hasher = DefaultHasher::new();
    (read("go.mod")?, read("go.sum")?, flags()?).hash(&mut hasher);
    Ok(hasher.finish())
}

/// A file of the Go module.
fn read(name: &str) -> Result<String, String> {
    let path = module().join(name);
    fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// The build's flags: no debug information, because nobody will debug these binaries and it costs time and space; and the
/// version that the API server reports about itself.
fn flags() -> Result<[String; 5], String> {
    let module = read("go.mod")?;
    let required = module.lines().filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    // Perhaps with a comment behind it.
    let version = required
        .flat_map(str::split_whitespace)
        .next()
        .ok_or("testkit/cluster/go.mod does not require k8s.io/kubernetes")?;
    Ok([
        "-trimpath".into(),
        "-mod=readonly".into(),
        "-gcflags=all=-dwarf=false".into(),
        format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={version}"),
        "-v".into(),
    ])
}

/// Builds into `directory`, which appears only when it is complete.
fn build(directory: &Path) -> Result<(), String> {
    let cache = cache();
    fs::create_dir_all(&cache).map_err(|e| format!("cannot create {}: {e}", cache.display()))?;
    let _lock = lock(&cache.join("build.lock"), || say("waiting for another process that builds the control plane"))?;
    if directory.is_dir() {
        return Ok(());
    }
    let partial = cache.join("control-plane.partial");
    // What an interrupted build left behind; `go build` keeps its own cache of what was finished.
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(|e| format!("cannot create {}: {e}", partial.display()))?;
    go_build(&partial)?;
    let renamed = fs::rename(partial.join("server"), partial.join("etcd"));
    let moved = renamed.and_then(|()| fs::rename(&partial, directory));
    moved.map_err(|e| format!("cannot move the binaries to {}: {e}", directory.display()))
}

/// Waits for an exclusive lock on a file; it ends with the returned handle, or with the process.
pub(super) fn lock(path: &Path, waiting: impl FnOnce()) -> Result<fs::File, String> {
    let explain = |e| format!("cannot lock {}: {e}", path.display());
    let file = fs::File::options().create(true).append(true).open(path).map_err(explain)?;
    if file.try_lock().is_err() {
        waiting();
        file.lock().map_err(explain)?;
    }
    Ok(file)
}

fn go_build(into: &Path) -> Result<(), String> {
    say("building etcd, kube-apiserver and kube-controller-manager once (3 to 8 minutes on 2 cores)");
    let started = Instant::now();
    let mut go = Command::new("go");
    go.arg("build").args(flags()?).arg("-o").arg(into).args(PACKAGES).current_dir(module());
    // Pure Go: no C compiler needed. An outer workspace or flags meant for another module must not leak in.
    go.env("CGO_ENABLED", "0").env("GOWORK", "off").env_remove("GOFLAGS").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = go.stderr(Stdio::piped()).spawn().map_err(|e| {
        format!(
            "cannot run `go`: {e}. The tests on a real Kubernetes API server build it from source: install Go 1.25 or \
             later and put it on PATH, or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and \
             kube-controller-manager"
        )
    })?;
    let mut last: VecDeque<String> = VecDeque::new();
    let (mut lines, mut said) = (0_usize, Instant::now());
    for line in BufReader::new(child.stderr.take().expect("stderr was piped")).lines().map_while(Result::ok) {
        lines += 1;
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            say(&format!("{} s, {lines} steps, now {line}", started.elapsed().as_secs()));
        }
        last.push_back(line);
        if last.len() > 30 {
            last.pop_front();
        }
    }
    let status = child.wait().map_err(|e| format!("cannot wait for `go build`: {e}"))?;
    if status.success() {
        say(&format!("built in {} s", started.elapsed().as_secs()));
        return Ok(());
    }
    Err(format!(
        "`go build` in {} failed ({status}). It needs Go 1.25 or later and, the first time, the Go module proxy. Its \
         last lines:\n{}",
        module().display(),
        Vec::from(last).join("\n")
    ))
}

/// A line for the person who waits. Not `eprintln!`, which the test harness would hold back until the test has ended.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "testkit: {line}");
}
