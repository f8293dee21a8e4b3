//! Envoy with `request_mirror_policies`: it answers from the first endpoint and does not wait for the mirrors.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::{ACCESS_LOG, AccessLog, Plan};
use crate::protocols::Http;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

pub(super) fn command(program: &Path, plan: &Plan<'_>, port: u16) -> anyhow::Result<Vec<String>> {
    let file = plan.work.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(&config(plan, port))?)?;
    let text = |path: &Path| path.display().to_string();
    let mut command = vec![text(program), "--config-path".to_owned(), text(&file)];
    command.extend(["--concurrency".to_owned(), plan.threads.to_string()]);
    command.extend(["--disable-hot-restart", "--log-level", "error"].map(str::to_owned));
    Ok(command)
}

fn config(plan: &Plan<'_>, port: u16) -> Value {
    let endpoints = plan.endpoints;
    let http2 = plan.protocols.client == Http::Two;
    let name = |index: usize| format!("e{index}");
    let mirrors: Vec<Value> = (1..endpoints.len()).map(|index| json!({"cluster": name(index)})).collect();
    let route = json!({"cluster": name(0), "timeout": "0s", "request_mirror_policies": mirrors});
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]);
    let mut manager = json!({
        "@type": MANAGER,
        "stat_prefix": "load",
        "codec_type": if http2 { "HTTP2" } else { "HTTP1" },
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    if plan.log != AccessLog::Off {
        let file = plan.work.join(ACCESS_LOG).display().to_string();
        let mut log = json!({"@type": FILE_LOG, "path": file});
        if plan.log == AccessLog::Json {
            // What its text has by default.
            log["log_format"] = json!({"json_format": {
                "time": "%START_TIME%", "method": "%REQ(:METHOD)%", "target": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
                "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%", "ms": "%DURATION%",
                "forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%",
                "id": "%REQ(X-REQUEST-ID)%", "host": "%REQ(:AUTHORITY)%", "upstream": "%UPSTREAM_HOST%",
            }});
        }
        manager["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": log}]);
    }
    let clusters =
        endpoints.iter().enumerate().map(|(index, endpoint)| cluster(&name(index), *endpoint, plan.protocols.endpoint));
    let mut chain = json!({"filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }]});
    if plan.protocols.tls {
        let file = |path: &Path| json!({"filename": path.display().to_string()});
        let (chain_file, key) = (file(&plan.certificate.chain), file(&plan.certificate.key));
        let certificate = json!({"certificate_chain": chain_file, "private_key": key});
        let alpn = json!([if http2 { "h2" } else { "http/1.1" }]);
        let common = json!({"tls_certificates": [certificate], "alpn_protocols": alpn});
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": TLS, "common_tls_context": common},
        });
    }
    json!({
        "static_resources": {
            "listeners": [{
                "name": "load",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [chain],
            }],
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

fn cluster(name: &str, endpoint: SocketAddr, http: Http) -> Value {
    // Its default circuit breakers would drop copies.
    let many = 1_000_000;
    let limits = json!({
        "max_connections": many, "max_pending_requests": many, "max_requests": many, "max_retries": many,
    });
    let address = json!({"socket_address": {"address": endpoint.ip().to_string(), "port_value": endpoint.port()}});
    let protocol = match http {
        Http::One => json!({"http_protocol_options": {}}),
        Http::Two => json!({"http2_protocol_options": {}}),
    };
    let options = json!({
        "@type": format!("type.googleapis.com/{OPTIONS}"),
        "explicit_http_config": protocol,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {OPTIONS: options},
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}
