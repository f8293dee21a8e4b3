//! The OTLP receiver of the OpenTelemetry Collector, which writes received spans to a file.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::Command, sync::LazyLock};

use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually, go::GoBuild, grpc_interop::ServerFiles, process::Process};

/// A collector. Dropping it ends it.
#[derive(Debug)]
pub struct OtlpCollector {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    folder: TempDir,
}

/// A span as the collector has received it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedSpan {
    /// The trace, in hexadecimal.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Its parent; empty if it has none.
    pub parent: String,
    /// The `tracestate` of its trace.
    pub state: String,
    /// Its name.
    pub name: String,
    /// 2 for servers, 3 for clients.
    pub kind: i64,
    /// When it began and ended, in nanoseconds.
    pub times: (u64, u64),
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it failed.
    pub failed: bool,
    /// Its links: trace and id.
    pub links: Vec<(String, String)>,
    /// The attributes of its resource.
    pub resource: BTreeMap<String, String>,
}

// === impl OtlpCollector ===

impl OtlpCollector {
    /// Starts one on free ports, by TLS where it is given a certificate.
    ///
    /// # Panics
    /// If it cannot be built, or does not come up.
    pub async fn start(tls: Option<ServerFiles<'_>>) -> Self {
        let built = tokio::task::spawn_blocking(build).await;
        let program = built.expect("building does not panic").unwrap_or_else(|e| panic!("{e}"));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut command = Command::new(program);
        command.arg(format!("--file={}", file(&folder).display()));
        if let Some(ServerFiles { cert, key }) = tls {
            command.args([format!("--cert={}", cert.display()), format!("--key={}", key.display())]);
        }
        let process = Process::spawn_command(command, &folder.path().join("log")).unwrap_or_else(|e| panic!("{e}"));
        let addresses = eventually!("the addresses of a collector", addresses(&process.tail(40)), Option::is_some);
        let (grpc, http) = addresses.expect("it was waited for");
        Self { process, grpc, http, folder }
    }

    /// Its address for gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Its address for HTTP.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The received spans, in the order of arrival.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let text = std::fs::read_to_string(file(&self.folder)).unwrap_or_default();
        // The last line may be incomplete.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.flat_map(|line| received(&serde_json::from_str(line).expect("the collector writes JSON"))).collect()
    }
}

impl Drop for OtlpCollector {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the collector at {}:\n{}", self.grpc, self.process.tail(40));
        }
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("spans.jsonl")
}

fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (grpc, http) = log.lines().find_map(|line| line.strip_prefix("grpc="))?.split_once(" http=")?;
    Some((grpc.parse().ok()?, http.parse().ok()?))
}

/// The spans of a message in OTLP's JSON.
fn received(message: &Value) -> Vec<ReceivedSpan> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for of_resource in list(message, "resourceSpans") {
        let resource = attributes(&of_resource["resource"]);
        for span in list(&of_resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            let time = |key: &str| text(key).parse().expect("a time is a number");
            let link = |link: Value| {
                let text = |key: &str| link[key].as_str().unwrap_or_default().to_owned();
                (text("traceId"), text("spanId"))
            };
            spans.push(ReceivedSpan {
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                state: text("traceState"),
                name: text("name"),
                kind: span["kind"].as_i64().unwrap_or_default(),
                times: (time("startTimeUnixNano"), time("endTimeUnixNano")),
                attributes: attributes(&span),
                failed: span["status"]["code"] == 2,
                links: list(&span, "links").into_iter().map(link).collect(),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value.as_object().and_then(|value| value.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let all = of["attributes"].as_array().into_iter().flatten();
    all.map(|one| (one["key"].as_str().unwrap_or_default().to_owned(), text(&one["value"]))).collect()
}

/// Its program, built if need be.
///
/// # Errors
/// Why it cannot be built, and what to do about it.
pub fn build() -> Result<PathBuf, String> {
    // A failure is kept, so that not every test tries again.
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let build = GoBuild {
            name: "otlp-collector",
            folder: concat!(env!("CARGO_MANIFEST_DIR"), "/otlp_collector"),
            module_file: "go.mod",
            sources: &["main.go"],
            packages: &["testkit/otlp_collector"],
            renamed: &[],
            linked: String::new(),
            what: "the OTLP receiver of the OpenTelemetry Collector once (about 2 minutes on 2 cores)",
            instead: "",
        };
        build.directory().map(|directory| directory.join("otlp_collector"))
    });
    BUILT.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;

    const MESSAGE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
        "scopeSpans":[{"scope":{},"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
        "parentSpanId":"","name":"GET","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2",
        "attributes":[{"key":"n","value":{"intValue":"200"}}],"status":{"code":2}}]}]}]}"#;

    #[tokio::test]
    async fn it_writes_what_it_receives() {
        let collector = OtlpCollector::start(None).await;
        let fields = [("Content-Type", "application/json")];
        let answer = client::request(collector.http(), "POST", "/v1/traces", &fields, MESSAGE.as_bytes()).await;
        answer.complete().expect_status(200);
        let spans = eventually!("the span", collector.spans(), |spans: &Vec<_>| !spans.is_empty());
        let span = &spans[0];
        assert_eq!((spans.len(), span.name.as_str(), span.kind, span.failed), (1, "GET", 2, true));
        assert_eq!((span.attributes["n"].as_str(), span.resource["service.name"].as_str()), ("200", "a"));
    }
}
