//! An endpoint that is now well, now failing in one of the ways in which endpoints fail, and notes what it gets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use testkit::origin::{At, Origin, Reply, Request, Script};
use tokio::task::JoinHandle;

use super::history::{Kind, Seen};

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Well,
    /// Answers with 503.
    Unwell,
    /// Breaks off before its answer.
    Resetting,
    /// Never answers.
    Silent,
    /// Refuses connections, and resets those that there are.
    Down,
}

/// One that changes all the time.
pub(super) struct Flapping {
    origin: Arc<Origin>,
    noted: Arc<Noted>,
    stop: Arc<AtomicBool>,
    changing: JoinHandle<()>,
}

/// What it has got.
struct Noted {
    mode: Mutex<Mode>,
    seen: Mutex<Vec<Seen>>,
    life: Arc<AtomicU32>,
}

impl Flapping {
    /// `life` counts how often Fanfare has been killed.
    pub(super) fn start(seed: u64, life: &Arc<AtomicU32>) -> Self {
        let noted = Arc::new(Noted { mode: Mutex::new(Mode::Well), seen: Mutex::default(), life: life.clone() });
        let shared = noted.clone();
        let origin = Arc::new(Origin::start(Script::on_request(move |request: &Request| shared.answer(request))));
        let stop = Arc::new(AtomicBool::new(false));
        let changing = tokio::spawn(change(origin.clone(), noted.clone(), stop.clone(), seed));
        Self { origin, noted, stop, changing }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Waits until whoever was connected is gone and everything that it has sent is noted.
    pub(super) async fn until_nobody_is_connected(&self) {
        testkit::eventually!("connections to end", self.origin.open(), |open| *open == 0);
    }

    /// Is well from now on.
    pub(super) async fn settle(self) -> Settled {
        self.stop.store(true, Ordering::Relaxed);
        self.changing.await.expect("it ends by itself");
        Settled { _origin: self.origin, noted: self.noted }
    }
}

/// One that has become well for good.
pub(super) struct Settled {
    _origin: Arc<Origin>,
    noted: Arc<Noted>,
}

impl Settled {
    /// Everything that it has got.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.noted.seen.lock().clone()
    }
}

impl Noted {
    fn answer(&self, request: &Request) -> Reply {
        let mode = *self.mode.lock();
        let id = request.headers.get("x-request-id").unwrap_or_default().to_owned();
        let (kind, name) = match request.method.as_str() {
            "PUT" => (Kind::Put, request.text()),
            _ => (Kind::Purge, id.clone()),
        };
        let key = name.strip_prefix("w").and_then(|name| {
            let (writer, number) = name.split_once('-')?;
            Some((writer.parse().ok()?, number.parse().ok()?))
        });
        // What nobody has sent has no such name: the judge says so.
        let key = key.unwrap_or((usize::MAX, usize::MAX));
        let (life, taken) = (self.life.load(Ordering::Relaxed), mode == Mode::Well);
        self.seen.lock().push(Seen { key, kind, id, life, taken });
        match mode {
            Mode::Well => Reply::ok("taken"),
            Mode::Unwell => Reply::new(503),
            Mode::Resetting | Mode::Down => Reply::ok("never").reset_at(At::Start),
            Mode::Silent => Reply::never(),
        }
    }
}

/// Goes from one mode to the next, and ends well.
async fn change(origin: Arc<Origin>, noted: Arc<Noted>, stop: Arc<AtomicBool>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !stop.load(Ordering::Relaxed) {
        let next = match rng.u8(..10) {
            0..5 => Mode::Well,
            5 => Mode::Unwell,
            6 => Mode::Resetting,
            7 => Mode::Silent,
            _ => Mode::Down,
        };
        go(&origin, &noted, next).await;
        // What it does is to be like this for a while.
        tokio::time::sleep(Duration::from_millis(rng.u64(5..150))).await;
    }
    go(&origin, &noted, Mode::Well).await;
}

async fn go(origin: &Origin, noted: &Noted, next: Mode) {
    let before = std::mem::replace(&mut *noted.mode.lock(), next);
    match (before, next) {
        (Mode::Down, Mode::Down) => {}
        (Mode::Down, _) => origin.listen_again().await,
        (_, Mode::Down) => {
            origin.stop_listening().await;
            origin.reset_all().await;
        }
        _ => {}
    }
}
