//! Killed at any moment, under load, while endpoints come and go, and while the file is changed and processes take over.

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
use tokio::{sync::watch, task::JoinHandle};

use super::{
    bed::{metric, until_all_have_everything},
    flapping::Flapping,
    history::{Asked, History, Kind, Seen},
};
use crate::{config_file::ConfigFile, process::Fanfare};

/// How many kills there are, unless the environment says otherwise.
const KILLS: &str = "FANFARE_KILLS";
/// The endpoints of a group.
const ENDPOINTS: usize = 3;

/// A route: its name, which is the first segment of its paths too.
#[derive(Clone, Copy, Debug)]
struct Route {
    name: &'static str,
    require: &'static str,
    /// Which group of endpoints it leads to: of HTTP/1.1, or of HTTP/2.
    is_http2: bool,
}

/// The route of each client, which waits for its answer before it asks again.
const WRITERS: [Route; 7] = [
    Route { name: "all", require: "all", is_http2: false },
    Route { name: "any", require: "any", is_http2: false },
    Route { name: "majority", require: "majority", is_http2: false },
    Route { name: "all-too", require: "all", is_http2: false },
    Route { name: "any-too", require: "any", is_http2: false },
    Route { name: "http2", require: "all", is_http2: true },
    Route { name: "http2-any", require: "any", is_http2: true },
];

/// A client. It goes on where it was when there is a process again.
struct Writer {
    number: usize,
    route: Route,
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
            let is_deferred = answer.headers.get("x-broadcast-job").is_some();
            // Under `any` and a majority it is a success although some get it later.
            let is_success = answer.status == 200 && (!is_deferred || self.route.require != "all");
            assert!(is_success || (answer.status == 202 && is_deferred), "{:?}: {answer}", self.route);
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
        let bytes =
            request_bytes("cache.example", method, &format!("/{}/{}", self.route.name, self.number), &fields, body);
        asked.push(Asked { kind, id, acknowledged: false });
        (asked.len() - 1, bytes, method)
    }
}

/// The endpoints and the clients of a run, and the file of its processes.
struct Bed {
    life: Arc<AtomicU32>,
    http1: Vec<Flapping>,
    http2: Vec<Flapping>,
    writers: Vec<Arc<Writer>>,
    file: ConfigFile,
}

/// Clients that run until their process is gone.
struct Running {
    answered: watch::Sender<usize>,
    clients: Vec<JoinHandle<()>>,
}

impl Bed {
    async fn new(rng: &mut fastrand::Rng) -> Self {
        let life = Arc::new(AtomicU32::new(0));
        let http1 = (0..ENDPOINTS).map(|_| Flapping::start(rng.u64(..), &life)).collect();
        let http2 = join_all((0..ENDPOINTS).map(|_| Flapping::start_http2(rng.u64(..), &life))).await;
        let writer = |(number, route): (usize, &Route)| {
            Arc::new(Writer { number, route: *route, asked: Mutex::default(), rng: Mutex::new(rng.fork()) })
        };
        let writers = WRITERS.iter().enumerate().map(writer).collect();
        Self { life, http1, http2, writers, file: ConfigFile::missing() }
    }

    /// Writes the file, with this time-out of all routes.
    fn write(&self, timeout: &str) {
        let list = |group: &[Flapping]| {
            group.iter().map(|endpoint| format!("'{}'", endpoint.address())).collect::<Vec<_>>().join(", ")
        };
        let (http1, http2, journal) = (list(&self.http1), list(&self.http2), self.file.folder().join("journal"));
        let route = |Route { name, require, is_http2 }: &Route| {
            let to =
                if *is_http2 { format!("endpoints: [{http2}], protocol: h2") } else { format!("endpoints: [{http1}]") };
            format!(
                "    - {{name: {name}, match: {{path: /{name}/*}}, to: {{{to}}}, require: {require}, timeout: {timeout}, \
                 redeliver: {{for: 1h, journal: {}, backoff: 10ms..100ms, on_deferred: 202}}}}\n",
                journal.display()
            )
        };
        let routes: String = WRITERS.iter().map(route).collect();
        self.file.write(&format!(
            "admin: {{listen: '127.0.0.1:0'}}\nthreads: 2\naccess_log: 'off'\nbroadcast:\n  - listen: 127.0.0.1:0\n    routes:\n{routes}"
        ));
    }

    /// Has the clients ask a process.
    fn ask(&self, fanfare: &Fanfare) -> Running {
        let (address, answered) = (fanfare.address(), watch::Sender::new(0));
        let client = |writer: Arc<Writer>| {
            let answered = answered.clone();
            tokio::spawn(async move { writer.run(address, &answered).await })
        };
        let clients = self.writers.iter().cloned().map(client).collect();
        Running { answered, clients }
    }

    /// What a process does is over once nobody is connected to any endpoint.
    async fn until_all_is_noted(&self) {
        for endpoint in self.http1.iter().chain(&self.http2) {
            endpoint.until_nobody_is_connected().await;
        }
        self.life.fetch_add(1, Ordering::Relaxed);
    }

