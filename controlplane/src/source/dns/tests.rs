//! The DNS source against a real server on loopback.

use std::time::{Duration, Instant};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use proptest::prelude::*;
use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use tokio::task::JoinHandle;

use super::server::{Reply, Server, addresses, cluster, on_port, srv, v4, v6, wait_for, wait_not_ready, wait_ready};
use super::*;

/// A source under way; it ends when dropped.
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

fn run(query: &str, resolver: Resolver) -> Running {
    let (publisher, reader) = channel();
    let readiness = Readiness::new();
    let gate = readiness.register("dns");
    let source = DnsSource { cluster: cluster(), query: query.parse().unwrap(), resolver, publisher, gate };
    Running { reader, readiness, task: tokio::spawn(source.run()) }
}

fn client(server: &Server, family: DnsFamily) -> Resolver {
    server.client_with(&[], 1, Settings { family, ..Settings::default() })
}

fn why_empty(running: &Running) -> String {
    running.reader.load().cluster("c").and_then(|c| c.why_empty().map(str::to_owned)).unwrap_or_default()
}

async fn expect(running: &Running, expected: &[&str]) {
    wait_for(&running.reader, "c", expected).await;
}

#[tokio::test]
async fn every_address_of_both_families_is_an_endpoint_and_changes_follow_the_ttl() {
    let server = Server::start().await;
    server.set("cache.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 2], [192, 0, 2, 1]]), 1));
    server.set("cache.example.", RecordType::AAAA, Reply::Records(v6(&["2001:db8::1"]), 1));
    let running = run("Cache.Example.:8080", client(&server, DnsFamily::All));
    expect(&running, &["192.0.2.1:8080", "192.0.2.2:8080", "[2001:db8::1]:8080"]).await;
    wait_ready(&running.readiness).await;
    let hostname = running.reader.load().cluster("c").unwrap().endpoints()[0].hostname.clone();
    assert_eq!(hostname.as_deref(), Some("cache.example."));

    server.set("cache.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 2], [192, 0, 2, 9]]), 1));
    expect(&running, &["192.0.2.2:8080", "192.0.2.9:8080", "[2001:db8::1]:8080"]).await;
    server.set("cache.example.", RecordType::AAAA, Reply::NoData(1));
    expect(&running, &["192.0.2.2:8080", "192.0.2.9:8080"]).await;
}

#[tokio::test]
async fn the_shortest_ttl_counts_with_a_floor_of_one_second() {
    let server = Server::start().await;
    // The alias lives for a second, what it points to for an hour; a TTL of 0 would mean asking without a pause.
    server.set("short.example.", RecordType::A, Reply::Alias("real.example.", 0, v4(&[[192, 0, 2, 1]]), 3600));
    server.set("short.example.", RecordType::AAAA, Reply::NoData(3600));
    server.set_v4("long.example.", &[[192, 0, 2, 7]], 3600);
    let begin = Instant::now();
    let short = run("short.example.:80", server.client(&[], 1));
    let long = run("long.example.:80", server.client(&[], 1));
    expect(&short, &["192.0.2.1:80"]).await;
    expect(&long, &["192.0.2.7:80"]).await;
    server.wait_asked("short.example.", RecordType::A, 2).await;
    assert!(begin.elapsed() > Duration::from_millis(900), "asked again after {:?}", begin.elapsed());
    assert_eq!(server.asked("long.example.", RecordType::A), 1, "a long TTL is not asked for again");
}

#[tokio::test]
async fn no_answer_is_believed_for_longer_than_the_settings_say() {
    let server = Server::start().await;
    let second = Duration::from_secs(1);
    let client =
        |max_ttl, negative_ttl| server.client_with(&[], 1, Settings { max_ttl, negative_ttl, ..Settings::default() });
    server.set_v4("moved.example.", &[[192, 0, 2, 1]], 3600);
    let moved = run("moved.example.:80", client(second, second * 3600));
    expect(&moved, &["192.0.2.1:80"]).await;
    server.set_v4("moved.example.", &[[192, 0, 2, 2]], 3600);
    expect(&moved, &["192.0.2.2:80"]).await;

    for record in [RecordType::A, RecordType::AAAA] {
        server.set("late.example.", record, Reply::NxDomain(3600));
    }
    let late = run("late.example.:80", client(second * 3600, second));
    expect(&late, &[]).await;
    server.set_v4("late.example.", &[[192, 0, 2, 3]], 3600);
    expect(&late, &["192.0.2.3:80"]).await;
}

fn recheck(running: &Running) {
    running.reader.load().cluster("c").unwrap().endpoints()[0].address.recheck();
}

#[tokio::test]
async fn an_endpoint_that_could_not_be_connected_to_is_asked_for_at_once_but_not_more_than_once_a_second() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 1]], 3600);
    let running = run("a.example.:80", server.client(&[], 1));
    expect(&running, &["192.0.2.1:80"]).await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 3600);
    recheck(&running);
    expect(&running, &["192.0.2.2:80"]).await;

    let (begin, before) = (Instant::now(), server.asked("a.example.", RecordType::A));
    while server.asked("a.example.", RecordType::A) < before + 2 {
        recheck(&running);
        // How often a failed connection asks for a new lookup, far more often than one is made.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(900), "asked twice within {:?}", begin.elapsed());

    // The target of an SRV answer may have gone as a whole.
    server.set("_http._tcp.example.", RecordType::SRV, Reply::Records(srv(&[("a.example.", 80)]), 3600));
    let running = run("_http._tcp.example.", server.client(&[], 1));
    expect(&running, &["a.example:80=192.0.2.2"]).await;
    server.set("_http._tcp.example.", RecordType::SRV, Reply::Records(srv(&[("a.example.", 81)]), 3600));
    recheck(&running);
    expect(&running, &["a.example:81=192.0.2.2"]).await;
}

