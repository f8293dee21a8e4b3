//! HAProxy in the foreground, with `backend` sections from elsewhere.

use std::{fs, path::Path, process::Command};

use super::{Consumer, check, installed};

/// Starts HAProxy with these backends in a file of their own. `frontend` is the content of its frontend section, without
/// `bind`.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn haproxy(frontend: &str, backends: &Path) -> Consumer {
    let program = installed("haproxy");
    Consumer::start(&program, |folder, address| {
        let bind = format!("  bind {address}\n");
        arguments(folder, &format!("frontend test\n{bind}{frontend}"), backends)
    })
    .await
}

/// Whether HAProxy takes these backends (`haproxy -c`).
///
/// # Errors
/// What it says, where it does not.
///
/// # Panics
/// Where it is not installed.
pub fn haproxy_accepts(backends: &Path) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // One that would listen nowhere is refused.
    let frontend = format!("frontend test\n  bind unix@{}\n", folder.path().join("socket").display());
    check(Command::new(installed("haproxy")).arg("-c").args(arguments(folder.path(), &frontend, backends)))
}

fn arguments(folder: &Path, sections: &str, backends: &Path) -> Vec<String> {
    let text = format!(
        "global\n  maxconn 512\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{sections}"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, text).expect("a temporary file can be written");
    let text = |path: &Path| path.display().to_string();
    vec!["-db".to_owned(), "-f".to_owned(), text(&file), "-f".to_owned(), text(backends)]
}
