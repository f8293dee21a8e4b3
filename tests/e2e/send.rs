//! `fanfare send`: a broadcast from the command line, to real endpoints.

use rustix::process::Signal;
use testkit::{
    http::{BodyMode, digest_of},
    origin::{Gate, Origin, Refusing, Reply},
};
use tokio::process::Command;

use crate::process::{Fanfare, Finished, finish_with_input, run};

/// `fanfare send` to these, with more arguments.
async fn send(endpoints: &[String], arguments: &[&str]) -> Finished {
    let endpoints = endpoints.join(",");
    run(["send", "--endpoints", &endpoints].iter().chain(arguments).copied()).await
}

fn addresses(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.address().to_string()).collect()
}

#[tokio::test]
async fn every_endpoint_gets_the_request_as_it_was_given() {
    let origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::new(204))];
    let arguments = ["PURGE", "/a?b=%20", "-H", "X-A: b: c", "-H", "Accept: text/html", "-d", "body"];
    let sent = send(&addresses(&origins), &arguments).await;
    assert_eq!((sent.code, sent.stderr.as_str()), (Some(0), ""), "{}", sent.stdout);
    for origin in &origins {
        let got = origin.wait_requests(1).await.remove(0).complete();
        assert_eq!((got.method.as_str(), got.target.as_str(), &got.body[..]), ("PURGE", "/a?b=%20", &b"body"[..]));
        assert_eq!(got.headers.get("host"), Some(origin.address().to_string().as_str()), "its own name");
        assert_eq!((got.headers.get("x-a"), got.headers.get("accept")), (Some("b: c"), Some("text/html")));
        assert!(got.headers.get("x-fanfare-send").is_none(), "{}", got.text());
    }
    let lines: Vec<&str> = sent.stdout.lines().collect();
    assert!(
        lines[0].starts_with("ENDPOINT") && lines[0].contains("STATUS") && !lines[0].contains("POD"),
        "{}",
        lines[0]
    );
    for (origin, status) in origins.iter().zip(["200", "204"]) {
        let row = lines.iter().find(|line| line.starts_with(&origin.address().to_string())).expect("each has a row");
        assert!(row.contains(status) && row.contains("ok"), "{row}");
    }
    assert_eq!(lines.last(), Some(&"ok: 2 of 2 endpoints ok, all must be"));
    assert!(!sent.stdout.contains('\x1b'), "what is no terminal is not steered");
}