    /// Another process takes the place of one, which is killed or drained.
    async fn take_over(&self, mut old: Fanfare, running: Running, signal: Signal) -> Fanfare {
        let new = Fanfare::serve(self.file.arguments()).await;
        let writable = async || metric(&new, "fanfare_journal_writable").await;
        testkit::eventually!("it waits for the journal", writable().await, |writable| *writable == Some(0.0));
        // It sends nothing before all that the other one has sent is noted.
        new.signal(Signal::STOP);
        old.signal(signal);
        old.exit().await;
        running.end().await;
        self.until_all_is_noted().await;
        new.signal(Signal::CONT);
        testkit::eventually!("it has the journal", writable().await, |writable| *writable == Some(1.0));
        new.wait_ready().await;
        new
    }

    /// What a group of endpoints was to get and has got.
    fn history(&self, seen: Vec<Vec<Seen>>, is_http2: bool) -> History {
        let asked = self.writers.iter().map(|writer| match writer.route.is_http2 == is_http2 {
            true => writer.asked.lock().clone(),
            false => Vec::new(),
        });
        History { asked: asked.collect(), seen }
    }
}

impl Running {
    async fn until_answered(&self, count: usize) {
        let mut answered = self.answered.subscribe();
        let enough = answered.wait_for(|answered| *answered >= count);
        testkit::eventually::within("answers", enough).await.expect("it is ours");
    }

    async fn end(self) {
        for ended in join_all(self.clients).await {
            ended.expect("no writer got an answer that it must not get");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_requests_reach_every_endpoint_in_order_however_often_the_process_is_killed() {
    let kills = std::env::var(KILLS).ok().map_or(8, |kills| kills.parse().expect("FANFARE_KILLS is a number"));
    let mut rng = fastrand::Rng::with_seed(seed::random());
    let bed = Bed::new(&mut rng).await;
    let (mut reloads, mut take_overs) = (0, 0);
    for kill in 0..kills {
        bed.write("300ms");
        let mut fanfare = Fanfare::start(bed.file.arguments());
        if rng.u8(..5) == 0 {
            // It is killed while it starts: before it listens, in the midst of recovering, or just after.
            tokio::time::sleep(Duration::from_millis(rng.u64(..150))).await;
            fanfare.signal(Signal::KILL);
            fanfare.exit().await;
        } else {
            fanfare.wait_listening().await;
            fanfare.wait_ready().await;
            let mut running = bed.ask(&fanfare);
            running.until_answered(rng.usize(1..120)).await;
            if kill % 3 == 1 {
                bed.write("310ms");
                fanfare.signal(Signal::HUP);
                reloads += 1;
            }
            if kill % 5 == 2 {
                let signal = if rng.bool() { Signal::KILL } else { Signal::TERM };
                fanfare = bed.take_over(fanfare, running, signal).await;
                running = bed.ask(&fanfare);
                running.until_answered(rng.usize(1..60)).await;
                take_overs += 1;
            }
            // Not always just after an answer.
            tokio::time::sleep(Duration::from_micros(rng.u64(..20_000))).await;
            fanfare.signal(Signal::KILL);
            fanfare.exit().await;
            running.end().await;
        }
        bed.until_all_is_noted().await;
        if kill % 20 == 19 {
            let asked: usize = bed.writers.iter().map(|writer| writer.asked.lock().len()).sum();
            println!("{} kills, {reloads} reloads, {take_overs} take-overs, {asked} requests", kill + 1);
        }
    }
    judge(bed, kills).await;
}

/// Lets everything that is owed be delivered, and compares what was asked with what arrived.
async fn judge(mut bed: Bed, kills: usize) {
    let fanfare = bed.file.serve().await;
    let settle = |group: &mut Vec<Flapping>| join_all(std::mem::take(group).into_iter().map(Flapping::settle));
    let (http1, http2) = (settle(&mut bed.http1).await, settle(&mut bed.http2).await);
    until_all_have_everything(&fanfare).await;
    for (group, is_http2) in [(&http1, false), (&http2, true)] {
        let history = bed.history(group.iter().map(|endpoint| endpoint.seen()).collect(), is_http2);
        let asked: usize = history.asked.iter().map(Vec::len).sum();
        let acknowledged = history.asked.iter().flatten().filter(|asked| asked.acknowledged).count();
        let copies: usize = history.seen.iter().map(Vec::len).sum();
        let version = if is_http2 { "HTTP/2" } else { "HTTP/1.1" };
        let faults = history.faults();
        println!(
            "{kills} kills, endpoints of {version}: {asked} requests, {acknowledged} acknowledged, {copies} copies arrived, \
             {} faults",
            faults.len()
        );
        assert!(faults.is_empty(), "{} faults, the first: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
        let again = history.seen.iter().flatten().filter(|copy| copy.life > 0 || !copy.taken).count();
        assert!(acknowledged > kills && again > 0, "{acknowledged} acknowledged, {again} copies of trouble");
    }
}
