//! Tracing: spans at a real collector, contexts at endpoints, and what logs, reports and metrics say of them.

use std::{collections::HashMap, path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    client::{self, RawClient, request_bytes},
    consumers,
    grpc_interop::{self, GrpcServer, ServerFiles},
    origin::{Origin, Reply, Request},
    otlp_collector::{OtlpCollector, ReceivedSpan},
    pki::{Authority, SecretDir},
};
use tokio::process::Command;

use crate::process::Fanfare;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

const SERVER: i64 = 2;
const CLIENT: i64 = 3;

/// What a `traceparent` says: trace, parent, flags.
fn context(request: &Request) -> (String, String, String) {
    let [field] = request.headers.all("traceparent")[..] else { panic!("one traceparent: {:?}", request.headers) };
    let parts: Vec<&str> = field.split('-').collect();
    let ["00", trace, parent, flags] = parts[..] else { panic!("{field}") };
    (trace.to_owned(), parent.to_owned(), flags.to_owned())
}

async fn received(collector: &OtlpCollector, count: usize) -> Vec<ReceivedSpan> {
    testkit::eventually!("the spans", collector.spans(), |spans: &Vec<ReceivedSpan>| spans.len() >= count)
}

/// The attributes of these names, which have to be there.
fn attributes<const N: usize>(span: &ReceivedSpan, names: [&str; N]) -> [String; N] {
    let of = |name| span.attributes.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", span.attributes));
    names.map(|name| of(name).clone())
}

#[tokio::test]
async fn a_request_and_each_of_its_legs_is_a_span_and_endpoints_are_told_of_theirs() {
    let collector = OtlpCollector::start(None).await;
    for endpoint in [format!("http://{}", collector.grpc()), format!("http://{}/v1/traces", collector.http())] {
        let before = collector.spans().len();
        let origins = [Origin::start(Reply::ok("a")), Origin::start(Reply::ok("b")), Origin::start(Reply::new(500))];
        let flags = ["--otlp-endpoint", &endpoint, "--require", "majority", "--access-log", "json"];
        let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &flags).await;
        fanfare.wait_ready().await;
        let fields = [("traceparent", SAMPLED), ("tracestate", "vendor=1"), ("User-Agent", "test/1")];
        client::request(fanfare.address(), "PURGE", "/a/b?c=d&sig=s3cret", &fields, b"body")
            .await
            .complete()
            .expect_status(200);
        let spans = received(&collector, before + 4).await.split_off(before);
        assert_eq!(spans.len(), 4, "{spans:#?}");
        let (server, legs): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind == SERVER);
        let [server] = server[..] else { panic!("{spans:#?}") };
        assert_eq!((server.trace.as_str(), server.parent.as_str(), server.name.as_str()), (TRACE, SENDER, "PURGE"));
        assert_eq!((server.state.as_str(), server.failed, server.links.len()), ("vendor=1", false, 0));
        assert_eq!(server.resource["service.name"], "fanfare");
        let port = fanfare.address().port().to_string();
        for (name, value) in [
            ("http.request.method", "PURGE"),
            ("url.path", "/a/b"),
            ("url.query", "c=d&sig=REDACTED"),
            ("url.scheme", "http"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "test/1"),
            ("fanfare.completed", "partial"),
            ("fanfare.policy", "majority"),
            ("fanfare.legs.total", "3"),
            ("fanfare.legs.ok", "2"),
            ("fanfare.legs.failed", "1"),
        ] {
            assert_eq!(server.attributes.get(name).map(String::as_str), Some(value), "{name}");
        }
        // The endpoint that fails may answer before the majority does, or after it.
        let result = server.attributes["fanfare.result"].as_str();
        assert!(["ok", "partial"].contains(&result), "{result}");
        let legs: HashMap<&str, &ReceivedSpan> =
            legs.into_iter().map(|leg| (leg.attributes["server.port"].as_str(), leg)).collect();
        for (origin, failed) in origins.iter().zip([false, false, true]) {
            let (port, seen) = (origin.address().port().to_string(), origin.wait_requests(1).await.remove(0));
            let leg = legs[port.as_str()];
            assert_eq!(context(&seen), (TRACE.to_owned(), leg.id.clone(), "01".to_owned()));
            assert_eq!(seen.headers.all("tracestate"), ["vendor=1"]);
            assert_eq!((&leg.trace, &leg.parent, leg.kind), (&server.trace, &server.id, CLIENT));
            assert_eq!((leg.name.as_str(), leg.state.as_str(), leg.failed), ("PURGE", "vendor=1", failed));
            assert!(server.times.0 <= leg.times.0 && leg.times.0 <= leg.times.1);
            let want = [("500", "server_error"), ("200", "ok")][usize::from(!failed)];
            let names = ["http.response.status_code", "fanfare.outcome", "url.full", "network.protocol.version"];
            let url = format!("http://127.0.0.1:{port}/a/b?c=d&sig=REDACTED");
            assert_eq!(seen.target, "/a/b?c=d&sig=s3cret", "an endpoint gets it as it came");
            assert_eq!(attributes(leg, names), [want.0, want.1, &url, "1.1"].map(str::to_owned));
            assert_eq!(leg.attributes.get("error.type").map(String::as_str), failed.then_some("500"));
        }
        fanfare.signal(Signal::TERM);
        let finished = fanfare.finish().await;
        let line = finished.stdout.lines().find(|line| line.contains("\"PURGE\"")).expect("a line");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((line["trace_id"].as_str(), line["completed"].as_str()), (Some(TRACE), Some("partial")));
        assert_eq!(line["target"], "/a/b?c=d&sig=REDACTED");
    }
}

