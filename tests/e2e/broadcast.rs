//! `fanfare broadcast`: its flags, and the errors and warnings about them.

use rustix::process::Signal;
use testkit::{
    client::{self, RawClient, request_bytes},
    origin::{Origin, Reply},
};

use crate::process::{Fanfare, run};

#[tokio::test]
async fn one_request_reaches_every_endpoint_and_one_answer_comes_back() {
    let origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")), Origin::start(Reply::ok("three"))];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &[]).await;
    fanfare.wait_ready().await;
    let answer = client::request(fanfare.address(), "PURGE", "/a?b=%20", &[("X-Key", "v")], b"body").await.complete();
    assert_eq!(answer.status, 200);
    assert!(["one", "two", "three"].contains(&answer.text().as_str()), "{}", answer.text());
    for origin in &origins {
        let seen = origin.wait_requests(1).await.remove(0).complete();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PURGE", "/a?b=%20"));
        assert_eq!(seen.body, b"body");
    }
}

#[tokio::test]
async fn answers_that_differ_are_told_as_the_flags_say() {
    let body = |n: u8, ms: u8| Reply::ok(format!("{{\"n\": {n}, \"took\": {{\"ms\": {ms}}}}}"));
    let origins = [Origin::start(body(1, 10)), Origin::start(body(1, 20)), Origin::start(body(2, 10))];
    let flags =
        ["--compare", "body", "--compare-ignore", "/took/ms", "--compare-ignore=id-[0-9]+", "--access-log", "json"];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &flags).await;
    fanfare.wait_ready().await;
    let answer = client::get(fanfare.address(), "/").await.complete().expect_status(200);
    assert_eq!(answer.header("x-broadcast-divergent"), Some("1"));
    let accept = [("Accept", "application/vnd.broadcast+json; bodies=6")];
    let report = client::request(fanfare.address(), "GET", "/", &accept, b"").await.complete();
    let report: serde_json::Value = serde_json::from_slice(&report.body).expect("a report");
    let results = report["results"].as_array().expect("results");
    assert_eq!(results.iter().filter(|leg| leg["diverges"] == true).count(), 1, "{report}");
    let ends: Vec<_> = results.iter().map(|leg| (&leg["body"], &leg["truncated"])).collect();
    assert_eq!(ends, [(&"{\"n\": ".into(), &true.into()); 3], "{report}");
    let metrics = testkit::eventually!("two requests", client::get(fanfare.admin(), "/metrics").await.text(), |text| {
        text.lines().any(|line| line.starts_with("fanfare_divergent_requests_total{") && line.ends_with(" 2"))
    });
    assert!(metrics.contains("# TYPE fanfare_divergent_requests_total counter"));
    fanfare.signal(Signal::TERM);
    let finished = fanfare.finish().await;
    let logged = finished.stdout.lines().filter(|line| line.contains("\"divergent\":1")).count();
    assert_eq!(logged, 2, "{}", finished.stdout);
}

