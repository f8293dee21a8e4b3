//! Envoy: clusters (CDS) and their endpoints (EDS) as files for `path_config_source`.
//!
//! Envoy reads one `ClusterLoadAssignment` from a file of endpoints, and follows a file by the rename that replaces it. So the set is
//! `cds.json` and an `eds/<cluster>.json` for each, the endpoints first: a change of endpoints then touches one small file, and the
//! cluster with its connections stays.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use snapshot::Endpoint;

use super::{File, InvalidFormat, JSON, LeftOut, Trust, leave_out, options::is_plain_path, pretty};
use crate::backend::{Application, Backend};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const HTTP: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// Envoy's connect time-out for an endpoint, which is ample within a network.
const CONNECT_TIMEOUT: &str = "1s";

/// The set of files, and where Envoy finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// Its path, without a slash at the end.
    directory: String,
    trust: Trust,
}

impl Envoy {
    pub(super) fn new(directory: Option<&str>, trust: Trust) -> Result<Self, InvalidFormat> {
        let missing = "a directory: the absolute path at which Envoy itself sees the set";
        let directory = directory.ok_or(InvalidFormat::Missing { format: "envoy", option: missing })?;
        if !is_plain_path(directory) {
            let why = format!("{directory:?} is not an absolute path of letters, digits and any of /._-+@");
            return Err(InvalidFormat::Value { option: "directory", why });
        }
        Ok(Self { directory: directory.trim_end_matches('/').to_owned(), trust })
    }

    pub(super) fn render(&self, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> Vec<File> {
        let backends = possible(backends, left_out);
        let file = |name: String, text: String| File { name, content_type: JSON, bytes: Bytes::from(text) };
        let mut files: Vec<File> = backends
            .iter()
            .map(|backend| {
                let mut resource = assignment(backend);
                resource["@type"] = ASSIGNMENT.into();
                file(format!("eds/{}.json", backend.name), response(ASSIGNMENT, vec![resource]))
            })
            .collect();
        let clusters = backends.iter().map(|backend| {
            let path = format!("{}/eds/{}.json", self.directory, backend.name);
            let mut cluster = cluster(backend, &self.trust);
            cluster["type"] = "EDS".into();
            cluster["eds_cluster_config"] =
                json!({"eds_config": {"path_config_source": {"path": path}, "resource_api_version": "V3"}});
            cluster
        });
        files.push(file("cds.json".to_owned(), response(CLUSTER, clusters.collect())));
        files
    }
}

/// Clusters with their endpoints in the same file.
pub(super) fn inline(trust: &Trust, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let clusters = possible(backends, left_out).into_iter().map(|backend| {
        let mut cluster = cluster(backend, trust);
        cluster["type"] = "STATIC".into();
        cluster["load_assignment"] = assignment(backend);
        cluster
    });
    response(CLUSTER, clusters.collect())
}

fn possible<'a>(backends: &'a [Backend], left_out: &mut Vec<LeftOut>) -> Vec<&'a Backend> {
    let mut kept = Vec::with_capacity(backends.len());
    for backend in backends {
        if backend.application == Application::Sctp {
            leave_out(left_out, &backend.name, "Envoy does not support SCTP");
        } else {
            kept.push(backend);
        }
    }
    kept
}

/// A discovery response, as Envoy reads it from a file or from a server.
fn response(type_url: &str, resources: Vec<Value>) -> String {
    let digest = Sha256::digest(Value::from(resources.clone()).to_string());
    let version: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    pretty(&json!({"version_info": version, "type_url": type_url, "resources": resources}))
}

fn cluster(backend: &Backend, trust: &Trust) -> Value {
    let mut cluster = json!({"@type": CLUSTER, "name": &*backend.name, "connect_timeout": CONNECT_TIMEOUT});
    if backend.application.is_h2c() {
        let http2 = json!({"@type": HTTP, "explicit_http_config": {"http2_protocol_options": {}}});
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2});
    }
    if backend.application.is_tls() {
        let validation = match trust {
            Trust::System => json!({"validation_context": {"system_root_certs": {}}}),
            Trust::File(path) => json!({"validation_context": {"trusted_ca": {"filename": path}}}),
            Trust::Anyone => json!({}),
        };
        let context = json!({"@type": TLS, "common_tls_context": validation});
        cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
    }
    cluster
}

/// The endpoints of a cluster, those of one zone together.
fn assignment(backend: &Backend) -> Value {
    let mut zones: Vec<(Option<&str>, Vec<Value>)> = Vec::new();
    for endpoint in &*backend.endpoints {
        let zone = endpoint.zone.as_deref();
        let at = zones.iter().position(|(known, _)| *known == zone).unwrap_or_else(|| {
            zones.push((zone, Vec::new()));
            zones.len() - 1
        });
        zones[at].1.push(member(endpoint));
    }
    zones.sort_by_key(|(zone, _endpoints)| *zone);
    let localities = zones.into_iter().map(|(zone, endpoints)| match zone {
        None => json!({"lb_endpoints": endpoints}),
        Some(zone) => json!({"locality": {"zone": zone}, "lb_endpoints": endpoints}),
    });
    json!({"cluster_name": &*backend.name, "endpoints": localities.collect::<Vec<Value>>()})
}

fn member(endpoint: &Endpoint) -> Value {
    let (ip, port) = (endpoint.address.ip().to_string(), endpoint.address.port());
    let mut member = json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}});
    // Members need not be ready.
    if endpoint.conditions.terminating {
        member["health_status"] = "DRAINING".into();
    } else if !endpoint.conditions.ready {
        member["health_status"] = "UNHEALTHY".into();
    }
    member
}