#[tokio::test]
async fn the_file_of_the_documentation_traces_requests() {
    let (collector, origin) = (OtlpCollector::start(None).await, Origin::start(Reply::ok("fine")));
    let blocks = testkit::docs::blocks(Path::new(env!("CARGO_MANIFEST_DIR")));
    let is_file =
        |block: &&testkit::docs::Block| block.page == Path::new("docs/tracing.md") && block.language == "yaml";
    let mut text = blocks.iter().find(is_file).expect("the page has a file").text.clone();
    for (from, to) in [
        ("collector.observability:4318", collector.http().to_string()),
        ("trace_sample: 0.1", "trace_sample: 1".to_owned()),
        ("0.0.0.0:8080", "127.0.0.1:0".to_owned()),
        ("{service: shop/cache}", format!("{{endpoints: '{}'}}", origin.address())),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, &to);
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("fanfare.yaml");
    std::fs::write(&file, format!("admin: {{listen: '127.0.0.1:0'}}\n{text}")).expect("it can be written");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
    fanfare.wait_ready().await;
    client::get(fanfare.address(), "/").await.complete().expect_status(200);
    assert_eq!(received(&collector, 2).await.len(), 2);
}

#[tokio::test]
async fn the_parent_decides_what_is_recorded_and_the_ratio_where_there_is_none() {
    let (collector, origin) = (OtlpCollector::start(None).await, Origin::start(Reply::ok("fine")));
    let endpoint = format!("http://{}", collector.grpc());
    let mut recorded = 0;
    for (ratio, parent, is_recorded) in [
        ("0", None, false),
        ("0", Some(NOT_SAMPLED), false),
        ("0", Some("nonsense"), false),
        ("0", Some(SAMPLED), true),
        ("1", None, true),
        ("1", Some(NOT_SAMPLED), false),
        ("1", Some("nonsense"), true),
    ] {
        let fanfare =
            Fanfare::broadcast(&[origin.address()], &["--otlp-endpoint", &endpoint, "--trace-sample", ratio]).await;
        fanfare.wait_ready().await;
        let before = origin.requests().len();
        let fields: Vec<_> = parent.map(|parent| ("traceparent", parent)).into_iter().collect();
        client::request(fanfare.address(), "GET", "/", &fields, b"").await.complete().expect_status(200);
        let (trace, span, flags) = context(&origin.wait_requests(before + 1).await[before]);
        let case = format!("{ratio} {parent:?}");
        let is_continued = parent.is_some_and(|parent| parent.contains(TRACE));
        assert_eq!((trace == TRACE, flags.as_str()), (is_continued, if is_recorded { "01" } else { "00" }), "{case}");
        assert!(span != SENDER, "{case}: an endpoint is told of the leg, recorded or not");
        // The end sends what there is, so nothing comes later.
        fanfare.signal(Signal::TERM);
        assert_eq!(fanfare.finish().await.code, Some(0));
        recorded += if is_recorded { 2 } else { 0 };
        let spans = collector.spans();
        assert_eq!(spans.len(), recorded, "{case}: {spans:#?}");
        assert!(!is_recorded || spans[recorded - 1].trace == trace, "{case}");
    }
}

