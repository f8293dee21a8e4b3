//! Prometheus, by file and by HTTP.

use std::collections::BTreeSet;

use export::render::{FormatOptions, Rendered};
use serde_json::Value;
use testkit::{
    client,
    consumers::{Consumer, prometheus},
    eventually,
    origin::{Origin, Reply},
};

use crate::{
    checkers::services,
    shop::{Folder, rendered},
};

/// What Prometheus has found for a job: backend, address and scheme of each target.
async fn targets(prometheus: &Consumer, job: &str) -> BTreeSet<(String, String, String)> {
    let answer = client::get(prometheus.address(), "/api/v1/targets").await;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let found = said["data"]["activeTargets"].as_array().into_iter().flatten();
    let label = |target: &Value, name: &str| target["discoveredLabels"][name].as_str().unwrap_or_default().to_owned();
    let ours = found.filter(|target| target["scrapePool"] == job);
    ours.map(|target| (label(target, "backend"), label(target, "__address__"), label(target, "__scheme__"))).collect()
}

fn reply(rendered: &Rendered) -> Reply {
    Reply::ok(&rendered.files[0].bytes).header("Content-Type", rendered.files[0].content_type)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_finds_the_targets_and_follows_them() {
    let made = |services| rendered("prometheus", &FormatOptions::default(), services);
    let folder = Folder::new();
    folder.write("targets.json", &made(services()));
    let server = Origin::start(reply(&made(services())));
    let config = format!(
        "global: {{scrape_interval: 1h}}\nscrape_configs:\n\
         - {{job_name: file, file_sd_configs: [{{files: ['{}']}}]}}\n\
         - {{job_name: http, http_sd_configs: [{{url: 'http://{}/', refresh_interval: 500ms}}]}}\n",
        folder.file("targets.json").display(),
        server.address()
    );
    let prometheus = prometheus(&config).await;
    let [v4, v6] = crate::shop::UNUSED_ADDRESSES;
    let wanted = [
        ("a---b-http", v4, "http"),
        ("api-grpc", v4, "http"),
        ("api-grpc", v6, "http"),
        ("api-https", v4, "https"),
        ("api-tcp", v6, "http"),
        ("backend----http", v4, "http"),
        ("blue-web-http", v4, "http"),
        ("default-http", v4, "http"),
        ("web-http", v4, "http"),
        ("web-http", v6, "http"),
    ];
    let owned = |all: &[(&str, &str, &str)]| -> BTreeSet<(String, String, String)> {
        all.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    };
    for job in ["file", "http"] {
        eventually!("the targets", targets(&prometheus, job).await, |found| *found == owned(&wanted));
    }
    let fewer = made(services().into_iter().take(1).collect());
    folder.write("targets.json", &fewer);
    server.set(reply(&fewer));
    for job in ["file", "http"] {
        let left = owned(&[("web-http", v4, "http"), ("web-http", v6, "http")]);
        eventually!("fewer targets", targets(&prometheus, job).await, |found| *found == left);
    }
}
