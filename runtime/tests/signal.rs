//! Signals sent to this very process: the only test of its binary, because a signal reaches all of them.

use std::time::Duration;

use runtime::signal::{Request, Signals};
use rustix::process::{Signal, getpid, kill_process};

async fn send(signals: &mut Signals, signal: Signal) -> Request {
    kill_process(getpid(), signal).expect("a process may signal itself");
    // No time-out: the clock of this test stands still but for what is asked of it.
    signals.next().await
}

#[tokio::test(start_paused = true)]
async fn the_first_drains_a_later_second_exits_hangup_reloads_and_others_are_ignored() {
    let mut signals = Signals::install().expect("handlers can be installed");
    assert_eq!(send(&mut signals, Signal::HUP).await, Request::Reload);
    assert_eq!(send(&mut signals, Signal::TERM).await, Request::Drain);
    // As timeout(1) does: the same once more, and that is no other wish.
    for echo in [Signal::TERM, Signal::INT, Signal::QUIT] {
        kill_process(getpid(), echo).expect("a process may signal itself");
    }
    assert_eq!(send(&mut signals, Signal::HUP).await, Request::Reload);
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(send(&mut signals, Signal::INT).await, Request::Exit);
    assert_eq!(send(&mut signals, Signal::TERM).await, Request::Exit);

    let mut fresh = Signals::install().expect("handlers can be installed again");
    for ignored in [Signal::USR1, Signal::USR2, Signal::XFSZ] {
        kill_process(getpid(), ignored).expect("a process may signal itself");
        assert_eq!(send(&mut fresh, Signal::HUP).await, Request::Reload, "{ignored:?}");
    }
    assert_eq!(send(&mut fresh, Signal::QUIT).await, Request::Drain);
}
