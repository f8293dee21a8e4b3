//! The listeners beside the data path by TLS: requests, plain HTTP, clients that stall.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use runtime::listener::{Bound, Limits, Peer};
use runtime::tls::{Protocol, ServerSettings, ServerTls};
use rustls::pki_types::ServerName;
use testkit::eventually::within;
use testkit::pki::{Authority, SecretDir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::bed::settings;

#[tokio::test]
async fn a_listener_by_tls_answers_requests_and_tells_plain_http_so() {
    let metrics = runtime::metrics::install().expect("installs");
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let tls = ServerTls::load(ServerSettings { protocols: vec![Protocol::Http1], ..settings(&secret) });
    let limits = Limits { read_timeout: Duration::from_secs(2), connections: 4, ..Limits::default() };
    let router = Router::new().route("/", get(async |peer: axum::Extension<Peer>| peer.0.0.ip().to_string()));
    let bound = Bound::bind("tls-test", ([127, 0, 0, 1], 0).into(), router, limits).await.expect("a free port");
    let bound = bound.tls(Some(tls.expect("it can be loaded")));
    let (address, (stop, stopped)) = (bound.addr(), oneshot::channel::<()>());
    let running = tokio::spawn(bound.run(async move { stopped.await.unwrap_or(()) }));

    // More than there are places, none of whom goes on.
    let mut stalled = Vec::new();
    for _ in 0..10 {
        stalled.push(TcpStream::connect(address).await.expect("connects"));
    }
    let connector = TlsConnector::from(Arc::new(authority.client(None, &["http/1.1"])));
    let name = ServerName::try_from("a.example").expect("a name");
    let asking = async {
        let stream = TcpStream::connect(address).await.expect("connects");
        let mut stream = connector.connect(name, stream).await.expect("it is taken");
        for connection in ["keep-alive", "close"] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("writes");
        }
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.expect("reads");
        answers
    };
    let answers = within("answers", asking).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(answers.ends_with("127.0.0.1"), "{answers}");

    let mut plain = TcpStream::connect(address).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("writes");
    let mut answer = String::new();
    within("an answer", plain.read_to_string(&mut answer)).await.expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    let counted = |result: &str| {
        let series = format!("fanfare_tls_handshakes_total{{listener=\"tls-test\",result=\"{result}\"}} ");
        metrics.render().lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok())
    };
    testkit::eventually!("both to be counted", (counted("ok"), counted("not_tls")), |counts| *counts
        == (Some(1.0), Some(1.0)));
    drop(plain);
    stop.send(()).expect("it runs");
    within("the end", running).await.expect("it ends").expect("in order");
}
