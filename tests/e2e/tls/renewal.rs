//! Certificates, keys and authorities of both sides are replaced while requests come, over new and over kept connections: none fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use testkit::{
    client::{self, RawClient, request_bytes},
    eventually,
    http2::{Http2Client, block},
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};
use tokio::task::JoinHandle;

use super::bed::{Curl, Pair, strs};
use crate::process::Fanfare;

/// A version of HTTP, which both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
}

/// A connection of a client.
enum Client {
    Http1(RawClient),
    Http2(Box<Http2Client>),
}

/// Clients that send one request after the other until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<[AtomicUsize; 2]>,
    clients: Vec<JoinHandle<()>>,
}

// === impl Spoken ===

impl Spoken {
    /// Its name in ALPN.
    fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

// === impl Client ===

impl Client {
    async fn connect(address: SocketAddr, spoken: Spoken) -> Self {
        let client = RawClient::connect(address).await;
        match spoken {
            Spoken::Http1 => Self::Http1(client),
            Spoken::Http2 => Self::Http2(Box::new(Http2Client::over(client, &[]).await)),
        }
    }

    /// Sends what must not be sent twice, so that nothing is hidden by another attempt; returns what is wrong with the answer.
    async fn fault(&mut self) -> Option<String> {
        let (body, ok) = (b"some body", 200);
        match self {
            Self::Http1(client) => {
                client.send(request_bytes("a.example", "POST", "/x", &[], body)).await;
                let answer = client.read_response("POST").await.complete();
                (answer.status != ok).then(|| answer.to_string())
            }
            Self::Http2(client) => {
                let pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/x")];
                let answer = client.exchange(&block(&pseudo), Some(body)).await;
                (!answer.is_whole(ok)).then(|| format!("{answer:?}"))
            }
        }
    }
}

// === impl Load ===

impl Load {
    fn start(address: SocketAddr, spoken: Spoken) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<[AtomicUsize; 2]>::default());
        let client = |kept: bool| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address, spoken).await;
                while !stop.load(Ordering::SeqCst) {
                    if !kept {
                        client = Client::connect(address, spoken).await;
                    }
                    assert_eq!(client.fault().await, None, "kept: {kept}");
                    answered[usize::from(kept)].fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let clients = [true, false].map(client).into();
        Self { stop, answered, clients }
    }

    /// Waits until each kind of client has had some more answers.
    async fn go_on(&self) {
        let now = || [0, 1].map(|kind: usize| self.answered[kind].load(Ordering::SeqCst));
        let before = now();
        let is_over = || self.clients.iter().any(JoinHandle::is_finished);
        eventually!("more answers", now(), |now| is_over() || (now[0] >= before[0] + 5 && now[1] >= before[1] + 5));
        assert!(!is_over(), "a client has failed");
    }

    /// How many requests were answered, all of them with 200.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("every request is answered with 200");
        }
        self.answered.iter().map(|answered| answered.load(Ordering::SeqCst)).sum()
    }
}

