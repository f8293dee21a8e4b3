//! A request that is owed, and whom it is owed to.

use crate::{JobId, Millis};

use std::sync::Arc;

use bytes::Bytes;

/// A request as it was asked, kept until all who are owed it have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Arc<str>,
    /// The name in its `Host` field.
    pub host: Arc<str>,
    /// Its target in origin form.
    pub target: Box<str>,
    /// The rest of its head, as whoever sends it wants to have it: opaque here.
    pub head: Bytes,
    /// Its body, whole.
    pub body: Bytes,
}

/// Whom a delivery is owed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whom {
    /// What makes it the same one when it returns: the name of a pod, or an address.
    pub key: Arc<str>,
    /// Where it was when the delivery began.
    pub endpoint: Arc<str>,
    /// The name of its pod, where there is one.
    pub pod: Option<Arc<str>>,
}

/// How the last try of a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// What the leg produced, in the words of reports.
    pub outcome: &'static str,
    /// The status of the response, where there was one.
    pub status: Option<u16>,
    /// When it ended.
    pub at: Millis,
    /// What was wrong, for people.
    pub error: Option<Arc<str>>,
}

/// A job as a journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its identifier.
    pub id: JobId,
    /// The name of its route.
    pub route: Arc<str>,
    /// When the request arrived.
    pub arrived: Millis,
    /// When it is given up.
    pub expires: Millis,
    /// The request.
    pub request: Arc<Request>,
    /// Who is owed it: the index of the delivery within the job, whom, and how many tries there were.
    pub owed: Vec<(u32, Whom, u32)>,
}

impl Request {
    /// What it counts towards the bound on bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.target.len() + self.head.len() + self.body.len()
    }
}
