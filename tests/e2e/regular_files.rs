//! Rule: only regular files are read, whichever role reads them, because a start must not wait for a pipe or a device. What the caller has opened
//! for a command is read once.

use std::path::Path;

use tempfile::tempdir;
use tokio::process::Command;

use crate::process::{Fanfare, finish_with_input, run};

/// Commands that read FILE before they begin.
const READERS: &[&str] = &[
    "check FILE",
    "run FILE",
    "run --config FILE",
    "broadcast --endpoints 192.0.2.1:80 --tls-cert FILE --tls-key FILE",
    "broadcast --endpoints 192.0.2.1:80 --auth-tokens FILE",
    "broadcast --endpoints 192.0.2.1:80 --upstream-ca FILE",
    "broadcast --endpoints 192.0.2.1:80 --metrics-tokens FILE",
    "broadcast --endpoints 192.0.2.1:80 --metrics-tls-cert FILE --metrics-tls-key FILE",
    "broadcast --endpoints 192.0.2.1:80 --redeliver 1h --redeliver-journal FILE",
    "broadcast --service shop/cache --kubeconfig FILE",
    "discover --select a=b --to /nowhere/x.json --format template --template FILE",
    "discover --select a=b --to s3://bucket/x.yaml --format traefik --s3-ca-file FILE --kubeconfig CLUSTER",
    "endpoints --service shop/cache --listen 127.0.0.1:0 --kubeconfig FILE",
    "endpoints --service shop/cache --listen 127.0.0.1:0 --listen-tokens FILE",
    "elect --election example --http 127.0.0.1:0 --kubeconfig FILE",
    "elect --election example --http 127.0.0.1:0 --step-down-token-file FILE --kubeconfig CLUSTER",
    "mirror --label-selector a=b --svc-prefix x --mirror-ns m --kube-config FILE --target-kube-config CLUSTER",
    "bridge --once --from FILE --to /nowhere/x",
    "status --token-file FILE",
    "status --admin https://127.0.0.1:1 --ca FILE",
    "send GET / --endpoints 192.0.2.1:80 --upstream-ca FILE",
];

/// A cluster that nobody asks.
const CLUSTER: &str = "{clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [], current-context: x,
 contexts: [{name: x, context: {cluster: c, user: ''}}]}";

#[tokio::test]
async fn what_is_not_a_regular_file_is_refused_with_its_name_and_what_to_do() {
    let folder = tempdir().expect("a temporary folder");
    let (pipe, cluster) = (folder.path().join("pipe"), folder.path().join("cluster"));
    testkit::named_pipe::make(&pipe);
    std::fs::write(&cluster, CLUSTER).expect("it can be written");
    for (path, what) in
        [(pipe.as_path(), "named pipe"), (folder.path(), "directory"), (Path::new("/dev/zero"), "device")]
    {
        let path = path.to_str().expect("it is text");
        for reader in READERS.iter().filter(|reader| what == "named pipe" || !reader.contains("journal")) {
            let line = reader.replace("FILE", path).replace("CLUSTER", cluster.to_str().expect("it is text"));
            let arguments: Vec<&str> = line.split(' ').chain(own_admin(reader).iter().copied()).collect();
            let told = run(&arguments).await;
            let named = told.stderr.contains(path);
            let explained = told.stderr.contains(what) || reader.contains("journal");
            assert!(told.code.is_some_and(|code| code > 0) && named && explained, "{line}: {told:?}");
        }
    }
}

/// An admin listener of its own, for commands that have one.
fn own_admin(reader: &str) -> &'static [&'static str] {
    let has_none = ["check", "run", "status", "send"].iter().any(|command| reader.starts_with(command));
    if has_none { &[] } else { &["--metrics-interface", "127.0.0.1:0"] }
}

#[tokio::test]
async fn a_file_that_is_followed_is_reported_while_it_is_a_pipe_and_used_afterwards() {
    let folder = tempdir().expect("a temporary folder");
    let path = folder.path().join("list.json");
    testkit::named_pipe::make(&path);
    let list = path.to_str().expect("it is text");
    let arguments =
        ["broadcast", "--endpoints-file", list, "--interface", "127.0.0.1:0", "--metrics-interface", "127.0.0.1:0"];
    let fanfare = Fanfare::serve(arguments).await;
    fanfare.stderr.wait("the reason", |log| log.contains(list) && log.contains("it is a named pipe")).await;
    std::fs::write(folder.path().join("new"), r#"[{"targets": ["192.0.2.1:80"]}]"#).expect("it can be written");
    std::fs::rename(folder.path().join("new"), &path).expect("it can be renamed");
    fanfare.wait_ready().await;
}

#[tokio::test]
async fn files_of_a_journal_that_are_something_else_are_refused() {
    for name in ["journal.redb", "journal.redb.new", "journal.commits"] {
        let journal = tempdir().expect("a temporary folder");
        testkit::named_pipe::make(&journal.path().join(name));
        let path = journal.path().to_str().expect("it is text");
        let arguments = ["broadcast", "--endpoints", "192.0.2.1:80", "--redeliver", "1h", "--redeliver-journal", path];
        let told = run(arguments).await;
        assert!(
            told.code == Some(64) && told.stderr.contains(name) && told.stderr.contains("move it away"),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn what_the_caller_has_opened_is_checked() {
    let text = "broadcast: [{listen: '127.0.0.1:0', routes: [{to: {endpoints: ['192.0.2.1:80']}}]}]";
    for line in ["\"$0\" check -", "\"$0\" check /dev/stdin", "cat | \"$0\" check /dev/fd/0", "\"$0\" check <(cat)"] {
        let mut bash = Command::new("bash");
        bash.args(["-c", line, env!("CARGO_BIN_EXE_fanfare")]);
        let told = finish_with_input(bash, text).await;
        assert!(told.code == Some(0) && told.stdout.starts_with("ok\n"), "{line}: {told:?}");
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_are_in_a_regular_file() {
    let folder = tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    testkit::named_pipe::make(&pipe);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["send", "GET", "/", "--endpoints", "192.0.2.1:80", "--upstream-tls"]).env("SSL_CERT_FILE", &pipe);
    let told = finish_with_input(command, "").await;
    let named = told.stderr.contains("SSL_CERT_FILE") && told.stderr.contains("it is a named pipe");
    assert!(told.code.is_some_and(|code| code > 0) && named, "{told:?}");
}
