//! DNS names of endpoints, with a real DNS server, in a network namespace with its own port 53 and system files.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use testkit::{
    client, netns,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};
use tokio::{net::UdpSocket, process::Command, sync::watch};

use crate::process::Fanfare;
use rustix::process::Signal;

/// A DNS server with the addresses of some names and a TTL. Other names do not exist.
struct Dns {
    zone: Arc<watch::Sender<Zone>>,
    /// The folder with `/etc/resolv.conf` and `/etc/hosts` of the process.
    files: tempfile::TempDir,
}

#[derive(Clone, Default)]
struct Zone {
    names: HashMap<String, Vec<IpAddr>>,
    ttl: u32,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Dns {
    async fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").await.expect("port 53 of the namespace is free");
        let zone = Arc::new(watch::Sender::new(Zone { ttl, ..Zone::default() }));
        let current = zone.clone();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                let answer = answer(&packet[..length], &current.borrow());
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        let files = tempfile::tempdir().expect("a temporary folder");
        let dns = Self { zone, files };
        dns.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:5\n");
        dns.write("hosts", "127.0.0.1 localhost\n");
        dns
    }

    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        self.zone.send_modify(|zone| {
            zone.names.insert(name.to_owned(), addresses);
        });
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.files.path().join(file), text).expect("it can be written");
    }

    /// Starts the process with our files instead of the system's.
    async fn fanfare(&self, flags: &[&str]) -> Fanfare {
        let mounts = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/hosts\" /etc/hosts && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mounts, "sh"]).arg(self.files.path());
        command.arg(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0"]).args(flags);
        command.env_remove("KUBECONFIG");
        let mut fanfare = Fanfare::spawn(command);
        fanfare.wait_listening().await;
        fanfare
    }
}

/// RFC 1035 section 4: the header, the question as it came, and the answers with names that point at the question's.
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends with the root") + 1;
    let question = &query[12..name_end + 4];
    let (mut name, mut labels) = (String::new(), &query[12..name_end - 1]);
    while let Some((length, rest)) = labels.split_first() {
        let (label, rest) = rest.split_at(usize::from(*length));
        name.push_str(&String::from_utf8_lossy(label).to_lowercase());
        name.push('.');
        labels = rest;
    }
    let record = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let known = zone.names.get(&name);
    let of_type = |ip: &&IpAddr| record == if ip.is_ipv4() { A } else { AAAA };
    let records: Vec<&IpAddr> = known.into_iter().flatten().filter(of_type).collect();
    let code = if known.is_some() { 0 } else { 3 };
    let mut packet = query[..2].to_vec();
    packet.extend([0x84 | (query[2] & 1), 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    packet.extend(question);
    for address in records {
        packet.extend([0xc0, 12]);
        packet.extend(record.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(zone.ttl.to_be_bytes());
        match address {
            IpAddr::V4(ip) => [&[0, 4][..], &ip.octets()].concat(),
            IpAddr::V6(ip) => [&[0, 16][..], &ip.octets()].concat(),
        }
        .iter()
        .for_each(|byte| packet.push(*byte));
    }
    packet
}

fn origin(address: &str) -> Origin {
    Origin::builder().address(address).start(Reply::ok(address))
}

#[test]
fn every_address_of_a_name_gets_the_request_and_changes_are_followed() {
    netns::inside(testkit::test_name!(), async || {
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12));
        let (one, two) = (format!("{one}:8000"), format!("{two}:8000"));
        let origins = [origin(&one), origin(&two)];
        let dns = Dns::start(1).await;
        dns.set("cache.example.", &["192.0.2.11"]);
        let fanfare = dns.fanfare(&["--endpoints-dns", "cache.example.:8000"]).await;
        fanfare.wait_ready().await;

        let address: SocketAddr = fanfare.address();
        assert_eq!(client::get(address, "/").await.complete().text(), one);
        dns.set("cache.example.", &["192.0.2.11", "192.0.2.12"]);
        let second = async || {
            client::get(address, "/both").await.complete().expect_status(200);
            origins[1].requests().len()
        };
        testkit::eventually!("the second address", second().await, |requests| *requests > 0);
        dns.set("cache.example.", &["192.0.2.12"]);
        let answer = async || client::get(address, "/").await.complete().text();
        testkit::eventually!("the first address to be gone", answer().await, |text| *text == two);
    });
}

#[test]
fn an_endpoint_that_dns_has_named_is_known_by_the_name_that_was_asked_for() {
    netns::inside(testkit::test_name!(), async || {
        let authority = Authority::new("authority");
        let ca = SecretDir::new(&[("ca.crt", &authority.pem())]);
        let behind = Origin::start(Reply::ok("fine"));
        let shown = |names: &[&str]| authority.issue(names).server(&["http/1.1"]);
        let relay = TlsRelay::in_front("192.0.2.11:8443", shown(&["cache.example"]), behind.address()).await;
        let dns = Dns::start(1).await;
        dns.set("cache.example.", &["192.0.2.11"]);
        let ca = ca.path("ca.crt").display().to_string();
        let flags = ["--endpoints-dns", "cache.example.:8443", "--upstream-ca", &ca];
        let start = async || {
            let fanfare = dns.fanfare(&flags).await;
            fanfare.wait_ready().await;
            fanfare
        };
        client::get(start().await.address(), "/").await.complete().expect_status(200);
        // The right address is not enough.
        relay.show(shown(&["192.0.2.11"]));
        let answer = client::get(start().await.address(), "/").await.complete().expect_status(502);
        assert!(answer.text().contains("is for 192.0.2.11, not for cache.example"), "{answer}");
        assert_eq!(behind.requests().len(), 1);
    });
}

