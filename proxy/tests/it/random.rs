//! Random bodies, cuts, policies and endpoints, compared with an oracle without sockets.

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngSeed, TestRunner};
use testkit::origin::{At, Origin, Reply};

use crate::fixture::{CHUNKED_POST, Place, bytes, origin, over, sized_post, unfinished};

/// The behaviour of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Answers(u16),
    /// Before a byte of an answer.
    Resets,
    /// Within the body of its answer.
    CutsItsAnswer,
    Garbage,
}

#[derive(Clone, Debug)]
struct Case {
    behaviours: Vec<Behaviour>,
    require: &'static str,
    body: usize,
    /// Lengths of the chunks, repeated; none: a known length.
    chunks: Option<Vec<usize>>,
    /// Lengths of the pieces in which the client writes, repeated.
    writes: Vec<usize>,
}

impl Behaviour {
    fn reply(self) -> Reply {
        match self {
            Self::Answers(status) => Reply::new(status).body(status.to_string()),
            Self::Resets => Reply::ok("").reset_at(At::Start),
            Self::CutsItsAnswer => Reply::ok(bytes(1000)).close_at(At::Body(500)),
            Self::Garbage => Reply::raw("garbage\r\n\r\n").then_close(),
        }
    }

    fn is_ok(self) -> bool {
        matches!(self, Self::Answers(status) if status < 400)
    }

    /// Its rank among the failures; the lowest one is the answer. `None` if the endpoint did not answer.
    fn status(self) -> Option<u16> {
        if let Self::Answers(status) = self { Some(status) } else { None }
    }
}

impl Case {
    /// The request on the wire.
    fn wire(&self) -> Vec<u8> {
        let body = bytes(self.body);
        match &self.chunks {
            None => [sized_post(body.len()).into_bytes(), body].concat(),
            Some(lengths) => {
                let chunks = unfinished(&pieces(&body, lengths));
                [CHUNKED_POST.as_bytes(), &chunks, b"0\r\n\r\n"].concat()
            }
        }
    }
}