#[tokio::test]
async fn invalid_comparisons_are_reported_before_the_start() {
    for (flags, part) in [
        (&["--compare", "bodies"][..], "off, status or body"),
        (&["--compare-ignore", "/a"][..], "--compare body"),
        (&["--compare=body", "--compare-ignore", "("][..], "neither a JSON pointer"),
    ] {
        let finished = run(["broadcast", "--endpoints", "127.0.0.1:1"].iter().chain(flags)).await;
        assert!(finished.code != Some(0) && finished.stderr.contains(part), "{flags:?}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn http2_is_spoken_with_clients_and_endpoints_as_the_flags_say() {
    let origin = Origin::start(Reply::ok("fine"));
    let both = Fanfare::broadcast(&[origin.address()], &[]).await;
    let only_http1 = Fanfare::broadcast(&[origin.address()], &["--http2=false"]).await;
    let post = async |to: &Fanfare, protocol: &str| {
        let before = origin.requests().len();
        let outer = Fanfare::broadcast(&[to.address()], &["--upstream-protocol", protocol]).await;
        outer.wait_ready().await;
        let answer = client::request(outer.address(), "POST", "/a", &[], b"body").await.complete();
        (answer.status, origin.requests().len() - before)
    };
    for process in [&both, &only_http1] {
        process.wait_ready().await;
        assert_eq!(post(process, "http1").await, (200, 1));
        assert_eq!(post(process, "auto").await, (200, 1));
    }
    assert_eq!(post(&both, "h2").await, (200, 1));
    assert_eq!(post(&only_http1, "h2").await, (502, 0), "it does not speak HTTP/2");
    for request in origin.requests() {
        assert_eq!((request.complete().body.as_slice()), b"body");
    }
}

#[tokio::test]
async fn the_short_flags_and_the_spellings_of_switches_work() {
    let origin = Origin::start([Reply::new(500), Reply::ok("fine")]);
    let endpoints = origin.address().to_string();
    let arguments = [
        "broadcast",
        "-i127.0.0.1:0",
        "-m=127.0.0.1:0",
        "-t",
        "2s",
        "-l",
        "debug",
        "-n",
        "shop",
        "-k",
        "/nowhere",
        "--keepalive=false",
        "--no-all-must-succeed",
        "--endpoints",
        &endpoints,
        "--threads=1",
    ];
    let fanfare = Fanfare::serve(arguments).await;
    fanfare.wait_ready().await;
    let config: serde_json::Value =
        serde_json::from_str(&client::get(fanfare.admin(), "/-/config").await.text()).expect("a document");
    let route = &config["broadcast"][0]["routes"][0];
    assert_eq!((&route["require"], &route["timeout"]), (&"any".into(), &"2s".into()));
    let mut client = RawClient::connect(fanfare.address()).await;
    client.send(request_bytes("h", "GET", "/", &[], b"")).await;
    assert_eq!(client.read_response("GET").await.complete().status, 500);
    client.wait_end().await;
}

#[tokio::test]
async fn every_flag_of_the_tool_it_replaces_is_in_the_help() {
    let help = run(["broadcast", "--help"]).await;
    assert_eq!(help.code, Some(0));
    for flag in [
        "--all-must-succeed",
        "-i, --interface",
        "--keepalive",
        "-k, --kubeconfig",
        "-l, --log-level",
        "-m, --metrics-interface",
        "-n, --namespace",
        "-p, --port-name",
        "-s, --service",
        "-t, --timeout",
    ] {
        assert!(help.stdout.contains(flag), "{flag} is missing in\n{}", help.stdout);
    }
}

#[tokio::test]
async fn every_problem_of_the_flags_is_printed_at_once() {
    let refused = run([
        "broadcast",
        "--service",
        "Shop",
        "--endpoints",
        "a:1",
        "--timeout",
        "10",
        "--require",
        "most",
        "--window",
        "1KiB",
        "--trust-forwarded",
        "10.0.0.0/40",
        "--allow",
        "GET nowhere",
        "--all-must-succeed=true",
    ])
    .await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""));
    let expected = [
        "8 problems",
        "--service, --endpoints, --endpoints-file, --endpoints-url, --endpoints-dns: exactly one",
        "--all-must-succeed: ",
        "--service: \"Shop\"",
        "--timeout: \"10\" is not a duration",
        "--require: \"most\"",
        "--window: 1024 B",
        "--trust-forwarded: \"10.0.0.0/40\"",
        "--allow: \"nowhere\"",
    ];
    for line in expected {
        assert!(refused.stderr.contains(line), "{line} is missing in\n{}", refused.stderr);
    }
}