#[test]
fn a_name_without_addresses_is_an_empty_cluster_and_readiness_says_so() {
    netns::inside(testkit::test_name!(), async || {
        let dns = Dns::start(1).await;
        let fanfare = dns.fanfare(&["--endpoints-dns", "cache.example.:8000"]).await;
        fanfare.stderr.wait("the warning", |log| log.contains("the name does not resolve")).await;
        let ready = async || client::get(fanfare.admin(), "/-/ready").await;
        let said = |answer: &client::Response| {
            answer.status == 503 && answer.text().contains("there is no name cache.example.")
        };
        testkit::eventually!("the reason", ready().await, said);
        let answer = client::get(fanfare.address(), "/").await.complete();
        assert!(answer.status == 503 && answer.text().contains("there is no name cache.example."), "{answer}");

        let there = origin("192.0.2.11:8000");
        dns.set("cache.example.", &["192.0.2.11"]);
        fanfare.wait_ready().await;
        client::get(fanfare.address(), "/").await.complete().expect_status(200);
        assert_eq!(there.requests().len(), 1);
    });
}

#[test]
fn all_does_not_succeed_without_a_name_that_does_not_resolve() {
    netns::inside(testkit::test_name!(), async || {
        let (dns, one, two) = (Dns::start(1).await, origin("192.0.2.11:8000"), origin("192.0.2.12:8000"));
        dns.set("cache-1.example.", &["192.0.2.11"]);
        let fanfare = dns.fanfare(&["--endpoints", "cache-1.example.:8000,cache-2.example.:8000"]).await;
        fanfare.wait_ready().await;
        let purge = async || client::request(fanfare.address(), "PURGE", "/x", &[], b"").await.complete();
        let answer = purge().await;
        let result = answer.header("x-broadcast-result").unwrap_or_default().to_owned();
        assert!(answer.status == 502 && result.starts_with("total=2, ok=1, failed=1"), "{answer}");
        let accept = ("Accept", "application/vnd.broadcast+json");
        let report = client::request(fanfare.address(), "PURGE", "/x", &[accept], b"").await.complete().text();
        assert!(report.contains("the name does not resolve: there is no name cache-2.example. (NXDOMAIN)"), "{report}");
        let warnings = |log: &str| log.lines().filter(|line| line.contains("WARN") && line.contains("cache-2")).count();
        fanfare.stderr.wait("the warning", |log| warnings(log) == 1).await;

        dns.set("cache-2.example.", &["192.0.2.12"]);
        testkit::eventually!("the second endpoint", purge().await, |answer| answer.status == 200);
        assert_eq!(two.requests().len(), 1);
        // One that no longer resolves is the same.
        dns.zone.send_modify(|zone| drop(zone.names.remove("cache-2.example.")));
        testkit::eventually!("the second to be missed", purge().await, |answer| answer.status == 502);
        fanfare.stderr.wait("the warning", |log| warnings(log) == 2).await;
        fanfare.wait_ready().await;
        drop(one);
    });
}

#[test]
fn a_name_with_both_families_gets_each_request_once() {
    netns::inside(testkit::test_name!(), async || {
        let six = netns::ipv6(11);
        let dns = Dns::start(60).await;
        dns.set("dual.example.", &["192.0.2.11", &six.to_string()]);
        let origins = [origin("192.0.2.11:8000"), origin(&format!("[{six}]:8000"))];
        let received = || origins.iter().map(|origin| origin.requests().len()).sum::<usize>();
        for flags in [["--endpoints", "dual.example.:8000"], ["--endpoints-dns", "dual.example.:8000"]] {
            let (fanfare, before) = (dns.fanfare(&flags).await, received());
            fanfare.wait_ready().await;
            let answer = client::request(fanfare.address(), "POST", "/", &[], b"x").await.complete().expect_status(200);
            let result = answer.header("x-broadcast-result").unwrap_or_default().to_owned();
            assert!(result.starts_with("total=1, ok=1"), "{flags:?}: {answer}");
            assert_eq!(received() - before, 1, "{flags:?}");
        }
    });
}

#[test]
fn sighup_and_changed_system_files_ask_again_and_so_does_a_connect_that_fails() {
    netns::inside(testkit::test_name!(), async || {
        let (one, two) = ("192.0.2.11:8000", "192.0.2.12:8000");
        let (dns, first, _second) = (Dns::start(3600).await, origin(one), origin(two));
        dns.write("resolv.conf", "nameserver 127.0.0.1\nsearch one.example\n");
        dns.set("cache.one.example.", &["192.0.2.11"]);
        let fanfare =
            dns.fanfare(&["--endpoints", "cache:8000", "--dns-max-ttl", "1h", "--dns-negative-ttl", "1h"]).await;
        fanfare.wait_ready().await;
        let answer = async || client::get(fanfare.address(), "/").await.complete();
        assert_eq!(answer().await.text(), one);

        dns.set("cache.one.example.", &["192.0.2.12"]);
        fanfare.signal(Signal::HUP);
        testkit::eventually!("what SIGHUP has brought", answer().await, |answer| answer.text() == two);
        dns.set("cache.two.example.", &["192.0.2.11"]);
        dns.write("resolv.conf", "nameserver 127.0.0.1\nsearch two.example\n");
        testkit::eventually!("the new search list", answer().await, |answer| answer.text() == one);
        dns.write("hosts", "192.0.2.12 cache\n");
        testkit::eventually!("the hosts file", answer().await, |answer| answer.text() == two);
        dns.write("hosts", "127.0.0.1 localhost\n");
        testkit::eventually!("the DNS again", answer().await, |answer| answer.text() == one);

        // The container comes back elsewhere.
        dns.set("cache.two.example.", &["192.0.2.12"]);
        drop(first);
        testkit::eventually!("the other address", answer().await, |answer| answer.status == 200
            && answer.text() == two);
    });
}
