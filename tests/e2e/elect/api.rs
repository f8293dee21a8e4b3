//! The HTTP API: the four fields of the original, further ones on other paths, and never an outdated state.

use kubekit::{cluster, relay::Relay};
use rustix::process::Signal;
use testkit::client;

use super::{candidate, elect, json, until_leading};

#[tokio::test]
async fn every_path_that_is_not_ours_answers_as_the_original_does() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let fanfare = elect(
        account.kubeconfig_path(),
        &namespace,
        "one",
        &["-v=2", "-logtostderr", "-stderrthreshold", "INFO", "-label=false"],
    );
    until_leading(&fanfare, true).await;
    for path in ["/", "/any/path?x=y"] {
        let brief = json(&fanfare, path).await;
        let keys: Vec<&str> = brief.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["is_leader", "leader", "node", "timestamp"]);
        assert_eq!(
            (&brief["is_leader"], &brief["leader"], &brief["node"]),
            (&true.into(), &"one".into(), &"one".into())
        );
        let timestamp = brief["timestamp"].as_str().expect("a text");
        assert!(timestamp.len() == 20 && timestamp.ends_with('Z'), "whole seconds in UTC: {timestamp}");
    }
    let state = json(&fanfare, "/v1/elections/example").await;
    let token = &state["fencing_token"];
    assert!(token["lease_uid"].as_str().is_some_and(|uid| uid.len() == 36), "{state}");
    assert_eq!(token["transitions"], state["transitions"]);
    assert!(state["valid_for_ms"].as_u64().is_some_and(|ms| ms <= 2500), "never more than the claim: {state}");
    let address = fanfare.listening("for elect").await;
    for (path, status) in [
        ("/leader", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v1/elections", 200),
        ("/v1/nothing", 404),
        ("/v1/elections/other", 404),
    ] {
        assert_eq!(client::get(address, path).await.complete().status, status, "{path}");
    }
    let metrics = client::get(address, "/metrics").await.complete().text();
    assert!(metrics.contains("leader_election_master_status{name=\"example\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_second_candidate_waits_and_takes_over_when_the_first_steps_down() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    let before = until_leading(&one, true).await;
    let two = elect(account.kubeconfig_path(), &namespace, "two", &["-label=false"]);
    let told = testkit::eventually!("two to know", json(&two, "/").await, |brief| brief["leader"] == "one");
    assert_eq!(told["is_leader"], false);
    let two_address = two.listening("for elect").await;
    assert_eq!(client::get(two_address, "/leader").await.complete().status, 503);

    // A long poll is answered when the state changes.
    let index = json(&two, "/v1/state").await["index"].clone();
    let poll = tokio::spawn({
        let path = format!("/v1/state?wait=60s&index={index}");
        async move { client::get(two_address, &path).await.complete().text() }
    });
    let one_address = one.listening("for elect").await;
    let answer = client::request(one_address, "POST", "/v1/step-down", &[], b"").await.complete();
    assert_eq!((answer.status, &*answer.text()), (200, "{\"released\":true}"), "{answer}");
    assert_eq!(client::get(one_address, "/leader").await.complete().status, 503, "it ends before the answer");
    let polled = poll.await.expect("it is answered");
    assert!(!polled.contains("\"leader\":\"one\""), "{polled}");
    let after = until_leading(&two, true).await;
    assert!(after["transitions"].as_u64() > before["transitions"].as_u64(), "{before} {after}");
    let refused = client::request(one_address, "POST", "/v1/step-down", &[], b"").await.complete();
    assert_eq!(refused.status, 409, "only a leader can step down");
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_make_it_step_down_and_a_token_can() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), "s3cret\n").expect("it can be written");
    let flag = format!("-step-down-token-file={}", token.path().display());
    let fanfare = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false", &flag]);
    until_leading(&fanfare, true).await;
    let address = fanfare.listening("for elect").await;
    let post = async |fields: &[(&str, &str)]| {
        client::request(address, "POST", "/v1/step-down", fields, b"").await.complete().status
    };
    assert_eq!(post(&[("Origin", "http://elsewhere.example")]).await, 403);
    assert_eq!(post(&[("Authorization", "Bearer wrong")]).await, 403);
    assert_eq!(json(&fanfare, "/").await["is_leader"], true);
    assert_eq!(post(&[("Authorization", "Bearer s3cret")]).await, 200);
    let shown = client::get(address, "/v1/elections").await.complete().text();
    assert!(!shown.contains("s3cret"));
}