/// How often the process has read this file again and taken it.
async fn taken(fanfare: &Fanfare, file: &str) -> u32 {
    let text = client::get(fanfare.admin(), "/metrics").await.complete().text();
    let begin = format!("fanfare_tls_reloads_total{{file=\"{file}\",result=\"ok\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok()).unwrap_or_else(|| panic!("{begin}\n{text}"))
}

#[tokio::test]
async fn no_request_fails_while_certificates_of_both_sides_are_replaced() {
    // One endpoint keeps its connections, the other one is connected to for each request.
    let origins = [Origin::start(Reply::ok("kept")), Origin::start(Reply::ok("new").connection_close())];
    let addresses = origins.each_ref().map(Origin::address);
    replaced_under_load(Spoken::Http1, addresses, &origins).await;
}

#[tokio::test]
async fn no_request_over_http2_fails_while_certificates_of_both_sides_are_replaced() {
    let origins = [Origin::start(Reply::ok("kept")), Origin::start(Reply::ok("new"))];
    // What speaks HTTP/2 in front of them: one keeps its connections, the other one takes a request on each.
    let pods = [
        Fanfare::broadcast(&[origins[0].address()], &["--via-name", "pod"]).await,
        Fanfare::broadcast(&[origins[1].address()], &["--via-name", "pod", "--keepalive=false"]).await,
    ];
    for pod in &pods {
        pod.wait_ready().await;
    }
    replaced_under_load(Spoken::Http2, pods.each_ref().map(Fanfare::address), &origins).await;
    for seen in origins.iter().flat_map(Origin::requests).filter(|seen| seen.method == "POST") {
        let via = seen.headers.all("via").join(", ");
        assert_eq!(via.split(", ").filter(|hop| hop.starts_with("2.0 ")).count(), 2, "{via}");
    }
}

/// Clients and endpoints speak this; `origins` are behind what listens at `endpoints`.
async fn replaced_under_load(spoken: Spoken, endpoints: [SocketAddr; 2], origins: &[Origin; 2]) {
    let alpn = &[spoken.alpn()];
    let (listener, own) = (Pair::of("of the listener", &["a.example"]), Pair::of("of our own", &["fanfare.example"]));
    let mut authority = Authority::new("of the endpoints");
    let mut issued = authority.issue(&["127.0.0.1"]);
    let mut relays = Vec::new();
    for endpoint in endpoints {
        let config = own.authority.demanding(&issued, alpn);
        relays.push(TlsRelay::in_front("127.0.0.1:0", config, endpoint).await);
    }
    let ca = SecretDir::new(&[("ca.crt", &authority.pem())]);
    let ca_path = ca.path("ca.crt").display().to_string();
    let flags = [
        &listener.listener()[..],
        &[
            format!("--upstream-ca={ca_path}"),
            format!("--upstream-cert={}", own.path("tls.crt")),
            format!("--upstream-key={}", own.path("tls.key")),
            // So that a busy machine is no fault of a certificate.
            "--connect-timeout=10s".to_owned(),
            "--timeout=1m".to_owned(),
        ],
    ]
    .concat();
    let endpoints: Vec<SocketAddr> = relays.iter().map(|relay| relay.address).collect();
    let fanfare = Fanfare::broadcast(&endpoints, &strs(&flags)).await;
    fanfare.wait_ready().await;
    let door = TlsRelay::towards(fanfare.address(), listener.authority.client(None, alpn), "a.example").await;
    let load = Load::start(door.address, spoken);
    load.go_on().await;

    let mut ca_changes = 0;
    for round in 1..=3 {
        // What clients are shown.
        let name = format!("round-{round}.example");
        listener.secret.renew(&listener.authority.issue(&["a.example", &name]), &listener.authority);
        let shown = async || Curl::https(&name, fanfare.address()).trusting(&listener).get().await.status;
        eventually!("the renewed certificate", shown().await, |status| *status == 200);
        load.go_on().await;
        // What endpoints are shown: they take any certificate of the root until this process has the next one, then that alone.
        relays.iter().for_each(|relay| relay.show(own.authority.demanding(&issued, alpn)));
        let clients = own.authority.under(&format!("clients of round {round}"));
        own.secret.renew(&clients.issue(&["fanfare.example"]), &clients);
        eventually!("the certificate", taken(&fanfare, &own.path("tls.crt")).await, |count| *count == round);
        relays.iter().for_each(|relay| relay.show(clients.demanding(&issued, alpn)));
        load.go_on().await;
        // Whom endpoints are vouched for by: first both, then the endpoints change, then the new one alone.
        let next = Authority::new(&format!("endpoints of round {round}"));
        for (pem, endpoints_change) in [(format!("{}{}", authority.pem(), next.pem()), true), (next.pem(), false)] {
            ca.swap(&[("ca.crt", &pem)]);
            ca_changes += 1;
            eventually!("the authorities", taken(&fanfare, &ca_path).await, |count| *count == ca_changes);
            load.go_on().await;
            if endpoints_change {
                issued = next.issue(&["127.0.0.1"]);
                relays.iter().for_each(|relay| relay.show(clients.demanding(&issued, alpn)));
                load.go_on().await;
            }
        }
        authority = next;
    }
    let answered = load.end().await;
    // curl has asked as well: once for each round, and more often where it had to wait.
    let [kept, new] = origins.each_ref().map(|origin| origin.requests());
    let posts = |requests: &[testkit::origin::Request]| requests.iter().filter(|seen| seen.method == "POST").count();
    assert_eq!((posts(&kept), posts(&new)), (answered, answered), "each request has reached each endpoint once");
    assert!(relays[0].handshakes() < relays[1].handshakes(), "connections were kept, and others were not");
    let failed = client::get(fanfare.admin(), "/metrics").await.complete().text();
    let failed = failed.lines().filter(|line| line.starts_with("fanfare_tls_reloads_total") && line.contains("failed"));
    assert!(
        failed.clone().count() > 0 && failed.clone().all(|line| line.ends_with(" 0")),
        "{:?}",
        failed.collect::<Vec<_>>()
    );
}
