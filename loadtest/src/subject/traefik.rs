//! Traefik with a mirroring service: it keeps the whole body in memory, answers from the first endpoint, and sends the
//! mirrors' copies after that.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::{ACCESS_LOG, AccessLog, Plan};
use crate::protocols::Http;

pub(super) fn command(program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Vec<String>> {
    // JSON is YAML.
    let file = plan.work.join("traefik.yml");
    fs::write(&file, serde_json::to_vec_pretty(&config(plan))?)?;
    let mut command = vec![program.display().to_string()];
    command.push(format!("--entryPoints.load.address=127.0.0.1:{port}"));
    command.push("--entryPoints.load.transport.respondingTimeouts.readTimeout=0".to_owned());
    if plan.protocols.tls {
        command.push("--entryPoints.load.http.tls=true".to_owned());
    }
    command.push(format!("--providers.file.filename={}", file.display()));
    command.push("--providers.file.watch=false".to_owned());
    command.push("--serversTransport.maxIdleConnsPerHost=1024".to_owned());
    if plan.log != AccessLog::Off {
        command.push("--accesslog=true".to_owned());
        command.push(format!("--accesslog.filepath={}", plan.work.join(ACCESS_LOG).display()));
    }
    if plan.log == AccessLog::Json {
        command.push("--accesslog.format=json".to_owned());
    }
    command.push("--log.level=ERROR".to_owned());
    command.push("--global.checkNewVersion=false".to_owned());
    command.push("--global.sendAnonymousUsage=false".to_owned());
    Ok(command)
}

fn config(plan: &Plan<'_>) -> Value {
    let mut services = Map::new();
    let scheme = if plan.protocols.endpoint == Http::Two { "h2c" } else { "http" };
    for (index, endpoint) in plan.endpoints.iter().enumerate() {
        let servers = json!([{"url": format!("{scheme}://{endpoint}")}]);
        services.insert(format!("e{index}"), json!({"loadBalancer": {"servers": servers}}));
    }
    let mirrors: Vec<Value> =
        (1..plan.endpoints.len()).map(|index| json!({"name": format!("e{index}"), "percent": 100})).collect();
    let service = if mirrors.is_empty() { "e0" } else { "all" };
    if !mirrors.is_empty() {
        services.insert("all".to_owned(), json!({"mirroring": {"service": "e0", "mirrors": mirrors}}));
    }
    let router = json!({"rule": "PathPrefix(`/`)", "entryPoints": ["load"], "service": service});
    let mut config = json!({"http": {"routers": {"load": router}, "services": services}});
    if plan.protocols.tls {
        let file = |path: &Path| path.display().to_string();
        let certificate = json!({"certFile": file(&plan.certificate.chain), "keyFile": file(&plan.certificate.key)});
        config["tls"] =
            json!({"certificates": [certificate], "stores": {"default": {"defaultCertificate": certificate}}});
    }
    config
}
