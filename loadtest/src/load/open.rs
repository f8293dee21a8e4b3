//! The open loop: requests are due at a constant rate, whatever the proxy does. A thread for each connection, since only
//! a sleeping thread wakes up at the right fraction of a millisecond.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Barrier, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Body, Load, PATIENCE, Tally};
use crate::wire::{self, Answer};

/// The size of the buffer for an answer, in bytes.
const ANSWER: usize = 16 * 1024;

/// One phase.
pub(super) fn run(address: SocketAddr, seconds: Duration, rate: f64, connections: usize) -> Load {
    let due = (seconds.as_secs_f64() * rate) as u64;
    let next = AtomicU64::new(0);
    // No request starts before every connection works, because the cost of new connections is not measured here.
    let (ready, begun) = (Barrier::new(connections), OnceLock::new());
    let opening = Instant::now();
    let mut sum = Tally::new();
    std::thread::scope(|scope| {
        let connection = || {
            let mut tally = Tally::new();
            let mut stream = None;
            let mut buffer = vec![0; ANSWER];
            match exchange(address, &mut stream, &mut buffer) {
                Ok(answer) => tally.counted(&answer),
                Err(why) => tally.failed(&why),
            }
            ready.wait();
            let started = *begun.get_or_init(Instant::now);
            // Requests that are not sent by then never are.
            let end = started + seconds + PATIENCE / 3;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= due {
                    return tally;
                }
                let intended = started + Duration::from_secs_f64(number as f64 / rate);
                let now = Instant::now();
                if now > end {
                    tally.load.unsent += 1;
                    tally.late(now - intended);
                    continue;
                }
                std::thread::sleep(intended.saturating_duration_since(now));
                match exchange(address, &mut stream, &mut buffer) {
                    Ok(answer) => {
                        tally.answered(&answer, intended.elapsed());
                        if answer.close {
                            stream = None;
                        }
                    }
                    Err(why) => {
                        tally.failed(&why);
                        tally.late(intended.elapsed());
                        stream = None;
                    }
                }
            }
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(connection)).collect();
        for thread in threads {
            match thread.join() {
                Ok(tally) => sum.add(&tally),
                Err(_) => sum.failed("a connection's thread has panicked"),
            }
        }
    });
    let started = begun.get().copied().unwrap_or(opening);
    sum.into_load(started.elapsed())
}

/// One exchange without a body, on the current connection or a new one.
pub(super) fn exchange(
    address: SocketAddr,
    stream: &mut Option<TcpStream>,
    buffer: &mut [u8],
) -> Result<Answer, String> {
    let stream = match stream {
        Some(stream) => stream,
        none => {
            let fresh = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| format!("connect: {error}"))?;
            let set = fresh.set_nodelay(true).and_then(|()| fresh.set_read_timeout(Some(PATIENCE)));
            set.map_err(|error| error.to_string())?;
            none.insert(fresh)
        }
    };
    stream.write_all(&wire::request(Body::Length(0))).map_err(|error| format!("send: {error}"))?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).map_err(|error| format!("receive: {error}"))?;
        if read == 0 {
            return Err("closed without an answer".to_owned());
        }
        filled += read;
        if let Some(answer) = wire::answer(&buffer[..filled])? {
            return if answer.length == filled { Ok(answer) } else { Err("more than an answer".to_owned()) };
        }
    }
}
