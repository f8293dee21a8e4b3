//! Rule: whatever is live and owed at the same time, each endpoint gets all of it, in order of arrival, and nothing else.

#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports, in its helpers, too")]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use h2::Reason;
use parking_lot::Mutex;
use tempfile::tempdir;
use testkit::{
    client::RawClient,
    eventually,
    origin::{At, Origin, Reply, Script},
};

use super::redelivering;
use crate::{
    fixture::{Place, Proxy, Setup, ms, origin, over},
    http2_endpoints::{Does, Endpoint, over_h2},
};

const CLIENTS: usize = 4;
/// Requests of each client.
const REQUESTS: usize = 30;

/// A request that was asked, by its target.
struct Asked {
    method: &'static str,
    /// When it was sent, and answered, among everything that clients did.
    sent: usize,
    answered: usize,
}

/// A copy as it came.
struct Seen {
    method: String,
    target: String,
    body: Vec<u8>,
    id: String,
    attempt: Option<u32>,
    age: Option<u64>,
}

/// The requests of clients until all of them are done.
async fn ask(proxy: &Proxy, seed: u64) -> HashMap<String, Asked> {
    let (clock, asked) = (AtomicUsize::new(0), Mutex::new(HashMap::new()));
    let now = || clock.fetch_add(1, Ordering::SeqCst);
    let clients = (0..CLIENTS).map(async |client| {
        let mut rng = fastrand::Rng::with_seed(seed ^ client as u64);
        let mut connection = RawClient::connect(proxy.address).await;
        for n in 0..REQUESTS {
            let (target, method) = (format!("/{client}/{n}"), ["PUT", "PURGE"][rng.usize(0..2)]);
            let body = if method == "PUT" { target.clone() } else { String::new() };
            let sent = now();
            let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            connection.send(head).await;
            let answer = connection.read_response(method).await;
            let answered = now();
            let result = answer.header("x-broadcast-result").unwrap();
            assert!(
                answer.header("x-broadcast-job").is_some() || result.contains("ok=3"),
                "nobody may miss it: {answer}"
            );
            asked.lock().insert(target, Asked { method, sent, answered });
            if rng.u32(0..4) == 0 {
                // A client is slow here, so that others overtake it.
                tokio::time::sleep(ms(rng.u64(1..30))).await;
            }
        }
    });
    futures::future::join_all(clients).await;
    asked.into_inner()
}

async fn all_is_delivered(proxy: &Proxy) {
    eventually!("nothing is owed", proxy.handle.redeliveries()[0].owed(), |owed| *owed == 0);
    for result in ["expired", "dropped", "refused"] {
        assert_eq!(proxy.metric("fanfare_deliveries_total", &[("result", result)]), 0.0, "{result}");
    }
}

fn judge(endpoint: usize, asked: &HashMap<String, Asked>, seen: &[Seen], ids: &mut HashMap<String, String>) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, copy) in seen.iter().enumerate() {
        let request = asked.get(&copy.target).unwrap_or_else(|| panic!("nobody asked for {}", copy.target));
        let body = if request.method == "PUT" { copy.target.as_bytes() } else { b"" };
        assert_eq!((&*copy.method, &*copy.body), (request.method, body), "{endpoint}: {}", copy.target);
        let id = ids.entry(copy.target.clone()).or_insert_with(|| copy.id.clone());
        assert_eq!(*id, copy.id, "rule 3: {}", copy.target);
        assert_eq!(copy.attempt.is_some(), copy.age.is_some(), "rule 3: {}", copy.target);
        let before = places.entry(&copy.target).or_default();
        if let Some(last) = before.last().map(|last| &seen[*last]) {
            // A live copy may be sent twice, on a connection that turned out to be closed.
            let grows = last.attempt.is_none() || last.attempt < copy.attempt;
            assert!(grows && last.age <= copy.age, "rule 3: {}: {:?}, {:?}", copy.target, last.attempt, copy.attempt);
        }
        before.push(place);
    }
    for (first, one) in asked {
        let Some(of_first) = places.get(&**first) else { panic!("rule 1: {first} never reached {endpoint}") };
        for (second, other) in asked.iter().filter(|(_, other)| one.answered < other.sent) {
            let (last, then) = (of_first.last(), places[&**second].first());
            assert!(last < then, "rule 2: {endpoint} got {first} after {second}: {} {}", one.answered, other.sent);
        }
    }
}

fn setup(setup: Setup, require: &str, journal: &tempfile::TempDir) -> Setup {
    let journal = journal.path().to_owned();
    let setup = setup.require(require).total(Duration::from_secs(60)).config(|config| config.threads = 2);
    setup.policy(|policy| redelivering(policy, |it| (it.journal, it.grace) = (Some(journal), ms(2))))
}

