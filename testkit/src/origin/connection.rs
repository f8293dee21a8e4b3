//! One accepted connection: its requests are read, recorded and answered one after the other.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::Shared;
use super::intake::{Inbox, Intake};
use super::log::{Link, Log};
use super::outlet::{Outlet, Wrote, send};
use super::record::Request;
use super::reply::{Reading, Reply};
use super::script::{Chooser, Welcome};
use crate::http::RequestHead;

/// The reply to a request, or the function that chooses it when the request is complete.
pub(super) enum Choice {
    Reply(Box<Reply>),
    Later(Chooser),
}

enum Next {
    Request,
    End,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(link: Link, log: Log, shared: Arc<Shared>, welcome: Welcome) {
    let stream = link.stream();
    let mut inbox = Inbox::new(Arc::clone(&stream), log.clone());
    match welcome {
        Welcome::Serve => {}
        Welcome::Close => return,
        Welcome::Reset => return reset_on_close(&stream),
        Welcome::Hang => return std::future::pending().await,
        Welcome::CloseAfter(n) => return inbox.swallow(n).await,
        Welcome::ResetAfter(n) => {
            inbox.swallow(n).await;
            return reset_on_close(&stream);
        }
        Welcome::Banner(bytes) => {
            if send(&stream, &log, None, &bytes).await.is_err() {
                return;
            }
        }
    }
    loop {
        if inbox.is_empty() {
            log.idle();
        }
        match inbox.head().await {
            Ok(head) => match exchange(&stream, &mut inbox, &log, &shared, head).await {
                Next::Request => {}
                Next::End => return inbox.leave(),
            },
            Err(None) => return,
            Err(Some(fault)) => {
                let answer = Reply::new(400).body(&fault).connection_close();
                let bytes = [answer.head(), fault.into_bytes()].concat();
                if send(&stream, &log, None, &bytes).await.is_ok() {
                    half_close(&stream);
                    inbox.drain().await;
                }
                return;
            }
        }
    }
}

/// Makes the close of the socket a reset (RST).
pub(super) fn reset_on_close(stream: &TcpStream) {
    // It can fail only on a socket that is no longer connected, and then there is nothing to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn half_close(stream: &TcpStream) {
    // It can fail only on a socket that is no longer connected.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

async fn exchange(stream: &TcpStream, inbox: &mut Inbox, log: &Log, shared: &Shared, head: RequestHead) -> Next {
    let persistent = head.keeps_alive();
    let framing = head.framing;
    let Request { number, method, .. } = log.request(head);
    let choice = shared.choose(&log.copy(number));
    let mut intake = Intake::new(inbox, framing, Reading::Full, number);
    let reply = match choice {
        Choice::Reply(reply) => *reply,
        Choice::Later(choose) => {
            if !intake.run().await.is_complete() {
                return Next::End;
            }
            choose(&log.copy(number))
        }
    };
    intake.read_as(reply.reading.clone());
    let outlet = Outlet { stream, log, request: number, progress: intake.progress() };
    let wrote = tokio::select! {
        wrote = outlet.write(&reply, &method) => wrote,
        never = intake.run_and_watch() => match never {},
    };
    match wrote {
        Wrote::All if reply.ends_by_close() || !persistent => {
            half_close(stream);
            if !reply.reading.is_held() {
                intake.run().await;
            }
            Next::End
        }
        Wrote::All => match intake.run().await.is_complete() {
            true => Next::Request,
            false => Next::End,
        },
        Wrote::Close | Wrote::Nothing => Next::End,
        Wrote::Reset => {
            reset_on_close(stream);
            Next::End
        }
        Wrote::HalfClose => {
            half_close(stream);
            intake.until_peer_ends().await;
            Next::End
        }
        Wrote::Hang => {
            intake.until_peer_ends().await;
            Next::End
        }
    }
}
