//! Purges of three real Varnish, of which one hangs with what it has cached and one is restarted.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rustix::process::Signal;
use serde_json::json;
use testkit::{
    client,
    consumers::{Consumer, varnish},
    netns,
    origin::{Origin, Reply, Request, Script},
};

use super::bed::{metric, redelivering, until_all_have_everything};
use crate::process::Fanfare;

/// Keeps everything for an hour, and takes PURGE for one page and BAN for all that match.
const VCL: &str = r#"
vcl 4.1;
backend pages { .host = "HOST"; .port = "PORT"; }
sub vcl_recv {
    if (req.method == "PURGE") {
        return (purge);
    }
    if (req.method == "BAN") {
        ban("obj.http.x-page ~ " + req.http.x-pages);
        return (synth(200, "Banned"));
    }
}
sub vcl_backend_response {
    set beresp.ttl = 1h;
    set beresp.http.x-page = bereq.url;
}
"#;

/// Varnish keeps the pages of each host apart.
const HOST: (&str, &str) = ("Host", "pages.example");

async fn page(varnish: &Consumer, target: &str) -> String {
    client::request(varnish.address(), "GET", target, &[HOST], b"").await.complete().text()
}

/// A purge that one of the three got, and that the others get.
async fn purge(fanfare: &Fanfare, method: &str, target: &str, fields: &[(&str, &str)]) {
    let fields = [fields, &[HOST]].concat();
    let answer = client::request(fanfare.address(), method, target, &fields, b"").await.complete();
    let result = answer.headers.get("x-broadcast-result").unwrap_or_default();
    assert!(answer.status == 202 && result.ends_with("ok=1, failed=2, pending=0, required=3, deferred=2"), "{answer}");
}

#[test]
fn a_varnish_that_missed_purges_serves_nothing_old_when_it_is_back() {
    netns::inside(testkit::test_name!(), async || {
        let version = Arc::new(AtomicU32::new(1));
        let newest = version.clone();
        let pages = Origin::start(Script::on_request(move |request: &Request| {
            Reply::ok(format!("{} {}", request.target, newest.load(Ordering::Relaxed)))
        }));
        let vcl = VCL.replace("HOST", &pages.address().ip().to_string());
        let vcl = vcl.replace("PORT", &pages.address().port().to_string());
        let [well, hanging, mut restarted] = [varnish(&vcl).await, varnish(&vcl).await, varnish(&vcl).await];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let groups = [&well, &hanging, &restarted].into_iter().enumerate().map(
            |(n, varnish)| json!({"targets": [varnish.address().to_string()], "labels": {"pod": format!("cache-{n}")}}),
        );
        let targets = folder.path().join("targets.json");
        std::fs::write(&targets, json!(groups.collect::<Vec<_>>()).to_string()).expect("it can be written");
        let targets = targets.to_str().expect("a path of ASCII");
        let journal = redelivering(&folder.path().join("journal"));
        let mut arguments = vec!["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints-file", targets];
        arguments.extend(["--timeout", "2s", "--on-deferred", "202"]);
        arguments.extend(journal.iter().map(String::as_str));
        let fanfare = Fanfare::serve(&arguments).await;
        fanfare.wait_ready().await;

        for varnish in [&well, &hanging, &restarted] {
            for target in ["/a", "/b", "/news/1", "/kept"] {
                assert_eq!(page(varnish, target).await, format!("{target} 1"));
            }
        }
        version.store(2, Ordering::Relaxed);
        assert_eq!(page(&hanging, "/a").await, "/a 1", "it is in the cache");
        hanging.signal(Signal::STOP);
        restarted.stop().await;
        purge(&fanfare, "PURGE", "/a", &[]).await;
        purge(&fanfare, "PURGE", "/b", &[]).await;
        purge(&fanfare, "BAN", "/", &[("X-Pages", "^/news/")]).await;
        assert_eq!(page(&well, "/a").await, "/a 2");

        hanging.signal(Signal::CONT);
        restarted.start_again().await;
        until_all_have_everything(&fanfare).await;
        for target in ["/a", "/b", "/news/1"] {
            for varnish in [&well, &hanging, &restarted] {
                assert_eq!(page(varnish, target).await, format!("{target} 2"));
            }
        }
        assert_eq!(page(&hanging, "/kept").await, "/kept 1", "what nobody purged is still there");
        assert_eq!(page(&restarted, "/kept").await, "/kept 2", "it began empty");
        let delivered = async || metric(&fanfare, "fanfare_delivery_age_seconds_count").await;
        testkit::eventually!("what was delivered", delivered().await, |count| *count == Some(6.0));
        let answer = client::request(fanfare.address(), "PURGE", "/a", &[HOST], b"").await;
        assert_eq!(answer.headers.get("x-broadcast-job"), None, "all is well again");
    });
}
