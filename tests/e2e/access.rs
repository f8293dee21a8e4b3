//! Access control with the binary: token files at the start and when they change, refusals in log and metrics, the admin listener.

use std::{fs, path::PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{
    client::{self, Response, request},
    eventually,
    origin::{Origin, Reply},
};

use crate::process::{Fanfare, run};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let (new, path) = (self.0.path().join("new"), self.0.path().join(name));
        fs::write(&new, content).and_then(|()| fs::rename(&new, &path)).expect("it can be written");
        path
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

async fn ask(fanfare: &Fanfare, method: &str, path: &str, token: Option<&str>) -> Response {
    let value = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
    let fields: Vec<_> = token.iter().map(|_| ("Authorization", value.as_str())).collect();
    request(fanfare.address(), method, path, &fields, b"").await.complete()
}

#[tokio::test]
async fn a_caller_is_known_by_its_token_in_answers_log_and_metrics_and_its_token_is_nowhere() {
    let (folder, origin) = (Folder::new(), Origin::start(Reply::ok("fine")));
    let tokens = folder.write("tokens", "ci:a-token-of-the-pipeline\n");
    let flags = [
        "--auth-tokens",
        text(&tokens),
        "--allow=PURGE /* by token:ci",
        "--allow=GET /*",
        "--rate-limit=1/h,burst=4",
        "--access-log=json",
    ];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    ask(&fanfare, "PURGE", "/x", None).await.expect_status(401);
    ask(&fanfare, "PURGE", "/x", Some("a-token-of-somebody")).await.expect_status(401);
    ask(&fanfare, "POST", "/x", Some("a-token-of-the-pipeline")).await.expect_status(403);
    ask(&fanfare, "PURGE", "/x", Some("a-token-of-the-pipeline")).await.expect_status(200);
    ask(&fanfare, "GET", "/x", None).await.expect_status(200);
    ask(&fanfare, "GET", "/x", None).await.expect_status(200);
    ask(&fanfare, "GET", "/x", None).await.expect_status(429);
    assert_eq!(origin.requests().len(), 3);
    let log =
        fanfare.stdout.wait("every entry", |log| log.lines().filter(|line| line.contains("\"status\":")).count() == 7);
    let log = log.await;
    let known = log.lines().filter(|line| line.contains("\"identity\":\"token:ci\"")).count();
    assert_eq!(known, 2, "{log}");
    let metrics = client::get(fanfare.admin(), "/metrics").await.complete().text();
    for (identity, result, count) in [
        ("token:ci", "allowed", 1),
        ("token:ci", "forbidden", 1),
        ("-", "allowed", 2),
        ("-", "unauthorized", 2),
        ("-", "limited", 1),
    ] {
        let line = format!("fanfare_identity_requests_total{{identity=\"{identity}\",result=\"{result}\"}} {count}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let clients = client::get(fanfare.admin(), "/-/clients").await.complete().text();
    assert!(clients.contains("\"addresses\""), "{clients}");
    let config = client::get(fanfare.admin(), "/-/config").await.complete().text();
    for shown in [&log, &metrics, &config, &fanfare.stderr.text()] {
        assert!(!shown.contains("a-token-of"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_ends_the_start_and_names_the_line() {
    let folder = Folder::new();
    let tokens = folder.write("tokens", "# callers\nci:a-token-of-the-pipeline\nops s3cret-of-ops\n");
    for flag in ["--auth-tokens", "--metrics-tokens"] {
        let ended = run([
            "broadcast",
            "-i",
            "127.0.0.1:0",
            "-m",
            "127.0.0.1:0",
            "--endpoints",
            "192.0.2.1:80",
            flag,
            text(&tokens),
        ])
        .await;
        assert!(ended.code.is_some_and(|code| code != 0), "{:?}", ended.code);
        let said = &ended.stderr;
        assert!(said.contains("line 3: there is no colon") && said.contains("tokens"), "{said}");
        assert!(!said.contains("s3cret") && !said.contains("a-token"), "{said}");
    }
    let ended =
        run(["broadcast", "-i", "127.0.0.1:0", "--endpoints", "192.0.2.1:80", "--allow", "/* by token:ci"]).await;
    assert!(ended.code == Some(64) && ended.stderr.contains("auth.tokens"), "{:?}: {}", ended.code, ended.stderr);
}

#[tokio::test]
async fn an_edit_of_the_file_takes_callers_in_and_out_while_the_process_runs() {
    let (folder, origin) = (Folder::new(), Origin::start(Reply::ok("fine")));
    let tokens = folder.write("tokens", "ci:a-token-of-the-pipeline\n");
    let config = |allow: &str, tokens: &str| {
        format!(
            "admin: {{listen: 127.0.0.1:0}}\nthreads: 1\nbroadcast:\n  - listen: 127.0.0.1:0\n    auth: {{tokens: {tokens}}}\n    \
             allow: ['{allow}']\n    routes: [{{to: {{endpoints: '{}'}}}}]\n",
            origin.address()
        )
    };
    let file = folder.write("fanfare.yaml", &config("/* by token:ci", text(&tokens)));
    let fanfare = Fanfare::serve(["run", "--config", text(&file)]).await;
    fanfare.wait_ready().await;
    let status = async |token: &str| ask(&fanfare, "GET", "/x", Some(token)).await.status;
    assert_eq!(status("a-token-of-the-pipeline").await, 200);
    folder.write("tokens", "ci:another-token-of-it\n");
    eventually!("the edit", status("another-token-of-it").await, |status| *status == 200);
    assert_eq!(status("a-token-of-the-pipeline").await, 401);
    folder.write("tokens", "ci:short\n");
    fanfare.stderr.wait("the warning", |log| log.contains("the last good tokens stay in use")).await;
    assert_eq!(status("another-token-of-it").await, 200);
    folder.write("tokens", "ci:another-token-of-it\n");
    let reads = |log: &str| log.matches("token file read").count() >= 3;
    fanfare.stderr.wait("the end of the fault, though the tokens are the same", reads).await;
    // Another file, by a reload; one that cannot be used refuses the whole configuration.
    let other = folder.write("others", "ops:a-token-of-the-operators\n");
    folder.write("fanfare.yaml", &config("/* by token:ops", text(&other)));
    eventually!("the reload", status("a-token-of-the-operators").await, |status| *status == 200);
    assert_eq!(status("another-token-of-it").await, 401);
    folder.write("fanfare.yaml", &config("/* by token:ci", "/nowhere/tokens"));
    fanfare.stderr.wait("the refusal", |log| log.contains("refused") && log.contains("/nowhere/tokens")).await;
    assert_eq!(status("a-token-of-the-operators").await, 200);
}

#[tokio::test]
async fn the_admin_listener_takes_tokens_where_it_has_some_and_probes_need_none() {
    let (folder, origin) = (Folder::new(), Origin::start(Reply::ok("fine")));
    let tokens = folder.write("tokens", "prometheus:a-token-of-prometheus\n");
    let mut fanfare = Fanfare::broadcast(&[origin.address()], &["--metrics-tokens", text(&tokens)]).await;
    fanfare.wait_ready().await;
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let value = token.map(|token| format!("Bearer {token}")).unwrap_or_default();
        let fields: Vec<_> = token.iter().map(|_| ("Authorization", value.as_str())).collect();
        request(fanfare.admin(), method, path, &fields, b"debug").await.complete()
    };
    let token = Some("a-token-of-prometheus");
    for path in ["/metrics", "/-/config", "/-/endpoints", "/-/clients", "/-/log-level", "/nothing"] {
        let refused = ask("GET", path, None).await.expect_status(401);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"fanfare\""), "{path}");
        assert_ne!(ask("GET", path, token).await.status, 401, "{path}");
    }
    assert_eq!(ask("PUT", "/-/log-level", None).await.status, 401, "from this machine as well");
    assert_eq!(ask("PUT", "/-/log-level", token).await.status, 200);
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(ask("GET", path, None).await.status, 200, "{path}");
    }
    fanfare.signal(Signal::TERM);
    assert!(fanfare.exit().await.success());
}
