//! A client that polls a process for the leader, and stores the answers with timestamps.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;

use testkit::boot_time;

/// The pause between an answer and the next question.
const PACE: Duration = Duration::from_millis(5);

/// Time limit of an answer: longer than any process is stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, made between its two timestamps by the clock of [`boot_time`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Before the first byte of the request was sent.
    pub sent: Duration,
    /// After the last byte of the answer had come.
    pub received: Duration,
    /// Latest time at which it was made: when it was received, or the end of the second of its own timestamp if that is
    /// earlier. The latter matters if the process was stopped between making and sending the answer.
    pub made_before: Duration,
    /// Whether the process says that it leads.
    pub is_leader: bool,
    /// The leader that it names.
    pub leader: String,
}

/// The answers of a process.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The good ones, in order.
    pub good: Vec<Answer>,
    /// Unexpected answers: another status, or another body.
    pub bad: Vec<String>,
}

/// Sends `GET /` to one process from a thread of its own, so that nothing else in the test delays the timestamps. While
/// the process is stopped, the poller waits for the answer to its last request.
#[derive(Debug)]
pub struct Poller {
    answers: Arc<Mutex<Answers>>,
    end: Arc<AtomicBool>,
    asking: Option<JoinHandle<()>>,
}

#[derive(Deserialize)]
struct Body {
    is_leader: bool,
    leader: String,
    timestamp: Timestamp,
}

impl Poller {
    /// Starts to ask.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let answers = Arc::<Mutex<Answers>>::default();
        let end = Arc::new(AtomicBool::new(false));
        let ask = {
            let (answers, end) = (answers.clone(), end.clone());
            move || ask(address, &answers, &end)
        };
        let asking = thread::Builder::new().name("poller".into()).spawn(ask).expect("the system has room for a thread");
        Self { answers, end, asking: Some(asking) }
    }

    /// Every answer so far.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.lock().clone()
    }

    /// Whether the last answer was that it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.answers.lock().good.last().is_some_and(|answer| answer.is_leader)
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // The thread is not joined, because a stopped process would delay that. It ends with its process or after its pause.
        drop(self.asking.take());
    }
}

fn ask(address: SocketAddr, answers: &Mutex<Answers>, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        // The connection fails when the process ends.
        let _ = converse(address, answers, end);
        thread::sleep(PACE);
    }
}

/// Polls on one connection until it ends.
fn converse(address: SocketAddr, answers: &Mutex<Answers>, end: &AtomicBool) -> io::Result<()> {
    let mut to = TcpStream::connect_timeout(&address, PATIENCE)?;
    to.set_nodelay(true)?;
    to.set_read_timeout(Some(PATIENCE))?;
    let mut from = BufReader::new(to.try_clone()?);
    while !end.load(Ordering::Relaxed) {
        let sent = boot_time::now();
        to.write_all(b"GET / HTTP/1.1\r\nHost: poller\r\n\r\n")?;
        let (status, body) = read(&mut from)?;
        let received = boot_time::now();
        match serde_json::from_slice(&body) {
            Ok(Body { is_leader, leader, timestamp }) if status == "200" => {
                let made_before = end_of(timestamp).min(received);
                let answer = Answer { sent, received, made_before, is_leader, leader };
                match made_before < sent {
                    true => answers.lock().bad.push(format!("with a timestamp from before the question: {answer:?}")),
                    false => answers.lock().good.push(answer),
                }
            }
            _ => answers.lock().bad.push(format!("{status} {}", String::from_utf8_lossy(&body))),
        }
        thread::sleep(PACE);
    }
    Ok(())
}

/// The end of a second of the wall clock, by the clock of [`boot_time`].
fn end_of(second: Timestamp) -> Duration {
    let left = (second + Duration::from_secs(1)).duration_since(Timestamp::now());
    let now = boot_time::now();
    match Duration::try_from(left) {
        Ok(left) => now + left,
        Err(_) => now.saturating_sub(left.unsigned_abs()),
    }
}

/// The status and the body of the next answer, which must have a length.
fn read(from: &mut BufReader<TcpStream>) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)).ok_or(io::ErrorKind::InvalidData)?;
    let length = head.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    from.read_exact(&mut body)?;
    Ok((status.to_owned(), body))
}
