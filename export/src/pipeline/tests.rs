//! Rule: the first change after a quiet time is written at once, and those that follow it are written together.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use controlplane::catalog::{Catalog, CatalogReader};
use runtime::readiness::Readiness;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{Export, Output, Pace, render};
use crate::{
    backend::{
        Model,
        fixture::{catalog, service},
    },
    guard::Limits,
    render::{Format, FormatOptions},
};

/// An export whose catalogs a test makes, and whose outputs it receives.
struct Exporting {
    catalogs: watch::Sender<Catalog>,
    outputs: watch::Receiver<Option<Arc<Output>>>,
    task: JoinHandle<()>,
}

const QUIET: Duration = Duration::from_millis(200);

/// Timers fire in whole milliseconds.
const TICK: Duration = Duration::from_millis(1);

impl Exporting {
    fn start() -> Self {
        let export = Export {
            name: "edge".into(),
            model: Model::default(),
            format: Format::parse("traefik-yaml", &FormatOptions::default()).unwrap(),
            sinks: Vec::new(),
            limits: Limits::default(),
            pace: Pace { quiet: QUIET, ..Pace::default() },
            cluster: "test".into(),
        };
        let (catalogs, receiver) = watch::channel(Catalog::default());
        let (sender, outputs) = watch::channel(None);
        let task = tokio::spawn(async move {
            let gate = Readiness::new().register("export");
            render(&export, CatalogReader::of(receiver), &gate, &sender).await;
        });
        Self { catalogs, outputs, task }
    }

    /// The next catalog: a Service with so many endpoints, and namespaces without a list.
    fn put(&self, endpoints: u8, unlisted: &[&str]) {
        let places: Vec<String> = (1..=endpoints).map(|n| format!("192.0.2.{n}:80")).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        self.catalogs.send_modify(|current| {
            let sequence = current.sequence + 1;
            *current = catalog([service("shop/cache").http(&places)]);
            current.sequence = sequence;
            current.unlisted = Arc::new(unlisted.iter().map(|name| (*name).into()).collect::<BTreeSet<_>>());
        });
    }

    /// The endpoints of the next output, and how long it took to come.
    async fn next(&mut self) -> (usize, Duration) {
        let begun = Instant::now();
        self.outputs.changed().await.unwrap();
        let output = self.outputs.borrow_and_update().clone().unwrap();
        (output.endpoints, begun.elapsed())
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_time_is_written_at_once_and_those_that_follow_it_together() {
    let mut exporting = Exporting::start();
    exporting.put(1, &[]);
    assert_eq!(exporting.next().await, (1, QUIET), "the start waits for whatever else comes");
    for endpoints in [2, 5] {
        sleep(QUIET * 3).await;
        exporting.put(endpoints, &[]);
        assert_eq!(exporting.next().await, (usize::from(endpoints), Duration::ZERO));
        for more in 1..=2 {
            sleep(QUIET / 2).await;
            exporting.put(endpoints + more, &[]);
        }
        assert_eq!(exporting.next().await, (usize::from(endpoints + 2), QUIET));
    }
    sleep(QUIET / 2).await;
    exporting.put(1, &[]);
    assert_eq!(exporting.next().await, (1, QUIET), "the last output is too recent");
}

#[tokio::test(start_paused = true)]
async fn changes_without_end_are_written_no_more_often_than_the_quiet_time_and_no_less_than_the_longest_wait() {
    const LONGEST_PAUSE: u64 = 290;
    let exporting = Exporting::start();
    let (mut outputs, mut written) = (exporting.outputs.clone(), Vec::new());
    let putting = async {
        for turn in 0..300_u64 {
            exporting.put(u8::try_from(turn % 200).unwrap() + 1, &[]);
            sleep(Duration::from_millis(turn * 37 % LONGEST_PAUSE)).await;
        }
    };
    let watching = async {
        while outputs.changed().await.is_ok() {
            written.push(Instant::now());
        }
    };
    tokio::select! { () = putting => {}, () = watching => {} }
    let intervals: Vec<Duration> = written.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let most = Pace::default().at_most + Duration::from_millis(LONGEST_PAUSE) + TICK;
    assert!(intervals.len() > 20, "{intervals:?}");
    assert!(intervals.iter().all(|interval| (QUIET..=most).contains(interval)), "{intervals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_is_listed_waits_for_those_that_may_follow_it() {
    let mut exporting = Exporting::start();
    exporting.put(1, &["other"]);
    let (_, waited) = exporting.next().await;
    assert!(waited >= Duration::from_secs(10), "the first lists may still be on their way: {waited:?}");
    sleep(QUIET * 3).await;
    exporting.put(2, &[]);
    assert_eq!(exporting.next().await, (2, QUIET));
    sleep(QUIET * 3).await;
    exporting.put(3, &[]);
    assert_eq!(exporting.next().await, (3, Duration::ZERO));
}
