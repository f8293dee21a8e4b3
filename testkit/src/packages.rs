//! Programs that tests need from the distribution. Missing ones are installed before any long build if this process is root and
//! has `apt-get`; otherwise the command to type is printed.

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Instant,
};

use crate::{
    go::{cache, lock, say},
    netns,
};

/// A program or module that tests need.
#[derive(Clone, Copy, Debug)]
struct Needed {
    /// What it is called.
    what: &'static str,
    /// Debian's package of it.
    package: &'static str,
    /// Whether it is there.
    is_there: fn(&str) -> bool,
}

/// What is done about missing packages.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing is missing.
    Nothing,
    /// These packages are installed.
    Install(Vec<&'static str>),
    /// The user has to install them; this is the text that says how.
    Ask(String),
}

/// Everything that tests need; `.ci/run` installs it with the test below.
const NEEDED: [Needed; 16] = [
    Needed { what: "nginx", package: "nginx-light", is_there: has },
    Needed { what: "nginx's stream module", package: "libnginx-mod-stream", is_there: |_| nginx_has_streams() },
    Needed { what: "haproxy", package: "haproxy", is_there: has },
    Needed { what: "promtool", package: "prometheus", is_there: has },
    Needed { what: "prometheus", package: "prometheus", is_there: has },
    Needed { what: "prometheus-alertmanager", package: "prometheus-alertmanager", is_there: has },
    Needed { what: "prometheus-pushgateway", package: "prometheus-pushgateway", is_there: has },
    Needed { what: "varnishd", package: "varnish", is_there: has },
    Needed { what: "systemd-analyze", package: "systemd", is_there: has },
    Needed { what: "chromium-headless-shell", package: "chromium-headless-shell", is_there: has },
    Needed { what: "curl", package: "curl", is_there: has },
    Needed { what: "h2load", package: "nghttp2-client", is_there: has },
    Needed { what: "groff", package: "groff-base", is_there: has },
    Needed { what: "ip", package: "iproute2", is_there: has },
    Needed { what: "unshare", package: "util-linux", is_there: has },
    Needed { what: "python3 -m venv", package: "python3-venv", is_there: |_| python_has_venv() },
];

/// Where Linux distributions have nginx's modules.
const NGINX_MODULES: [&str; 3] = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"];

/// The path of a program. First installs all that tests need and is missing, if that is possible.
///
/// # Errors
/// The program is missing: the text says what to install.
pub fn program(name: &str) -> Result<PathBuf, String> {
    prepare();
    find(name).ok_or_else(|| {
        let package = NEEDED.iter().find(|needed| needed.what == name).map_or(name, |needed| needed.package);
        format!("`{name}` is not installed: apt-get install {package} (or your system's package of it)")
    })
}

/// The file of nginx's stream module; nothing where it is built in.
///
/// # Errors
/// The module is missing: the text says what to install.
pub(crate) fn nginx_stream_module() -> Result<Option<PathBuf>, String> {
    prepare();
    let file = stream_module_file();
    if file.is_none() && !nginx_has_streams() {
        return Err(
            "nginx has no stream module: apt-get install libnginx-mod-stream (or your system's package of it)".into()
        );
    }
    Ok(file)
}

/// Checks for everything that tests need, once in a process, and installs or asks for what is missing.
pub fn prepare() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        // Inside a network namespace there is no network, and the outer run has prepared everything.
        if netns::entered() {
            return;
        }
        match plan(&missing(), rustix::process::geteuid().is_root(), find("apt-get").is_some()) {
            Plan::Nothing => {}
            Plan::Ask(line) => say(&line),
            Plan::Install(_) => install_missing().unwrap_or_else(|why| say(&why)),
        }
    });
    LazyLock::force(&ONCE);
}

fn missing() -> Vec<Needed> {
    NEEDED.into_iter().filter(|needed| !(needed.is_there)(needed.what)).collect()
}

fn plan(missing: &[Needed], root: bool, apt: bool) -> Plan {
    if missing.is_empty() {
        return Plan::Nothing;
    }
    let mut packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if root && apt {
        return Plan::Install(packages);
    }
    let mut line = String::from("programs that the tests need are missing");
    let what = missing.iter().map(|needed| needed.what).collect::<Vec<_>>().join(", ");
    let _ = match apt {
        true => write!(line, " ({what}). Type this first:  sudo apt-get install -y {}", packages.join(" ")),
        false => write!(line, ". Install these first with your system's package manager: {what}"),
    };
    Plan::Ask(line)
}

/// Installs what is missing now: of several processes one does, and the others wait for it.
fn install_missing() -> Result<(), String> {
    let cache = cache();
    std::fs::create_dir_all(&cache).map_err(|e| format!("cannot create {}: {e}", cache.display()))?;
    let _lock = lock(&cache.join("packages.lock"), || say("waiting for another process that installs packages"))?;
    match plan(&missing(), true, true) {
        Plan::Install(packages) => install(Path::new("apt-get"), &packages),
        Plan::Nothing | Plan::Ask(_) => Ok(()),
    }
}

