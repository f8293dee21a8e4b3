//! The cost of acknowledgements: group commits compared with the bare store with equally many fsyncs, recovery, and memory.
//!
//!     cargo bench -p redeliver
//!
//! `JOURNAL_DIR` chooses the disk.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};
use redeliver::{
    Last, Redelivery, Request, Whom,
    core::Leg,
    rules::{Limits, Rules},
};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
/// The numbers of clients, each of which waits for an acknowledgement before its next request.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const JOBS: usize = 100_000;

fn main() {
    // `cargo test` runs benches with this argument, only to check that they start.
    if env::args().any(|argument| argument == "--test") {
        return;
    }
    let directory = env::var_os("JOURNAL_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("redeliver-bench-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for clients in CLIENTS {
        runtime.block_on(acknowledge(&directory.join(format!("group-{clients}")), clients));
        alone(&directory.join(format!("alone-{clients}")), clients);
    }
    runtime.block_on(recover(&directory.join("recovery")));
    fs::remove_dir_all(&directory).expect("it is ours");
}

fn request(number: usize) -> Request {
    Request {
        method: "PURGE".into(),
        host: "www.example.org".into(),
        target: format!("/images/{number}/picture-{number}.jpg").into(),
        head: format!("X-Request-Id: 5b0e1c9a-{number:012}\r\nUser-Agent: bench\r\nAccept: */*\r\n").into(),
        body: vec![7; 100].into(),
        trailers: Default::default(),
    }
}

fn legs() -> Vec<(Whom, Leg)> {
    let whom = Whom { key: "cache-1".into(), endpoint: "10.1.0.4:80".into(), pod: Some("cache-1".into()) };
    vec![(whom, Leg::Missed { last: Last { outcome: "connect", status: None, at: 0, error: None }, attempts: 1 })]
}

async fn begin(directory: &Path) -> (Redelivery, redeliver::core::RouteId) {
    fs::create_dir_all(directory).expect("a directory");
    let limits = Limits { max_jobs: 10 * JOBS, max_bytes: 8 << 30, ..Limits::default() };
    let redelivery = Redelivery::start(limits, Some(directory), 1).expect("it starts");
    let route = redelivery.route("purges", Rules::default());
    redelivery.until_read().await;
    (redelivery, route)
}

/// Clients whose requests miss one endpoint, one after the other.
async fn acknowledge(directory: &Path, clients: usize) {
    let (redelivery, route) = begin(directory).await;
    let began = Instant::now();
    let until = began + Duration::from_secs(5);
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let redelivery = redelivery.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < until {
                    let request = request(client * 1_000_000 + done);
                    redelivery.arrival(route, Instant::now()).defer(request, legs()).await.expect("there is room");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("a client ends");
    }
    let each = done as f64 / began.elapsed().as_secs_f64();
    println!("{clients:4} clients: {each:9.0} acknowledged a second");
}

/// The bare store, with one record per client in each transaction.
fn alone(directory: &Path, records: usize) {
    fs::create_dir_all(directory).expect("a directory");
    let database = Database::create(directory.join("alone.redb")).expect("a store");
    let record = vec![7; 350];
    let began = Instant::now();
    let (mut written, mut commits) = (0_u64, 0_u64);
    while began.elapsed() < Duration::from_secs(5) {
        let transaction = database.begin_write().expect("a transaction");
        {
            let mut table = transaction.open_table(TABLE).expect("a table");
            for _ in 0..records {
                table.insert(written, record.as_slice()).expect("it is written");
                written += 1;
            }
        }
        transaction.commit().expect("a commit");
        commits += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (each, commits) = (written as f64 / seconds, commits as f64 / seconds);
    println!("{records:4} records in a transaction, store alone: {each:9.0} a second, {commits:7.0} commits");
}

async fn recover(directory: &Path) {
    let (redelivery, route) = begin(directory).await;
    let before = resident();
    let mut tasks = Vec::new();
    for client in 0..200 {
        let redelivery = redelivery.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..JOBS / 200 {
                let request = request(client * 1_000_000 + number);
                redelivery.arrival(route, Instant::now()).defer(request, legs()).await.expect("there is room");
            }
        }));
    }
    for task in tasks {
        task.await.expect("a client ends");
    }
    println!("{JOBS} jobs owed: {} MiB resident more than before", resident().saturating_sub(before) >> 20);
    let members = tokio::sync::watch::Sender::new(None);
    redelivery.run(&Nobody, members.subscribe(), async {}).await;
    drop(redelivery);
    let began = Instant::now();
    let (redelivery, _) = begin(directory).await;
    println!("{} jobs recovered in {:.2} s", redelivery.owed(), began.elapsed().as_secs_f64());
}

/// A sender that is never used, because there are no endpoints.
struct Nobody;

impl redeliver::Sender for Nobody {
    async fn send(&self, _copy: redeliver::core::Copy) -> redeliver::core::Verdict {
        redeliver::core::Verdict::Cancelled
    }
}

/// The resident size of the process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}
