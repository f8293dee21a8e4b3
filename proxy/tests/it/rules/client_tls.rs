//! Rule: clients with TLS are served like others, and stalled handshakes do not block other clients.

use std::sync::Arc;

use proxy::config::Listener;
use runtime::tls::{CertificateFiles, ClientAuth, MinVersion, Protocol, ServerSettings};
use rustls::pki_types::ServerName;
use testkit::client::{RawClient, Response};
use testkit::eventually;
use testkit::eventually::within;
use testkit::origin::{At, Origin, Reply};
use testkit::pki::{Authority, SecretDir};
use testkit::tls_relay::TlsRelay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fixture::{Proxy, Setup, bytes, chunked, ms, origin, over, result_of, sized_post};

const NAME: &str = "broadcast.example";

/// A proxy with TLS, and the client's side of it.
struct Bed {
    authority: Authority,
    _secret: SecretDir,
    proxy: Proxy,
}

fn secured(origins: &[&Origin], change: impl FnOnce(&mut Listener, &SecretDir)) -> Bed {
    secured_setup(over(&origins.iter().map(|origin| *origin as _).collect::<Vec<_>>()), change)
}

fn secured_setup(setup: Setup, change: impl FnOnce(&mut Listener, &SecretDir)) -> Bed {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&[NAME]), &authority);
    let settings = ServerSettings {
        certificates: vec![CertificateFiles { cert: secret.path("tls.crt"), key: secret.path("tls.key") }],
        client_ca: None,
        client_auth: ClientAuth::Require,
        min_version: MinVersion::Tls12,
        protocols: vec![Protocol::Http1],
    };
    let setup = setup.listener(|listener| {
        listener.tls = Some(settings);
        change(listener, &secret);
    });
    Bed { authority, proxy: setup.start(), _secret: secret }
}

impl Bed {
    /// A relay that speaks TLS for a client in clear text.
    async fn door(&self) -> TlsRelay {
        TlsRelay::towards(self.proxy.address, self.authority.client(None, &["http/1.1"]), NAME).await
    }

    async fn answer_to(&self, bytes: impl AsRef<[u8]>, method: &str) -> Response {
        let door = self.door().await;
        let mut client = RawClient::connect(door.address).await;
        client.send(bytes).await;
        client.read_response(method).await
    }
}

#[tokio::test]
async fn a_client_is_served_and_its_connection_kept() {
    let (a, b) = (origin(0, Reply::ok("a")), origin(1, Reply::ok("b")));
    let bed = secured(&[&a, &b], |_, _| {});
    let door = bed.door().await;
    let mut client = RawClient::connect(door.address).await;
    for n in 1..=3 {
        client.send(format!("{}body", sized_post(4))).await;
        let answer = client.read_response("POST").await.complete();
        assert_eq!((answer.status, answer.text().as_str(), result_of(&answer)), (200, "a", [2, 2, 0, 0, 2]));
        assert_eq!(
            (a.wait_requests(n).await[n - 1].text(), b.wait_requests(n).await[n - 1].text()),
            ("body".into(), "body".into())
        );
    }
    assert_eq!(door.handshakes(), 1);
}

