//! `bridge`: pulls exported files from stores.

use std::time::Duration;

use export::{bridge::Bridge, sink::Connect};
use futures::future::join_all;

use super::{BoundRole, Context};
use crate::config::bridge::BridgeConfig;

/// The time limit of a bridge with `once`.
const ONCE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn bind(config: &[BridgeConfig], context: &Context) -> anyhow::Result<Option<BoundRole>> {
    if config.is_empty() {
        return Ok(None);
    }
    export::metrics::describe();
    let (mut once, mut always) = (Vec::new(), Vec::new());
    for config in config {
        let headers = config.access.headers.iter().map(|header| (header.name.clone(), header.value.clone()));
        let connect = Connect {
            s3: config.access.s3.clone(),
            kubernetes: None,
            headers: headers.collect(),
            served: None,
            timeout: config.bridge.timeout,
            manifest: false,
        };
        let gate = context.readiness.register(format!("bridge {}", config.bridge.name));
        let bridge = Bridge::new(config.bridge.clone(), &connect, gate)?;
        if config.once { once.push(bridge) } else { always.push(bridge) }
    }
    let drain = context.drain.clone();
    let run = Box::pin(async move {
        let watch = drain.clone();
        let once = async {
            let pulled = tokio::select! {
                pulled = join_all(once.into_iter().map(|bridge| bridge.once(ONCE_TIMEOUT))) => pulled,
                () = watch.wait() => anyhow::bail!("ended by a signal before everything was pulled"),
            };
            let problems: Vec<String> = pulled.into_iter().filter_map(Result::err).collect();
            anyhow::ensure!(problems.is_empty(), "not everything was pulled: {}", problems.join("; "));
            Ok(())
        };
        let always = join_all(always.into_iter().map(|bridge| bridge.run(drain.clone())));
        let (once, _) = tokio::join!(once, always);
        once
    });
    Ok(Some(BoundRole { name: "bridge", urls: Vec::new(), run }))
}
