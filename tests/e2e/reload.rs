//! `fanfare run` and its file: routes, and reloads without dropped requests.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::process::Signal;
use testkit::{
    client::{self, RawClient, request_bytes},
    origin::{Origin, Reply},
};

use crate::{config_file::ConfigFile, process::Fanfare};

fn one_route(endpoint: SocketAddr, require: &str) -> String {
    listeners(&format!(
        "
  - listen: 127.0.0.1:0
    routes: [{{to: {{endpoints: ['{endpoint}']}}, require: {require}}}]
"
    ))
}

/// A route to the endpoints in a file.
fn route_to_file(endpoints: &Path) -> String {
    listeners(&format!(
        "
  - listen: 127.0.0.1:0
    routes: [{{to: {{file: {}}}}}]
",
        endpoints.display()
    ))
}

/// A file with one endpoint.
fn write_endpoints(path: &Path, endpoint: SocketAddr) {
    std::fs::write(path, format!("[{{\"targets\": [\"{endpoint}\"]}}]")).expect("it can be written");
}

fn listeners(broadcast: &str) -> String {
    format!("admin: {{listen: 127.0.0.1:0}}\nthreads: 2\nbroadcast:{broadcast}")
}

async fn reloads(fanfare: &Fanfare, result: &str) -> bool {
    let wanted = format!("fanfare_config_reloads_total{{result=\"{result}\"}}");
    client::get(fanfare.admin(), "/metrics").await.text().contains(&wanted)
}

