//! Bounds on what `fanfare broadcast` keeps at a time.

use super::ROUTE;
use crate::settings::{
    ROOT, Setting, flag, group,
    values::{boolean, bytes, number, positive},
};

group!(GROUP, "Limits";
    WINDOW: Setting<usize> = flag("window").at(ROUTE, "window").default("256KiB").one("SIZE", bytes),
        "Body window: bytes of its body that a request may keep in memory, and as many of its answers; at least \
         64KiB";
    MAX_CONNECTIONS: Setting<usize> = flag("max-connections").at(ROOT, "max_connections").default("10000")
        .one("N", positive),
        "Most client connections at a time. For a further one the connection that has been longest without a request \
         is closed; if all have one, the further one gets 503";
    MAX_INFLIGHT: Setting<usize> = flag("max-inflight").at(ROOT, "max_inflight").default("10000").one("N", positive),
        "Most requests at a time, counted from when they go to the endpoints; a further one gets 503";
    MAX_INFLIGHT_PER_ENDPOINT: Setting<usize> = flag("max-inflight-per-endpoint").at(ROOT, "max_inflight_per_endpoint")
        .default("1024").one("N", positive),
        "Most copies of requests at a time to one endpoint; a further one is rejected";
    MAX_BUFFERED: Setting<usize> = flag("max-buffered").at(ROOT, "max_buffered").default("512MiB").one("SIZE", bytes),
        "Bytes of bodies that all requests together keep in memory; beyond that they proceed more slowly";
    POOL_SIZE: Setting<usize> = flag("pool-size").at(ROOT, "pool_size").default("256").one("N", number),
        "Idle connections kept per endpoint and worker thread";
    GRPC_MAX_MESSAGE: Setting<usize> = flag("grpc-max-message").at(ROUTE, "grpc_max_message").default("4MiB")
        .one("SIZE", bytes),
        "Bytes of a gRPC answer that are held per endpoint until its status is known; a longer one fails with \
         status 8";
    THREADS: Setting<usize> = flag("threads").at(ROOT, "threads").default("one per CPU").one("N", threads),
        "Worker threads";
    REUSE_PORT: Setting<bool> = flag("reuse-port").at(ROOT, "reuse_port").default("false").switch(boolean),
        "Another process may listen at the same address if it has this too, so that one can replace the other without \
         a refused \
         connection. Otherwise an address that is in use is refused";
);

/// More threads than any machine has processors are a mistake.
const MAX_THREADS: usize = 4096;

fn threads(text: &str) -> Result<usize, String> {
    let threads = number(text)?;
    if threads > MAX_THREADS {
        Err(format!("{threads} is more than {MAX_THREADS}: use one for each CPU"))
    } else {
        Ok(threads)
    }
}