#[tokio::test]
async fn a_watcher_is_told_of_the_end_of_a_claim_that_nobody_could_renew() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    let fanfare = elect(kubeconfig.path(), &namespace, "one", &["-label=false"]);
    until_leading(&fanfare, true).await;
    let mut watcher = client::RawClient::connect(fanfare.listening("for elect").await).await;
    watcher.send("GET /watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let mut response = watcher.read_head("GET").await;
    assert_eq!(response.headers.get("content-type"), Some("text/event-stream"));
    let mut events = async |needle: &str| {
        let mut seen = 1;
        while !String::from_utf8_lossy(&response.body).contains(needle) {
            watcher.read_body(&mut response, seen).await;
            seen = response.body.len() as u64 + 1;
        }
    };
    events("\"is_leader\":true").await;
    relay.cut().await;
    events("\"is_leader\":false").await;
    let brief = json(&fanfare, "/").await;
    assert_eq!(brief["is_leader"], false, "{brief}");
    assert_ne!(brief["leader"], "one", "nobody who does not lead is told as the leader");
    // client-go's health check fails if a leader outlives its lease. That cannot happen here, and a restart would not help.
    let address = fanfare.listening("for elect").await;
    assert_eq!(client::get(address, "/healthz").await.complete().status, 200);
}

#[tokio::test]
async fn a_process_that_was_stopped_does_not_say_that_it_still_leads() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    until_leading(&one, true).await;
    let two = elect(account.kubeconfig_path(), &namespace, "two", &["-label=false"]);
    let mut asking = client::RawClient::connect(one.listening("for elect").await).await;
    asking.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(asking.read_response("GET").await.text().contains("\"is_leader\":true"));
    one.signal(Signal::STOP);
    until_leading(&two, true).await;
    // It answers this request first, before any of its timers fires.
    asking.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    one.signal(Signal::CONT);
    let answer = asking.read_response("GET").await.text();
    assert!(answer.contains("\"is_leader\":false"), "{answer}");
    assert!(!answer.contains("\"leader\":\"one\""), "{answer}");
    assert_eq!(json(&two, "/").await["is_leader"], true, "and it has not taken it back");
    testkit::eventually!("it to follow", json(&one, "/").await, |brief| brief["leader"] == "two");
}

#[tokio::test]
async fn it_waits_for_an_api_server_that_is_away_and_says_so() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    relay.cut().await;
    let fanfare = elect(kubeconfig.path(), &namespace, "one", &["-label=false"]);
    let problem = |state: &serde_json::Value| state["problem"].as_str().is_some_and(|text| text.contains("leases"));
    let state = testkit::eventually!("a problem", json(&fanfare, "/v1/state").await, problem);
    assert_eq!((&state["known"], &state["is_leader"]), (&false.into(), &false.into()));
    let address = fanfare.listening("for elect").await;
    let ready = client::get(address, "/readyz").await.complete();
    assert!(ready.status == 503 && ready.text().contains("election example"), "{ready}");
    assert_eq!(client::get(address, "/healthz").await.complete().status, 200, "a restart would not help");
    relay.restore().await;
    let state = until_leading(&fanfare, true).await;
    assert_eq!(state["problem"], serde_json::Value::Null);
    assert_eq!(client::get(address, "/readyz").await.complete().status, 200);
}

#[tokio::test]
async fn an_id_is_made_unique_where_that_is_asked_for() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let flags = ["-label=false", "-unique-id"];
    let (one, two) = (
        elect(account.kubeconfig_path(), &namespace, "same", &flags),
        elect(account.kubeconfig_path(), &namespace, "same", &flags),
    );
    let names = [json(&one, "/").await["node"].clone(), json(&two, "/").await["node"].clone()];
    assert_ne!(names[0], names[1]);
    for name in &names {
        let uuid = name.as_str().and_then(|name| name.strip_prefix("same_")).map(str::len);
        assert_eq!(uuid, Some(36), "{name}");
    }
    let known = |brief: &serde_json::Value| names.contains(&brief["leader"]);
    let leader = testkit::eventually!("a leader", json(&one, "/").await, known)["leader"].clone();
    testkit::eventually!("the same one", json(&two, "/").await["leader"].clone(), |other| *other == leader);
}

#[tokio::test]
async fn sigterm_gives_the_lease_back_and_ends_the_process_in_order() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    until_leading(&one, true).await;
    one.signal(Signal::TERM);
    let finished = one.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/example");
    let lease = cluster.read(&lease).await.expect("it is there");
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]), (&"".into(), &1.into()));
}

