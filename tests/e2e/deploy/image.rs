//! The Dockerfile, parsed and not run: the copied files exist and suffice, and its user and entry point match the manifests.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{path, read};

/// The instructions of the Dockerfile: their name and the rest, continued lines joined, comments left out.
fn instructions() -> Vec<(String, String)> {
    let text: Vec<String> = read("deploy/Dockerfile")
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(str::to_owned)
        .collect();
    let text = text.join("\n").replace("\\\n", " ");
    let instructions = text.lines().filter_map(|line| line.trim().split_once(' '));
    instructions.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

fn all(name: &str) -> Vec<String> {
    instructions().into_iter().filter(|(other, _)| other == name).map(|(_, rest)| rest).collect()
}

/// The paths that are copied from the build context.
fn sources() -> Vec<String> {
    let mut sources = Vec::new();
    for copy in all("COPY").iter().filter(|copy| !copy.starts_with("--from=")) {
        let words: Vec<&str> = copy.split_whitespace().collect();
        let (_target, from) = words.split_last().expect("it copies something");
        assert!(!from.is_empty() && from.iter().all(|word| !word.contains('*')), "COPY {copy}");
        sources.extend(from.iter().map(ToString::to_string));
    }
    sources
}

/// The paths in `.dockerignore`.
fn ignored() -> Vec<String> {
    let text = read(".dockerignore");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Copies a path without the files that `.dockerignore` excludes.
fn copy(relative: &str, into: &Path, ignored: &[String]) {
    if ignored.iter().any(|path| relative == path) {
        return;
    }
    let (from, to) = (path(relative), into.join(relative));
    if from.is_dir() {
        fs::create_dir_all(&to).expect("a folder can be made");
        for entry in fs::read_dir(&from).expect("it can be listed") {
            let name = entry.expect("it can be listed").file_name();
            copy(&format!("{relative}/{}", name.to_str().expect("a name of ASCII")), into, ignored);
        }
    } else {
        fs::copy(&from, &to).unwrap_or_else(|e| panic!("COPY {relative}: {e}"));
    }
}

#[test]
fn copied_files_exist_and_are_all_that_cargo_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for source in sources() {
        copy(&source, folder.path(), &ignored());
        assert!(folder.path().join(&source).exists(), "{source} is ignored by .dockerignore");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]).current_dir(folder.path());
    let output = cargo.output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let binary = packages.iter().filter(|package| package["name"] == "fanfare").flat_map(|package| {
        package["targets"].as_array().expect("a list").iter().filter(|target| target["kind"][0] == "bin")
    });
    assert_eq!(binary.map(|target| target["name"].as_str()).collect::<Vec<_>>(), [Some("fanfare")]);
    let scripts = packages.iter().filter(|package| package["name"] == "fanfare").flat_map(|package| {
        package["targets"].as_array().expect("a list").iter().filter(|target| target["kind"][0] == "custom-build")
    });
    assert_eq!(scripts.count(), 1, "what tells the binary its commit");
    assert!(all("RUN").iter().any(|run| run.contains("cargo build --release --locked --bin fanfare")));
}

#[test]
fn large_and_stale_files_are_not_in_the_context() {
    let ignored = ignored();
    for path in [".git", "target"] {
        assert!(ignored.iter().any(|line| line == path), "{path} is missing in .dockerignore");
    }
    let plain = |line: &String| !line.starts_with('!') && !line.contains('*');
    assert!(ignored.iter().all(plain), "a pattern may hit a module of that name: {ignored:?}");
}

#[test]
fn the_compiler_is_the_pinned_one() {
    let pinned = read("rust-toolchain.toml");
    let pinned = pinned.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel").trim_matches('"');
    assert!(all("FROM")[0].starts_with(&format!("rust:{pinned}-")), "{:?} is not {pinned}", all("FROM"));
    assert!(!sources().iter().any(|source| source == "rust-toolchain.toml"));
    for base in all("FROM") {
        let image = base.split_whitespace().next().expect("an image");
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest"), "{image} has no tag that says which");
    }
}

#[test]
fn the_binary_runs_as_the_user_that_the_deployment_names() {
    let deployment: Value = serde_yaml::from_str(&read("deploy/broadcast/deployment.yaml")).expect("it is YAML");
    let context = &deployment["spec"]["template"]["spec"]["securityContext"];
    assert_eq!(all("USER"), [format!("{}:{}", context["runAsUser"], context["runAsGroup"])]);
    assert_eq!(all("ENTRYPOINT"), [r#"["/fanfare"]"#]);
    let from_build = all("COPY").into_iter().filter(|copy| copy.starts_with("--from=build "));
    let (workdir, target) = (&all("WORKDIR")[0], "/fanfare");
    assert_eq!(from_build.collect::<Vec<_>>(), [format!("--from=build {workdir}/target/release/fanfare {target}")]);
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(all("LABEL").iter().any(|labels| labels.contains(&version)), "{version}");
}
