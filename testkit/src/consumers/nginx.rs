//! nginx in the foreground, with parts of a configuration from elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Consumer, check, installed};

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
    installed("nginx", "nginx libnginx-mod-stream")
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
    let places = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"];
    if let Some(file) =
        places.iter().map(|place| Path::new(place).join("ngx_stream_module.so")).find(|file| file.is_file())
    {
        return format!("load_module {};\n", file.display());
    }
    // It says so on its standard error.
    let told = Command::new(program()).arg("-V").output().map(|output| output.stderr).unwrap_or_default();
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.split_whitespace().any(|option| option == "--with-stream"),
        "nginx has no stream module: apt-get install libnginx-mod-stream (or your system's package of it)"
    );
    String::new()
}
