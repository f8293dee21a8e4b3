//! How a process that broadcasts behaves.

use proxy::config::{AccessLog, Endpoint, EndpointMetrics, Ratio};

use crate::settings::{
    ROOT, Setting, flag, group, process,
    values::{boolean, parsed},
};

/// Which routes have to be ready for the process to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Each of them.
    All,
    /// One of them.
    Any,
}

group!(GROUP, "Process";
    + process::METRICS_INTERFACE.entry;
    + process::METRICS_TLS_CERT.entry;
    + process::METRICS_TLS_KEY.entry;
    + process::METRICS_TOKENS.entry;
    READY: Setting<Ready> = flag("ready").at(ROOT, "ready").default("all").one("all|any", ready),
        "Which routes need an endpoint for the process to be ready: all of them, or any one; /-/ready?route=NAME \
         answers for one route";
    READY_NO_ENDPOINT: Setting<bool> = flag("ready-no-endpoint").at(ROOT, "ready_no_endpoint").default("false")
        .switch(boolean),
        "Ready even if a route has no endpoint";
    + process::DRAIN_DELAY.entry;
    + process::DRAIN_IDLE.entry;
    + process::DRAIN_TIMEOUT.entry;
    + process::LOG_LEVEL.entry;
    + process::LOG_FORMAT.entry;
    ACCESS_LOG: Setting<AccessLog> = flag("access-log").at(ROOT, "access_log").default("text")
        .one("off|text|json", access_log),
        "One line per request on standard output, with the outcome of every endpoint";
    ENDPOINT_METRICS: Setting<EndpointMetrics> = flag("endpoint-metrics").at(ROOT, "endpoint_metrics")
        .default("endpoint up to 1,000 endpoints, else route").one("off|route|endpoint", endpoint_metrics),
        "Detail of the metrics of copies and of connections to endpoints: by endpoint, by route, or none";
    OTLP_ENDPOINT: Setting<Endpoint> = flag("otlp-endpoint").at(ROOT, "otlp_endpoint").one("URL", parsed),
        "The collector for traces: OTLP over gRPC (http://collector:4317), or over HTTP if the URL has a path \
         (http://collector:4318/v1/traces). Without it, requests are not traced";
    TRACE_SAMPLE: Setting<Ratio> = flag("trace-sample").at(ROOT, "trace_sample").default("1").one("RATIO", parsed),
        "The share of requests, from 0 to 1, whose traces are recorded. For a request with a traceparent, its sampled \
         flag decides instead";
);

fn ready(text: &str) -> Result<Ready, String> {
    match text {
        "all" => Ok(Ready::All),
        "any" => Ok(Ready::Any),
        _ => Err(format!("{text:?} does not say which routes have to be ready: use all or any")),
    }
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "off" | "false" => Ok(AccessLog::Off),
        "text" => Ok(AccessLog::Text),
        "json" => Ok(AccessLog::Json),
        _ => Err(format!("{text:?} is not an access log: use off, text or json")),
    }
}

fn endpoint_metrics(text: &str) -> Result<EndpointMetrics, String> {
    match text {
        "off" | "false" => Ok(EndpointMetrics::Off),
        "route" => Ok(EndpointMetrics::Route),
        "endpoint" => Ok(EndpointMetrics::Endpoint),
        _ => Err(format!("{text:?} is no detail of metrics: use off, route or endpoint")),
    }
}