#[tokio::test]
async fn no_span_is_lost_when_the_process_is_told_to_end() {
    const REQUESTS: usize = 700;
    let collector = OtlpCollector::start(None).await;
    let origins = [Origin::start(Reply::ok("a")), Origin::start(Reply::ok("b"))];
    let endpoint = format!("http://{}", collector.grpc());
    let flags = ["--otlp-endpoint", &endpoint, "--access-log", "off"];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &flags).await;
    fanfare.wait_ready().await;
    let mut client = RawClient::connect(fanfare.address()).await;
    for _ in 0..REQUESTS {
        client.send(request_bytes("h", "GET", "/", &[], b"")).await;
        client.read_response("GET").await.complete().expect_status(200);
    }
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
    let spans = collector.spans();
    let of = |kind| spans.iter().filter(|span| span.kind == kind).count();
    assert_eq!((of(SERVER), of(CLIENT)), (REQUESTS, 2 * REQUESTS));
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| &span.id).collect();
    assert_eq!(ids.len(), spans.len(), "none was sent twice");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_no_request_and_is_told_of() {
    // One that takes connections and says nothing, and one that is not there.
    let silent = Origin::start(Reply::never());
    let gone = Origin::start(Reply::ok(""));
    gone.stop_listening().await;
    for collector in [
        format!("http://{}/v1/traces", silent.address()),
        format!("http://{}", silent.address()),
        format!("http://{}/v1/traces", gone.address()),
        format!("http://{}", gone.address()),
    ] {
        let origin = Origin::start(Reply::ok("fine"));
        let fanfare = Fanfare::broadcast(&[origin.address()], &["--otlp-endpoint", &collector]).await;
        fanfare.wait_ready().await;
        for _ in 0..20 {
            client::get(fanfare.address(), "/").await.complete().expect_status(200);
        }
        fanfare
            .stderr
            .wait("a warning", |log| log.contains("cannot export spans to") && log.contains(&collector))
            .await;
        let metrics = async || client::get(fanfare.admin(), "/metrics").await.complete().text();
        let failed = |metrics: &String| {
            let failed =
                metrics.lines().find_map(|line| line.strip_prefix("fanfare_trace_spans_total{result=\"failed\"} "));
            failed.is_some_and(|failed| failed != "0")
        };
        testkit::eventually!(format!("failed spans of {collector}"), metrics().await, failed);
        fanfare.signal(Signal::TERM);
        let finished = fanfare.finish().await;
        assert_eq!(finished.code, Some(0), "{collector}: {}", finished.stderr);
        assert!(finished.stderr.matches("cannot export spans to").count() == 1, "{}", finished.stderr);
    }
}

