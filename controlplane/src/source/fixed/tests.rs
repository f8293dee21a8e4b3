//! Fixed lists: their syntax, and their host names against a real DNS server.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use proptest::prelude::*;
use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use tokio::task::JoinHandle;

use super::super::dns::server::{Reply, Server, addresses, cluster, wait_for, wait_not_ready, wait_ready};
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

fn run(list: &str, resolver: Option<Resolver>) -> Running {
    let (publisher, reader) = channel();
    let readiness = Readiness::new();
    let gate = readiness.register("endpoints");
    let source = FixedSource { cluster: cluster(), targets: parse_list(list).unwrap(), resolver, publisher, gate };
    Running { reader, readiness, task: tokio::spawn(source.run()) }
}

#[tokio::test]
async fn addresses_need_no_dns_and_are_ready_at_once() {
    let running = run("192.0.2.9:80, 192.0.2.1:81,[2001:db8::1]:80,192.0.2.9:80", None);
    wait_for(&running.reader, "c", &["192.0.2.1:81", "192.0.2.9:80", "[2001:db8::1]:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn host_names_are_resolved_and_kept_current() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 1);
    let running = run("192.0.2.1:80,a.example.:80", Some(server.client(&[], 1)));
    wait_for(&running.reader, "c", &["192.0.2.1:80", "192.0.2.2:80"]).await;
    server.set_v4("a.example.", &[[192, 0, 2, 3]], 1);
    wait_for(&running.reader, "c", &["192.0.2.1:80", "192.0.2.3:80"]).await;
}

#[tokio::test]
async fn nothing_is_published_until_every_name_has_an_answer() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 60);
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("b.example.", record, Reply::Code(ResponseCode::ServFail));
    }
    let running = run("192.0.2.1:80,a.example.:80,b.example.:80", Some(server.client(&[], 1)));
    wait_not_ready(&running.readiness, "b.example.").await;
    assert_eq!(addresses(&running.reader, "c"), None);
    server.set_v4("b.example.", &[[192, 0, 2, 3]], 60);
    wait_for(&running.reader, "c", &["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn host_names_without_dns_say_so() {
    let running = run("a.example:80", None);
    assert!(needs_dns(&parse_list("a.example:80").unwrap()));
    assert!(!needs_dns(&parse_list("192.0.2.1:80").unwrap()));
    wait_not_ready(&running.readiness, "no DNS configuration").await;
}

#[test]
fn targets_are_read_and_refused() {
    let address = |text: &str| Target::Address(text.parse().unwrap());
    let name = |name: &str, port| Target::Name { name: name.into(), port };
    let good = [
        ("192.0.2.1:80", address("192.0.2.1:80")),
        ("[2001:db8::1]:8080", address("[2001:db8::1]:8080")),
        ("Cache-1.Example:80", name("cache-1.example", 80)),
        ("my_host:1", name("my_host", 1)),
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
        ("http://cache:80", "without scheme"),
        ("cache:80/path", "without scheme"),
    ];
    for (text, why) in bad {
        let error = text.parse::<Target>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    for list in ["", "192.0.2.1:80,", ",", "192.0.2.1:80,,192.0.2.2:80"] {
        assert!(parse_list(list).unwrap_err().to_string().contains("empty"), "{list:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_read_is_printed_alike(text in "\\PC{0,40}", near in "\\[?[a-f0-9:.]{0,20}\\]?:?[0-9]{0,6}") {
        for text in [text, near] {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
