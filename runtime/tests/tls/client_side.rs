//! Which certificate a client gets, which clients are taken, and what clients are told.

use std::sync::Arc;
use std::time::Duration;

use runtime::tls::{
    AcceptError, ClientAuth, MinVersion, Protocol, ServerSettings, ServerTls, TlsError, Turns, accept, refuse_plain,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use testkit::eventually::within;
use testkit::pki::{Authority, Issued, SecretDir, Wanted, provider};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::bed::{Listener, NEVER, ask, files, settings};

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate")
}

#[tokio::test]
async fn a_client_gets_the_certificate_with_the_name_it_asks_for() {
    let authority = Authority::new("authority");
    let certificates = [
        authority.issue(&["first.example", "127.0.0.9"]),
        authority.issue(&["*.wild.example", "a.example"]),
        authority.issue(&["exact.wild.example"]),
        authority.issue(&["127.0.0.1"]),
    ];
    let secrets = certificates.each_ref().map(|one| SecretDir::of(one, &authority));
    let all = secrets.iter().map(files).collect();
    let listener = Listener::start(ServerSettings { certificates: all, ..settings(&secrets[0]) }).await;
    let config = Arc::new(authority.client(None, &[]));
    for (name, expected) in [
        ("first.example", 0),
        ("x.wild.example", 1),
        ("a.example", 1),
        ("exact.wild.example", 2),
        // Whoever asks for an address asks for no name, and gets what is for the address that they have reached.
        ("127.0.0.1", 3),
    ] {
        let seen = ask(&config, name, listener.address).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(seen.certificate, der(&certificates[expected]), "{name}");
    }
    let error = ask(&config, "unknown.example", listener.address).await.expect_err("it gets the first");
    assert!(error.to_string().contains("first.example"), "{error}");
}

#[tokio::test]
async fn the_first_protocol_that_both_support_is_used() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let mut listener = Listener::start(settings(&secret)).await;
    for (offered, agreed, protocol) in [
        (&["http/1.1", "h2"][..], Some("h2"), Protocol::Http2),
        (&["http/1.1"], Some("http/1.1"), Protocol::Http1),
        (&[], None, Protocol::Http1),
    ] {
        let config = Arc::new(authority.client(None, offered));
        let seen = ask(&config, "a.example", listener.address).await.expect("it is taken");
        assert_eq!(seen.alpn.as_deref(), agreed);
        let client = listener.next().await.expect("it is taken");
        assert_eq!((client.protocol, client.server_name.as_deref()), (protocol, Some("a.example")));
        assert_eq!(client.certificate, None);
    }
    let config = Arc::new(authority.client(None, &["ftp"]));
    let error = ask(&config, "a.example", listener.address).await.expect_err("nothing in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "the alert: {error}");
    assert_eq!(listener.refused().await, "the client speaks none of the protocols that were offered (ALPN)");
}

#[tokio::test]
async fn the_oldest_version_is_kept() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let old = Arc::new(old);
    let listener = Listener::start(settings(&secret)).await;
    ask(&old, "a.example", listener.address).await.expect("1.2 is the oldest");
    let new = ServerSettings { min_version: MinVersion::Tls13, ..settings(&secret) };
    let mut listener = Listener::start(new).await;
    let error = ask(&old, "a.example", listener.address).await.expect_err("1.3 is the oldest");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert_eq!(listener.refused().await, "the client speaks no version of TLS that is allowed here");
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_right_authority_where_one_is_required() {
    let (authority, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("others"));
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &clients);
    let base = ServerSettings { client_ca: Some(secret.path("ca.crt")), ..settings(&secret) };
    let names = ["ci.example", "spiffe://domain/ns/shop/sa/cms"];
    let own = clients.sign(&Wanted::names(&names).subject("ci"));
    let expired = clients.sign(&Wanted::names(&names).expired(Duration::from_secs(60)));
    for auth in [ClientAuth::Require, ClientAuth::Request] {
        let mut listener = Listener::start(ServerSettings { client_auth: auth, ..base.clone() }).await;
        let asked = async |certificate: Option<&Issued>| {
            ask(&Arc::new(authority.client(certificate, &[])), "a.example", listener.address).await
        };
        asked(Some(&own)).await.expect("it is taken");
        let none = asked(None).await;
        let stranger = asked(Some(&strangers.issue(&names))).await.expect_err("nobody knows it").to_string();
        asked(Some(&expired)).await.expect_err("it has expired");
        assert!(stranger.contains("UnknownCA"), "{stranger}");
        let certificate = listener.next().await.expect("it is taken").certificate.expect("it has one");
        assert_eq!((certificate.dns, certificate.uris), (vec![names[0].to_owned()], vec![names[1].to_owned()]));
        assert_eq!(certificate.subject.as_deref(), Some("ci"));
        match auth {
            ClientAuth::Require => {
                assert!(none.expect_err("one is required").to_string().contains("CertificateRequired"));
                assert!(listener.refused().await.contains("has shown no certificate"));
            }
            ClientAuth::Request => {
                none.expect("none is required");
                assert_eq!(listener.next().await.expect("it is taken").certificate, None);
            }
        }
        let text = listener.refused().await;
        assert_eq!(text, "the certificate of the client is signed by none of the authorities that are trusted");
        let text = listener.refused().await;
        assert!(text.starts_with("the certificate of the client has expired at 2"), "{text}");
    }
}

