//! curl and h2load as clients: their requests reach every endpoint, and they accept the answers.

use testkit::clients::{curl, h2load};
use testkit::origin::{Reply, Request};

use super::{Certificates, PROXY};
use crate::fixture::{Proxy, assert_head_over, bytes, ms, origins, over};

/// The last output of curl: the version of HTTP and the status.
const TOLD: [&str; 2] = ["--write-out", "\\n%{http_version} %{http_code}"];

/// The arguments with which curl connects to the proxy with TLS and by its name, and the URL.
fn by_tls(proxy: &Proxy, certificates: &Certificates, path: &str) -> Vec<String> {
    let port = proxy.address.port();
    let ca = certificates.proxy.path("ca.crt").display().to_string();
    let url = format!("https://{PROXY}:{port}{path}");
    vec!["--resolve".into(), format!("{PROXY}:{port}:127.0.0.1"), "--cacert".into(), ca, url]
}

fn in_clear(proxy: &Proxy, path: &str) -> Vec<String> {
    vec![format!("http://{}{path}", proxy.address)]
}

/// The output of curl.
async fn curl_with(url: Vec<String>, arguments: &[&str]) -> String {
    curl(url.into_iter().chain(arguments.iter().map(ToString::to_string))).await
}

/// Whether curl received 100 Continue.
fn was_asked(written: &str) -> bool {
    written.lines().any(|line| line.starts_with("HTTP/") && line.split(' ').nth(1) == Some("100"))
}

/// The version in the `Via` of a copy, and the scheme that its client used.
fn came_over(seen: &Request) -> (String, String) {
    let field = |name: &str| seen.headers.get(name).unwrap_or_else(|| panic!("no {name} in {seen}")).to_owned();
    (field("via").split(' ').next().unwrap_or_default().to_owned(), field("x-forwarded-proto"))
}

#[tokio::test]
async fn curl_is_served_by_the_version_that_it_asks_for() {
    let certificates = Certificates::new();
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let clear = over(&[&a, &b]).start();
    let secured = over(&[&a, &b]).clients_by_tls(&certificates).start();
    let cases: [(&Proxy, &str, &str, &str); 6] = [
        (&clear, "--http2-prior-knowledge", "2", "2.0"),
        (&clear, "--http1.1", "1.1", "1.1"),
        // It offers an upgrade to HTTP/2, which a server may ignore (RFC 9113 section 3.1).
        (&clear, "--http2", "1.1", "1.1"),
        (&secured, "--http2", "2", "2.0"),
        (&secured, "--http1.1", "1.1", "1.1"),
        (&secured, "--http2-prior-knowledge", "2", "2.0"),
    ];
    for (number, (proxy, version, told, via)) in cases.into_iter().enumerate() {
        let is_secured = std::ptr::eq(proxy, &raw const secured);
        let url = if is_secured { by_tls(proxy, &certificates, "/x?y") } else { in_clear(proxy, "/x?y") };
        let written = curl_with(url, &[version, TOLD[0], TOLD[1], "--request", "PURGE"]).await;
        assert_eq!(written, format!("a\n{told} 200"), "{version}");
        for endpoint in [&a, &b] {
            let seen = endpoint.wait_requests(number + 1).await.remove(number).complete();
            assert_eq!((&*seen.method, &*seen.target), ("PURGE", "/x?y"));
            let scheme = if is_secured { "https" } else { "http" };
            assert_eq!(came_over(&seen), (via.to_owned(), scheme.to_owned()), "{version}");
            for name in ["upgrade", "connection", "http2-settings"] {
                assert_eq!(seen.headers.get(name), None, "{name} with {version}: {seen}");
            }
        }
    }
}

#[tokio::test]
async fn what_curl_sends_reaches_endpoints_byte_for_byte() {
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).start();
    let arguments = ["--http2-prior-knowledge", "--user-agent", "test", "--header", "X-Own: 1", "--cookie", "a=1; b=2"];
    curl_with(in_clear(&proxy, "/a%2Fb?c"), &arguments).await;
    for endpoint in [&a, &b] {
        let seen = endpoint.wait_requests(1).await.remove(0).complete();
        let host = proxy.address.to_string();
        let lines = format!(
            "GET /a%2Fb?c HTTP/1.1\r\nHost: {host}\r\ncookie: a=1; b=2\r\nuser-agent: test\r\naccept: */*\r\nx-own: 1\r\n"
        );
        assert_head_over("2.0", &seen, &lines, &host);
    }
}

#[tokio::test]
async fn what_curl_uploads_arrives_whole_also_when_it_waits_to_be_asked() {
    let certificates = Certificates::new();
    let long = bytes(5_000_000);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("body");
    std::fs::write(&file, &long).expect("it can be written");
    let file = format!("@{}", file.display());
    let [a, b] = origins([Reply::ok("a"), Reply::ok("b")]);
    let proxy = over(&[&a, &b]).clients_by_tls(&certificates).start();
    let mut count = 0;
    for version in ["--http2", "--http1.1"] {
        for more in [
            &["--header", "Expect: 100-continue"][..],
            &["--header", "Expect:"],
            &["--header", "Transfer-Encoding: chunked", "--header", "Expect:"],
        ] {
            let arguments = ["--include", version, TOLD[0], TOLD[1], "--request", "PUT", "--data-binary", &file];
            let written = curl_with(by_tls(&proxy, &certificates, "/p"), &[&arguments, more].concat()).await;
            assert!(written.ends_with(" 200"), "{version} {more:?}: {written}");
            assert_eq!(was_asked(&written), more[1] == "Expect: 100-continue", "{version} {more:?}: {written}");
            count += 1;
            for endpoint in [&a, &b] {
                let seen = endpoint.wait_requests(count).await.remove(count - 1).complete();
                assert!(seen.body == long, "{} bytes with {version} {more:?}", seen.body.len());
                assert_eq!(seen.headers.get("expect"), None);
            }
        }
    }
}

