//! nginx with `mirror`, from the distribution: it sends the copies once it has the whole request, answers from the first
//! endpoint, and lets a client connection go on only when its mirrors are done.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::Plan;

/// Connections per worker; every client and every endpoint connection counts.
const CONNECTIONS: usize = 16_000;

/// Where it is installed.
pub(crate) fn program() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(extra);
    folders.find_map(|folder| Some(folder.join("nginx")).filter(|file| file.is_file())).ok_or_else(|| {
        "nginx is not installed: install it from the distribution (apt-get install nginx-light)".to_owned()
    })
}

/// The command that runs one in the foreground with this content of `http`.
pub(crate) fn command(program: &Path, folder: &Path, workers: usize, http: &str) -> anyhow::Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let at = |name: &str| folder.join(name).display().to_string();
    // Started as root it would otherwise become a user who may not write here.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {};\n", at(kind)))
        .concat();
    let config = format!(
        "{user}daemon off;\nworker_processes {workers};\npid {};\nerror_log stderr crit;\n\
         worker_rlimit_nofile {};\nevents {{ worker_connections {CONNECTIONS}; }}\nhttp {{\n  access_log off;\n{paths}  \
         client_max_body_size 0;\n  keepalive_timeout 600s;\n  keepalive_requests 1000000000;\n{http}}}\n",
        at("pid"),
        CONNECTIONS + 1000,
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let text = |path: &Path| path.display().to_string();
    Ok(vec![text(program), "-p".into(), text(folder), "-e".into(), "stderr".into(), "-c".into(), at("nginx.conf")])
}

/// The proxy of a plan.
pub(super) fn proxy(program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Vec<String>> {
    let mut http = String::new();
    for (index, endpoint) in plan.endpoints.iter().enumerate() {
        writeln!(
            http,
            "  upstream e{index} {{ server {endpoint} max_fails=0; keepalive 512; keepalive_requests 1000000000; }}"
        )?;
    }
    let pass = |index: usize, uri: &str| {
        format!(
            "proxy_pass http://e{index}{uri}; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout 600s;"
        )
    };
    let mirrors: String = (1..plan.endpoints.len()).map(|index| format!("mirror /m{index}; ")).collect();
    // Several workers share the load well only with a listener each.
    let reuse = if plan.threads > 1 { " reuseport" } else { "" };
    writeln!(http, "  server {{\n    listen 127.0.0.1:{port} backlog=4096{reuse};")?;
    writeln!(http, "    location / {{ {mirrors}{} }}", pass(0, ""))?;
    for index in 1..plan.endpoints.len() {
        writeln!(http, "    location = /m{index} {{ internal; {} }}", pass(index, "$request_uri"))?;
    }
    http.push_str("  }\n");
    command(program, plan.work, plan.threads, &http)
}