#[tokio::test]
async fn several_elections_in_one_process_are_told_apart() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let kubeconfig = account.kubeconfig_path().display();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "
kubernetes: {{kubeconfig: '{kubeconfig}'}}
elect:
  - {{name: first, namespace: {namespace}, ttl: 15s, id: one, label: false, http: '127.0.0.1:0'}}
  - {{name: second, namespace: {namespace}, ttl: 15s, id: two, label: false}}
"
    );
    std::fs::write(file.path(), text).expect("it can be written");
    let fanfare = crate::process::Fanfare::start(["run", "--config", file.path().to_str().expect("ASCII")]);
    for (name, id) in [("first", "one"), ("second", "two")] {
        let path = format!("/v1/elections/{name}");
        let state = testkit::eventually!("it to lead", json(&fanfare, &path).await, |state| state["is_leader"] == true);
        assert_eq!((&state["election"], &state["leader"]), (&name.into(), &id.into()));
    }
    assert_eq!(json(&fanfare, "/").await["leader"], "one", "the first answers where none is named");

    // Each election by its name.
    let address = fanfare.listening("for elect").await;
    let ask = async |method: &str, path: &str| client::request(address, method, path, &[], b"").await.complete().status;
    assert_eq!(ask("POST", "/v1/elections/second/step-down").await, 200);
    assert_eq!(ask("GET", "/v1/elections/second/leader").await, 503);
    assert_eq!(ask("GET", "/v1/elections/first/leader").await, 200);
    assert_eq!(ask("POST", "/v1/elections/third/step-down").await, 404);
    let mut watcher = client::RawClient::connect(address).await;
    watcher.send("GET /v1/elections/second/watch HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut response = watcher.read_head("GET").await;
    watcher.read_body(&mut response, 1).await;
    let event = String::from_utf8_lossy(&response.body).into_owned();
    assert!(event.starts_with("event: state\n") && event.contains("\"election\":\"second\""), "{event}");

    // A poll without a change times out, and an invalid one is refused.
    assert_eq!(ask("GET", "/v1/elections/first?wait=100ms").await, 200);
    assert_eq!(ask("GET", "/v1/state?wait=soon").await, 400);
    assert_eq!(ask("GET", "/v1/state?wait=1s&index=x").await, 400);
}

#[tokio::test]
async fn invalid_settings_are_refused_at_once() {
    for (flags, problem) in [
        (&["elect"][..], "--election: is missing"),
        (&["elect", "-election=x", "-ttl=1s"], "--ttl"),
        (&["elect", "-election=x", "-lock-type=secrets"], "--lock-type"),
    ] {
        let finished = crate::process::run(flags).await;
        assert_eq!(finished.code, Some(64), "{}", finished.stderr);
        assert!(finished.stderr.contains(problem), "{flags:?}: {}", finished.stderr);
    }
}

/// Connections to this port of loopback with unread bytes (proc(5), `/proc/net/tcp`).
fn unread(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let is_unread = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[1].ends_with(&format!(":{port:04X}")) && !columns[4].ends_with(":00000000")
    };
    table.lines().skip(1).filter(is_unread).count()
}

#[tokio::test]
async fn waiting_and_silent_connections_keep_no_probe_out() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let fanfare = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    until_leading(&fanfare, true).await;
    let address = fanfare.listening("for elect").await;
    let index = json(&fanfare, "/v1/state").await["index"].clone();
    let mut held = Vec::new();
    for path in ["/watch".to_owned(), format!("/v1/state?wait=10m&index={index}")] {
        for _ in 0..150 {
            let mut client = client::RawClient::connect(address).await;
            client.send(client::request_bytes("x", "GET", &path, &[], b"")).await;
            if path == "/watch" {
                let mut head = client.read_head("GET").await;
                client.read_body(&mut head, 1).await;
            }
            held.push(client);
        }
    }
    // The server has to read every request first: until then its connection counts as silent.
    testkit::eventually!("every request has been read", unread(address.port()), |unread| *unread == 0);
    for _ in 0..150 {
        held.push(client::RawClient::connect(address).await);
    }
    for path in ["/healthz", "/leader", "/readyz"] {
        client::get(address, path).await.complete().expect_status(200);
    }
    // Waiting clients are not cut off: they are quiet, or have an answer after a change.
    for waiting in held[150..300].iter_mut().filter(|client| !client.is_quiet()) {
        waiting.read_response("GET").await.complete().expect_status(200);
    }
}
