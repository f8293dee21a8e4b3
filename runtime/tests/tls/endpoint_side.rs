//! Which endpoints are trusted, what they are shown, and what is said of those that are not trusted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::tls::{
    CertificateFiles, ClientSettings, ClientTls, ConnectError, Connected, Protocol, Roots, Side, Target, Turns,
    connect, explain,
};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ServerConfig};
use testkit::eventually;
use testkit::eventually::within;
use testkit::pki::{Authority, SecretDir, Wanted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::bed::NEVER;

/// An endpoint that answers "ok" and closes.
async fn endpoint(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("it has an address");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.write_all(b"ok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

fn trusting(roots: Roots) -> ClientSettings {
    ClientSettings { roots, sans: Vec::new(), certificate: None, protocols: vec![Protocol::Http2, Protocol::Http1] }
}

fn target(settings: ClientSettings, name: &str) -> Target {
    let tls = ClientTls::load(settings).unwrap_or_else(|error| panic!("{error}"));
    tls.target(ServerName::try_from(name.to_owned()).expect("a name"))
}

async fn reach(target: &Target, address: SocketAddr) -> Result<Connected, ConnectError> {
    let stream = TcpStream::connect(address).await.expect("connects");
    within("a handshake", connect(stream, target, &Turns::default(), Instant::now() + NEVER)).await
}

/// Reaches an endpoint and reads to the end, so that its tickets arrive; tells whether a session was resumed.
async fn resumed(target: &Target, address: SocketAddr) -> bool {
    let mut connected = reach(target, address).await.unwrap_or_else(|error| panic!("{error}"));
    let mut answer = String::new();
    connected.stream.read_to_string(&mut answer).await.expect("reads");
    assert_eq!(answer, "ok");
    let runtime::tls::Stream::Tls(tls) = &connected.stream else { panic!("it is by TLS") };
    tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn an_endpoint_is_trusted_by_its_authority_and_its_name() {
    let (authority, other) = (Authority::new("the right one"), Authority::new("the wrong one"));
    let secret = SecretDir::of(&authority.issue(&["unused"]), &authority);
    let roots = || Roots::File(secret.path("ca.crt"));
    let names = ["cache.shop.svc", "127.0.0.1"];
    let good = endpoint(authority.under("between").issue(&names).server(&["h2", "http/1.1"])).await;
    for name in names {
        let connected = reach(&target(trusting(roots()), name), good).await.expect("it is trusted");
        assert_eq!(connected.protocol, Protocol::Http2);
    }
    let text = async |name: &str, address| {
        reach(&target(trusting(roots()), name), address).await.expect_err("it is not trusted").to_string()
    };
    assert_eq!(
        text("front.shop.svc", good).await,
        "the certificate of the endpoint is for cache.shop.svc, 127.0.0.1, not for front.shop.svc"
    );
    let stranger = endpoint(other.under("between").issue(&names).server(&[])).await;
    let said = text("cache.shop.svc", stranger).await;
    assert!(
        said.starts_with("the certificate of the endpoint is signed by CN=") && said.contains("the wrong one"),
        "{said}"
    );
    let expired = authority.sign(&Wanted::names(&names).expired(Duration::from_secs(60)));
    let said = text("cache.shop.svc", endpoint(expired.server(&[])).await).await;
    assert!(said.starts_with("the certificate of the endpoint has expired at 2"), "{said}");
    let insecure = target(trusting(Roots::Insecure), "cache.shop.svc");
    reach(&insecure, stranger).await.expect("nothing is verified");
    // Nobody has told the system of this authority.
    let system = target(trusting(Roots::System), "cache.shop.svc");
    reach(&system, good).await.expect_err("it is not trusted");
}

#[tokio::test]
async fn a_configured_san_counts_instead_of_the_name() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["unused"]), &authority);
    let id = "spiffe://domain/ns/shop/sa/cache";
    let with = |sans: &[&str]| {
        let sans = sans.iter().map(|san| san.parse().expect("a SAN")).collect();
        target(ClientSettings { sans, ..trusting(Roots::File(secret.path("ca.crt"))) }, "any.example")
    };
    let one = endpoint(authority.issue(&[id, "10.9.9.9", "own.example"]).server(&[])).await;
    for sans in [&[id][..], &["own.example"], &["10.9.9.9"], &["spiffe://domain/other", id]] {
        reach(&with(sans), one).await.unwrap_or_else(|error| panic!("{sans:?}: {error}"));
    }
    let said = reach(&with(&["spiffe://domain/other"]), one).await.expect_err("another id").to_string();
    let expected =
        format!("the certificate of the endpoint is for own.example, {id}, 10.9.9.9, not for spiffe://domain/other");
    assert_eq!(said, expected);
    reach(&with(&["any.example"]), one).await.expect_err("the name that it is reached by is not in it");
    let two = endpoint(authority.issue(&[id, "spiffe://domain/second"]).server(&[])).await;
    let said = reach(&with(&[id]), two).await.expect_err("two ids are none").to_string();
    assert!(said.contains("more than one URI"), "{said}");
    // Its chain counts all the same.
    let stranger = endpoint(Authority::new("stranger").issue(&[id]).server(&[])).await;
    let said = reach(&with(&[id]), stranger).await.expect_err("nobody knows its authority").to_string();
    assert!(said.contains("stranger"), "{said}");
}

#[tokio::test]
async fn an_endpoint_that_demands_a_certificate_gets_it() {
    let (authority, clients) = (Authority::new("endpoints"), Authority::new("clients"));
    let own = SecretDir::of(&clients.issue(&["fanfare.example"]), &authority);
    let address = endpoint(clients.demanding(&authority.issue(&["a.example"]), &[])).await;
    let without = trusting(Roots::File(own.path("ca.crt")));
    let certificate = CertificateFiles { cert: own.path("tls.crt"), key: own.path("tls.key") };
    let with = ClientSettings { certificate: Some(certificate), ..without.clone() };
    resumed(&target(with, "a.example"), address).await;
    // In TLS 1.3 the endpoint says so when the handshake is over for us.
    let mut connected = reach(&target(without, "a.example"), address).await.expect("the handshake is over");
    let error = within("an alert", connected.stream.read(&mut [0])).await.expect_err("one is required");
    let said = explain(&error, Side::Endpoint).expect("it is of TLS");
    assert!(said.contains("requires a client certificate"), "{said}");
}

#[tokio::test]
async fn endpoints_that_share_a_name_share_no_session() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["unused"]), &authority);
    let address = endpoint(authority.issue(&["cache.shop.svc"]).server(&[])).await;
    let tls = ClientTls::load(trusting(Roots::File(secret.path("ca.crt")))).expect("it can be loaded");
    let name = || ServerName::try_from("cache.shop.svc").expect("a name");
    let (one, two) = (tls.target(name()), tls.target(name()));
    assert!(!resumed(&one, address).await);
    assert!(resumed(&one, address).await);
    assert!(!resumed(&two, address).await, "it is another endpoint's ticket");
    assert!(resumed(&two, address).await);
}

