//! Signals sent to this very process: the only test of its binary, because a signal reaches all of them.

use std::time::Duration;

use runtime::signal::{Request, Signals};
use rustix::process::{Signal, getpid, kill_process};

async fn send(signals: &mut Signals, signal: Signal) -> Request {
    kill_process(getpid(), signal).expect("a process may signal itself");
    tokio::time::timeout(Duration::from_secs(10), signals.next()).await.expect("the signal arrives")
}

#[tokio::test]
async fn the_first_drains_the_second_exits_hangup_reloads() {
    let mut signals = Signals::install().expect("handlers can be installed");
    assert_eq!(send(&mut signals, Signal::HUP).await, Request::Reload);
    assert_eq!(send(&mut signals, Signal::TERM).await, Request::Drain);
    assert_eq!(send(&mut signals, Signal::HUP).await, Request::Reload);
    assert_eq!(send(&mut signals, Signal::INT).await, Request::Exit);
    assert_eq!(send(&mut signals, Signal::TERM).await, Request::Exit);

    let mut fresh = Signals::install().expect("handlers can be installed again");
    assert_eq!(send(&mut fresh, Signal::INT).await, Request::Drain);
}