#[tokio::test]
async fn the_exit_status_says_whether_the_policy_is_met() {
    let origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two"))];
    let down = Refusing::new();
    let mut endpoints = addresses(&origins);
    endpoints.push(down.address().to_string());
    let all = send(&endpoints, &["PURGE", "/"]).await;
    assert_eq!(all.code, Some(1), "{}", all.stderr);
    let row = all.stdout.lines().find(|line| line.starts_with(&endpoints[2])).expect("it has a row");
    assert!(row.contains("connect") && row.contains("refused"), "{row}");
    assert!(all.stdout.ends_with("failed: 2 of 3 endpoints ok, all must be\n"), "{}", all.stdout);
    let majority = send(&endpoints, &["PURGE", "/", "--require", "majority", "-o", "json"]).await;
    assert_eq!((majority.code, majority.stderr.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&majority.stdout).expect("it is the report alone");
    assert_eq!((&report["result"], &report["require"]), (&"partial".into(), &"majority".into()));
    assert_eq!(report["results"].as_array().map(Vec::len), Some(3));
    for origin in &origins {
        origin.wait_requests(2).await;
    }
    let dry = send(&endpoints, &["PURGE", "/", "-H", "X-Broadcast-Dry-Run: true"]).await;
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    assert!(dry.stdout.contains("dry run: 3 endpoints"), "{}", dry.stdout);
    assert_eq!(origins[0].requests().len(), 2, "nothing was sent");
}

#[tokio::test]
async fn data_comes_from_a_file_or_standard_input_and_the_host_can_be_named() {
    let origin = Origin::start(Reply::ok("fine"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "from a file").expect("it can be written");
    let at = format!("@{}", file.path().display());
    let sent =
        send(&addresses(std::slice::from_ref(&origin)), &["POST", "/", "-d", &at, "--host", "www.example"]).await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["send", "POST", "/", "-d", "@-"]).env("FANFARE_ENDPOINTS", origin.address().to_string());
    let sent = finish_with_input(command, "from standard input").await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    let got = origin.wait_requests(2).await;
    assert_eq!((&got[0].body[..], got[0].headers.get("host")), (&b"from a file"[..], Some("www.example")));
    assert_eq!(&got[1].body[..], b"from standard input");
}

/// A body that is larger than what is read before it is sent.
fn long_body() -> Vec<u8> {
    (0..9_000_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

#[tokio::test]
async fn a_long_body_is_sent_whole_with_its_length_if_it_is_a_file() {
    let origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two"))];
    let body = long_body();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &body).expect("it can be written");
    let at = format!("@{}", file.path().display());
    let endpoints = addresses(&origins).join(",");
    for (number, data) in [at.as_str(), "@-"].into_iter().enumerate() {
        let script = r#"cat "$1" | "$2" send POST / --endpoints "$3" -d "$4""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(file.path()).arg(env!("CARGO_BIN_EXE_fanfare"));
        let sent = Fanfare::spawn({
            command.args([&endpoints, data]);
            command
        });
        let sent = sent.finish().await;
        assert_eq!(sent.code, Some(0), "{}{}", sent.stdout, sent.stderr);
        for origin in &origins {
            let got = origin.wait_requests(number + 1).await.remove(number).complete();
            assert_eq!((got.body_length, got.digest), (body.len() as u64, digest_of(&body)), "{data}");
            let length = got.headers.get("content-length").map(str::to_owned);
            assert_eq!(length, (data != "@-").then(|| body.len().to_string()), "{data}");
        }
    }
}

#[tokio::test]
async fn a_body_that_never_ends_needs_no_memory_and_is_cut_by_an_interrupt() {
    let origin = Origin::builder().body_mode(BodyMode::Digest).start(Reply::ok("fine"));
    let endpoint = origin.address().to_string();
    let sending =
        Fanfare::start(["send", "POST", "/", "--endpoints", &endpoint, "-d", "@/dev/zero", "--timeout", "1h"]);
    let received = || origin.journal().requests.first().map_or(0, |request| request.body_length);
    testkit::eventually!("more than a buffer holds", received(), |bytes| *bytes > 100 << 20);
    let status = std::fs::read_to_string(format!("/proc/{}/status", sending.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 60 << 10, "{peak} kB");
    sending.signal(Signal::INT);
    assert_eq!(sending.finish().await.code, Some(130));
    let over = testkit::eventually!("the end", origin.journal().over(), |over| !over.is_empty());
    assert!(!over[0].is_complete(), "a cut body is not a whole one");
}

#[tokio::test]
async fn data_that_cannot_be_read_is_named_before_anything_is_sent() {
    let (origin, folder) = (Origin::start(Reply::ok("fine")), tempfile::tempdir().expect("a temporary folder"));
    let endpoints = addresses(std::slice::from_ref(&origin));
    let link = folder.path().join("loop");
    std::os::unix::fs::symlink(&link, &link).expect("a link");
    for (path, why) in [
        (folder.path(), "Is a directory"),
        (&folder.path().join("none"), "No such file"),
        (&link, "Too many levels of symbolic links"),
    ] {
        let data = format!("@{}", path.display());
        let wrong = send(&endpoints, &["POST", "/", "-d", &data]).await;
        assert_eq!(wrong.code, Some(64), "{}", wrong.stderr);
        let told = format!("cannot read {}: {why}", path.display());
        assert!(wrong.stderr.contains(&told), "{}", wrong.stderr);
    }
    origin.assert_untouched();
    // Closed standard input is an empty one.
    let script = r#"exec "$1" send POST / --endpoints "$2" -d @- <&-"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_fanfare"), &endpoints[0]]);
    let sent = Fanfare::spawn(command).finish().await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert_eq!(origin.wait_requests(1).await.remove(0).complete().body.len(), 0);
}

#[tokio::test]
async fn a_wrong_command_is_told_apart_from_a_failure() {
    let origin = Origin::start(Reply::ok("fine"));
    let endpoints = addresses(std::slice::from_ref(&origin));
    for (arguments, told) in [
        (&["PURGE", "no-slash"][..], "is not a target"),
        (&["PURGE", "/", "--require", "most"], "--require"),
        (&["PURGE", "/", "-d", "@/nowhere/data"], "/nowhere/data"),
        (&["PURGE", "/", "-H", "X-Broadcast-To: pod=nobody"], "not sent"),
        (&["PURGE"], "TARGET"),
    ] {
        let wrong = send(&endpoints, arguments).await;
        assert_eq!(wrong.code, Some(64), "{arguments:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(told) && wrong.stdout.is_empty(), "{arguments:?}: {}", wrong.stderr);
    }
    assert_eq!(run(["send", "PURGE", "/"]).await.code, Some(64), "there are no endpoints");
    origin.assert_untouched();
    let late = run(["send", "PURGE", "/", "--endpoints-file", "/nowhere/list.json", "--wait", "200ms"]).await;
    assert_eq!(late.code, Some(1));
    assert!(
        late.stderr.contains("no list of endpoints within 200ms") && late.stderr.contains("/nowhere/list.json"),
        "{}",
        late.stderr
    );
}

#[tokio::test]
async fn without_access_to_kubernetes_it_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Tests run without HOME and KUBECONFIG.
    let told = run(["send", "PURGE", "/", "--service", "shop/cache"]).await;
    assert!(told.code == Some(1) && told.stderr.contains("there is no ~/.kube/config"), "{}", told.stderr);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["send", "PURGE", "/", "--service", "shop/cache"]).env("KUBECONFIG", folder.path()).env_remove("HOME");
    let told = Fanfare::spawn(command).finish().await;
    let path = folder.path().display().to_string();
    assert!(told.code == Some(1) && told.stderr.contains(&path), "{}", told.stderr);
}

#[tokio::test]
async fn names_are_looked_up_and_an_empty_list_is_a_failure() {
    let origin = Origin::start(Reply::ok("fine"));
    let name = format!("localhost:{}", origin.address().port());
    let sent = run(["send", "GET", "/", "--endpoints-dns", &name, "--dns-family", "ipv4"]).await;
    assert_eq!(sent.code, Some(0), "{}{}", sent.stdout, sent.stderr);
    origin.wait_requests(1).await;
    let list = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    std::fs::write(list.path(), "[]").expect("it can be written");
    let path = list.path().to_str().expect("it is text");
    let empty = run(["send", "GET", "/", "--endpoints-file", path]).await;
    assert_eq!(empty.code, Some(1), "{}", empty.stderr);
    assert!(empty.stderr.contains("not sent (503"), "{}", empty.stderr);
}

#[tokio::test]
async fn an_interrupted_request_is_told() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("late").hold(&gate));
    let endpoint = origin.address().to_string();
    let sending = Fanfare::start(["send", "PURGE", "/", "--endpoints", &endpoint, "--timeout", "1h"]);
    origin.wait_requests(1).await;
    sending.signal(Signal::INT);
    let ended = sending.finish().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""));
    assert!(ended.stderr.contains("endpoints may have got the request"), "{}", ended.stderr);
}

