//! An endpoint that is now well, now failing in one of the ways in which endpoints fail, and notes what it gets.

mod http2;

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

use self::http2::Http2Server;
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

/// What an endpoint speaks.
enum Server {
    Http1(Origin),
    Http2(Http2Server),
}

/// One that changes all the time.
pub(super) struct Flapping {
    server: Arc<Server>,
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
    /// One that speaks HTTP/1.1. `life` counts how often Fanfare has been killed.
    pub(super) fn start(seed: u64, life: &Arc<AtomicU32>) -> Self {
        let noted = Noted::new(life);
        let shared = noted.clone();
        let origin = Origin::start(Script::on_request(move |request: &Request| shared.answer(request)));
        Self::with(Server::Http1(origin), noted, seed)
    }

    /// One that speaks HTTP/2.
    pub(super) async fn start_http2(seed: u64, life: &Arc<AtomicU32>) -> Self {
        let noted = Noted::new(life);
        let server = Http2Server::start(noted.clone()).await;
        Self::with(Server::Http2(server), noted, seed)
    }

    fn with(server: Server, noted: Arc<Noted>, seed: u64) -> Self {
        let (server, stop) = (Arc::new(server), Arc::new(AtomicBool::new(false)));
        let changing = tokio::spawn(change(server.clone(), noted.clone(), stop.clone(), seed));
        Self { server, noted, stop, changing }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match &*self.server {
            Server::Http1(origin) => origin.address(),
            Server::Http2(server) => server.address,
        }
    }

    /// Waits until whoever was connected is gone and everything that it has sent is noted.
    pub(super) async fn until_nobody_is_connected(&self) {
        testkit::eventually!("connections to end", self.server.open(), |open| *open == 0);
    }

    /// Is well from now on.
    pub(super) async fn settle(self) -> Settled {
        self.stop.store(true, Ordering::Relaxed);
        self.changing.await.expect("it ends by itself");
        Settled { _server: self.server, noted: self.noted }
    }
}

/// One that has become well for good.
pub(super) struct Settled {
    _server: Arc<Server>,
    noted: Arc<Noted>,
}

impl Settled {
    /// Everything that it has got.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.noted.seen.lock().clone()
    }
}

impl Server {
    fn open(&self) -> usize {
        match self {
            Self::Http1(origin) => origin.open(),
            Self::Http2(server) => server.open(),
        }
    }

    async fn go_down(&self) {
        match self {
            Self::Http1(origin) => {
                origin.stop_listening().await;
                origin.reset_all().await;
            }
            Self::Http2(server) => server.go_down().await,
        }
    }

    async fn listen_again(&self) {
        match self {
            Self::Http1(origin) => origin.listen_again().await,
            Self::Http2(server) => server.listen_again().await,
        }
    }
}

impl Noted {
    fn new(life: &Arc<AtomicU32>) -> Arc<Self> {
        Arc::new(Self { mode: Mutex::new(Mode::Well), seen: Mutex::default(), life: life.clone() })
    }

    fn answer(&self, request: &Request) -> Reply {
        let id = request.headers.get("x-request-id").unwrap_or_default();
        match self.note(&request.method, id, &request.text()) {
            Mode::Well => Reply::ok("taken"),
            Mode::Unwell => Reply::new(503),
            Mode::Resetting | Mode::Down => Reply::ok("never").reset_at(At::Start),
            Mode::Silent => Reply::never(),
        }
    }

    /// Notes a request, and how the endpoint is at that moment.
    fn note(&self, method: &str, id: &str, body: &str) -> Mode {
        let mode = *self.mode.lock();
        let (kind, name) = match method {
            "PUT" => (Kind::Put, body),
            _ => (Kind::Purge, id),
        };
        let key = name.strip_prefix("w").and_then(|name| {
            let (writer, number) = name.split_once('-')?;
            Some((writer.parse().ok()?, number.parse().ok()?))
        });
        // What nobody has sent has no such name: the judge says so.
        let key = key.unwrap_or((usize::MAX, usize::MAX));
        let (life, taken) = (self.life.load(Ordering::Relaxed), mode == Mode::Well);
        self.seen.lock().push(Seen { key, kind, id: id.to_owned(), life, taken });
        mode
    }
}

/// Goes from one mode to the next, and ends well.
async fn change(server: Arc<Server>, noted: Arc<Noted>, stop: Arc<AtomicBool>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !stop.load(Ordering::Relaxed) {
        let next = match rng.u8(..10) {
            0..5 => Mode::Well,
            5 => Mode::Unwell,
            6 => Mode::Resetting,
            7 => Mode::Silent,
            _ => Mode::Down,
        };
        go(&server, &noted, next).await;
        // What it does is to be like this for a while.
        tokio::time::sleep(Duration::from_millis(rng.u64(5..150))).await;
    }
    go(&server, &noted, Mode::Well).await;
}

async fn go(server: &Server, noted: &Noted, next: Mode) {
    let before = std::mem::replace(&mut *noted.mode.lock(), next);
    match (before, next) {
        (Mode::Down, Mode::Down) => {}
        (Mode::Down, _) => server.listen_again().await,
        (_, Mode::Down) => server.go_down().await,
        _ => {}
    }
}