#[tokio::test]
async fn plain_http_is_told_so_and_anything_else_gets_nothing() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let mut listener = Listener::start(settings(&secret)).await;
    for (sent, answered) in [("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true), ("PRI * HTTP/2.0\r\n", true), ("\0\0", false)]
    {
        let mut client = TcpStream::connect(listener.address).await.expect("connects");
        client.write_all(sent.as_bytes()).await.expect("writes");
        let Err(AcceptError::NotTls { stream, read }) = listener.next().await else { panic!("{sent} is not TLS") };
        assert_eq!(read, sent.as_bytes());
        let refusing = tokio::spawn(async move { refuse_plain(stream, &read).await });
        let mut answer = String::new();
        within("the end", client.read_to_string(&mut answer)).await.expect("no reset");
        drop(client);
        assert_eq!(answer.starts_with("HTTP/1.1 400 "), answered, "{answer}");
        assert_eq!(answer.contains("https"), answered, "{answer}");
        refusing.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_peer_that_stalls_is_cut_off_and_delays_no_other() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let mut listener = Listener::with_deadline(settings(&secret), Duration::from_secs(3)).await;
    let mut stalled = Vec::new();
    for greeting in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"].repeat(100) {
        let mut client = TcpStream::connect(listener.address).await.expect("connects");
        client.write_all(greeting).await.expect("writes");
        stalled.push(client);
    }
    let config = Arc::new(authority.client(None, &[]));
    ask(&config, "a.example", listener.address).await.expect("it is taken beside the others");
    let mut taken = 0;
    for _ in 0..=stalled.len() {
        match listener.next().await {
            Ok(_) => taken += 1,
            Err(AcceptError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn a_peer_that_closes_or_sends_nonsense_is_refused() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let mut listener = Listener::start(settings(&secret)).await;
    for greeting in [&b""[..], b"\x16\x03\x01\x02"] {
        let mut client = TcpStream::connect(listener.address).await.expect("connects");
        client.write_all(greeting).await.expect("writes");
        drop(client);
        assert!(matches!(listener.next().await, Err(AcceptError::Closed)));
    }
    let mut client = TcpStream::connect(listener.address).await.expect("connects");
    client.write_all(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00").await.expect("writes");
    let mut alert = Vec::new();
    within("an alert", client.read_to_end(&mut alert)).await.expect("no reset");
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    let text = listener.refused().await;
    assert!(text.starts_with("TLS with the client has failed"), "{text}");
}

/// What a load balancer has said in front of it was read together with the first bytes of the client.
#[tokio::test]
async fn a_handshake_whose_first_bytes_were_read_already_goes_on_from_there() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let tls = ServerTls::load(settings(&secret)).expect("it can be loaded");
    for length in [1, 5, 100, 4096] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let name = ServerName::try_from("a.example").expect("a name");
        let connector = TlsConnector::from(Arc::new(authority.client(None, &["h2"])));
        let client = tokio::spawn(async move { connector.connect(name, stream).await });
        let (mut stream, _) = listener.accept().await.expect("accepts");
        let mut read = vec![0; length];
        let got = within("the greeting", stream.read(&mut read)).await.expect("reads");
        let deadline = Instant::now() + NEVER;
        let turns = Turns::default();
        let accepted = accept(stream, &read[..got], tls.config(None), &turns, deadline);
        assert_eq!(within("the handshake", accepted).await.expect("it is taken").protocol, Protocol::Http2);
        client.await.expect("it ends").expect("it is taken");
    }
}

#[tokio::test]
async fn a_stream_carries_much_in_both_directions() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let tls = ServerTls::load(settings(&secret)).expect("it can be loaded");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
    let name = ServerName::try_from("a.example").expect("a name");
    let connector = TlsConnector::from(Arc::new(authority.client(None, &[])));
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let echo = tokio::spawn(async move {
        let mut client = connector.connect(name, stream).await.expect("it is taken");
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.expect("reads");
        client.write_all(&all).await.expect("writes");
        client.shutdown().await.expect("ends");
    });
    let (stream, _) = listener.accept().await.expect("accepts");
    let accepted = accept(stream, &[], tls.config(None), &Turns::default(), Instant::now() + NEVER).await;
    let mut stream = accepted.expect("it is taken").stream;
    assert!(stream.is_tls() && AsyncWrite::is_write_vectored(&stream));
    let mut left = &sent[..];
    while !left.is_empty() {
        let (one, two) = left.split_at(left.len().min(1000));
        let slices = [std::io::IoSlice::new(one), std::io::IoSlice::new(&two[..two.len().min(50_000)])];
        let written = stream.write_vectored(&slices).await.expect("writes");
        left = &left[written..];
    }
    stream.flush().await.expect("flushes");
    assert!(!stream.wants_flush());
    stream.shutdown().await.expect("ends");
    let mut back = Vec::new();
    within("the echo", stream.read_to_end(&mut back)).await.expect("reads");
    assert_eq!(back.len(), sent.len());
    assert!(back == sent);
    echo.await.expect("it ends");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new("authority");
    let (one, two) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let secret = SecretDir::of(&one, &authority);
    let good = settings(&secret);
    assert_eq!(ServerTls::check(good.clone()), Ok(Vec::new()));
    let missing = ServerSettings { client_ca: Some(secret.path("nowhere")), ..good.clone() };
    let error = ServerTls::check(missing).expect_err("it is not there").to_string();
    assert!(error.contains("nowhere: it cannot be read: No such file"), "{error}");
    let swapped = SecretDir::new(&[("tls.crt", &one.chain), ("tls.key", &two.key)]);
    let error = ServerTls::check(settings(&swapped)).expect_err("they do not belong together").to_string();
    let expected = format!(
        "{}: this key does not belong to the certificate in {}",
        swapped.path("tls.key").display(),
        swapped.path("tls.crt").display()
    );
    assert_eq!(error, expected);
    let none = ServerSettings { certificates: Vec::new(), ..good };
    assert_eq!(ServerTls::check(none), Err(TlsError::NoCertificate));
}
