//! One HTTP/2 connection to an endpoint, as the legs on it and the task that carries it share it: legs put their frames behind each
//! other, and all of a wake-up leave together.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2client::{Config, Connection, Event, Key, block::Scheme};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{
    Multiplexed,
    end::{LinkEnd, StreamFault},
    known_head::KnownHead,
    load::Load,
    mailbox::Mailbox,
};
use crate::{
    clock,
    http::response::{BadResponse, ResponseHead},
    http2::{
        CONNECTION_WINDOW, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW,
        translate::{self, SharedHead},
    },
    traces::OwnParent,
};

/// How long an endpoint may be silent on a connection while a request on it is given up, before it gets no further ones: the other side
/// may be gone without a word. HTTP/1.1 has no such time, because there a request that is given up takes its connection with it.
const MAX_SILENCE: Duration = Duration::from_secs(1);

const CODEC: Config = Config {
    stream_window: STREAM_WINDOW,
    connection_window: CONNECTION_WINDOW,
    max_fields_bytes: 64 * 1024,
    max_fields: 256,
    send_buffer: SEND_BUFFER,
    max_streams: MAX_STREAMS as usize,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// An uncontended lock, because everything but the end of an endpoint happens on one thread.
    state: Mutex<LinkState>,
    scheme: Scheme,
    pub(super) load: Load,
    shared: Arc<Multiplexed>,
}

/// Its state.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) codec: Connection,
    /// By the places of streams.
    mailboxes: Vec<Mailbox>,
    known_head: KnownHead,
    /// The task that carries it.
    task: Option<Waker>,
    /// Whether that task has been woken.
    is_woken: bool,
    /// It ends with its last stream.
    is_closing: bool,
    end: Option<LinkEnd>,
    /// Memory for blocks of fields that no other leg sends.
    block: Vec<u8>,
}

/// Whether a head could be read, or what is wrong with it.
type ReadHead = Result<(), BadResponse>;

/// Room for one exchange on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    link: Arc<Link>,
    /// Its stream, once it was begun.
    key: Option<Key>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(shared: Arc<Multiplexed>, scheme: Scheme) -> Arc<Self> {
        let state = LinkState {
            codec: Connection::new(CODEC),
            mailboxes: Vec::new(),
            known_head: KnownHead::default(),
            task: None,
            is_woken: false,
            is_closing: false,
            end: None,
            block: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), scheme, load: Load::new(), shared })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock()
    }

    /// A place for one exchange, which whoever asks has made sure of.
    pub(super) fn slot(self: &Arc<Self>) -> StreamSlot {
        self.load.streams.fetch_add(1, Ordering::AcqRel);
        StreamSlot { link: self.clone(), key: None }
    }

    /// Lets it end with its last stream.
    pub(super) fn close(&self) {
        self.load.closed.store(true, Ordering::Release);
        let mut state = self.lock();
        state.is_closing = true;
        state.wake_task();
    }

    /// It has ended.
    pub(super) fn end(&self, end: LinkEnd) {
        self.load.closed.store(true, Ordering::Release);
        self.lock().fail_all(&end);
        self.shared.forget(self);
    }

    /// Takes over what is known of the connection. Returns whether it is over, as nobody needs it any more.
    pub(super) fn note(&self, state: &LinkState) -> bool {
        self.load.clogged.store(state.codec.is_clogged(), Ordering::Release);
        let is_closing = state.is_closing || !state.codec.takes_streams();
        if is_closing {
            self.load.closed.store(true, Ordering::Release);
        }
        is_closing && self.load.is_idle()
    }

    /// The endpoint takes no further streams on it: who waits for one may need another connection.
    pub(super) fn leaving(&self) {
        self.load.closed.store(true, Ordering::Release);
        self.shared.changed();
    }

    /// The endpoint has changed what it allows.
    pub(super) fn note_settings(&self, max_streams: usize) {
        self.load.max_streams.store(max_streams, Ordering::Release);
        self.shared.changed();
    }
}