#[tokio::test]
async fn on_request_every_name_is_looked_up_again() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 1]], 3600);
    let resolver = server.client(&[], 1);
    let running = run("a.example.:80", resolver.clone());
    expect(&running, &["192.0.2.1:80"]).await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 3600);
    resolver.ask_again();
    expect(&running, &["192.0.2.2:80"]).await;
    server.set("a.example.", RecordType::AAAA, Reply::Records(v6(&["2001:db8::1"]), 3600));
    resolver.set(Settings { family: DnsFamily::Ipv6, ..resolver.settings() });
    expect(&running, &["[2001:db8::1]:80"]).await;
}

#[tokio::test]
async fn the_hosts_file_goes_before_the_dns_and_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (resolv_conf, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch example.org\n").unwrap();
    std::fs::write(&hosts, "127.0.0.1 localhost\n192.0.2.1 cache other\n").unwrap();
    let running = run("cache:80", Resolver::of_files(&resolv_conf, &hosts, Settings::default()));
    expect(&running, &["192.0.2.1:80"]).await;
    std::fs::write(&hosts, "192.0.2.2 cache\n2001:db8::1 cache\n").unwrap();
    expect(&running, &["192.0.2.2:80"]).await;
}

#[tokio::test]
async fn an_authoritative_empty_answer_empties_the_list() {
    let server = Server::start().await;
    for (empty_name, empty) in [("NXDOMAIN", Reply::NxDomain(1)), ("no data", Reply::NoData(1))] {
        server.set_v4("cache.example.", &[[192, 0, 2, 1]], 1);
        let running = run("cache.example.:80", server.client(&[], 1));
        expect(&running, &["192.0.2.1:80"]).await;
        server.set("cache.example.", RecordType::A, empty.clone());
        server.set("cache.example.", RecordType::AAAA, empty);
        expect(&running, &[]).await;
        assert!(running.readiness.is_ready(), "an answer without records is an answer");
        let told = if matches!(empty_name, "NXDOMAIN") { "no name cache.example" } else { "no A and no AAAA record" };
        assert!(why_empty(&running).contains(told), "{}", why_empty(&running));
        server.set_v4("cache.example.", &[[192, 0, 2, 3]], 1);
        expect(&running, &["192.0.2.3:80"]).await;
    }
}

