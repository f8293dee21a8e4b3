//! Tells the binary its commit: what `FANFARE_COMMIT` says, else that of the git checkout that it is built from.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FANFARE_COMMIT");
    let given = env::var("FANFARE_COMMIT").ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(of_the_checkout) {
        println!("cargo:rustc-env=FANFARE_COMMIT={commit}");
    }
}

/// The commit of the checkout of which this is the root. Sources that only lie within another one's are not of its commit.
fn of_the_checkout() -> Option<String> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    let root = PathBuf::from(git(&here, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if root != here {
        return None;
    }
    // Whatever says so first that another commit is checked out: the log of HEAD, or HEAD and its branch.
    let branch = git(&here, &["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        let path = git(&here, &["rev-parse", "--git-path", name]).map(|path| here.join(path));
        if let Some(path) = path.filter(|path| path.is_file()) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&here, &["rev-parse", "--short=12", "HEAD"])
}

/// What git says; nothing where there is no git, no repository, or no answer.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
