//! nginx with `mirror`, from the distribution: it sends the copies once it has the whole request, answers from the first
//! endpoint, and lets a client connection go on only when its mirrors are done.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{ACCESS_LOG, AccessLog, Plan};
use crate::protocols::Http;

/// Connections per worker; every client and every endpoint connection counts.
const CONNECTIONS: usize = 16_000;

/// The path of nginx.
pub(crate) fn program() -> Result<PathBuf, String> {
    super::installed("nginx").ok_or_else(|| {
        "nginx is not installed: install it from the distribution (apt-get install nginx-light)".to_owned()
    })
}

/// The command that runs one in the foreground with this content of `http`.
pub(crate) fn command(program: &Path, folder: &Path, workers: usize, http: &str) -> anyhow::Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let at = |name: &str| folder.join(name).display().to_string();
    // Started as root it would otherwise switch to a user without the right to write here.
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
    // What its text has by default.
    writeln!(
        http,
        "  log_format json escape=json '{{\"client\":\"$remote_addr\",\"user\":\"$remote_user\",\"time\":\"$time_iso8601\",\
         \"request\":\"$request\",\"status\":$status,\"sent\":$body_bytes_sent,\"referer\":\"$http_referer\",\
         \"agent\":\"$http_user_agent\"}}';"
    )?;
    let grpc = plan.protocols.grpc;
    let pass = |index: usize, uri: &str| {
        if grpc {
            // A sub-request keeps the path of the client's request only with a URI of its own, which grpc_pass cannot have.
            return format!("grpc_pass grpc://e{index}; grpc_read_timeout 600s;");
        }
        format!(
            "proxy_pass http://e{index}{uri}; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_read_timeout 600s;"
        )
    };
    let mirrors: String = (1..plan.endpoints.len()).map(|index| format!("mirror /m{index}; ")).collect();
    // Several workers share the load evenly only with a listener each.
    let reuse = if plan.threads > 1 { " reuseport" } else { "" };
    let (tls, http2) = (plan.protocols.tls, plan.protocols.client == Http::Two);
    let spoken = format!("{}{}", if tls { " ssl" } else { "" }, if http2 { " http2" } else { "" });
    writeln!(http, "  server {{\n    listen 127.0.0.1:{port} backlog=4096{reuse}{spoken};")?;
    if tls {
        let (chain, key) = (plan.certificate.chain.display(), plan.certificate.key.display());
        writeln!(http, "    ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;")?;
    }
    let log = plan.work.join(ACCESS_LOG);
    match plan.log {
        AccessLog::Off => {}
        AccessLog::Text => writeln!(http, "    access_log {} combined;", log.display())?,
        AccessLog::Json => writeln!(http, "    access_log {} json;", log.display())?,
    }
    // The whole body is needed only for mirrors.
    if plan.endpoints.len() == 1 {
        writeln!(http, "    proxy_request_buffering off;")?;
    }
    writeln!(http, "    location / {{ {mirrors}{} }}", pass(0, ""))?;
    for index in 1..plan.endpoints.len() {
        writeln!(http, "    location = /m{index} {{ internal; {} }}", pass(index, "$request_uri"))?;
    }
    http.push_str("  }\n");
    command(program, plan.work, plan.threads, &http)
}