#[tokio::test]
async fn spans_are_sent_by_tls_to_whom_the_system_trusts() {
    let authority = Authority::new("tests");
    let files = SecretDir::of(&authority.issue(&["localhost"]), &authority);
    let (cert, key) = (files.path("tls.crt"), files.path("tls.key"));
    let collector = OtlpCollector::start(Some(ServerFiles { cert: &cert, key: &key })).await;
    let (grpc, http) = (collector.grpc().port(), collector.http().port());
    for (n, endpoint) in
        [format!("https://localhost:{grpc}"), format!("https://localhost:{http}/v1/traces")].iter().enumerate()
    {
        let origin = Origin::start(Reply::ok("fine"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1"]);
        command.args(["--endpoints", &origin.address().to_string(), "--otlp-endpoint", endpoint]);
        command.env("SSL_CERT_FILE", files.path("ca.crt")).env("OTEL_SERVICE_NAME", "purger");
        let mut fanfare = Fanfare::spawn(command);
        fanfare.wait_listening().await;
        fanfare.wait_ready().await;
        client::get(fanfare.address(), "/").await.complete().expect_status(200);
        let spans = received(&collector, 2 * (n + 1)).await;
        assert_eq!(spans[2 * n].resource["service.name"], "purger");
    }
}

#[tokio::test]
async fn without_a_collector_the_context_passes_as_it_came_and_is_still_told() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let fields =
        [("TraceParent", SAMPLED), ("tracestate", "a=1"), ("Accept", "application/vnd.broadcast+json, text/html")];
    let report = client::request(fanfare.address(), "GET", "/", &fields, b"").await.complete().text();
    let report: Value = serde_json::from_str(&report).expect("a report");
    assert_eq!(report["trace_id"], TRACE);
    client::get(fanfare.address(), "/").await.complete().expect_status(200);
    let seen = origin.wait_requests(2).await;
    assert!(seen[0].head.windows(13).any(|part| part == b"TraceParent: "));
    assert_eq!((seen[0].headers.all("traceparent"), seen[1].headers.get("traceparent")), (vec![SAMPLED], None));
    assert_eq!(seen[0].headers.all("tracestate"), ["a=1"]);
    fanfare.signal(Signal::TERM);
    let log = fanfare.finish().await.stdout;
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("\"GET /\"")).map(|line| line.contains(" trace_id=")).collect();
    assert_eq!(lines, [true, false], "{log}");
    assert!(log.contains(&format!(" trace_id={TRACE}")));
}

#[tokio::test]
async fn a_request_that_no_endpoint_gets_is_a_span_alone() {
    let (collector, origin) = (OtlpCollector::start(None).await, Origin::start(Reply::ok("fine")));
    let endpoint = format!("http://{}", collector.grpc());
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--otlp-endpoint", &endpoint, "--allow", "GET /a"]).await;
    fanfare.wait_ready().await;
    client::get(fanfare.address(), "/b").await.complete().expect_status(403);
    let spans = received(&collector, 1).await;
    let [span] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((span.kind, span.parent.as_str(), span.failed), (SERVER, "", false), "the client is to blame");
    assert_eq!(attributes(span, ["http.response.status_code", "fanfare.result"]), ["403", "rejected"]);
    origin.assert_untouched();
}

#[tokio::test]
async fn calls_of_grpc_have_their_status_in_their_spans() {
    let (collector, server) = (OtlpCollector::start(None).await, GrpcServer::start(None).await);
    let endpoint = format!("http://{}", collector.grpc());
    let flags = ["--otlp-endpoint", &endpoint, "--upstream-protocol", "h2"];
    let fanfare = Fanfare::broadcast(&[server.address()], &flags).await;
    fanfare.wait_ready().await;
    for case in ["empty_unary", "unimplemented_method"] {
        grpc_interop::run_case(case, fanfare.address(), None).await.unwrap_or_else(|e| panic!("{e}"));
    }
    let spans = received(&collector, 4).await;
    let names = ["rpc.system", "rpc.grpc.status_code", "network.protocol.version"];
    for (kind, status, failed) in
        [(SERVER, "0", false), (CLIENT, "0", false), (SERVER, "12", true), (CLIENT, "12", true)]
    {
        let found = spans.iter().find(|span| span.kind == kind && attributes(span, names)[1] == status);
        let span = found.unwrap_or_else(|| panic!("{kind} {status}: {spans:#?}"));
        assert_eq!((attributes(span, names), span.failed), (["grpc", status, "2"].map(str::to_owned), failed));
        assert_eq!(span.attributes.get("error.type").map(String::as_str), failed.then_some("UNIMPLEMENTED"));
    }
}

