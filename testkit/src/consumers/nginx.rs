//! nginx in the foreground, with parts of a configuration from elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Consumer, check, installed};
use crate::packages;

/// What nginx shall do.
#[derive(Clone, Debug, Default)]
pub struct Nginx {
    /// Of the `http` context: text, in which `LISTEN` stands for where it shall listen.
    pub http: String,
    /// Of the `stream` context, likewise; where it is empty, there is none.
    pub stream: String,
}

/// Starts nginx.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn nginx(config: Nginx) -> Consumer {
    let program = program();
    Consumer::start(&program, |folder, address| arguments(folder, &config, &address.to_string())).await
}

/// Whether nginx takes this configuration (`nginx -t`).
///
/// # Errors
/// What it says, where it does not.
///
/// # Panics
/// Where it is not installed.
pub fn nginx_accepts(config: &Nginx) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    // With `-t` nothing listens for long, but it is tried.
    let arguments = arguments(folder.path(), config, "127.0.0.1:0");
    check(Command::new(program()).arg("-t").args(arguments))
}

fn program() -> PathBuf {
    installed("nginx")
}

fn arguments(folder: &Path, config: &Nginx, listen: &str) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    // Started as root it would otherwise become a user who may not write here.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {};\n", at(kind)))
        .concat();
    let (module, stream) = match &config.stream {
        stream if stream.is_empty() => (String::new(), String::new()),
        stream => (module(), format!("stream {{\n{stream}}}\n")),
    };
    let text = format!(
        "{module}{user}daemon off;\nworker_processes 1;\npid {};\nerror_log stderr warn;\nevents {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n{paths}{}}}\n{stream}",
        at("pid"),
        config.http,
    );
    let file = at("nginx.conf");
    fs::write(&file, text.replace("LISTEN", listen)).expect("a temporary file can be written");
    vec!["-p".to_owned(), folder.display().to_string(), "-e".to_owned(), "stderr".to_owned(), "-c".to_owned(), file]
}

/// The line that loads the stream module, where it is not built in.
fn module() -> String {
    let file = packages::nginx_stream_module().unwrap_or_else(|e| panic!("{e}"));
    file.map_or_else(String::new, |file| format!("load_module {};\n", file.display()))
}
