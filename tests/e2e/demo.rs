//! `fanfare demo`: its self-check, its output, and the commands that it suggests.

use std::net::SocketAddr;

use rustix::process::Signal;
use testkit::client;

use crate::process::{Fanfare, run};

#[tokio::test]
async fn the_self_check_passes_and_fits_100_columns() {
    let demo = run(["demo", "--once"]).await;
    assert_eq!((demo.code, demo.stderr.as_str()), (Some(0), ""), "{}", demo.stdout);
    assert!(demo.stdout.contains("12 of 12 as expected"), "{}", demo.stdout);
    assert!(!demo.stdout.contains('\x1b'), "no colours where nobody looks:\n{}", demo.stdout);
    for line in demo.stdout.lines() {
        assert!(line.chars().count() <= 100, "{line:?} is wider than 100 columns");
        assert_eq!(line, line.trim_end(), "no blanks at the end");
    }
}

/// `curl [-i] [-s] [-X METHOD] [-d BODY] [-H 'NAME: VALUE'] http://ADDRESS/PATH`, as a request.
async fn curl(line: &str) -> client::Response {
    let words: Vec<&str> = line
        .split('\'')
        .enumerate()
        .flat_map(|(n, part)| if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .collect();
    let (mut method, mut fields, mut body, mut url) = ("GET", Vec::new(), "", "");
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value follows");
        match word {
            "-X" => method = value(),
            "-H" => fields.push(value().split_once(": ").expect("a field")),
            "-d" => (method, body) = ("POST", value()),
            "-i" | "-s" => {}
            _ => url = word,
        }
    }
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let address: SocketAddr = address.parse().expect("an address");
    client::request(address, method, &format!("/{path}"), &fields, body.as_bytes()).await.complete()
}

#[tokio::test]
async fn every_line_to_try_works_and_ctrl_c_ends_it() {
    let demo = Fanfare::start(["demo"]);
    let text = demo.stdout.wait("the lines to try", |text| text.contains("Ctrl-C ends")).await;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert!(lines.len() >= 8, "{text}");
    for line in &lines {
        assert_eq!(curl(line).await.status, 200, "{line}");
    }
    let report = lines.iter().find(|line| line.contains("vnd.broadcast")).expect("the report is shown");
    let failing = lines.iter().find(|line| line.contains("/-/failing")).expect("an origin can be made to fail");
    curl(failing).await;
    let answer = curl(report).await;
    assert_eq!(answer.status, 500);
    let report: serde_json::Value = serde_json::from_str(&answer.text()).expect("a report");
    let outcomes: Vec<_> =
        report["results"].as_array().expect("endpoint by endpoint").iter().map(|leg| &leg["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "ok", "server_error"]);
    demo.signal(Signal::INT);
    let finished = demo.finish().await;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
}
