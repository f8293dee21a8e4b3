//! Executables that tests need and that are built once from Go modules, pinned by their `go.sum`.

use std::{
    collections::VecDeque,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    packages,
    process::{Group, Mark},
};

/// The interval at which a long build reports its progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// What is built from one module file.
#[derive(Debug)]
pub struct GoBuild {
    /// The name of the directory with the executables.
    pub name: &'static str,
    /// The module's folder.
    pub folder: &'static str,
    /// The module file in it.
    pub module_file: &'static str,
    /// Its sources in that folder, if it has any of its own.
    pub sources: &'static [&'static str],
    /// What is built, as the module knows it.
    pub packages: &'static [&'static str],
    /// Executables to be renamed after `go build`: from, to.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Further flags of the linker.
    pub linked: String,
    /// What is built and how long that takes, for the user.
    pub what: &'static str,
    /// What users without Go can do instead of installing it.
    pub instead: &'static str,
}

impl GoBuild {
    /// The directory with the executables. Builds them first where that has not been done for these files: into the
    /// workspace's target directory, under a lock, so that of many test processes one builds and the others wait.
    ///
    /// # Errors
    /// A text that says what is missing and how to get it.
    pub fn directory(&self) -> Result<PathBuf, String> {
        let directory = cache().join(format!("{}-{:016x}", self.name, self.fingerprint()?));
        if !directory.is_dir() {
            // First, so that a missing package fails before minutes of building.
            packages::prepare();
            self.build_into(&directory)?;
        }
        Ok(directory)
    }

    /// A file of the module.
    ///
    /// # Errors
    /// It cannot be read: which one, and why.
    pub fn read(&self, file: &str) -> Result<String, String> {
        let path = self.module().join(file);
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    }

    /// Where the module lies.
    fn module(&self) -> &Path {
        Path::new(self.folder)
    }

    /// Changes with everything that goes into the build.
    fn fingerprint(&self) -> Result<u64, String> {
        // `DefaultHasher::new()` has fixed keys: the same files give the same directory in every run.
        let mut hasher = DefaultHasher::new();
        let sums = self.module_file.replace(".mod", ".sum");
        (self.read(self.module_file)?, self.read(&sums)?, self.flags()).hash(&mut hasher);
        for source in self.sources {
            self.read(source)?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    }

    /// The build's flags. Debug information is left out, because it costs time and space.
    fn flags(&self) -> Vec<String> {
        let linker = ["-s -w", &self.linked].join(" ");
        let mut flags: Vec<String> =
            ["-trimpath", "-mod=readonly", "-gcflags=all=-dwarf=false"].map(String::from).into();
        flags.extend([format!("-ldflags={}", linker.trim_end()), "-v".into()]);
        flags
    }

    /// Builds into `directory`, which appears only when it is complete.
    fn build_into(&self, directory: &Path) -> Result<(), String> {
        let cache = cache();
        fs::create_dir_all(&cache).map_err(|e| format!("cannot create {}: {e}", cache.display()))?;
        let waiting = || say(&format!("{}: waiting for another process that builds", self.name));
        let _lock = lock(&cache.join("build.lock"), waiting)?;
        if directory.is_dir() {
            return Ok(());
        }
        let partial = cache.join(format!("{}.partial", self.name));
        // Removes the output of an interrupted build; `go build` keeps its own cache of finished packages.
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(|e| format!("cannot create {}: {e}", partial.display()))?;
        self.go_build(&partial)?;
        let mut renamed = self.renamed.iter().map(|(from, to)| fs::rename(partial.join(from), partial.join(to)));
        let moved = renamed.try_for_each(|renamed| renamed).and_then(|()| fs::rename(&partial, directory));
        moved.map_err(|e| format!("cannot move the executables to {}: {e}", directory.display()))
    }

    fn go_build(&self, into: &Path) -> Result<(), String> {
        say(&format!("building {}", self.what));
        let started = Instant::now();
        let mut go = Command::new("go");
        go.arg("build").args(self.flags()).arg(format!("-modfile={}", self.module_file));
        // A trailing slash: it is a directory, even for one executable.
        go.arg("-o").arg(into.join("")).args(self.packages).current_dir(self.module());
        // Without cgo no C compiler is needed. An outer workspace or flags meant for another module must not apply.
        go.env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mark = Mark::on(&mut go);
        let mut child = go.stderr(Stdio::piped()).spawn().map_err(|e| {
            let (what, instead) = (self.what, self.instead);
            format!("cannot run `go`: {e}. It builds {what}: install Go 1.25 or later and put it on PATH{instead}")
        })?;
        // The build must end with this process, whose lock ends then.
        let _group = Group::led_by(child.id(), mark);
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
            "`go build` in {} failed ({status}). It needs Go 1.25 or later and, the first time, the Go module proxy. \
             Its last lines:\n{}",
            self.module().display(),
            Vec::from(last).join("\n")
        ))
    }
}

/// The directory that outlives a test run: executables, and the state of running clusters.
#[must_use]
pub fn cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("testkit")
}

/// Waits for an exclusive lock on a file; it ends with the returned handle, or with the process.
///
/// # Errors
/// The file cannot be made or locked: which one, and why.
pub fn lock(path: &Path, waiting: impl FnOnce()) -> Result<fs::File, String> {
    let explain = |e| format!("cannot lock {}: {e}", path.display());
    let file = fs::File::options().create(true).append(true).open(path).map_err(explain)?;
    if file.try_lock().is_err() {
        waiting();
        file.lock().map_err(explain)?;
    }
    Ok(file)
}

/// Prints a line to the user. `eprintln!` is not used because the test harness would hold its output back until the test has ended.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "testkit: {line}");
}
