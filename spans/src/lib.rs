//! Distributed tracing: the trace context of requests, and the export of their spans by OTLP.
//!
//! - [`context`]: the trace context of a request (`traceparent`)
//! - [`span`]: the data of a completed span
//! - [`settings`]: the URL of the collector, and the sampling ratio
//! - [`tracer`]: samples requests, accepts spans from the workers and has them exported in the background
//!
//! Only this crate depends on the `opentelemetry` crates. Their tracers are not used, because they read clocks, allocate and lock
//! during a request. Here the ids of a request are numbers, and its spans are made when it has ended.

pub mod context;
mod exporter;
mod queue;
pub mod settings;
pub mod span;
pub mod tracer;

pub use context::{PARENT_AT, PARENT_BYTES, RemoteParent, RequestTrace, SpanId, TraceId};
pub use settings::{Endpoint, Ratio, Settings};
pub use span::{Kind, Span, Value};
pub use tracer::{Counts, StartError, Tracer};
