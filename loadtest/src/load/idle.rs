//! Idle connections: opened, optionally used once, and kept.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Load, Tally, open};

/// How many connections are opened at once.
const CONNECTIONS_PER_BURST: usize = 64;
/// The pause between two bursts.
const PAUSE_BETWEEN_BURSTS: Duration = Duration::from_millis(10);

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Idle {
    kept: Vec<TcpStream>,
}

impl Idle {
    /// Opens `count` connections; `requests` of the result is the number of those that are open and, if requested, were answered
    /// once.
    pub(super) fn open(&mut self, address: SocketAddr, connections: usize, request: bool) -> Load {
        self.kept.clear();
        let started = Instant::now();
        let mut tally = Tally::new();
        let mut buffer = vec![0; 16 * 1024];
        for number in 0..connections {
            // Without pauses the accept queue of the proxy would overflow, and a lost SYN is sent again only after a second.
            if number % CONNECTIONS_PER_BURST == 0 {
                std::thread::sleep(PAUSE_BETWEEN_BURSTS);
            }
            let opening = Instant::now();
            let mut stream = None;
            let opened = if request {
                open::exchange(address, &mut stream, &mut buffer).map(|answer| {
                    tally.answered(&answer, opening.elapsed());
                })
            } else {
                TcpStream::connect_timeout(&address, super::PATIENCE).map_err(|error| error.to_string()).map(|fresh| {
                    tally.load.requests += 1;
                    stream = Some(fresh);
                })
            };
            if let Err(why) = opened {
                tally.failed(&why);
                // A limit was reached, so further connections would fail as well.
                break;
            }
            self.kept.extend(stream);
        }
        tally.into_load(started.elapsed())
    }
}
