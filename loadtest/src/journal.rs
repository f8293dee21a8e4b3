//! The journal of redelivery alone, without requests: its acknowledgements per second for a number of concurrent waiters.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use redeliver::{
    Last, Redelivery, Request, Whom,
    core::Leg,
    rules::{Limits, Rules},
};

/// Requests acknowledged per second, each as large as those of the load.
pub(crate) fn acknowledged_per_second(directory: &Path, waiting: usize, seconds: f64) -> anyhow::Result<f64> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let limits = Limits { max_jobs: usize::MAX, max_bytes: usize::MAX, ..Limits::default() };
    let redelivery = Redelivery::start(limits, Some(directory), 1)?;
    let route = redelivery.route("alone", Rules::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let per_second = runtime.block_on(async {
        redelivery.until_read().await;
        let began = Instant::now();
        let until = began + Duration::from_secs_f64(seconds);
        let clients: Vec<_> = (0..waiting)
            .map(|_| {
                let redelivery = redelivery.clone();
                tokio::spawn(async move {
                    let mut done = 0_u64;
                    while Instant::now() < until {
                        redelivery.arrival(route, Instant::now()).defer(request(), missed()).await?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        let mut done = 0;
        for client in clients {
            done += client.await??;
        }
        anyhow::Ok(done as f64 / began.elapsed().as_secs_f64())
    })?;
    drop((redelivery, runtime));
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    Ok(per_second)
}

fn request() -> Request {
    let head = crate::wire::request(crate::load::Body::Length(0));
    Request {
        method: "GET".into(),
        host: "load.test".into(),
        target: "/load/test".into(),
        head: head.into(),
        body: "".into(),
        trailers: Default::default(),
    }
}

fn missed() -> Vec<(Whom, Leg)> {
    let whom = Whom { key: "10.1.0.4:80".into(), endpoint: "10.1.0.4:80".into(), pod: None };
    vec![(whom, Leg::Missed { last: Last { outcome: "connect", status: None, at: 0, error: None }, attempts: 1 })]
}