async fn keeps_the_last_good_list_after(failure: Reply) {
    let server = Server::start().await;
    server.set_v4("cache.example.", &[[192, 0, 2, 1]], 1);
    let running = run("cache.example.:80", server.client(&[], 1));
    expect(&running, &["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    server.set("cache.example.", RecordType::AAAA, failure.clone());
    server.set("cache.example.", RecordType::A, failure.clone());
    // The second question proves that the first one failed and was taken in: this client asks once per lookup.
    server.wait_asked("cache.example.", RecordType::A, 2).await;
    assert_eq!(running.reader.load().version(), before, "{failure:?}");
    assert!(running.readiness.is_ready(), "{failure:?}");
    server.set_v4("cache.example.", &[[192, 0, 2, 2]], 1);
    expect(&running, &["192.0.2.2:80"]).await;
}

#[tokio::test]
async fn failed_lookups_keep_the_last_good_list() {
    tokio::join!(
        keeps_the_last_good_list_after(Reply::Code(ResponseCode::ServFail)),
        keeps_the_last_good_list_after(Reply::Code(ResponseCode::Refused)),
        keeps_the_last_good_list_after(Reply::Silence),
        keeps_the_last_good_list_after(Reply::Garbage),
    );
}

#[tokio::test]
async fn a_family_that_fails_keeps_its_addresses_and_does_not_hold_up_the_other() {
    let server = Server::start().await;
    server.set("cache.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 1]]), 1));
    server.set("cache.example.", RecordType::AAAA, Reply::Records(v6(&["2001:db8::1"]), 1));
    let running = run("cache.example.:80", client(&server, DnsFamily::All));
    expect(&running, &["192.0.2.1:80", "[2001:db8::1]:80"]).await;
    server.set("cache.example.", RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    server.set("cache.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 2]]), 1));
    expect(&running, &["192.0.2.2:80", "[2001:db8::1]:80"]).await;

    // One family empty, the other failing: nobody can say that there is none.
    let before = running.reader.load().version();
    server.set("cache.example.", RecordType::A, Reply::NoData(1));
    server.wait_asked("cache.example.", RecordType::A, 2).await;
    assert_eq!(running.reader.load().version(), before);

    // A server that knows nothing of AAAA from the start.
    server.set("old.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 5]]), 1));
    server.set("old.example.", RecordType::AAAA, Reply::Code(ResponseCode::NotImp));
    let running = run("old.example.:80", server.client(&[], 1));
    expect(&running, &["192.0.2.5:80"]).await;
}

#[tokio::test]
async fn one_lookup_of_the_test_client_is_one_question() {
    // What the tests above count on when they wait for the next question.
    let server = Server::start().await;
    let resolver = server.client(&[], 1);
    let query: Query = "cache.example.:80".parse().unwrap();
    for (asked, reply) in
        [Reply::Silence, Reply::Code(ResponseCode::ServFail), Reply::Code(ResponseCode::Refused), Reply::Garbage]
            .into_iter()
            .enumerate()
    {
        server.set("cache.example.", RecordType::A, reply.clone());
        server.set("cache.example.", RecordType::AAAA, reply.clone());
        let error = resolver.resolve(&query, None, |_| {}).await.expect_err("no answer").to_string();
        assert!(error.starts_with("DNS lookup of cache.example. (A) failed: "), "{error}");
        assert_eq!(server.asked("cache.example.", RecordType::A), asked + 1, "{reply:?}");
    }
}

#[tokio::test]
async fn not_ready_until_the_first_answer_and_the_reason_is_told() {
    let server = Server::start().await;
    server.set("cache.example.", RecordType::A, Reply::Code(ResponseCode::ServFail));
    server.set("cache.example.", RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    let running = run("cache.example.:80", server.client(&[], 1));
    wait_not_ready(&running.readiness, "DNS lookup of cache.example.").await;
    assert_eq!(addresses(&running.reader, "c"), None);
    server.set_v4("cache.example.", &[[192, 0, 2, 1]], 60);
    expect(&running, &["192.0.2.1:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn srv_names_give_targets_and_ports_and_each_target_is_one_endpoint() {
    let server = Server::start().await;
    server.set(
        "_http._tcp.cache.example.",
        RecordType::SRV,
        Reply::Records(srv(&[("a.example.", 8080), ("b.example.", 9090)]), 1),
    );
    server.set_v4("a.example.", &[[192, 0, 2, 1], [192, 0, 2, 2]], 1);
    server.set_v4("b.example.", &[[192, 0, 2, 3]], 1);
    let running = run("_http._tcp.cache.example.", server.client(&[], 1));
    expect(&running, &["a.example:8080=192.0.2.1+192.0.2.2", "b.example:9090=192.0.2.3"]).await;

    // A target's lookup fails while another one goes: the failed one keeps its address, the gone one goes.
    server.set("b.example.", RecordType::A, Reply::Code(ResponseCode::ServFail));
    server.set("b.example.", RecordType::AAAA, Reply::Code(ResponseCode::ServFail));
    server.set("_http._tcp.cache.example.", RecordType::SRV, Reply::Records(srv(&[("b.example.", 9090)]), 1));
    expect(&running, &["b.example:9090=192.0.2.3"]).await;

    // "." says that the service is decidedly not available.
    server.set("_http._tcp.cache.example.", RecordType::SRV, Reply::Records(srv(&[(".", 0)]), 1));
    expect(&running, &[]).await;
    assert!(why_empty(&running).contains("no such service"), "{}", why_empty(&running));
    let running = run("srv+cache.example.", server.client(&[], 1));
    server.set("cache.example.", RecordType::SRV, Reply::Records(srv(&[("a.example.", 1)]), 1));
    expect(&running, &["a.example:1=192.0.2.1+192.0.2.2"]).await;
}

#[tokio::test]
async fn an_srv_target_that_does_not_resolve_is_an_endpoint_all_the_same() {
    let server = Server::start().await;
    let targets = srv(&[("a.example.", 80), ("b.example.", 80), ("c.example.", 80)]);
    server.set("_http._tcp.c.example.", RecordType::SRV, Reply::Records(targets, 1));
    server.set_v4("a.example.", &[[192, 0, 2, 1]], 1);
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("b.example.", record, Reply::Code(ResponseCode::ServFail));
    }
    let running = run("_http._tcp.c.example.", server.client(&[], 1));
    expect(&running, &["a.example:80=192.0.2.1", "b.example:80=?", "c.example:80=?"]).await;
    wait_ready(&running.readiness).await;
    server.set_v4("b.example.", &[[192, 0, 2, 2]], 1);
    expect(&running, &["a.example:80=192.0.2.1", "b.example:80=192.0.2.2", "c.example:80=?"]).await;
    server.set("a.example.", RecordType::A, Reply::NxDomain(1));
    expect(&running, &["a.example:80=?", "b.example:80=192.0.2.2", "c.example:80=?"]).await;
}

#[tokio::test]
async fn a_family_that_is_silent_is_not_waited_for_and_counts_once_it_answers() {
    let server = Server::start().await;
    // It takes this client an hour to give up.
    let resolver = server.patient_client();
    resolver.set(Settings { family: DnsFamily::All, ..resolver.settings() });
    for (record, answer, silent) in [
        (RecordType::A, Reply::Records(v4(&[[192, 0, 2, 1]]), 1), RecordType::AAAA),
        (RecordType::AAAA, Reply::Records(v6(&["2001:db8::1"]), 1), RecordType::A),
    ] {
        server.set("cache.example.", record, answer);
        server.set("cache.example.", silent, Reply::Silence);
        let expected = if record == RecordType::A { "192.0.2.1:80" } else { "[2001:db8::1]:80" };
        let running = run("cache.example.:80", resolver.clone());
        expect(&running, &[expected]).await;
        wait_ready(&running.readiness).await;
    }
    let running = run("cache.example.:80", resolver);
    expect(&running, &["[2001:db8::1]:80"]).await;
    server.set("cache.example.", RecordType::A, Reply::Records(v4(&[[192, 0, 2, 1]]), 1));
    expect(&running, &["192.0.2.1:80", "[2001:db8::1]:80"]).await;
}

#[tokio::test]
async fn a_host_with_both_families_is_one_endpoint_unless_all_are_asked_for() {
    let server = Server::start().await;
    let (v4, v6) = (v4(&[[192, 0, 2, 1]]), v6(&["2001:db8::1"]));
    server.set("dual.example.", RecordType::A, Reply::Records(v4, 60));
    for name in ["dual.example.", "six.example."] {
        server.set(name, RecordType::AAAA, Reply::Records(v6.clone(), 60));
    }
    server.set("six.example.", RecordType::A, Reply::NoData(60));
    let (four, six) = ("192.0.2.1:80", "[2001:db8::1]:80");
    for (family, expected) in [
        (DnsFamily::Auto, &[four][..]),
        (DnsFamily::Ipv4, &[four]),
        (DnsFamily::Ipv6, &[six]),
        (DnsFamily::All, &[four, six]),
    ] {
        expect(&run("dual.example.:80", client(&server, family)), expected).await;
    }
    expect(&run("six.example.:80", client(&server, DnsFamily::Auto)), &[six]).await;
    let none = run("six.example.:80", client(&server, DnsFamily::Ipv4));
    expect(&none, &[]).await;
    assert_eq!(why_empty(&none), "six.example. has no A record");
}

#[tokio::test]
async fn the_search_list_is_tried_in_order_and_a_failing_candidate_ends_the_search() {
    let server = Server::start().await;
    server.set_v4("cache.shop.svc.", &[[192, 0, 2, 1]], 1);
    server.set_v4("cache.corp.", &[[192, 0, 2, 66]], 1);
    let running = run("cache:80", server.client(&["shop.svc.", "corp."], 1));
    expect(&running, &["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("cache.shop.svc.", record, Reply::Code(ResponseCode::ServFail));
    }
    server.wait_asked("cache.shop.svc.", RecordType::A, 2).await;
    assert_eq!(
        running.reader.load().version(),
        before,
        "a stranger's machine must not take the place of one that cannot be looked up"
    );

    // With enough dots the name itself goes first.
    server.set_v4("a.b.", &[[192, 0, 2, 3]], 1);
    server.set_v4("a.b.corp.", &[[192, 0, 2, 66]], 1);
    expect(&run("a.b:80", server.client(&["corp."], 1)), &["192.0.2.3:80"]).await;
    expect(&run("a.b:80", server.client(&["corp."], 5)), &["192.0.2.66:80"]).await;
}

#[tokio::test]
async fn a_large_answer_comes_over_tcp() {
    let server = Server::start().await;
    let ips: Vec<[u8; 4]> = (0..=255).map(|n| [192, 0, 2, n]).collect();
    server.set_v4("many.example.", &ips, 60);
    let running = run("many.example.:80", server.client(&[], 1));
    let expected: Vec<String> = (0..=255).map(|n| format!("192.0.2.{n}:80")).collect();
    expect(&running, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn addresses_that_nobody_can_connect_to_are_left_out_and_mapped_ones_are_plain() {
    let server = Server::start().await;
    server.set("c.example.", RecordType::A, Reply::Records(v4(&[[0, 0, 0, 0], [224, 0, 0, 1], [192, 0, 2, 1]]), 60));
    server.set(
        "c.example.",
        RecordType::AAAA,
        Reply::Records(v6(&["::", "ff02::1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"]), 60),
    );
    let running = run("c.example.:80", server.client(&[], 1));
    expect(&running, &["192.0.2.1:80", "192.0.2.2:80"]).await;
}

#[tokio::test]
async fn localhost_is_one_machine() {
    let server = Server::start().await;
    let running = run("localhost:80", server.client(&["example."], 5));
    let expected = on_port(&["127.0.0.1"], 80);
    expect(&running, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[test]
fn queries_are_read_and_refused() {
    let host = |name: &str, port| Query::Host { name: name.into(), port };
    let srv = |name: &str| Query::Srv { name: name.into() };
    let good = [
        ("Cache.Shop:80", host("cache.shop", 80)),
        ("cache.:65535", host("cache.", 65_535)),
        ("_http._tcp.cache.shop", srv("_http._tcp.cache.shop")),
        ("srv+cache", srv("cache")),
        ("_http._tcp.cache:80", host("_http._tcp.cache", 80)),
    ];
    for (text, query) in good {
        assert_eq!(text.parse(), Ok(query.clone()), "{text}");
        assert_eq!(query.to_string().parse(), Ok(query));
    }
    let bad = [
        ("cache", "port is missing"),
        ("cache:0", "1 to 65535"),
        ("cache:+80", "1 to 65535"),
        ("cache:65536", "1 to 65535"),
        ("192.0.2.1:80", "an address"),
        ("[2001:db8::1]:80", "an address"),
        ("192.0.2.256:80", "valid IPv4"),
        ("http://cache:80", "address"),
        ("a..b:80", "labels"),
        (":80", "missing"),
        ("srv+", "missing"),
        ("caf\u{e9}:80", "letters"),
        ("a b:80", "letters"),
    ];
    for (text, why) in bad {
        let error = text.parse::<Query>().expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert!(format!("{}:80", "a".repeat(64)).parse::<Query>().is_err());
    assert!(format!("{}:80", "a.".repeat(128)).parse::<Query>().is_err());
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_read_is_printed_alike(text in "\\PC{0,40}", near in "(srv\\+)?[_a-zA-Z0-9.-]{0,20}:?[0-9]{0,6}") {
        for text in [text, near] {
            if let Ok(query) = text.parse::<Query>() {
                prop_assert_eq!(query.to_string().parse(), Ok(query));
            }
        }
    }
}
