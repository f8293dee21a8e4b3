//! The thread that exports spans to a collector, by OTLP over gRPC or HTTP.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value as OtelValue,
    trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig, tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use runtime::{build_info, tls};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::Instant;

use crate::{
    queue::{BATCH, Queue},
    settings::Endpoint,
    span::{Kind, Span, Value},
};

/// The time limit of a batch, attempts to send it again included.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest interval between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Why the exporter cannot be started. Whether a collector listens is known only later.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The system has no certificate authorities.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// An environment variable, or the URL, is invalid.
    #[error("{0}; see the variables OTEL_EXPORTER_OTLP_* of the environment")]
    Settings(String),
    /// The thread or its runtime cannot be created.
    #[error("cannot start the thread that exports spans: {0}")]
    Thread(#[from] io::Error),
}

/// The state of the thread.
pub(crate) struct Exporter {
    exporter: SpanExporter,
    endpoint: Endpoint,
    scope: InstrumentationScope,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    complaint: Complaint,
}

/// Spans that have left the queue.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) exported: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Logs failures of the export, but not too often.
#[derive(Debug, Default)]
struct Complaint {
    /// The time of the last warning; none while the export works.
    last: Option<Instant>,
    /// Spans that were lost since then.
    lost: u64,
    /// Dropped spans that were logged.
    dropped: u64,
}

// === impl Exporter ===

impl Exporter {
    /// Starts the thread.
    pub(crate) fn start(
        endpoint: Endpoint,
        instance: &str,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Result<(), ExporterError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The channel of gRPC connects in the runtime that it was made in.
        let exporter = {
            let _entered = runtime.enter();
            let mut exporter = if endpoint.is_http() { http(&endpoint)? } else { grpc(&endpoint)? };
            exporter.set_resource(&resource(instance));
            exporter
        };
        let scope = InstrumentationScope::builder("fanfare").with_version(build_info::VERSION).build();
        let exporter = Self { exporter, endpoint, scope, queue, counters, complaint: Complaint::default() };
        std::thread::Builder::new().name("traces".into()).spawn(move || runtime.block_on(exporter.run()))?;
        Ok(())
    }