/// The permitted statuses for the client; several only if the order of events decides.
fn oracle(case: &Case) -> Vec<u16> {
    let total = case.behaviours.len();
    let required = case.require.parse::<proxy::config::Require>().expect("a requirement").required(total);
    if required > total {
        return vec![503];
    }
    let ok = |b: &&Behaviour| b.is_ok();
    let won = case.behaviours.iter().filter(ok).count() >= required;
    let told = case.behaviours.iter().filter(|b| b.is_ok() == won);
    let statuses: Vec<u16> = told.clone().map(|b| b.status().unwrap_or(502)).collect();
    // Real answers of 500 and more, then transport failures, then client errors; ties by snapshot order.
    let rank = |b: &&Behaviour| match b {
        _ if won => 0,
        Behaviour::Answers(500..) => 0,
        Behaviour::Answers(_) => 2,
        _ => 1,
    };
    match case.require {
        "all" => told.min_by_key(rank).map(|b| b.status().unwrap_or(502)).into_iter().collect(),
        // The head of an answer that will be cut is a success until then.
        "any" if case.behaviours.contains(&Behaviour::CutsItsAnswer) => [statuses, vec![200]].concat(),
        // An early decision is made over those legs that had ended by then.
        _ => statuses,
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        4 => prop::sample::select(vec![200, 201, 302]).prop_map(Behaviour::Answers),
        2 => prop::sample::select(vec![400, 404, 500, 503]).prop_map(Behaviour::Answers),
        1 => Just(Behaviour::Resets),
        1 => Just(Behaviour::CutsItsAnswer),
        1 => Just(Behaviour::Garbage),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let sizes = || prop_oneof![1..20_usize, 200..5_000_usize, 60_000..70_000_usize];
    (
        prop::collection::vec(behaviour(), 1..=4),
        prop::sample::select(vec!["all", "any", "majority", "2", "3", "50%"]),
        prop_oneof![Just(0), 1..2_000_usize, 60_000..400_000_usize],
        prop::option::of(prop::collection::vec(sizes(), 1..4)),
        prop::collection::vec(sizes(), 1..4),
    )
        .prop_map(|(behaviours, require, body, chunks, writes)| Case { behaviours, require, body, chunks, writes })
}

/// Cuts bytes into pieces of these lengths, repeated; a multiple of them where there would be too many.
fn pieces<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let factor = bytes.len() / (lengths.iter().sum::<usize>() * 100) + 1;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((length * factor).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

async fn check(case: Case) -> Result<(), TestCaseError> {
    let origins: Vec<Origin> = case.behaviours.iter().enumerate().map(|(n, b)| origin(n, b.reply())).collect();
    let places: Vec<&dyn Place> = origins.iter().map(|o| o as _).collect();
    let proxy = over(&places).require(case.require).start();
    let body = bytes(case.body);
    let mut client = proxy.client().await;
    for piece in pieces(&case.wire(), &case.writes) {
        // An early failure may end the sending.
        if client.try_send(piece).await.is_err() {
            break;
        }
    }
    let answer = client.try_read_response("POST").await;
    let answer = answer.map_err(|e| TestCaseError::fail(format!("no answer: {e}")))?;
    let want = oracle(&case);
    prop_assert!(want.contains(&answer.status), "one of {want:?} is right: {answer}");
    // With `any` an answer streams from its head on, and its endpoint may still cut it.
    let may_be_cut = case.behaviours.contains(&Behaviour::CutsItsAnswer);
    prop_assert!(answer.is_complete() || may_be_cut, "{answer}");
    proxy.settled().await;
    for (origin, behaviour) in origins.iter().zip(&case.behaviours) {
        let seen = origin.requests();
        prop_assert!(seen.len() <= 1, "more than one copy");
        if behaviour.is_ok() && proxy.legs(origin, "ok") == 1 {
            prop_assert!(seen.len() == 1 && seen[0].is_complete() && seen[0].body == body, "{}", origin.journal());
        }
        if case.require == "all" {
            prop_assert_eq!(proxy.legs(origin, "ok") == 1, behaviour.is_ok(), "{}", origin.journal());
        }
    }
    Ok(())
}

async fn check_cut(case: Case, cut: f64) -> Result<(), TestCaseError> {
    let origins: Vec<Origin> = case.behaviours.iter().enumerate().map(|(n, b)| origin(n, b.reply())).collect();
    let places: Vec<&dyn Place> = origins.iter().map(|o| o as _).collect();
    let proxy = over(&places).require(case.require).start();
    let wire = case.wire();
    // Anywhere before the last byte.
    let end = ((wire.len() - 1) as f64 * cut) as usize;
    let mut client = proxy.client().await;
    for piece in pieces(&wire[..end], &case.writes) {
        if client.try_send(piece).await.is_err() {
            break;
        }
    }
    client.close();
    testkit::eventually!("the client to be gone", proxy.metric("fanfare_client_connections", &[]), |n| *n == 0.0);
    proxy.settled().await;
    for origin in &origins {
        let journal = origin.journal();
        prop_assert!(journal.requests.iter().all(|r| !r.is_complete()), "cut at {end} of {}: {journal}", wire.len());
    }
    Ok(())
}

/// So many cases, from a seed that is printed.
fn cases(cases: u32) -> Cases {
    let rng_seed = RngSeed::Fixed(testkit::seed::random());
    Cases { cases, max_shrink_iters: 60, failure_persistence: None, rng_seed, ..Cases::default() }
}

#[test]
fn a_request_that_is_cut_anywhere_looks_complete_nowhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Without a body only the head could be cut, which other tests cover.
    let with_body = case().prop_filter("a body", |case| case.body > 0);
    let run = |(case, cut)| runtime.block_on(check_cut(case, cut));
    TestRunner::new(cases(60)).run(&(with_body, 0.0..1.0), run).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn status_and_copies_are_as_the_oracle_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    TestRunner::new(cases(80)).run(&case(), |case| runtime.block_on(check(case))).unwrap_or_else(|e| panic!("{e}"));
}