// === impl LinkState ===

impl LinkState {
    /// Has the task woken from now on.
    pub(super) fn arrive(&mut self, cx: &Context<'_>) {
        self.is_woken = false;
        if self.task.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
    }

    /// Wakes the task, which sends what waits.
    pub(super) fn wake_task(&mut self) {
        if !std::mem::replace(&mut self.is_woken, true)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }

    /// Hands over what has happened on a stream.
    pub(super) fn deliver(&mut self, event: Event) {
        let (Event::Interim(key)
        | Event::Head { stream: key, .. }
        | Event::Data { stream: key, .. }
        | Event::Piece { stream: key, .. }
        | Event::Trailers(key)
        | Event::Room(key)
        | Event::Reset(key, _)
        | Event::Malformed(key, _)
        | Event::Refused(key, _)) = event
        else {
            return;
        };
        let Some(mailbox) = self.mailboxes.get_mut(key.index()) else { return };
        match event {
            Event::Interim(_) => mailbox.interim = mailbox.interim.saturating_add(1),
            Event::Head { ends, .. } => {
                match self.known_head.repeated(&self.codec) {
                    Some(head) => mailbox.put_written_head(head),
                    None => mailbox.put_head(self.codec.status(), self.codec.lines()),
                }
                if ends {
                    mailbox.complete();
                }
            }
            Event::Data { data, ends, .. } => {
                mailbox.put_data(data);
                if ends {
                    mailbox.complete();
                }
            }
            Event::Piece { ends, .. } => {
                mailbox.put_piece(self.codec.piece());
                if ends {
                    mailbox.complete();
                }
            }
            Event::Trailers(_) => {
                mailbox.put_trailers(self.codec.lines());
                mailbox.complete();
            }
            Event::Reset(_, reason) => mailbox.fail(StreamFault::Reset(reason)),
            Event::Malformed(_, error) => mailbox.fail(error.into()),
            Event::Refused(_, reason) => mailbox.fail(StreamFault::Refused(reason)),
            Event::Room(_) | Event::Settings | Event::GoAway(_) => {}
        }
        mailbox.wake();
    }

    /// Hands over everything that has happened without anything coming in.
    pub(super) fn deliver_all(&mut self) {
        while let Some(event) = self.codec.next_event() {
            self.deliver(event);
        }
    }

    fn fail_all(&mut self, end: &LinkEnd) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end.clone());
        for key in self.codec.keys() {
            if let Some(mailbox) = self.mailboxes.get_mut(key.index()) {
                let is_unsent = !self.codec.has_left(key);
                mailbox.fail(StreamFault::Connection { end: end.clone(), is_unsent });
            }
        }
    }
}

// === impl StreamSlot ===