#[tokio::test]
async fn bad_usage_is_64_and_help_is_not_an_error() {
    for arguments in [&["broadcast", "--bogus"][..], &["bogus"], &[], &["broadcast"], &["run"], &["check", "-x"]] {
        let refused = run(arguments).await;
        assert_eq!(refused.code, Some(64), "{arguments:?}");
        assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--version"][..], &["--help"], &["run", "--help"], &["help"], &["help", "elect"]] {
        let told = run(arguments).await;
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// The tests are built where the binary is.
#[tokio::test]
async fn in_a_git_checkout_the_version_has_its_commit() {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version = run(["--version"]).await.stdout;
    let given = option_env!("FANFARE_COMMIT").filter(|commit| !commit.is_empty());
    match given.map(str::to_owned).or_else(|| git(&["rev-parse", "--short=12", "HEAD"])) {
        Some(commit) => assert_eq!(version, format!("fanfare {} ({commit})\n", env!("CARGO_PKG_VERSION"))),
        None => assert_eq!(version, format!("fanfare {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    for (interface, admin) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let refused = run(["broadcast", "-i", interface, "-m", admin, "--endpoints", "127.0.0.1:1"]).await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(&address), "{}", refused.stderr);
        assert_eq!(refused.stderr.matches("already in use").count(), 1, "why is said, and once: {}", refused.stderr);
    }
}

#[tokio::test]
async fn a_service_without_a_way_to_kubernetes_says_what_to_do() {
    let refused = run(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "-s", "shop/cache"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--kubeconfig"), "{}", refused.stderr);
}

#[tokio::test]
async fn one_list_has_statuses_for_every_method_and_for_single_ones() {
    let [ok, missing] = [Origin::start(Reply::ok("ok")), Origin::start(Reply::new(404))];
    let endpoints = [ok.address(), missing.address()];
    let fanfare = Fanfare::broadcast(&endpoints, &["--success", "200,PURGE=200,404"]).await;
    fanfare.wait_ready().await;
    for (method, counts) in [("PURGE", "ok=2, failed=0"), ("GET", "ok=1, failed=1")] {
        let answer = client::request(fanfare.address(), method, "/", &[], b"").await;
        let result = answer.header("x-broadcast-result").unwrap_or_default().to_owned();
        assert!(result.contains(counts), "{method}: {result}");
    }
    let refused = run(["broadcast", "--endpoints", "192.0.2.1:80", "--success", "PURGE=200", "--success", "404"]).await;
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("--success") && refused.stderr.contains("PURGE=200,404"), "{}", refused.stderr);
}

#[tokio::test]
async fn the_words_that_help_shows_as_defaults_are_values() {
    let origin = Origin::start(Reply::ok("fine"));
    let flags = [
        "--allow=everything",
        "--trust-forwarded=nobody",
        "--max-body=unlimited",
        "--first-byte-timeout=none",
        "--namespace=every namespace",
        "--host=the client's",
    ];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let seen = client::request(fanfare.address(), "GET", "/", &[("Forwarded", "for=1.1.1.1")], b"").await;
    assert_eq!(seen.status, 200);
    let seen = origin.wait_requests(1).await.remove(0);
    assert!(!seen.headers.contains("forwarded"), "nobody is trusted: {seen}");
}

#[tokio::test]
async fn via_names_the_deployment() {
    let origin = Origin::start(Reply::ok("fine"));
    let via = async |flags: &[&str], environment: &[(&str, &str)]| {
        let endpoints = origin.address().to_string();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints", &endpoints]);
        command.args(flags).env_remove("POD_NAMESPACE").env_remove("POD_SERVICE").envs(environment.iter().copied());
        let mut fanfare = Fanfare::spawn(command);
        fanfare.wait_listening().await;
        fanfare.wait_ready().await;
        let before = origin.requests().len();
        assert_eq!(client::get(fanfare.address(), "/").await.status, 200);
        let seen = origin.wait_requests(before + 1).await.remove(before);
        let via = seen.headers.get("via").unwrap_or_default().to_owned();
        assert_eq!(client::request(fanfare.address(), "GET", "/", &[("Via", &via)], b"").await.status, 508);
        via
    };
    assert_eq!(via(&["--via-name", "edge"], &[]).await, "1.1 edge");
    let pod = [("POD_NAMESPACE", "shop"), ("POD_SERVICE", "fanfare")];
    let replica = via(&[], &pod).await;
    assert!(replica.starts_with("1.1 fanfare-shop-fanfare-"), "{replica}");
    assert_eq!(via(&[], &pod).await, replica, "replicas have the same");
    assert_ne!(
        via(&[], &[("POD_NAMESPACE", "edge"), ("POD_SERVICE", "fanfare")]).await,
        replica,
        "another tier has not"
    );
    // Outside of a pod every listener is its own.
    assert_ne!(via(&[], &[]).await, via(&[], &[]).await);
}

#[tokio::test]
async fn the_route_changes_what_its_flags_say() {
    let origin = Origin::start(Reply::ok("fine").header("Server", "x"));
    let flags = [
        "--strip-prefix=/api",
        "--host={authority}",
        "--set-header=X-Tier: edge",
        "--add-header=X-Tag: a",
        "--remove-header=Cookie",
        "--remove-response-header=Server",
        "--set-response-header=Cache-Control: no-store",
        "--lenient-target",
    ];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let fields = [("Host", "shop"), ("Cookie", "c"), ("X-Tier", "none")];
    let answer = client::request(fanfare.address(), "BAN", "/api/^(a|b)$?q", &fields, b"").await.complete();
    assert_eq!((answer.status, answer.header("cache-control"), answer.header("server")), (200, Some("no-store"), None));
    let seen = origin.wait_requests(1).await.remove(0);
    assert_eq!(seen.target, "/^(a|b)$?q");
    assert_eq!(seen.headers.all("host"), [origin.address().to_string()]);
    assert_eq!((seen.headers.all("x-tier"), seen.headers.all("x-tag")), (vec!["edge"], vec!["a"]));
    assert!(!seen.headers.contains("cookie"), "{seen}");
    let refused = run(["broadcast", "--endpoints", "192.0.2.1:80", "--set-header", "Transfer-Encoding: chunked"]).await;
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("--set-header: Transfer-Encoding cannot be changed"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_flag_without_effect_is_a_warning_at_start() {
    let origin = Origin::start(Reply::ok("fine"));
    let flags = ["--require=2", "--timeout=1s", "--connect-timeout=2s", "--allow=get /x", "--allow=GET"];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    let log = fanfare.stderr.wait("the warnings", |log| log.contains("--connect-timeout")).await;
    for told in [
        "--require: every request fails",
        "--connect-timeout: is more than the 1s",
        "--allow: \"get\" is not the method GET",
    ] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(told)), "{told}: {log}");
    }
}
