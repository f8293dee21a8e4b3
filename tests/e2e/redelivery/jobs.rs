//! `/-/jobs`: listing, retrying and deleting jobs.

use tempfile::tempdir;
use testkit::{
    client::{self, Response},
    eventually,
};

use super::bed::{Bed, ids, jobs, json, owe};
use crate::process::Fanfare;

async fn ask(fanfare: &Fanfare, method: &str, path: &str, fields: &[(&str, &str)]) -> Response {
    client::request(fanfare.admin(), method, path, fields, b"").await.complete()
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_can_be_chosen() {
    let bed = Bed::new().await;
    let fanfare = bed.serve(&[]).await;
    let mut owed = Vec::new();
    for target in ["/1", "/2?q", "/3"] {
        owed.push(owe(&fanfare, target).await);
    }
    let away = bed.away.address().to_string();
    let shown = jobs(&fanfare, "").await;
    let found: Vec<_> = shown["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(found, [&*owed[2], &*owed[1], &*owed[0]]);
    assert_eq!(shown["journals"][0]["state"], "memory");
    let one = json(&ask(&fanfare, "GET", &format!("/-/jobs/{}", owed[1]), &[]).await.expect_status(200));
    assert_eq!(one, shown["jobs"][1]);
    assert_eq!((&one["method"], &one["uri"], &one["state"]), (&"PUT".into(), &"/2?q".into(), &"owed".into()));
    let delivery = &one["deliveries"][0];
    assert_eq!((&delivery["endpoint"], &delivery["state"]), (&away.as_str().into(), &"owed".into()));
    let first = &shown["jobs"][2]["deliveries"][0]["last"];
    assert!(first["outcome"] == "connect" && first["error"].is_string(), "{first}");
    let route = one["route"].as_str().unwrap();
    for (query, count) in [
        ("?limit=2", 2),
        (&*format!("?after={}", owed[1]), 1),
        (&*format!("?endpoint={away}&state=owed"), 3),
        ("?endpoint=192.0.2.1:80", 0),
        (&*format!("?route={}", route.replace(':', "%3A").replace(',', "%2C")), 3),
        ("?route=other", 0),
        ("?state=done", 0),
    ] {
        assert_eq!(jobs(&fanfare, query).await["jobs"].as_array().map(Vec::len), Some(count), "{query}");
    }
    for (query, told) in [
        ("?state=lost", "owed, done or expired"),
        ("?limit=0", "at least 1"),
        ("?after=x", "16 hexa"),
        ("?x=y", "use state"),
    ] {
        let answer = ask(&fanfare, "GET", &format!("/-/jobs{query}"), &[]).await.expect_status(400);
        assert!(answer.text().contains(told), "{query}: {answer}");
    }
}

#[tokio::test]
async fn credentials_in_a_target_are_not_shown_and_reach_the_endpoint() {
    let bed = Bed::new().await;
    let fanfare = bed.serve(&[]).await;
    let target = "/object?sv=1&sig=s3cret";
    let job = owe(&fanfare, target).await;
    for path in ["/-/jobs", &format!("/-/jobs/{job}"), "/-/overview"] {
        let shown = ask(&fanfare, "GET", path, &[]).await.expect_status(200).text();
        assert!(shown.contains("/object?sv=1&sig=REDACTED") && !shown.contains("s3cret"), "{path}: {shown}");
    }
    bed.come_back().await;
    assert_eq!(bed.delivered(1).await, [target]);
}

#[tokio::test]
async fn a_job_is_tried_at_once_or_dropped_as_asked() {
    let (bed, journal) = (Bed::new().await, tempdir().unwrap());
    let journal = journal.path().to_str().expect("a path of ASCII");
    let flags = ["--redeliver", "1h", "--redeliver-backoff", "1h..1h", "--redeliver-journal", journal];
    let fanfare = Fanfare::broadcast(&bed.addresses(), &flags).await;
    fanfare.wait_ready().await;
    let (first, second) = (owe(&fanfare, "/1").await, owe(&fanfare, "/2").await);
    bed.come_back().await;
    ask(&fanfare, "DELETE", &format!("/-/jobs/{first}"), &[]).await.expect_status(204);
    ask(&fanfare, "GET", &format!("/-/jobs/{first}"), &[]).await.expect_status(404);
    bed.away.assert_untouched();
    let tried = ask(&fanfare, "POST", &format!("/-/jobs/{second}/retry"), &[]).await.expect_status(202);
    assert_eq!(json(&tried)["endpoints"], 1);
    assert_eq!(bed.delivered(1).await, ["/2"]);
    eventually!("it is done", ids(&fanfare, "done").await, |done| *done == [second.clone()]);
    let answer = ask(&fanfare, "POST", &format!("/-/jobs/{second}/retry"), &[]).await.expect_status(409);
    assert!(answer.text().contains("has no pending deliveries"), "{answer}");
}

#[tokio::test]
async fn missing_jobs_and_invalid_queries_are_reported() {
    let bed = Bed::new().await;
    let fanfare = bed.serve(&[]).await;
    let id = owe(&fanfare, "/1").await;
    let unknown = "0123456789abcdef";
    for (method, path, status, told) in [
        ("GET", format!("/-/jobs/{unknown}"), 404, "no job 0123456789abcdef"),
        ("DELETE", format!("/-/jobs/{unknown}"), 404, "no job"),
        ("POST", format!("/-/jobs/{unknown}/retry"), 404, "no job"),
        ("GET", "/-/jobs/12".to_owned(), 400, "16 hexadecimal digits"),
        ("DELETE", "/-/jobs/12".to_owned(), 400, "16 hexadecimal digits"),
        ("POST", "/-/jobs".to_owned(), 405, "GET reads"),
        ("PUT", format!("/-/jobs/{id}"), 405, "DELETE drops"),
        ("GET", format!("/-/jobs/{id}/retry"), 405, "POST tries"),
        ("GET", format!("/-/jobs/{id}/x"), 404, "/-/jobs/<id>/retry"),
    ] {
        let answer = ask(&fanfare, method, &path, &[]).await.expect_status(status);
        assert!(answer.text().contains(told), "{method} {path}: {answer}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{answer}");
    }
    // A request that a browser sends for a page is not from the operator of this machine.
    for (method, path) in [("DELETE", format!("/-/jobs/{id}")), ("POST", format!("/-/jobs/{id}/retry"))] {
        ask(&fanfare, method, &path, &[("Origin", "http://evil.example")]).await.expect_status(403);
    }
    assert_eq!(ids(&fanfare, "owed").await, [id]);
}

#[tokio::test]
async fn with_tokens_every_request_carries_one() {
    let (bed, folder) = (Bed::new().await, tempdir().unwrap());
    let file = folder.path().join("tokens");
    std::fs::write(&file, "operator:s3cret\n").unwrap();
    let fanfare = bed.serve(&["--metrics-tokens", file.to_str().unwrap()]).await;
    let id = owe(&fanfare, "/1").await;
    let path = format!("/-/jobs/{id}");
    for (method, path) in [("GET", "/-/jobs"), ("GET", &*path), ("DELETE", &*path)] {
        ask(&fanfare, method, path, &[]).await.expect_status(401);
    }
    let token = [("Authorization", "Bearer s3cret")];
    ask(&fanfare, "GET", &path, &token).await.expect_status(200);
    ask(&fanfare, "DELETE", &path, &token).await.expect_status(204);
}
