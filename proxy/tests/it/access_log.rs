//! The access log: one entry per request, written when its last leg has ended.

use serde_json::Value;
use testkit::client::request;
use testkit::origin::{Gate, Reply};

use crate::fixture::{ROUTE, origins};
use crate::process::Process;

#[tokio::test]
async fn an_entry_is_written_when_the_last_leg_has_ended() {
    let gate = Gate::new();
    let [a, b] = origins([vec![Reply::ok("a")], vec![Reply::new(503).hold(&gate), Reply::ok("b")]]);
    let mut process = Process::start(&[a.address(), b.address()], "any", None).await;
    let first = request(process.address, "PURGE", "/first", &[("X-Request-Id", "id-1")], b"body").await;
    assert_eq!(first.expect_status(200).text(), "a");
    gate.wait_reached(1).await;
    request(process.address, "GET", "/second", &[], b"").await.expect_status(200);
    // The first one's answer is out, and a leg of it still runs: the second one's entry comes before.
    let entry = |line: String| -> Value { serde_json::from_str(&line).expect("JSON") };
    let second = entry(process.line_with("\"/").await);
    assert_eq!(second["target"], "/second", "{second}");
    gate.release();
    let first = entry(process.line_with("\"/").await);
    assert_eq!((&first["id"], &first["method"], &first["target"]), (&"id-1".into(), &"PURGE".into(), &"/first".into()));
    assert_eq!((&first["route"], &first["status"], &first["received"]), (&ROUTE.into(), &200.into(), &4.into()));
    let legs = first["legs"].as_array().expect("the legs");
    let told: Vec<_> = legs.iter().map(|leg| (&leg["endpoint"], &leg["outcome"], &leg["status"])).collect();
    let (a, b) = (a.address().to_string().into(), b.address().to_string().into());
    assert_eq!(told, [(&a, &"ok".into(), &200.into()), (&b, &"server_error".into(), &503.into())], "{first}");
}

#[tokio::test]
async fn what_a_client_sends_cannot_break_an_entry() {
    let [a] = origins([Reply::ok("a")]);
    let mut process = Process::start(&[a.address()], "all", None).await;
    request(process.address, "X'`|~", "/%0a%22?\u{27}$(x)", &[], b"").await.expect_status(200);
    let line = process.line_with("/%0a").await;
    let entry: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&entry["method"], &entry["target"]), (&"X'`|~".into(), &"/%0a%22?'$(x)".into()));
}