#[tokio::test]
async fn authorities_that_change_count_for_every_connection_from_then_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let secret = SecretDir::of(&old.issue(&["unused"]), &old);
    let names = ["cache.shop.svc"];
    let (before, after) =
        (endpoint(old.issue(&names).server(&[])).await, endpoint(new.issue(&names).server(&[])).await);
    let target = target(trusting(Roots::File(secret.path("ca.crt"))), names[0]);
    assert!(!resumed(&target, before).await);
    reach(&target, after).await.expect_err("it is not trusted yet");
    secret.renew(&new.issue(&["unused"]), &new);
    eventually!("the new authority", reach(&target, after).await.is_ok(), |trusted| *trusted);
    reach(&target, before).await.expect_err("its session is not resumed either");
}

#[tokio::test]
async fn disagreements_are_reported() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["unused"]), &authority);
    let base = trusting(Roots::File(secret.path("ca.crt")));
    let only_h2 = target(ClientSettings { protocols: vec![Protocol::Http2], ..base.clone() }, "a.example");
    let silent = endpoint(authority.issue(&["a.example"]).server(&[])).await;
    let said = reach(&only_h2, silent).await.expect_err("it does not say h2").to_string();
    assert_eq!(said, "the endpoint does not agree to speak h2 (ALPN)");
    let old = endpoint(authority.issue(&["a.example"]).server(&["http/1.1"])).await;
    let said = reach(&only_h2, old).await.expect_err("it speaks something else").to_string();
    assert_eq!(said, "the endpoint speaks none of the protocols that were offered (ALPN)");
    let both = target(base.clone(), "a.example");
    assert_eq!(reach(&both, silent).await.expect("it is trusted").protocol, Protocol::Http1);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let plain = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let said = reach(&both, plain).await.expect_err("it speaks plain HTTP").to_string();
    assert_eq!(said, "the endpoint does not speak TLS: it has sent something else");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
    let soon = Instant::now() + Duration::from_millis(50);
    let error =
        within("the deadline", connect(stream, &both, &Turns::default(), soon)).await.expect_err("nobody answers");
    assert!(matches!(error, ConnectError::TimedOut));
}
