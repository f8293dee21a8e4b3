//! Fixed lists: their syntax, and their host names against a real DNS server.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use proptest::prelude::*;
use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use tokio::task::JoinHandle;

use super::super::dns::server::{Reply, Server, addresses, cluster, v4, v6, wait_for, wait_ready};
use super::super::dns::{DnsFamily, Settings};
use super::*;

struct Running {
    reader: Reader,
    readiness: Readiness,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn run(list: &str, resolver: Resolver) -> Running {
    let (publisher, reader) = channel();
    let readiness = Readiness::new();
    let gate = readiness.register("endpoints");
    let source = FixedSource { cluster: cluster(), targets: parse_list(list).unwrap(), resolver, publisher, gate };
    Running { reader, readiness, task: tokio::spawn(source.run()) }
}

#[tokio::test]
async fn addresses_need_no_dns_and_are_ready_at_once() {
    let server = Server::start().await;
    let list = "192.0.2.9:80, 192.0.2.1:81,[2001:db8::1]:80,192.0.2.9:80,[::ffff:192.0.2.9]:80";
    let running = run(list, server.client(&[], 1));
    wait_for(&running.reader, "c", &["192.0.2.1:81", "192.0.2.9:80", "[2001:db8::1]:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn host_names_are_resolved_and_kept_current() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 1);
    let running = run("192.0.2.1:80,a.example.:80", server.client(&[], 1));
    wait_for(&running.reader, "c", &["192.0.2.1:80", "a.example:80=192.0.2.2"]).await;
    let hostname = running.reader.load().cluster("c").unwrap().endpoints()[1].hostname.clone();
    assert_eq!(hostname.as_deref(), Some("a.example."));
    server.set_v4("a.example.", &[[192, 0, 2, 3]], 1);
    wait_for(&running.reader, "c", &["192.0.2.1:80", "a.example:80=192.0.2.3"]).await;
}

#[tokio::test]
async fn a_name_is_one_endpoint_whatever_it_resolves_to() {
    let server = Server::start().await;
    server.set("dual.example.", RecordType::A, Reply::Records(v4(&[[127, 0, 0, 1]]), 60));
    server.set("dual.example.", RecordType::AAAA, Reply::Records(v6(&["::1"]), 60));
    let running = run("dual.example.:80,dual.example:80", server.client(&[], 1));
    // RFC 6724 prefers ::1 to 127.0.0.1, where the host has it; either way the families take turns.
    let either = ["dual.example:80=::1+127.0.0.1", "dual.example:80=127.0.0.1+::1"];
    wait_ready(&running.readiness).await;
    let found = addresses(&running.reader, "c").unwrap();
    assert!(found.len() == 1 && either.contains(&&*found[0]), "{found:?}");
    for (family, expected) in [(DnsFamily::Ipv4, "dual.example:80=127.0.0.1"), (DnsFamily::Ipv6, "dual.example:80=::1")]
    {
        let settings = Settings { family, ..Settings::default() };
        let running = run("dual.example.:80", server.client_with(&[], 1, settings));
        wait_for(&running.reader, "c", &[expected]).await;
    }
}

/// Whether it never resolved or no longer does: the endpoint is there, and why it fails.
#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_endpoint_all_the_same() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 1);
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("b.example.", record, Reply::Code(ResponseCode::ServFail));
    }
    let running = run("192.0.2.1:80,a.example.:80,b.example.:80,c.example.:80", server.client(&[], 1));
    let before = ["192.0.2.1:80", "a.example:80=192.0.2.2", "b.example:80=?", "c.example:80=?"];
    wait_for(&running.reader, "c", &before).await;
    wait_ready(&running.readiness).await;
    let problem = |at: usize| {
        let snapshot = running.reader.load();
        let endpoint = &snapshot.cluster("c").unwrap().endpoints()[at];
        assert!(!endpoint.conditions.ready);
        endpoint.address.problem().unwrap_or_default().to_owned()
    };
    assert!(problem(2).starts_with("DNS lookup of b.example. (A"), "{}", problem(2));
    assert_eq!(problem(3), "there is no name c.example. (NXDOMAIN)");
    server.set("a.example.", RecordType::A, Reply::NxDomain(1));
    server.set("a.example.", RecordType::AAAA, Reply::NxDomain(1));
    wait_for(&running.reader, "c", &["192.0.2.1:80", "a.example:80=?", "b.example:80=?", "c.example:80=?"]).await;
    assert_eq!(problem(1), "there is no name a.example. (NXDOMAIN)");
    server.set_v4("b.example.", &[[192, 0, 2, 3]], 60);
    wait_for(&running.reader, "c", &["192.0.2.1:80", "a.example:80=?", "b.example:80=192.0.2.3", "c.example:80=?"])
        .await;
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_does_not_hold_up_the_others() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 60);
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("b.example.", record, Reply::Silence);
    }
    // It takes this client an hour to give up.
    let running = run("a.example.:80,b.example.:80", server.patient_client());
    wait_for(&running.reader, "c", &["a.example:80=192.0.2.2", "b.example:80=?"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn host_names_without_dns_say_so() {
    let none = tempfile::tempdir().unwrap();
    let resolver =
        Resolver::of_files(&none.path().join("resolv.conf"), &none.path().join("hosts"), Settings::default());
    let running = run("a.example:80", resolver);
    wait_for(&running.reader, "c", &["a.example:80=?"]).await;
    let snapshot = running.reader.load();
    let why = snapshot.cluster("c").unwrap().endpoints()[0].address.problem().unwrap();
    assert!(why.contains("/etc/resolv.conf"), "{why}");
}

#[test]
fn targets_are_read_and_refused() {
    let address = |text: &str| Target { scheme: None, host: Host::Address(text.parse().unwrap()) };
    let name = |name: &str, port| Target { scheme: None, host: Host::Name { name: name.into(), port } };
    let by = |scheme, target: Target| Target { scheme: Some(scheme), ..target };
    let good = [
        ("192.0.2.1:80", address("192.0.2.1:80")),
        ("[2001:db8::1]:8080", address("[2001:db8::1]:8080")),
        ("Cache-1.Example:80", name("cache-1.example", 80)),
        ("my_host:1", name("my_host", 1)),
        ("https://192.0.2.1:443", by(Scheme::Https, address("192.0.2.1:443"))),
        ("HTTPS://[2001:db8::1]:443", by(Scheme::Https, address("[2001:db8::1]:443"))),
        ("http://cache:80", by(Scheme::Http, name("cache", 80))),
    ];
    for (text, target) in good {
        assert_eq!(text.parse(), Ok(target.clone()), "{text}");
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    let bad = [
        ("", "empty"),
        ("192.0.2.1", "port is missing"),
        ("2001:db8::1", "brackets"),
        ("2001:db8::1:80", "brackets"),
        ("[2001:db8::1]", "valid [IPv6]"),
        ("[2001:db8::g]:80", "valid [IPv6]"),
        ("192.0.2.1:0", "1 to 65535"),
        ("0.0.0.0:80", "cannot be connected to"),
        ("[ff02::1]:80", "cannot be connected to"),
        ("192.0.2.300:80", "valid IPv4"),
        ("cache:http", "1 to 65535"),
        ("ftp://cache:80", "write https://host:port or http://host:port"),
        ("://cache:80", "write https://host:port or http://host:port"),
        ("https://cache", "port is missing"),
        ("https://", "port is missing"),
        ("https://cache:443/path", "nothing may follow the port"),
        ("https://cache:443/", "nothing may follow the port"),
        ("http://cache:80?x", "nothing may follow the port"),
        ("http://cache:80#x", "nothing may follow the port"),
        ("cache:80/path", "nothing may follow the port"),
        ("https://https://cache:80", "nothing may follow the port"),
    ];
    for (text, why) in bad {
        let error = text.parse::<Target>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let error = "https://user:s3cret@cache:443".parse::<Target>().unwrap_err().to_string();
    assert!(error.contains("a user before the host") && !error.contains("s3cret"), "{error}");
    for list in ["", "192.0.2.1:80,", ",", "192.0.2.1:80,,192.0.2.2:80"] {
        assert!(parse_list(list).unwrap_err().to_string().contains("empty"), "{list:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_read_is_printed_alike(text in "\\PC{0,40}", near in "(https?://)?\\[?[a-f0-9:.]{0,20}\\]?:?[0-9]{0,6}") {
        for text in [text, near] {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
