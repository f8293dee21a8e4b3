//! Which answer a request gets, and what happens to a connection before its first request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::record::Request;
use super::reply::Reply;

/// What chooses the reply to each request.
#[derive(Clone)]
pub enum Script {
    /// The same reply to all.
    Always(Box<Reply>),
    /// One reply each, in the order in which the heads arrive; the last one goes on for ever.
    Queue(VecDeque<Reply>),
    /// A function of the request as it stands when its head has arrived.
    OnHead(Chooser),
    /// A function of the whole request. The body is read in full first; a cut request gets no answer.
    OnRequest(Chooser),
}

/// A function from the recorded request to the reply.
pub type Chooser = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

impl Script {
    /// A reply chosen when the head has arrived.
    #[must_use]
    pub fn on_head(choose: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::OnHead(Arc::new(choose))
    }

    /// A reply chosen when the whole request has arrived.
    #[must_use]
    pub fn on_request(choose: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::OnRequest(Arc::new(choose))
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self::Always(Box::new(reply))
    }
}

/// A queue; an empty one answers 500, so that the mistake shows.
impl From<Vec<Reply>> for Script {
    fn from(replies: Vec<Reply>) -> Self {
        Self::Queue(replies.into())
    }
}

impl<const N: usize> From<[Reply; N]> for Script {
    fn from(replies: [Reply; N]) -> Self {
        Self::Queue(replies.into())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(reply) => f.debug_tuple("Always").field(reply).finish(),
            Self::Queue(replies) => f.debug_tuple("Queue").field(replies).finish(),
            Self::OnHead(_) => f.write_str("OnHead"),
            Self::OnRequest(_) => f.write_str("OnRequest"),
        }
    }
}

/// What happens to a connection when it is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Welcome {
    /// Requests are read and answered.
    #[default]
    Serve,
    /// It is closed at once.
    Close,
    /// It is reset at once.
    Reset,
    /// It is kept open; nothing is read and nothing is written.
    Hang,
    /// So many bytes are read, of whatever it is, then it is closed. (The kernel turns this into a
    /// reset if there are more.)
    CloseAfter(u64),
    /// So many bytes are read, of whatever it is, then it is reset.
    ResetAfter(u64),
    /// These bytes are written before anything is read; then it is served.
    Banner(Vec<u8>),
}