#[tokio::test]
async fn every_listener_and_route_has_endpoints_and_a_policy_of_its_own() {
    let (cache, failing, other) =
        (Origin::start(Reply::ok("cache")), Origin::start(Reply::new(500)), Origin::start(Reply::ok("other")));
    let file = ConfigFile::new(&listeners(&format!(
        "
  - listen: 127.0.0.1:0
    routes:
      - {{match: {{methods: [PURGE, BAN], path: /cache/*}}, to: {{endpoints: ['{cache}', '{failing}']}}, require: any}}
      - {{match: {{host: '*.example.org'}}, to: {{endpoints: ['{cache}', '{failing}']}}}}
      - {{match: {{path: /other}}, to: {{endpoints: ['{other}']}}}}
  - listen: 127.0.0.1:0
    routes: [{{to: {{endpoints: ['{other}']}}}}]
",
        cache = cache.address(),
        failing = failing.address(),
        other = other.address(),
    )));
    let fanfare = file.serve().await;
    let [first, second] = *fanfare.addresses() else { panic!("two listeners") };
    let send = async |to, method, path, host| {
        let answer = client::request(to, method, path, &[("Host", host)], b"").await.complete();
        (answer.status, answer.text())
    };
    assert_eq!(send(first, "PURGE", "/cache/a", "h").await, (200, "cache".into()));
    assert_eq!(send(first, "GET", "/cache/a", "www.example.org").await.0, 500);
    assert_eq!(send(first, "GET", "/other", "h").await, (200, "other".into()));
    assert_eq!(send(first, "GET", "/elsewhere", "h").await.0, 404);
    assert_eq!(send(second, "GET", "/elsewhere", "h").await, (200, "other".into()));
}

#[tokio::test]
async fn routes_change_under_load_without_a_lost_request() {
    let (old, new) = (Origin::start(Reply::ok("old")), Origin::start(Reply::ok("new")));
    let file = ConfigFile::new(&one_route(old.address(), "all"));
    let fanfare = file.serve().await;
    let (address, stop, sent) = (fanfare.address(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = |keep: bool| {
        let (stop, sent) = (stop.clone(), sent.clone());
        tokio::spawn(async move {
            let mut client = RawClient::connect(address).await;
            while !stop.load(Ordering::SeqCst) {
                if !keep {
                    client = RawClient::connect(address).await;
                }
                client.send(request_bytes("h", "POST", "/", &[], b"some body")).await;
                let answer = client.read_response("POST").await.complete();
                assert_eq!(answer.status, 200, "{}", answer.text());
                sent.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let clients = [load(true), load(true), load(false)];
    old.wait_requests(50).await;
    file.write(&one_route(new.address(), "majority"));
    new.wait_requests(50).await;
    file.write(&one_route(old.address(), "any"));
    let before = old.requests().len();
    old.wait_requests(before + 50).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("every request is answered with 200");
    }
    let total = old.requests().len() + new.requests().len();
    assert_eq!(total, sent.load(Ordering::SeqCst), "each request has reached one of the two, once");
    assert!(reloads(&fanfare, "applied").await);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why() {
    let origin = Origin::start(Reply::ok("fine"));
    let file = ConfigFile::new(&one_route(origin.address(), "all"));
    let fanfare = file.serve().await;
    let good = |require| one_route(origin.address(), require);
    for (text, why) in [
        (good("most"), "broadcast[0].routes[0].require: \"most\""),
        ("broadcast: [".to_owned(), "line "),
        (good("all").replace("listen: 127.0.0.1:0\n", "listen: 127.0.0.2:0\n"), "restart"),
        (good("all").replace("threads: 2", "threads: 3"), "restart"),
        (good("all").replace("admin:", "drain_delay: 1s\nlog_format: json\nadmin:"), "log_format needs a restart"),
    ] {
        file.write(&text);
        let line = |log: &str| log.lines().any(|line| line.contains("refused") && line.contains(why));
        fanfare.stderr.wait(&format!("the refusal: {why}"), line).await;
        let config = client::get(fanfare.admin(), "/-/config").await.text();
        assert!(config.contains("\"require\": \"all\"") && config.contains("\"drain_delay\": \"0s\""), "{config}");
        client::get(fanfare.address(), "/").await.complete().expect_status(200);
        fanfare.wait_ready().await;
    }
    testkit::eventually!("the refusal to be counted", reloads(&fanfare, "refused").await, |counted| *counted);
    let in_force = async || client::get(fanfare.admin(), "/metrics").await.text();
    let not_in_force = |metrics: &String| metrics.contains("fanfare_config_in_force 0");
    testkit::eventually!("the file not to be in force", in_force().await, not_in_force);
    file.write(&good("all"));
    fanfare.stderr.wait("the end of the refusal", |log| log.contains("is again the one that is in use")).await;
    file.write(&good("most"));
    testkit::eventually!("the next refusal", in_force().await, not_in_force);
    file.write(&good("any"));
    testkit::eventually!("the good file to be in force", in_force().await, |text| text
        .contains("fanfare_config_in_force 1"));
    assert!(client::get(fanfare.admin(), "/-/config").await.text().contains("\"require\": \"any\""));
}

#[tokio::test]
async fn sighup_reloads() {
    let (old, new) = (Origin::start(Reply::ok("old")), Origin::start(Reply::ok("new")));
    let file = ConfigFile::new(&one_route(old.address(), "all"));
    let fanfare = file.serve().await;
    fanfare.signal(Signal::HUP);
    testkit::eventually!("the reload to be counted", reloads(&fanfare, "unchanged").await, |counted| *counted);
    file.write(&one_route(new.address(), "all"));
    fanfare.signal(Signal::HUP);
    let answer = async || client::get(fanfare.address(), "/").await.complete().text();
    testkit::eventually!("the new route", answer().await, |text| text == "new");
}

#[tokio::test]
async fn a_signal_during_a_reload_takes_effect_after_it() {
    let origin = Origin::start(Reply::ok("fine"));
    let file = ConfigFile::new(&one_route(origin.address(), "all"));
    let endpoints = file.path.with_file_name("endpoints.json");
    let fanfare = file.serve().await;
    file.write(&route_to_file(&endpoints));
    fanfare.stderr.wait("the reload to wait for the missing file", |log| log.contains("endpoints.json")).await;
    fanfare.signal(Signal::HUP);
    fanfare.stderr.wait("the signal", |log| log.contains("SIGHUP")).await;
    write_endpoints(&endpoints, origin.address());
    testkit::eventually!("the reload", reloads(&fanfare, "applied").await, |counted| *counted);
    testkit::eventually!("the one asked for", reloads(&fanfare, "unchanged").await, |counted| *counted);
}

#[tokio::test]
async fn a_new_route_waits_for_its_first_list_and_the_old_one_serves_meanwhile() {
    let (old, new) = (Origin::start(Reply::ok("old")), Origin::start(Reply::ok("new")));
    let file = ConfigFile::new(&one_route(old.address(), "all"));
    let endpoints = file.path.with_file_name("endpoints.json");
    let fanfare = file.serve().await;
    file.write(&route_to_file(&endpoints));
    fanfare.stderr.wait("the missing file to be noticed", |log| log.contains("endpoints.json")).await;
    assert_eq!(client::get(fanfare.address(), "/").await.complete().text(), "old");
    write_endpoints(&endpoints, new.address());
    let answer = async || client::get(fanfare.address(), "/").await.complete();
    let answer = testkit::eventually!("the new route", answer().await, |answer| answer.text() != "old");
    assert_eq!((answer.status, answer.text().as_str()), (200, "new"), "no answer in between is an error");
}