/// Installs packages, and says so.
fn install(apt: &Path, packages: &[&str]) -> Result<(), String> {
    let line = format!("apt-get install -y {}", packages.join(" "));
    say(&format!("installing what tests need and is missing: {line}"));
    let began = Instant::now();
    // Without an update the old package list may still be good enough.
    let _ = run(Command::new(apt).args(["update", "-q", "-o", "Acquire::http::Timeout=30"]));
    let mut install = Command::new(apt);
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
    run(&mut install).map_err(|why| format!("{line} has failed; type it yourself. It said:\n{why}"))?;
    say(&format!("installed in {} s", began.elapsed().as_secs()));
    Ok(())
}

/// Runs a command to its end. The error is the end of its output.
fn run(command: &mut Command) -> Result<(), String> {
    // Programs are needed, not services: none of them is started.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("it cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said: Vec<_> = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
    Err(said[said.len().saturating_sub(20)..].join("\n"))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // The administrator's directories are not on every user's PATH, but their programs work for every user.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()]);
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file())
}

fn has(name: &str) -> bool {
    find(name).is_some()
}

fn stream_module_file() -> Option<PathBuf> {
    NGINX_MODULES.iter().map(|place| Path::new(place).join("ngx_stream_module.so")).find(|file| file.is_file())
}

/// On Debian streams are a module of their own; elsewhere they are built in.
fn nginx_has_streams() -> bool {
    let built_in = || {
        let nginx = find("nginx")?;
        // It says so on its standard error.
        let told = Command::new(nginx).arg("-V").stdin(Stdio::null()).output().ok()?.stderr;
        let told = String::from_utf8_lossy(&told);
        Some(told.split_whitespace().any(|option| option == "--with-stream"))
    };
    stream_module_file().is_some() || built_in().unwrap_or(false)
}

/// Debian's Python has no `ensurepip` without a package. Once the environment is there nobody needs it.
fn python_has_venv() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cache().join("venv/bin/pip").exists() || python.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn needed(packages: &[&'static str]) -> Vec<Needed> {
        NEEDED.into_iter().filter(|needed| packages.contains(&needed.package)).collect()
    }

    /// `.ci/run` begins with this one.
    #[test]
    fn programs_that_tests_need_are_installed() {
        prepare();
        let missing: Vec<_> = missing().into_iter().map(|needed| (needed.what, needed.package)).collect();
        assert!(missing.is_empty(), "not there, with Debian's packages of it: {missing:?}");
    }

    #[test]
    fn missing_programs_are_installed_by_root_and_requested_elsewhere() {
        let missing = needed(&["libnginx-mod-stream", "prometheus"]);
        assert_eq!(plan(&missing, true, true), Plan::Install(vec!["libnginx-mod-stream", "prometheus"]));
        assert_eq!(plan(&[], true, true), Plan::Nothing);
        assert_eq!(plan(&[], false, false), Plan::Nothing);
        let Plan::Ask(line) = plan(&missing, false, true) else { panic!("only root can install") };
        assert!(line.ends_with("sudo apt-get install -y libnginx-mod-stream prometheus"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let Plan::Ask(line) = plan(&missing, true, false) else { panic!("there is no apt-get") };
        assert!(line.ends_with("nginx's stream module, promtool, prometheus"), "{line}");
    }

    /// A program that stands in for apt-get, and notes what it was given.
    fn stand_in(folder: &Path, ends_with: u8) -> PathBuf {
        let (program, log) = (folder.join("apt-get"), folder.join("log"));
        let script = format!(
            "#!/bin/sh\necho \"$DEBIAN_FRONTEND $SYSTEMD_OFFLINE $*\" >> {}\necho no such package >&2\n[ $1 = update ] || exit {ends_with}\n",
            log.display()
        );
        fs::write(&program, script).expect("a temporary file can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        program
    }

    #[test]
    fn packages_are_installed_without_questions_and_without_services() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        install(&stand_in(folder.path(), 0), &["a", "b"]).expect("it succeeds");
        let log = fs::read_to_string(folder.path().join("log")).expect("it was run");
        assert_eq!(
            log,
            "noninteractive 1 update -q -o Acquire::http::Timeout=30\nnoninteractive 1 install -q -y --no-install-recommends a b\n"
        );
    }

    #[test]
    fn a_failure_says_what_to_type_and_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let why = install(&stand_in(folder.path(), 100), &["a", "b"]).expect_err("it fails");
        assert!(why.starts_with("apt-get install -y a b has failed") && why.ends_with("no such package"), "{why}");
    }
}
