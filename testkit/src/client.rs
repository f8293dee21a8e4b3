//! A raw HTTP/1.1 client: it sends exactly the bytes it is given, and reads answers strictly.

mod response;
mod shortcuts;

#[cfg(test)]
mod tests;

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

pub use response::{ReadError, Response};
pub use shortcuts::{get, request, request_bytes};

use crate::eventually::{patience, within};
use crate::http::{BodyMode, Cut, End, KEEP_LIMIT, ResponseHead, head_end};

/// The most read at once, in bytes.
const READ_SIZE: usize = 64 << 10;

/// One connection. Reading waits at most [`patience`] for the next byte.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    /// Read, but not taken yet.
    buffer: Vec<u8>,
    ended: Option<Cut>,
    body_mode: BodyMode,
    scratch: Box<[u8]>,
    sent: u64,
    received: u64,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// If that fails, or takes longer than [`patience`].
    #[track_caller]
    pub fn connect(address: SocketAddr) -> impl Future<Output = Self> {
        let place = std::panic::Location::caller();
        async move {
            let connected = Self::try_connect(address).await;
            connected.unwrap_or_else(|e| panic!("cannot connect to {address} ({place}): {e}"))
        }
    }

    /// Connects, at most [`patience`] long.
    ///
    /// # Errors
    /// As the system reports it, or `TimedOut`.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::try_connect_with(address, None).await
    }

    /// Connects with a receive buffer of `receive_buffer` bytes (the kernel doubles it), so that the
    /// server soon meets backpressure when nothing is read.
    ///
    /// # Panics
    /// As [`RawClient::connect`].
    pub async fn connect_small(address: SocketAddr, receive_buffer: u32) -> Self {
        let connected = Self::try_connect_with(address, Some(receive_buffer)).await;
        connected.unwrap_or_else(|e| panic!("cannot connect to {address}: {e}"))
    }

    async fn try_connect_with(address: SocketAddr, receive: Option<u32>) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = tokio::time::timeout(patience(), socket.connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// A client on a connection made elsewhere.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            ended: None,
            body_mode: BodyMode::Keep,
            scratch: vec![0; READ_SIZE].into(),
            sent: 0,
            received: 0,
        }
    }

    /// What is kept of the bodies of answers from now on.
    pub fn set_body_mode(&mut self, mode: BodyMode) {
        self.body_mode = mode;
    }

    /// The address at this end.
    ///
    /// # Panics
    /// If the socket is not connected any more.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// How many bytes were sent (taken by the kernel).
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many bytes were received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// If the connection has failed, or the peer takes none for [`patience`].
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let bytes = bytes.as_ref();
            if let Err(e) = self.try_send(bytes).await {
                let sent = self.sent;
                panic!("sending {} bytes ({place}), {sent} in all: {e}", bytes.len());
            }
        }
    }

    /// Sends these bytes; [`RawClient::sent`] tells how many went out if it fails.
    ///
    /// # Errors
    /// As the system reports it, or `TimedOut` if the peer takes none for [`patience`].
    pub async fn try_send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send_some(bytes, patience()).await?..];
        }
        Ok(())
    }

    /// Sends until all is sent or the peer takes nothing for the given time, and returns how many
    /// bytes went out: to find out when backpressure sets in.
    ///
    /// # Errors
    /// As the system reports it.
    pub async fn send_until_stalled(&mut self, bytes: &[u8], stall: Duration) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.send_some(&bytes[sent..], stall).await {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => break,
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    async fn send_some(&mut self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        loop {
            tokio::task::coop::consume_budget().await;
            tokio::time::timeout(patience, self.stream.writable()).await??;
            match self.stream.try_write(bytes) {
                Ok(n) => {
                    self.sent += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Closes the sending half (FIN); answers can still be read.
    ///
    /// # Panics
    /// If the connection has failed.
    #[track_caller]
    pub fn half_close(&mut self) {
        let done = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        done.expect("half-closing a connected socket");
    }

    /// Closes the connection. The kernel turns this into a reset if there are unread bytes.
    pub fn close(self) {
        drop(self);
    }

    /// Resets the connection (RST).
    pub fn reset(self) {
        // It can fail only on a socket that is no longer connected, and then there is nothing to reset.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads a final answer to a request of that method to its end, the interim ones before it
    /// included. A fault in the body is reported in [`Response::end`].
    ///
    /// # Panics
    /// If there is no head of an answer: with the reason; or if the body neither ends nor goes on.
    #[track_caller]
    pub fn read_response(&mut self, method: &str) -> impl Future<Output = Response> {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.try_read_response(method).await;
            let answer = answer.unwrap_or_else(|e| panic!("no answer to this {method} ({place}): {e}"));
            assert!(answer.end.is_over(), "a stalled answer ({place}): {answer}");
            answer
        }
    }

    /// Reads a final answer as [`RawClient::read_response`] does. If the body stalls for
    /// [`patience`], its end is [`End::Arriving`].
    ///
    /// # Errors
    /// If there is no head of an answer.
    pub async fn try_read_response(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut response = self.try_read_head(method).await?;
        self.read_body(&mut response, u64::MAX).await;
        Ok(response)
    }

    /// Reads the head of a final answer, and the interim ones before it.
    ///
    /// # Panics
    /// If there is none: with the reason.
    #[track_caller]
    pub fn read_head(&mut self, method: &str) -> impl Future<Output = Response> {
        let place = std::panic::Location::caller();
        async move {
            let head = self.try_read_head(method).await;
            head.unwrap_or_else(|e| panic!("no answer to this {method} ({place}): {e}"))
        }
    }

    /// Reads the head of a final answer, and the interim ones before it. The body is then read with
    /// [`RawClient::read_body`].
    ///
    /// # Errors
    /// If there is none.
    pub async fn try_read_head(&mut self, method: &str) -> Result<Response, ReadError> {
        let mut interim = Vec::new();
        loop {
            let head = self.try_read_any_head(method).await?;
            // 101 is final: what follows is no longer HTTP/1.1.
            if head.status >= 200 || head.status == 101 {
                return Ok(Response::new(head, interim));
            }
            interim.push(head);
        }
    }

    /// Reads one head, also that of an interim answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn try_read_any_head(&mut self, method: &str) -> Result<ResponseHead, ReadError> {
        loop {
            let parsed = match head_end(&self.buffer) {
                Ok(Some(end)) => {
                    let parsed = ResponseHead::parse(&self.buffer[..end], method);
                    parsed.map(|head| (head, end))
                }
                Ok(None) => {
                    return Err(match self.ended {
                        Some(how) if self.buffer.is_empty() => ReadError::Closed(how),
                        Some(how) => ReadError::CutHead(how, self.buffer.clone()),
                        None => {
                            if self.fill(patience()).await {
                                continue;
                            }
                            ReadError::TimedOut(self.buffer.clone())
                        }
                    });
                }
                Err(why) => Err(why),
            };
            return match parsed {
                Ok((head, end)) => {
                    self.buffer.drain(..end);
                    Ok(head)
                }
                Err(why) => Err(ReadError::Malformed(why, self.buffer.clone())),
            };
        }
    }

    /// Reads the body of an answer until at least so many decoded bytes of it are there, or it is
    /// over, or it stalls for [`patience`]. Bytes behind the end of the body stay unread.
    pub async fn read_body(&mut self, response: &mut Response, at_least: u64) {
        while !response.end.is_over() && response.body_length < at_least {
            if self.buffer.is_empty() {
                if let Some(cut) = self.ended {
                    response.end = match response.decoder.ends_at_close() && cut == Cut::Eof {
                        true => End::Complete,
                        false => End::Cut(cut),
                    };
                } else if !self.fill(patience()).await {
                    return;
                }
                continue;
            }
            let mut decoded = Vec::with_capacity(self.buffer.len());
            let fed = response.decoder.feed(&self.buffer, &mut decoded);
            let taken = *fed.as_ref().unwrap_or(&self.buffer.len());
            response.body_length += decoded.len() as u64;
            response.running.update(&decoded);
            response.digest = response.running.value();
            if self.body_mode == BodyMode::Keep && response.raw_body.len() < KEEP_LIMIT {
                response.body.extend_from_slice(&decoded);
                response.raw_body.extend_from_slice(&self.buffer[..taken]);
            }
            self.buffer.drain(..taken);
            match fed {
                Err(why) => response.end = End::Malformed(why),
                Ok(_) if response.decoder.is_done() => {
                    response.trailers = response.decoder.trailers().clone();
                    response.end = End::Complete;
                }
                Ok(_) => {}
            }
        }
    }

    /// Reads until `n` bytes are there, without regard to their meaning, and takes them.
    ///
    /// # Panics
    /// If the connection ends or stalls before: with what came.
    pub async fn read_bytes(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n && self.ended.is_none() && self.fill(patience()).await {}
        let (there, how) = (self.buffer.len(), self.ended);
        let shown = || crate::http::printable(&self.buffer, 1000);
        assert!(there >= n, "{there} of {n} bytes, ended {how:?}: {}", shown());
        self.buffer.drain(..n).collect()
    }

    /// As [`RawClient::read_bytes`], but `None` if the connection ends before.
    ///
    /// # Panics
    /// If it stalls before.
    pub async fn try_read_bytes(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n && self.ended.is_none() {
            assert!(self.fill(patience()).await, "the connection stalls at {} of {n} bytes", self.buffer.len());
        }
        (self.buffer.len() >= n).then(|| self.buffer.drain(..n).collect())
    }

    /// Reads what is here, without waiting for more.
    pub(crate) async fn fill_now(&mut self) {
        self.fill(Duration::ZERO).await;
    }

    /// Whether the server has ended its side, as far as was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Reads until the connection ends, without regard to the meaning of the bytes (the first 64 MiB
    /// of them are kept), and returns them and how it ended.
    ///
    /// # Panics
    /// If it stalls.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, Cut) {
        let mut bytes = std::mem::take(&mut self.buffer);
        loop {
            if let Some(how) = self.ended {
                return (bytes, how);
            }
            let going = self.fill(patience()).await;
            let room = KEEP_LIMIT.saturating_sub(bytes.len()).min(self.buffer.len());
            bytes.extend_from_slice(&self.buffer[..room]);
            self.buffer.clear();
            let shown = || crate::http::printable(&bytes, 1000);
            assert!(going, "the connection does not end; read so far: {}", shown());
        }
    }

    /// Asserts that the server closes the connection without another byte, and returns how.
    ///
    /// # Panics
    /// If bytes come, or it stays open.
    pub async fn expect_end(&mut self) -> Cut {
        let (bytes, how) = self.read_to_end().await;
        let shown = crate::http::printable(&bytes, 1000);
        assert!(bytes.is_empty(), "bytes where the end was expected: {shown}");
        how
    }

    /// Whether the connection is open and no unread byte is here, as far as the kernel knows now.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        // On a non-blocking socket `WouldBlock` means: open, and nothing to read.
        let peeked = SockRef::from(&self.stream).peek(&mut byte);
        let empty = peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        empty && self.ended.is_none() && self.buffer.is_empty()
    }

    /// The bytes read but not taken: what came behind the last answer.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits until the server has ended its side, reading whatever comes (it stays unread), and
    /// returns how it ended.
    ///
    /// # Panics
    /// If it does not within [`patience`].
    pub async fn wait_end(&mut self) -> Cut {
        within("the server to end the connection", async {
            loop {
                if let Some(how) = self.ended {
                    return how;
                }
                assert!(self.buffer.len() <= KEEP_LIMIT, "endless bytes, not the end");
                self.fill(patience()).await;
            }
        })
        .await
    }

    /// Reads some bytes or notes the end; `false` if neither comes in time.
    async fn fill(&mut self, patience: Duration) -> bool {
        while self.ended.is_none() {
            tokio::task::coop::consume_budget().await;
            match tokio::time::timeout(patience, self.stream.readable()).await {
                Err(_) => return false,
                Ok(Err(_)) => self.ended = Some(Cut::Reset),
                Ok(Ok(())) => match self.stream.try_read(&mut self.scratch) {
                    Ok(0) => self.ended = Some(Cut::Eof),
                    Ok(n) => {
                        self.received += n as u64;
                        self.buffer.extend_from_slice(&self.scratch[..n]);
                        return true;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => self.ended = Some(Cut::Reset),
                },
            }
        }
        true
    }
}