impl StreamSlot {
    /// Whether its stream was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.key.is_some()
    }

    /// Sends the head of a request, given in the form of HTTP/1.1, and where other legs send the same also in that of HTTP/2, with
    /// another parent if there is one. `ends` says that nothing follows it.
    pub(crate) fn begin(
        &mut self,
        head: &[u8],
        (shared, parent): (Option<&SharedHead>, Option<OwnParent>),
        ends: bool,
        to_head: bool,
    ) -> Result<(), StreamFault> {
        let mut state = self.link.lock();
        let state = &mut *state;
        if let Some(end) = &state.end {
            return Err(StreamFault::Connection { end: end.clone(), is_unsent: true });
        }
        let block = match shared {
            Some(shared) => shared.block(head)?,
            None => {
                state.block.clear();
                translate::put_request(&mut state.block, head)?;
                &state.block
            }
        };
        let scheme = &self.link.scheme.field();
        let key = match &parent {
            None => state.codec.open(&[scheme, block], ends, to_head)?,
            Some(parent) => {
                let [before, own, rest] = parent.parts_of_block(block);
                state.codec.open(&[scheme, before, own, rest], ends, to_head)?
            }
        };
        if state.mailboxes.len() <= key.index() {
            state.mailboxes.resize_with(key.index() + 1, Mailbox::default);
        }
        state.wake_task();
        self.key = Some(key);
        Ok(())
    }

    /// How many of so many bytes can be sent now; an error where the endpoint takes no more of them.
    pub(crate) fn poll_room(&self, cx: &Context<'_>, wanted: usize) -> Poll<Result<usize, ()>> {
        let Some(key) = self.key else { return Poll::Ready(Err(())) };
        let mut state = self.link.lock();
        if state.end.is_some() || !state.codec.is_sending(key) {
            return Poll::Ready(Err(()));
        }
        match state.codec.room(key, wanted) {
            0 => {
                state.mailboxes[key.index()].wait(cx);
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }

    /// Sends data for which there is room; `ends` says that nothing follows it.
    pub(crate) fn send(&self, data: Bytes, ends: bool) {
        let Some(key) = self.key else { return };
        let mut state = self.link.lock();
        state.codec.send_data(key, data, ends);
        state.wake_task();
    }

    /// Sends the end of the request, with trailers where there are lines of some. Returns whether the endpoint still takes it.
    pub(crate) fn end(&self, trailers: &[u8]) -> bool {
        let Some(key) = self.key else { return false };
        let mut state = self.link.lock();
        let state = &mut *state;
        if state.end.is_some() || !state.codec.is_sending(key) {
            return false;
        }
        state.block.clear();
        translate::put_trailers(&mut state.block, trailers);
        if state.block.is_empty() {
            state.codec.send_data(key, Bytes::new(), true);
        } else {
            state.codec.send_trailers(key, &state.block);
        }
        state.wake_task();
        true
    }

    /// How many interim responses have come. Once that of the final one has, `head` becomes it.
    pub(crate) fn poll_head(
        &self,
        cx: &Context<'_>,
        head: &mut ResponseHead,
    ) -> (u8, Poll<Result<ReadHead, StreamFault>>) {
        let Some(key) = self.key else { return (0, Poll::Pending) };
        let mut state = self.link.lock();
        let state = &mut *state;
        let mailbox = &mut state.mailboxes[key.index()];
        let read = mailbox.poll_head(cx).map_ok(|bytes| state.known_head.read(bytes, head));
        (mailbox.interim, read)
    }

    /// The next piece of the body; none at its end. So many bytes of what came before have been taken.
    pub(crate) fn poll_data(&self, cx: &Context<'_>, taken: usize) -> Poll<Result<Option<Bytes>, StreamFault>> {
        let Some(key) = self.key else { return Poll::Pending };
        let mut state = self.link.lock();
        if taken > 0 {
            state.codec.consumed(key, taken);
            if state.codec.has_output() {
                state.wake_task();
            }
        }
        state.mailboxes[key.index()].poll_data(cx)
    }

    /// What came after the body, as lines.
    pub(crate) fn take_trailers(&self) -> Bytes {
        let Some(key) = self.key else { return Bytes::new() };
        self.link.lock().mailboxes[key.index()].take_trailers()
    }

    /// The connection takes no further streams.
    pub(crate) fn close_connection(&self) {
        self.link.load.closed.store(true, Ordering::Release);
    }

    /// A request that was sent then is given up before anything has come for it. Where nothing at all has come on the connection for
    /// long, it takes no further streams.
    pub(crate) fn unheard(&self, sent: Instant) {
        if self.link.load.unheard(sent, clock::now()) >= MAX_SILENCE {
            self.close_connection();
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let left = self.link.load.streams.fetch_sub(1, Ordering::AcqRel) - 1;
        let mut state = self.link.lock();
        if let Some(key) = self.key {
            state.codec.release(key);
            state.mailboxes[key.index()].clear();
            // What was set aside for it may be what another one waits for.
            state.deliver_all();
        }
        // A connection that is closed ends with its last stream.
        if state.codec.has_output() || (left == 0 && self.link.load.is_closed()) {
            state.wake_task();
        }
        drop(state);
        self.link.shared.released();
    }
}
