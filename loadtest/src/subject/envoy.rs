//! Envoy with `request_mirror_policies`: it answers from the first endpoint and does not wait for the mirrors.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::Plan;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

pub(super) fn command(program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Vec<String>> {
    let file = plan.work.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(&config(plan.endpoints, port))?)?;
    let text = |path: &Path| path.display().to_string();
    let mut command = vec![text(program), "--config-path".to_owned(), text(&file)];
    command.extend(["--concurrency".to_owned(), plan.threads.to_string()]);
    command.extend(["--disable-hot-restart", "--log-level", "error"].map(str::to_owned));
    Ok(command)
}

fn config(endpoints: &[SocketAddr], port: u16) -> Value {
    let name = |index: usize| format!("e{index}");
    let mirrors: Vec<Value> = (1..endpoints.len()).map(|index| json!({"cluster": name(index)})).collect();
    let route = json!({"cluster": name(0), "timeout": "0s", "request_mirror_policies": mirrors});
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]);
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "load",
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    let clusters = endpoints.iter().enumerate().map(|(index, endpoint)| cluster(&name(index), *endpoint));
    json!({
        "static_resources": {
            "listeners": [{
                "name": "load",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

fn cluster(name: &str, endpoint: SocketAddr) -> Value {
    // Its default circuit breakers would drop copies.
    let many = 1_000_000;
    let limits = json!({
        "max_connections": many, "max_pending_requests": many, "max_requests": many, "max_retries": many,
    });
    let address = json!({"socket_address": {"address": endpoint.ip().to_string(), "port_value": endpoint.port()}});
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}
