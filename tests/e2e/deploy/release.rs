//! What makes a release: its scripts run here as far as they need no long build, and the workflows call only what is there.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::{path, read};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Runs a command to its end.
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
}

/// Runs a command that must succeed; what it prints.
fn told(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    // A checksum may follow a name.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A small program with debug information stands for the binary: what is packed is not looked into.
fn program(folder: &Path) -> std::path::PathBuf {
    let (source, program) = (folder.join("fanfare.c"), folder.join("built"));
    fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"it runs\"); return 0; }\n").expect("a file");
    told(Command::new("cc").arg("-g").arg("-o").arg(&program).arg(&source));
    program
}

/// Packs the program into a folder, as a release does.
fn pack(target: &str, program: &Path, out: &Path) -> Output {
    run(Command::new(path("deploy/package")).arg(target).arg(program).arg(out).env("SOURCE_DATE_EPOCH", "1700000000"))
}

/// The sections of a program.
fn sections(program: &Path) -> String {
    told(Command::new("readelf").args(["--sections", "--wide"]).arg(program))
}

#[test]
fn an_archive_has_the_stripped_binary_and_another_its_debug_information() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path());
    let out = folder.path().join("out");
    let packed = pack(TARGET, &program, &out);
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let name = format!("fanfare-{}-{TARGET}", env!("CARGO_PKG_VERSION"));
    for archive in [name.clone(), format!("{name}-debug")] {
        let archive = out.join(format!("{archive}.tar.gz"));
        told(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()));
    }
    let release = folder.path().join(&name);
    for file in ["LICENSE", "README.md", "CHANGELOG.md", "systemd/fanfare.service", "systemd/fanfare.socket"] {
        assert!(release.join(file).is_file(), "{file} is missing");
    }
    let binary = release.join("fanfare");
    assert_eq!(told(&mut Command::new(&binary)), "it runs\n");
    assert!(sections(&program).contains(".debug_info") && !sections(&binary).contains(".debug_info"));
    // A debugger looks for a file of that name beside the binary.
    let link = told(Command::new("readelf").arg("--string-dump=.gnu_debuglink").arg(&binary));
    assert!(link.contains("fanfare.debug"), "{link}");
    let debug = folder.path().join(format!("{name}-debug/fanfare.debug"));
    assert!(sections(&debug).contains(".debug_info"));
    let image = fs::read(out.join("linux/amd64/fanfare")).expect("what the image has");
    assert!(image == fs::read(&binary).expect("the binary"), "the image has another binary than the archive");
}

#[test]
fn the_same_binary_gives_the_same_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path());
    let archive = |out: &str| {
        let out = folder.path().join(out);
        assert!(pack(TARGET, &program, &out).status.success());
        let file = format!("fanfare-{}-{TARGET}.tar.gz", env!("CARGO_PKG_VERSION"));
        fs::read(out.join(file)).expect("an archive")
    };
    assert!(archive("one") == archive("two"));
}

#[test]
fn what_cannot_be_made_is_said_before_anything_is_built() {
    for (arguments, expected) in [
        (&["--target", "riscv64gc-unknown-linux-musl"][..], "no release is made for the target riscv64gc"),
        (&["--target"], "--target takes the name of a target: x86_64-unknown-linux-musl aarch64-unknown-linux-musl"),
        (&["--fast"], "unknown argument --fast"),
    ] {
        let output = run(Command::new(path("deploy/release")).args(arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(64) && said.contains(expected), "{arguments:?}: {said}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = pack("mips-unknown-linux-musl", &program(folder.path()), folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && said.contains("mips-unknown-linux-musl"), "{said}");
}

#[test]
fn the_image_of_a_release_takes_what_the_script_makes() {
    let (recipe, script) = (read("deploy/Dockerfile.release"), read("deploy/package"));
    assert!(recipe.contains("COPY linux/${TARGETARCH}/fanfare /fanfare\n"), "{recipe}");
    assert!(script.contains("\"$out/linux/$arch/fanfare\""), "{script}");
    let same = |line: &str| {
        let other = read("deploy/Dockerfile");
        let find = |text: &str| text.lines().find(|other| other.starts_with(line)).map(str::to_owned);
        assert!(find(&recipe).is_some() && find(&recipe) == find(&other), "{line}");
    };
    ["USER ", "ENTRYPOINT ", "EXPOSE "].into_iter().for_each(same);
    let version = format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(recipe.contains(&version), "{version}");
    let image = recipe.lines().find_map(|line| line.strip_prefix("FROM ")).expect("it stands on an image");
    assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
}

/// The steps of all jobs of a workflow.
fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().expect("jobs");
    jobs.values().flat_map(|job| job["steps"].as_array().expect("steps")).collect()
}

#[test]
fn workflows_call_only_what_is_there() {
    let mut called = Vec::new();
    for entry in fs::read_dir(path(".github/workflows")).expect("workflows") {
        let file = entry.expect("it can be listed").path();
        let text = fs::read_to_string(&file).expect("text");
        let workflow: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(workflow["on"].is_object() && workflow["permissions"].is_object(), "{}", file.display());
        let channel = read("rust-toolchain.toml");
        let channel =
            channel.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel").trim_matches('"');
        for job in workflow["jobs"].as_object().expect("jobs").values() {
            let image = job["container"]["image"].as_str();
            assert!(
                image.is_none_or(|image| image.starts_with(&format!("rust:{channel}-"))),
                "{image:?}: not {channel}"
            );
        }
        for step in steps(&workflow) {
            match (step["uses"].as_str(), step["run"].as_str()) {
                (Some(action), None) => {
                    let version = action.split_once("@v").and_then(|(_, version)| version.parse::<u32>().ok());
                    assert!(version.is_some(), "{action} has no version");
                }
                (None, Some(line)) => called.extend(line.split_whitespace().map(str::to_owned)),
                _ => panic!("a step uses an action or runs a line: {step}"),
            }
        }
    }
    // Whatever begins like a file of the repository is one.
    let ours = |word: &&String| {
        let first = word.split('/').next().unwrap_or_default();
        !word.starts_with('/') && first != "target" && !first.is_empty() && path(first).exists()
    };
    let files: Vec<&String> = called.iter().filter(ours).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        assert!(path(file).exists(), "{file} is not there");
    }
    // What a release uploads is what the script makes.
    let script = read("deploy/release") + &read("deploy/package");
    let uploads: Vec<&str> = called.iter().filter_map(|word| word.strip_prefix("target/release-files/")).collect();
    assert!(uploads.len() >= 3, "{uploads:?}");
    for upload in uploads {
        assert!(script.contains(upload.trim_start_matches('*')), "{upload} is made by nobody");
    }
    for script in [".ci/run", "deploy/release", "deploy/package"] {
        told(Command::new("bash").arg("-n").arg(path(script)));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path(script)).expect("it is there"));
        assert!(mode & 0o111 != 0, "{script} cannot be executed");
    }
}