#[tokio::test]
async fn nobody_else_can_send_by_its_listener() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("late").hold(&gate));
    let endpoint = origin.address().to_string();
    let sending = Fanfare::start(["send", "PURGE", "/", "--endpoints", &endpoint, "--timeout", "1h", "-l", "info"]);
    origin.wait_requests(1).await;
    let listener = sending.listening("to broadcast").await;
    assert!(listener.ip().is_loopback());
    assert_eq!(testkit::client::get(listener, "/").await.status, 404);
    assert_eq!(origin.requests().len(), 1);
    gate.release();
    assert_eq!(sending.finish().await.code, Some(0));
}

#[tokio::test]
async fn on_a_terminal_the_table_fills_while_endpoints_answer() {
    let gate = Gate::new();
    let origins = [Origin::start(Reply::ok("soon")), Origin::start(Reply::ok("late").hold(&gate))];
    let list = addresses(&origins).join(",");
    let line = format!("{} send PURGE / --endpoints {list} --timeout 1h", env!("CARGO_BIN_EXE_fanfare"));
    let mut terminal = Command::new("script");
    terminal.args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm").env_remove("KUBECONFIG");
    let sending = Fanfare::spawn(terminal);
    let early = origins[0].address().to_string();
    let filled = |text: &str| {
        let rows: Vec<&str> = text.lines().filter(|line| line.contains(&early)).collect();
        rows.last().is_some_and(|row| row.contains("200") && row.contains("ok"))
    };
    sending.stdout.wait("the first endpoint's row", filled).await;
    assert!(!sending.stdout.text().contains("2 of 2"), "the other has not answered");
    gate.release();
    let ended = sending.finish().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("\x1b[") && ended.stdout.contains("ok: 2 of 2 endpoints ok, all must be"),
        "{}",
        ended.stdout
    );
}