#[tokio::test]
async fn a_client_that_offers_http_2_gets_it_unless_it_is_off() {
    let long = bytes(1_000_000);
    for http2 in [true, false] {
        let a = origin(0, Reply::ok(&long));
        let bed = secured(&[&a], |listener, _| listener.http2 = http2);
        let connector = TlsConnector::from(Arc::new(bed.authority.client(None, &["h2", "http/1.1"])));
        let stream = TcpStream::connect(bed.proxy.address).await.expect("connects");
        let name = ServerName::try_from(NAME).expect("a name");
        let stream = connector.connect(name, stream).await.expect("it is taken");
        let agreed = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(agreed.as_deref(), Some(if http2 { "h2" } else { "http/1.1" }));
        if !http2 {
            continue;
        }
        let (send, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        let mut send = send.ready().await.expect("a stream");
        let request = http::Request::builder().method("PUT").uri("https://shop/x").body(()).expect("a request");
        let (response, mut body) = send.send_request(request, false).expect("it is sent");
        body.send_data(::bytes::Bytes::from_static(b"body"), true).expect("it is sent");
        let (head, mut stream) = within("an answer", response).await.expect("an answer").into_parts();
        assert_eq!(head.status, 200);
        let mut got = Vec::new();
        while let Some(data) = within("a piece", stream.data()).await {
            let data = data.expect("a piece");
            stream.flow_control().release_capacity(data.len()).expect("it was received");
            got.extend_from_slice(&data);
        }
        assert!(got == long, "{} bytes", got.len());
        let seen = a.wait_requests(1).await.remove(0);
        assert_eq!((seen.text().as_str(), seen.headers.get("x-forwarded-proto")), ("body", Some("https")));
    }
}

#[tokio::test]
async fn long_bodies_arrive_whole_in_both_directions() {
    let long = bytes(5_000_000);
    let (a, b) = (origin(0, Reply::ok(&long)), origin(1, Reply::ok("b")));
    let bed = secured(&[&a, &b], |_, _| {});
    let body = bytes(3_000_000);
    let pieces = chunked(&body.chunks(33_333).collect::<Vec<_>>());
    for (n, (framing, sent)) in
        [(format!("Content-Length: {}", body.len()), body.clone()), ("Transfer-Encoding: chunked".to_owned(), pieces)]
            .into_iter()
            .enumerate()
    {
        let head = format!("POST /p HTTP/1.1\r\nHost: shop\r\n{framing}\r\n\r\n");
        let answer = bed.answer_to([head.into_bytes(), sent].concat(), "POST").await.complete();
        assert!(answer.status == 200 && answer.body == long, "{} with {} bytes", answer.status, answer.body.len());
        for origin in [&a, &b] {
            let seen = origin.wait_requests(n + 1).await.remove(n);
            assert!(seen.body == body, "{} bytes", seen.body.len());
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_look_complete() {
    let cut = || Reply::ok(bytes(200_000)).reset_at(At::Body(100_000));
    for request in ["GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "GET / HTTP/1.0\r\nHost: shop\r\n\r\n"] {
        let a = origin(0, cut());
        let bed = secured(&[&a], |listener, _| {
            Arc::make_mut(&mut listener.routes[0]).policy.require = "any".parse().expect("a requirement");
        });
        let connector = TlsConnector::from(Arc::new(bed.authority.client(None, &[])));
        let stream = TcpStream::connect(bed.proxy.address).await.expect("connects");
        let name = ServerName::try_from(NAME).expect("a name");
        let mut client = connector.connect(name, stream).await.expect("it is taken");
        client.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer).await;
        assert!(answer.len() > 50_000, "it had begun: {} bytes", answer.len());
        end.expect_err("an end that TLS says would make it look complete");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_looks_complete() {
    let a = origin(0, Reply::ok("a").chunked(["one", "two"]));
    let bed = secured(&[&a], |_, _| {});
    let connector = TlsConnector::from(Arc::new(bed.authority.client(None, &[])));
    let stream = TcpStream::connect(bed.proxy.address).await.expect("connects");
    let mut client = connector.connect(ServerName::try_from(NAME).expect("a name"), stream).await.expect("it is taken");
    client.write_all(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n").await.expect("writes");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("TLS says that it ends");
    assert!(answer.ends_with("\r\n\r\nonetwo"), "{answer}");
}

#[tokio::test]
async fn plain_http_is_told_so() {
    let a = origin(0, Reply::ok("a"));
    let bed = secured(&[&a], |_, _| {});
    let answer = bed.proxy.answer_to("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "GET").await.complete();
    assert!(answer.status == 400 && answer.text().contains("https"), "{answer}");
    a.assert_untouched();
}

#[tokio::test]
async fn a_client_without_a_certificate_reaches_nobody_where_one_is_required() {
    let a = origin(0, Reply::ok("a"));
    let bed = secured(&[&a], |listener, secret| {
        listener.tls.as_mut().expect("it has TLS").client_ca = Some(secret.path("ca.crt"));
    });
    let own = bed.authority.issue(&["ci.example"]);
    for (certificate, taken) in [(None, false), (Some(&own), true)] {
        let config = bed.authority.client(certificate, &[]);
        let door = TlsRelay::towards(bed.proxy.address, config, NAME).await;
        let mut client = RawClient::connect(door.address).await;
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        match taken {
            true => drop(client.read_response("GET").await.complete().expect_status(200)),
            false => {
                client.wait_end().await;
                a.assert_untouched();
            }
        }
    }
}

#[tokio::test]
async fn whoever_does_not_finish_the_handshake_is_cut_off_after_the_time_for_a_head() {
    let a = origin(0, Reply::ok("a"));
    let bed = secured(&[&a], |listener, _| listener.timeouts.head = ms(300));
    for greeting in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = bed.proxy.sent(greeting).await;
        client.wait_end().await;
    }
    eventually!("no connection", bed.proxy.metric("fanfare_client_connections", &[]), |count| *count == 0.0);
    bed.answer_to("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "GET").await.complete().expect_status(200);
}

#[tokio::test]
async fn handshakes_that_stall_make_room_for_others_and_hold_up_no_drain() {
    let a = origin(0, Reply::ok("a"));
    let mut bed = secured_setup(over(&[&a]).limits(|limits| limits.connections = 4), |_, _| {});
    let mut stalled = bed.proxy.sent_times(8, "\x16\x03\x01").await;
    bed.answer_to("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "GET").await.complete().expect_status(200);
    for client in &mut stalled[..4] {
        client.wait_end().await;
    }
    // The time for a head is 10 s: nobody waits for that.
    assert_eq!(bed.proxy.drain(ms(8_000)).await, 0);
}
