//! The admin API over real sockets. One process has one log level, so the tests that touch it are one test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use runtime::readiness::Readiness;
use runtime::telemetry::{self, Format, Level, Telemetry};
use runtime::{admin::Admin, listener::Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// Initialized once, because that sets the level, which one of the tests changes.
static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| telemetry::init(Level::Info, Format::Text));

struct Instance {
    addr: SocketAddr,
    readiness: Readiness,
    telemetry: Telemetry,
    stop: oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

async fn start(shape: impl FnOnce(Admin) -> Admin) -> Instance {
    let telemetry = TELEMETRY.clone();
    let readiness = Readiness::new();
    let metrics = runtime::metrics::install().expect("the recorder installs");
    let admin = shape(Admin::new(readiness.clone(), metrics, telemetry.clone()));
    let bound = admin.bind("127.0.0.1:0".parse().expect("an address")).await.expect("binds");
    let addr = bound.addr();
    assert_ne!(addr.port(), 0);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async move {
        let _ = stopped.await;
    }));
    Instance { addr, readiness, telemetry, stop, running }
}

/// Sends raw bytes on a new connection and reads until the server closes it.
async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("sends");
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes in time")
        .expect("reads");
    String::from_utf8(answer).expect("is text")
}

async fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = exchange(addr, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let admin = start(|admin| admin).await;
    let gate = admin.readiness.register("endpoints");
    let (status, _, body) = ask(admin.addr, "GET", "/-/healthy", "").await;
    assert_eq!((status, body.as_str()), (200, "OK"));

    gate.set_not_ready("no list yet");
    let (status, _, body) = ask(admin.addr, "GET", "/-/ready", "").await;
    assert_eq!((status, body.as_str()), (503, "NOT READY: endpoints: no list yet"));
    gate.set_ready();
    let (status, _, body) = ask(admin.addr, "GET", "/-/ready", "").await;
    assert_eq!((status, body.as_str()), (200, "OK"));
    admin.readiness.set_draining();
    let (status, _, body) = ask(admin.addr, "GET", "/-/ready", "").await;
    assert_eq!((status, body.as_str()), (503, "NOT READY: draining"));
    let (status, _, _) = ask(admin.addr, "GET", "/-/healthy", "").await;
    assert_eq!(status, 200, "a draining process is alive");

    let (status, head, body) = ask(admin.addr, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nprocess_open_fds "), "{body}");
}

#[tokio::test]
async fn the_readiness_of_one_route_is_its_own() {
    let admin = start(|admin| admin).await;
    let parts = [("purge", Ok(())), ("ns/cache:80#2", Err("no endpoint".to_owned()))];
    admin.readiness.set_parts(parts.into_iter().map(|(name, state)| (name.to_owned(), state)).collect());
    let gate = admin.readiness.register("routes");
    gate.set_not_ready("no endpoint");
    for (query, status, answer) in [
        ("", 503, "NOT READY: routes: no endpoint"),
        ("?route=purge", 200, "OK"),
        ("?other=1&route=purge", 200, "OK"),
        ("?route=ns%2Fcache:80%232", 503, "NOT READY: no endpoint"),
        ("?route=nothing", 404, "there is no route \"nothing\"; the routes are: ns/cache:80#2, purge\n"),
    ] {
        let (got, _, body) = ask(admin.addr, "GET", &format!("/-/ready{query}"), "").await;
        assert_eq!((got, body.as_str()), (status, answer), "{query}");
    }
    admin.readiness.set_draining();
    let (status, _, body) = ask(admin.addr, "GET", "/-/ready?route=purge", "").await;
    assert_eq!((status, body.as_str()), (503, "NOT READY: draining"));
}

#[tokio::test]
async fn the_log_level_is_shown_changed_and_guarded() {
    let admin = start(|admin| admin).await;
    let (_, _, level) = ask(admin.addr, "GET", "/-/log-level", "").await;
    assert_eq!(level, admin.telemetry.level().to_string());
    for (body, level) in [("debug", Level::Debug), ("warning\n", Level::Warn), ("INFO", Level::Info)] {
        let (status, _, answer) = ask(admin.addr, "PUT", "/-/log-level", body).await;
        assert_eq!((status, answer.as_str()), (200, level.as_str()));
        assert_eq!(admin.telemetry.level(), level);
    }
    for body in ["loud", "", "\u{fffd}", &"x".repeat(1_000)] {
        let (status, _, _) = ask(admin.addr, "PUT", "/-/log-level", body).await;
        assert_eq!(status, 400, "{body:?}");
    }
    let (status, _, _) = ask(admin.addr, "DELETE", "/-/log-level", "").await;
    assert_eq!(status, 405);
    assert_eq!(admin.telemetry.level(), Level::Info);
}

#[tokio::test]
async fn documents_and_merged_routes_and_a_404_that_helps() {
    let calls = Arc::new(AtomicU64::new(0));
    let document = {
        let calls = Arc::clone(&calls);
        Arc::new(move || serde_json::json!({ "call": calls.fetch_add(1, Ordering::SeqCst) + 1 }))
    };
    let role = Router::new().route("/endpoints", get(|| async { "mine" }));
    let admin = start(|admin| {
        admin.json("/-/config", document.clone()).json("/-/{odd}*", document).merge(role, &["/endpoints"])
    })
    .await;

    for call in 1..=2 {
        let (status, head, body) = ask(admin.addr, "GET", "/-/config", "").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let value: serde_json::Value = serde_json::from_str(&body).expect("is JSON");
        assert_eq!(value["call"], call);
    }
    let (status, _, body) = ask(admin.addr, "HEAD", "/-/config", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    let (status, head, _) = ask(admin.addr, "POST", "/-/config", "{}").await;
    assert!(status == 405 && head.contains("allow: get, head"), "{head}");
    let (status, _, body) = ask(admin.addr, "GET", "/endpoints", "").await;
    assert_eq!((status, body.as_str()), (200, "mine"));

    let (status, _, body) = ask(admin.addr, "GET", "/nowhere", "").await;
    assert_eq!(status, 404);
    for path in ["/metrics", "/-/healthy", "/-/ready", "/-/log-level", "/-/config", "/endpoints"] {
        assert!(body.lines().any(|line| line == path), "{path} is not in {body}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let admin = start(|admin| admin).await;
    let second =
        Admin::new(admin.readiness.clone(), runtime::metrics::install().expect("shared"), admin.telemetry.clone());
    let error = second.bind(admin.addr).await.err().expect("the port is taken").to_string();
    assert!(error.contains(&admin.addr.to_string()), "{error}");
}

fn hasty(admin: Admin) -> Admin {
    admin.limits(Limits {
        connections: 2,
        read_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    })
}

#[tokio::test]
async fn a_client_that_sends_nothing_or_drips_is_cut_off() {
    let admin = start(hasty).await;
    let mut silent = TcpStream::connect(admin.addr).await.expect("connects");
    assert_eq!(rest(&mut silent).await, "");

    // Each byte comes sooner than the time-out, the head as a whole never ends.
    let mut dripping = TcpStream::connect(admin.addr).await.expect("connects");
    dripping.write_all(b"GET /-/healthy HTTP/1.1\r\nX: ").await.expect("sends");
    let drip = async {
        loop {
            if dripping.write_all(b"x").await.is_err() {
                return;
            }
            // The pace of the client.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("the connection ends though bytes keep coming");

    // A kept connection is closed once it has been idle, after its answer.
    let kept = exchange(admin.addr, "GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(kept.starts_with("HTTP/1.1 200") && kept.ends_with("\r\n\r\nOK"), "{kept}");

    // A body that never comes.
    let unfinished = exchange(admin.addr, "PUT /-/log-level HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nin").await;
    assert!(unfinished.starts_with("HTTP/1.1 408"), "{unfinished}");
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let read_timeout = Duration::from_millis(100);
    let admin = start(|admin| admin.limits(Limits { read_timeout, ..Limits::default() })).await;
    let mut stream = TcpStream::connect(admin.addr).await.expect("connects");
    for _ in 0..3 {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sends");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nOK") {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("answers in time");
            assert_ne!(read.expect("reads"), 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        }
        // The idle time that is the rule's subject.
        tokio::time::sleep(read_timeout * 3).await;
    }
}

#[tokio::test]
async fn slow_handlers_and_slow_streams_are_not_cut_off() {
    let slow = || async {
        // The pauses are those of a slow handler.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let pieces = futures::stream::unfold(0, |n| async move {
            if n == 3 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(600)).await;
            Some((Ok::<_, std::io::Error>(format!("{n};")), n + 1))
        });
        Body::from_stream(pieces)
    };
    let admin = start(|admin| hasty(admin).merge(Router::new().route("/slow", get(slow)), &["/slow"])).await;
    let answer = exchange(admin.addr, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("0\r\n\r\n"), "{answer}");
    for piece in ["0;", "1;", "2;"] {
        assert!(answer.contains(piece), "{answer}");
    }
}

#[tokio::test]
async fn bad_input_gets_an_error_and_the_listener_lives_on() {
    let admin = start(|admin| admin).await;
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"] {
        let answer = exchange(admin.addr, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{garbage:?}: {answer}");
    }
    // Who knows that it speaks HTTP/2 may do so; this one falls silent after the preface, in the middle of its first frame.
    let mut stream = TcpStream::connect(admin.addr).await.expect("connects");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").await.expect("is written");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes in time");
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(admin.addr).await.expect("connects");
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes in time");
    let (status, _, _) = ask(admin.addr, "GET", "/-/healthy", "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn stopping_finishes_the_request_under_way() {
    let (entered, mut handling) = tokio::sync::mpsc::channel::<()>(1);
    let release = Arc::new(tokio::sync::Notify::new());
    let held = {
        let release = Arc::clone(&release);
        move || async move {
            let _ = entered.send(()).await;
            release.notified().await;
            "finished"
        }
    };
    let admin = start(|admin| admin.merge(Router::new().route("/held", get(held)), &["/held"])).await;
    let request = tokio::spawn(ask(admin.addr, "GET", "/held", ""));
    handling.recv().await.expect("the handler is entered");
    admin.stop.send(()).expect("is running");
    release.notify_one();
    let (status, _, body) = request.await.expect("no panic");
    assert_eq!((status, body.as_str()), (200, "finished"));
    tokio::time::timeout(PATIENCE, admin.running).await.expect("ends in time").expect("no panic").expect("no error");
    assert!(TcpStream::connect(admin.addr).await.is_err(), "the listener is closed");
}