    async fn run(mut self) {
        while let Some(taken) = self.queue.take().await {
            let mut spans = taken.spans.into_iter().peekable();
            while spans.peek().is_some() {
                let batch: Vec<_> = spans.by_ref().take(BATCH).map(|span| span_data(span, &self.scope)).collect();
                self.send(batch).await;
            }
            for flush in taken.flushes {
                // The receiver may have timed out.
                let _ = flush.send(());
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        // The exporter has a time limit of its own, which does not cover everything.
        let sent = tokio::time::timeout(SEND_TIMEOUT + Duration::from_secs(1), self.exporter.export(batch)).await;
        let sent = sent.unwrap_or(Err(OTelSdkError::Timeout(SEND_TIMEOUT)));
        let counter = if sent.is_ok() { &self.counters.exported } else { &self.counters.failed };
        counter.fetch_add(count, Ordering::Relaxed);
        self.complaint.note(&self.endpoint, sent.err().map(|error| (error, count)), self.queue.dropped());
    }
}

// === impl Complaint ===

impl Complaint {
    /// Logs the result of a batch: the first failure, then one a minute, and the first success after it.
    fn note(&mut self, endpoint: &Endpoint, failed: Option<(OTelSdkError, u64)>, dropped: u64) {
        let dropped_now = dropped - self.dropped;
        let may_warn = self.last.is_none_or(|last| last.elapsed() >= WARN_INTERVAL);
        match failed {
            Some((error, count)) => {
                self.lost += count;
                if may_warn {
                    let lost = self.lost + dropped_now;
                    tracing::warn!(
                        "cannot export spans to {endpoint}, {lost} are lost: {error}. Requests are not affected. Check that a \
                         collector listens there and accepts {}",
                        if endpoint.is_http() { "OTLP over HTTP" } else { "OTLP over gRPC" }
                    );
                    (self.last, self.lost, self.dropped) = (Some(Instant::now()), 0, dropped);
                }
            }
            None if self.last.is_some() && dropped_now == 0 => {
                tracing::info!("spans are exported to {endpoint} again; {} more were lost meanwhile", self.lost);
                (self.last, self.lost) = (None, 0);
            }
            None if dropped_now > 0 && may_warn => {
                tracing::warn!(
                    "{dropped_now} spans were dropped, because {endpoint} accepts them too slowly: record fewer requests with \
                     --trace-sample"
                );
                (self.last, self.dropped) = (Some(Instant::now()), dropped);
            }
            None => {}
        }
    }
}

fn grpc(endpoint: &Endpoint) -> Result<SpanExporter, ExporterError> {
    let mut builder = SpanExporter::builder().with_tonic();
    if endpoint.is_tls() {
        let roots = tls::system_roots()?.roots.clone();
        builder = builder.with_tls_config(ClientTlsConfig::new().trust_anchors(roots));
    }
    let built = builder.with_endpoint(endpoint.to_string()).with_timeout(SEND_TIMEOUT).build();
    built.map_err(|error| ExporterError::Settings(error.to_string()))
}

fn http(endpoint: &Endpoint) -> Result<SpanExporter, ExporterError> {
    // Redirects are not followed, because they would send the headers to another server.
    let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).redirect(reqwest::redirect::Policy::none());
    let client = client.tls_backend_preconfigured(client_tls(endpoint)?);
    let client = client.build().map_err(|error| ExporterError::Settings(error.to_string()))?;
    let builder = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    let built = builder.with_endpoint(endpoint.to_string()).with_timeout(SEND_TIMEOUT).build();
    built.map_err(|error| ExporterError::Settings(error.to_string()))
}

/// TLS with ring. Without an explicit configuration the client would require an installed provider.
fn client_tls(endpoint: &Endpoint) -> Result<ClientConfig, ExporterError> {
    let roots = if endpoint.is_tls() { tls::system_roots()? } else { Arc::new(RootCertStore::empty()) };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ExporterError::Settings(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The attributes of this process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` take precedence.
fn resource(instance: &str) -> Resource {
    const OURS: [&str; 3] = ["service.name", "service.version", "service.instance.id"];
    let given = Resource::builder().build();
    let is_given = |name: &str| {
        let value = given.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value.as_str().into_owned());
        value.is_some_and(|value| !value.starts_with("unknown_service"))
    };
    let values = ["fanfare", build_info::VERSION, instance];
    let ours = OURS.into_iter().zip(values).filter(|(name, _)| !is_given(name));
    let ours: Vec<_> = ours.map(|(name, value)| KeyValue::new(name, value.to_owned())).collect();
    Resource::builder().with_attributes(ours).build()
}

/// A span in the form of the exporter.
fn span_data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let state: TraceState = span.state.parse().unwrap_or_default();
    let context = |id: crate::SpanId, is_remote| {
        let (trace, id) = (span.trace.to_bytes(), id.to_bytes());
        SpanContext::new(
            opentelemetry::TraceId::from_bytes(trace),
            opentelemetry::SpanId::from_bytes(id),
            TraceFlags::SAMPLED,
            is_remote,
            state.clone(),
        )
    };
    let mut links = SpanLinks::default();
    links.links.extend(span.link.map(|id| Link::with_context(context(id, false))));
    SpanData {
        span_context: context(span.id, false),
        parent_span_id: span
            .parent
            .map_or(opentelemetry::SpanId::INVALID, |id| opentelemetry::SpanId::from_bytes(id.to_bytes())),
        parent_span_is_remote: span.has_remote_parent,
        span_kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
        },
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

impl From<Value> for OtelValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Word(text) => text.into(),
            Value::Text(text) => text.into(),
            Value::Shared(text) => Self::String(text.into()),
            Value::Number(number) => number.into(),
        }
    }
}