#[tokio::test]
async fn a_copy_that_is_sent_again_is_a_span_of_the_same_trace_with_a_link() {
    let collector = OtlpCollector::start(None).await;
    let origin = Origin::start([Reply::new(503), Reply::ok("fine")]);
    let endpoint = format!("http://{}", collector.grpc());
    let flags = ["--otlp-endpoint", &endpoint, "--redeliver", "60s", "--redeliver-backoff", "10ms..20ms"];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let answer = client::request(fanfare.address(), "PURGE", "/a", &[("traceparent", SAMPLED)], b"").await.complete();
    assert!(answer.header("x-broadcast-job").is_some(), "{answer:?}");
    let seen = origin.wait_requests(2).await;
    let spans = received(&collector, 3).await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let span = |what: &str, is: &dyn Fn(&ReceivedSpan) -> bool| {
        spans.iter().find(|span| is(span)).unwrap_or_else(|| panic!("no span of {what}: {spans:#?}"))
    };
    let server = span("the request", &|span| span.kind == SERVER);
    let leg = span("the leg", &|span| span.kind == CLIENT && span.attributes["fanfare.outcome"] == "deferred");
    let copy = span("the copy", &|span| span.kind == CLIENT && span.attributes["fanfare.outcome"] == "ok");
    assert_eq!((&copy.trace, &copy.parent), (&server.trace, &server.id));
    assert_eq!(copy.links, [(server.trace.clone(), server.id.clone())]);
    assert_eq!(attributes(copy, ["fanfare.redelivery.attempt", "fanfare.outcome"]), ["2", "ok"]);
    for (request, span) in seen.iter().zip([leg, copy]) {
        assert_eq!(context(request), (TRACE.to_owned(), span.id.clone(), "01".to_owned()));
    }
}