fn flapping(n: usize, seed: u64) -> Origin {
    let state = Arc::new(Mutex::new((fastrand::Rng::with_seed(seed), 0, true)));
    let script = Script::on_head(move |_| {
        let (rng, left, is_up) = &mut *state.lock();
        if *left == 0 {
            (*left, *is_up) = (rng.u32(1..8), !*is_up);
        }
        *left -= 1;
        let fine = Reply::ok("fine").delay(ms(rng.u64(0..10)));
        match rng.u32(0..3) {
            _ if *is_up => fine,
            0 => Reply::new(503),
            1 => fine.reset_at(At::Start),
            _ => fine.close_at(At::Byte(10)),
        }
    });
    origin(n, script)
}

async fn over_http1(require: &str) {
    let seed = testkit::seed::random();
    let journal = tempdir().unwrap();
    let origins: Vec<Origin> = (0..3).map(|n| flapping(n, seed + n as u64)).collect();
    let places: Vec<&dyn Place> = origins.iter().map(|origin| origin as _).collect();
    let proxy = setup(over(&places), require, &journal).start();
    let flaps = async {
        let mut rng = fastrand::Rng::with_seed(seed);
        loop {
            // Each endpoint is unreachable now and then.
            tokio::time::sleep(ms(rng.u64(10..60))).await;
            let away = &origins[rng.usize(0..3)];
            away.stop_listening().await;
            away.reset_all().await;
            tokio::time::sleep(ms(rng.u64(0..40))).await;
            away.listen_again().await;
        }
    };
    let asked = tokio::select! {
        asked = ask(&proxy, seed) => asked,
        () = flaps => unreachable!("they flap for ever"),
    };
    for origin in &origins {
        origin.listen_again().await;
        origin.set(Reply::ok("fine"));
    }
    all_is_delivered(&proxy).await;
    let mut ids = HashMap::new();
    for (n, origin) in origins.iter().enumerate() {
        // One that was cut before its end was not received.
        let seen = origin.requests().into_iter().filter(testkit::origin::Request::is_complete).map(|seen| {
            let field = |name: &str| seen.headers.get(name).map(ToOwned::to_owned);
            Seen {
                id: field("x-request-id").unwrap(),
                attempt: field("x-broadcast-attempt").map(|n| n.parse().unwrap()),
                age: field("x-broadcast-age").map(|n| n.parse().unwrap()),
                method: seen.method,
                target: seen.target,
                body: seen.body,
            }
        });
        judge(n, &asked, &seen.collect::<Vec<_>>(), &mut ids);
    }
}

#[tokio::test]
async fn live_and_owed_requests_keep_their_order_under_any() {
    over_http1("any").await;
}

#[tokio::test]
async fn live_and_owed_requests_keep_their_order_under_a_quorum() {
    over_http1("majority").await;
}

#[tokio::test]
async fn live_and_owed_requests_keep_their_order_under_all() {
    over_http1("all").await;
}

#[tokio::test]
async fn live_and_owed_requests_keep_their_order_over_http2() {
    let seed = testkit::seed::random();
    let (mut rng, journal) = (fastrand::Rng::with_seed(seed), tempdir().unwrap());
    let mut script = || {
        let mut script = Vec::new();
        while script.len() < CLIENTS * REQUESTS {
            let fine = |rng: &mut fastrand::Rng| vec![Does::Answer(b"fine".to_vec()); rng.usize(1..10)];
            script.extend(fine(&mut rng));
            script.extend((0..rng.u32(0..6)).map(|_| match rng.u32(0..3) {
                0 => Does::Status(503, b"not now".to_vec()),
                1 => Does::Reset(Reason::INTERNAL_ERROR),
                _ => Does::GoAway,
            }));
        }
        script.push(Does::Answer(b"fine".to_vec()));
        script
    };
    let endpoints =
        [Endpoint::start(0, script()).await, Endpoint::start(1, script()).await, Endpoint::start(2, script()).await];
    let proxy = setup(over_h2(&endpoints.each_ref().map(|it| it as &dyn Place)), "any", &journal).start();
    let asked = ask(&proxy, seed).await;
    all_is_delivered(&proxy).await;
    let mut ids = HashMap::new();
    for (n, endpoint) in endpoints.iter().enumerate() {
        let seen = endpoint.wait(asked.len()).await.into_iter().filter(|seen| seen.is_whole()).map(|seen| {
            let field = |name: &str| seen.head.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            Seen {
                id: field("x-request-id").unwrap(),
                attempt: field("x-broadcast-attempt").map(|n| n.parse().unwrap()),
                age: field("x-broadcast-age").map(|n| n.parse().unwrap()),
                method: seen.head.method().to_string(),
                target: seen.head.uri().path().to_owned(),
                body: seen.body,
            }
        });
        judge(n, &asked, &seen.collect::<Vec<_>>(), &mut ids);
    }
}
