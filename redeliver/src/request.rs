//! Owed requests and their endpoints.

use crate::{JobId, Millis};

use std::sync::Arc;

use bytes::Bytes;

/// A request, kept until all of its deliveries are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Arc<str>,
    /// The name in its `Host` field.
    pub host: Arc<str>,
    /// Its target in origin form.
    pub target: Box<str>,
    /// Its head. It is opaque here, but for whether the fields of two requests are the same.
    pub head: Bytes,
    /// Its body, whole.
    pub body: Bytes,
    /// The lines of its trailers.
    pub trailers: Bytes,
}

/// The endpoint of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whom {
    /// The key by which a returning endpoint is recognised: the name of a pod, or an address.
    pub key: Arc<str>,
    /// Its address when the request arrived.
    pub endpoint: Arc<str>,
    /// The name of its pod, if it has one.
    pub pod: Option<Arc<str>>,
}

/// The last attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The outcome, as in reports.
    pub outcome: &'static str,
    /// The status of the response, where there was one.
    pub status: Option<u16>,
    /// When it ended.
    pub at: Millis,
    /// The error, if there was one.
    pub error: Option<Arc<str>>,
}

/// A job in the form of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its identifier.
    pub id: JobId,
    /// The name of its route.
    pub route: Arc<str>,
    /// When the request arrived.
    pub arrived: Millis,
    /// When it expires.
    pub expires: Millis,
    /// The request.
    pub request: Arc<Request>,
    /// The owed deliveries: the index within the job, the endpoint, and the number of attempts.
    pub owed: Vec<(u32, Whom, u32)>,
}

impl Request {
    /// Whether there is nothing behind its head.
    #[must_use]
    pub fn is_head_only(&self) -> bool {
        self.body.is_empty() && self.trailers.is_empty()
    }

    /// Its size towards the bound on bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.target.len() + self.head.len() + self.body.len() + self.trailers.len()
    }
}