#[tokio::test]
async fn a_copy_that_is_sent_again_after_kill_9_is_a_span_of_the_trace_of_its_request() {
    let (collector, journal) = (OtlpCollector::start(None).await, tempfile::tempdir().expect("a temporary folder"));
    let origin = Origin::start(Reply::ok("back"));
    let (endpoint, journal) = (format!("http://{}", collector.grpc()), journal.path().display().to_string());
    let flags = |backoff| {
        let flags = ["--otlp-endpoint", &endpoint, "--redeliver", "1h", "--redeliver-journal", &journal];
        [&flags[..], &["--redeliver-backoff", backoff]].concat()
    };
    origin.stop_listening().await;
    // No copy is sent again by the first process, because each would be a span.
    let mut fanfare = Fanfare::broadcast(&[origin.address()], &flags("30m..1h")).await;
    fanfare.wait_ready().await;
    // A trace that the client began, one that Fanfare begins, and one that is not recorded.
    let contexts = [("/1", Some(SAMPLED)), ("/2", None), ("/3", Some(NOT_SAMPLED))];
    for (target, parent) in contexts {
        let fields: Vec<_> = parent.map(|parent| ("traceparent", parent)).into_iter().collect();
        let answer = client::request(fanfare.address(), "PURGE", target, &fields, b"").await.complete();
        assert!(answer.header("x-broadcast-job").is_some(), "{answer:?}");
    }
    let first = received(&collector, 4).await;
    fanfare.signal(Signal::KILL);
    fanfare.exit().await;
    let before = collector.spans().len();
    assert_eq!(before, 4, "{first:#?}");

    origin.listen_again().await;
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags("10ms..20ms")).await;
    let seen = origin.wait_requests(3).await;
    assert_eq!(seen.iter().map(|request| request.target.as_str()).collect::<Vec<_>>(), ["/1", "/2", "/3"]);
    let mut copies = received(&collector, 6).await.split_off(before);
    // The end sends what there is, so nothing comes later.
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
    assert_eq!(collector.spans().len(), 6, "the trace that is not recorded has no span here either");
    copies.sort_by(|a, b| a.attributes["url.path"].cmp(&b.attributes["url.path"]));
    for ((target, parent), (copy, request)) in contexts.iter().zip(copies.iter().zip(&seen)) {
        let server = first.iter().find(|span| span.kind == SERVER && span.attributes["url.path"] == *target);
        let server = server.unwrap_or_else(|| panic!("{target}: {first:#?}"));
        assert_eq!(server.trace == TRACE, parent.is_some(), "{target}");
        assert_eq!((copy.kind, copy.attributes["url.path"].as_str()), (CLIENT, *target));
        assert_eq!((&copy.trace, &copy.parent), (&server.trace, &server.id), "{target}");
        assert_eq!(copy.links, [(server.trace.clone(), server.id.clone())], "{target}");
        assert_eq!(attributes(copy, ["fanfare.outcome"]), ["ok"]);
        // The second request was never tried, because the endpoint was owed the first one.
        let attempt = if *target == "/1" { "2" } else { "1" };
        assert_eq!(attributes(copy, ["fanfare.redelivery.attempt"]), [attempt], "{target}");
        assert_eq!(context(request), (copy.trace.clone(), copy.id.clone(), "01".to_owned()), "{target}");
    }
    let (trace, _, flags) = context(&seen[2]);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
}

#[tokio::test]
async fn prometheus_reads_open_metrics_with_a_trace_as_exemplar() {
    let (collector, origin) = (OtlpCollector::start(None).await, Origin::start(Reply::ok("fine")));
    let endpoint = format!("http://{}", collector.grpc());
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--otlp-endpoint", &endpoint]).await;
    fanfare.wait_ready().await;
    client::request(fanfare.address(), "GET", "/", &[("traceparent", SAMPLED)], b"")
        .await
        .complete()
        .expect_status(200);
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
    let scrape = async || client::request(fanfare.admin(), "GET", "/metrics", &accept, b"").await.complete();
    let open = testkit::eventually!("the exemplar", scrape().await, |open| open.text().contains(&exemplar));
    let open = open.expect_status(200);
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = open.text();
    let with: Vec<_> = text.lines().filter(|line| line.contains(&exemplar)).collect();
    assert!(matches!(with[..], [line] if line.starts_with("request_duration_seconds_bucket{")), "{text}");
    assert!(text.ends_with("\n# EOF\n") && text.contains("# TYPE fanfare_requests counter\n"));
    let plain = client::get(fanfare.admin(), "/metrics").await.complete().text();
    assert!(!plain.contains("trace_id") && plain.contains("# TYPE fanfare_requests_total counter\n"));

    let scrape = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: fanfare\n  static_configs: [{{targets: ['{}']}}]\n",
        fanfare.admin()
    );
    let prometheus = consumers::prometheus_with(&scrape, &["--enable-feature=exemplar-storage"]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let query = format!(
        "/api/v1/query_exemplars?query=request_duration_seconds_bucket&start={}&end={}",
        now - 600,
        now + Duration::from_secs(600).as_secs()
    );
    testkit::eventually!("the exemplar", client::get(prometheus.address(), &query).await.text(), |text| text
        .contains(TRACE));
    let series = "/api/v1/query?query=fanfare_requests_total";
    let found = client::get(prometheus.address(), series).await.complete().text();
    assert!(found.contains("\"result\":\"ok\""), "counters keep their names: {found}");
}
