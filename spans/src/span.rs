//! The data of a completed span.

use std::{sync::Arc, time::SystemTime};

use crate::context::{RequestTrace, SpanId, TraceId};

/// A span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// Whether its parent is a span of another process.
    pub has_remote_parent: bool,
    /// The `tracestate` of the request.
    pub state: String,
    /// Its kind.
    pub kind: Kind,
    /// Its name, from a small set.
    pub name: &'static str,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Its attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// The description of its error, if it failed; may be empty.
    pub error: Option<String>,
    /// A linked span of the same trace.
    pub link: Option<SpanId>,
}

/// The kind of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A received request.
    Server,
    /// A sent request.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A fixed text.
    Word(&'static str),
    /// A text.
    Text(String),
    /// A shared text.
    Shared(Arc<str>),
    /// A number.
    Number(i64),
}

// === impl Span ===

impl Span {
    /// A span of this request without attributes.
    #[must_use]
    pub fn new(
        trace: &RequestTrace,
        kind: Kind,
        id: SpanId,
        name: &'static str,
        time: (SystemTime, SystemTime),
    ) -> Self {
        let request = trace.request_span();
        let (parent, has_remote_parent) =
            if id == request { (trace.parent, trace.parent.is_some()) } else { (Some(request), false) };
        Self {
            trace: trace.trace,
            id,
            parent,
            has_remote_parent,
            state: String::new(),
            kind,
            name,
            start: time.0,
            end: time.1,
            attributes: Vec::new(),
            error: None,
            link: None,
        }
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// Adds an attribute, if there is one.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

// === impl Value ===

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Word(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
