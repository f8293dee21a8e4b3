//! Killed at any moment, under load, while endpoints come and go.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use parking_lot::Mutex;
use rustix::process::Signal;
use testkit::{
    client::{RawClient, request_bytes},
    seed,
};
use tokio::sync::watch;

use super::{
    bed::{arguments, until_all_have_everything},
    flapping::Flapping,
    history::{Asked, History, Kind},
};
use crate::process::Fanfare;

/// How many kills there are, unless the environment says otherwise.
const KILLS: &str = "FANFARE_KILLS";
/// Clients, each of which waits for its answer before it asks again.
const WRITERS: usize = 6;

/// A client. It goes on where it was when there is a process again.
struct Writer {
    number: usize,
    asked: Mutex<Vec<Asked>>,
    rng: Mutex<fastrand::Rng>,
}

impl Writer {
    /// Asks until the process is gone.
    async fn run(&self, address: SocketAddr, answered: &watch::Sender<usize>) {
        let Ok(mut client) = RawClient::try_connect(address).await else { return };
        loop {
            let (number, bytes, method) = self.next();
            if client.try_send(&bytes).await.is_err() {
                return;
            }
            let Ok(answer) = client.try_read_response(method).await else { return };
            let deferred = answer.headers.get("x-broadcast-job").is_some();
            assert_eq!(answer.status, if deferred { 202 } else { 200 }, "{answer}");
            self.asked.lock()[number].acknowledged = true;
            answered.send_modify(|count| *count += 1);
            if !answer.is_complete() || !answer.keeps_alive {
                return;
            }
        }
    }

    /// The next request: its place, its bytes and its method.
    fn next(&self) -> (usize, Vec<u8>, &'static str) {
        let mut asked = self.asked.lock();
        let mut rng = self.rng.lock();
        let name = format!("w{}-{}", self.number, asked.len());
        let kind = if rng.u8(..4) == 0 { Kind::Purge } else { Kind::Put };
        // A purge has nothing else that it could be known by.
        let id = (kind == Kind::Purge || rng.bool()).then(|| name.clone());
        let fields: Vec<(&str, &str)> = id.iter().map(|id| ("X-Request-Id", id.as_str())).collect();
        let (method, body) = match kind {
            Kind::Put => ("PUT", name.as_bytes()),
            Kind::Purge => ("PURGE", &b""[..]),
        };
        let bytes = request_bytes("cache.example", method, &format!("/of/{}", self.number), &fields, body);
        asked.push(Asked { kind, id, acknowledged: false });
        (asked.len() - 1, bytes, method)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_requests_reach_every_endpoint_in_order_however_often_the_process_is_killed() {
    let kills = std::env::var(KILLS).ok().map_or(8, |kills| kills.parse().expect("FANFARE_KILLS is a number"));
    let mut rng = fastrand::Rng::with_seed(seed::random());
    let life = Arc::new(AtomicU32::new(0));
    let endpoints: Vec<Flapping> = (0..3).map(|_| Flapping::start(rng.u64(..), &life)).collect();
    let writer = |number| {
        let rng = Mutex::new(rng.fork());
        Arc::new(Writer { number, asked: Mutex::default(), rng })
    };
    let writers: Vec<Arc<Writer>> = (0..WRITERS).map(writer).collect();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let addresses: Vec<SocketAddr> = endpoints.iter().map(Flapping::address).collect();
    let arguments = arguments(&addresses, directory.path(), &["--timeout", "300ms"]);

    for kill in 0..kills {
        let mut fanfare = Fanfare::start(&arguments);
        let answered = watch::Sender::new(0);
        let mut running = Vec::new();
        if rng.u8(..5) == 0 {
            // It is killed while it starts: before it listens, in the midst of recovering, or just after.
            tokio::time::sleep(Duration::from_millis(rng.u64(..150))).await;
        } else {
            fanfare.wait_listening().await;
            fanfare.wait_ready().await;
            let address = fanfare.address();
            running.extend(writers.iter().cloned().map(|writer| {
                let answered = answered.clone();
                tokio::spawn(async move { writer.run(address, &answered).await })
            }));
            let enough = rng.usize(1..120);
            let mut count = answered.subscribe();
            testkit::eventually::within("answers", count.wait_for(|count| *count >= enough)).await.expect("it is ours");
            // Not always just after an answer.
            tokio::time::sleep(Duration::from_micros(rng.u64(..20_000))).await;
        }
        fanfare.signal(Signal::KILL);
        fanfare.exit().await;
        for ended in join_all(running).await {
            ended.expect("no writer got an answer that it must not get");
        }
        for endpoint in &endpoints {
            endpoint.until_nobody_is_connected().await;
        }
        life.fetch_add(1, Ordering::Relaxed);
        if kill % 20 == 19 {
            println!("{} kills, {} requests", kill + 1, writers.iter().map(|it| it.asked.lock().len()).sum::<usize>());
        }
    }

    let fanfare = Fanfare::serve(&arguments).await;
    let endpoints = join_all(endpoints.into_iter().map(Flapping::settle)).await;
    until_all_have_everything(&fanfare).await;
    let history = History {
        asked: writers.iter().map(|writer| writer.asked.lock().clone()).collect(),
        seen: endpoints.iter().map(|endpoint| endpoint.seen()).collect(),
    };
    let asked: usize = history.asked.iter().map(Vec::len).sum();
    let acknowledged = history.asked.iter().flatten().filter(|asked| asked.acknowledged).count();
    let copies: usize = history.seen.iter().map(Vec::len).sum();
    println!("{kills} kills: {asked} requests, {acknowledged} acknowledged, {copies} copies arrived");
    let faults = history.faults();
    assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    let again = history.seen.iter().flatten().filter(|copy| copy.life > 0 || !copy.taken).count();
    assert!(acknowledged > kills && again > 0, "{acknowledged} acknowledged, {again} copies of trouble");
}