#[tokio::test]
async fn an_upload_that_nobody_may_make_is_refused_before_its_body() {
    let [a] = origins([Reply::ok("a")]);
    let proxy = over(&[&a]).policy(|policy| policy.max_body = Some(1_000)).start();
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("body").display().to_string();
    std::fs::write(&file, bytes(100_000)).expect("it can be written");
    let upload = format!("@{file}");
    let arguments = ["--http1.1", "--include", TOLD[0], TOLD[1], "--header", "Expect: 100-continue"];
    let written = curl_with(in_clear(&proxy, "/p"), &[&arguments[..], &["--data-binary", &upload]].concat()).await;
    assert!(written.ends_with(" 413") && !was_asked(&written), "{written}");
    // With HTTP/2, curl 7.88 treats RST_STREAM with NO_ERROR after a complete answer as a failure.
    let url = format!("http://{}/p", proxy.address);
    let written = h2load(["--requests", "3", "--clients", "1", "--data", &file, &url]).await;
    assert!(written.contains("status codes: 0 2xx, 0 3xx, 3 4xx, 0 5xx"), "{written}");
    a.assert_untouched();
}

#[tokio::test]
async fn curl_reads_the_trailers_of_the_chosen_answer() {
    let reply = |text: &str| Reply::ok("").chunked([text]).trailer("X-Sum", text);
    let [a, b] = origins([reply("a"), reply("b")]);
    let proxy = over(&[&a, &b]).start();
    for arguments in [
        &["--http2-prior-knowledge", "--include"][..],
        &["--http1.1", "--include", "--header", "TE: trailers", "--header", "Connection: TE"],
    ] {
        let written = curl_with(in_clear(&proxy, "/"), arguments).await;
        // They come behind the body, which ends no line.
        assert_eq!(written.to_lowercase().matches("x-sum: a\r\n").count(), 1, "{written}");
    }
}

#[tokio::test]
async fn failures_have_a_text_that_curl_shows() {
    let dead = crate::fixture::refusing(0);
    let proxy = over(&[&dead]).policy(|policy| policy.timeouts.connect = ms(500)).start();
    for version in ["--http2-prior-knowledge", "--http1.1"] {
        let written = curl_with(in_clear(&proxy, "/"), &[version, "--include", TOLD[0], TOLD[1]]).await;
        let written = written.to_lowercase();
        assert!(written.ends_with(" 502") && written.contains("content-type: application/problem+json"), "{written}");
        assert!(written.contains("x-broadcast-result: total=1, ok=0, failed=1, pending=0, required=1"), "{written}");
    }
}

/// Runs h2load with requests on several connections, each with several streams at a time.
async fn assert_all_succeed(proxy: &Proxy, endpoints: &[&testkit::origin::Origin], by_tls: bool, more: &[&str]) {
    const REQUESTS: usize = 600;
    let before: Vec<_> = endpoints.iter().map(|endpoint| endpoint.requests().len()).collect();
    let scheme = if by_tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{}/load", proxy.address.port());
    let requests = REQUESTS.to_string();
    let own = ["--requests", &requests, "--clients", "4", "--max-concurrent-streams", "32"];
    let written = h2load(own.iter().chain(more).copied().chain([&*url])).await;
    assert!(
        written.contains(&format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout")),
        "with {more:?}: {written}"
    );
    assert!(written.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{written}");
    for (endpoint, before) in endpoints.iter().zip(before) {
        let seen = endpoint.wait_requests(before + REQUESTS).await.split_off(before);
        assert!(seen.iter().all(|seen| seen.is_complete() && seen.target == "/load"), "{} copies", seen.len());
        let want = more.last().filter(|path| path.starts_with('/')).map(|path| std::fs::read(path).expect("a file"));
        assert!(seen.iter().all(|seen| seen.body == want.as_deref().unwrap_or_default()), "with {more:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_h2load_fails_and_every_endpoint_gets_each_once() {
    let certificates = Certificates::new();
    let [a, b, c] = origins([Reply::ok(bytes(2_000)), Reply::ok("b"), Reply::ok("c")]);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("body");
    std::fs::write(&file, bytes(40_000)).expect("it can be written");
    let file = file.display().to_string();
    let clear = over(&[&a, &b, &c]).config(|config| config.threads = 2).start();
    let secured = over(&[&a, &b, &c]).config(|config| config.threads = 2).clients_by_tls(&certificates).start();
    for (proxy, by_tls) in [(&clear, false), (&secured, true)] {
        for version in [&[][..], &["--h1"]] {
            for body in [&[][..], &["--data", &file]] {
                assert_all_succeed(proxy, &[&a, &b, &c], by_tls, &[version, body].concat()).await;
            }
        }
        proxy.settled().await;
    }
}
